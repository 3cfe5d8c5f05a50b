/* An outbox as one generation declared it. The outbox itself belongs to the runtime, and is found
 * by the path of its file: the generation that was put to work last says its options and its
 * connection. Loop thread, but while the generation is loaded. */
#ifndef MD_SCRIPT_OUTBOX_DECLARATION_H
#define MD_SCRIPT_OUTBOX_DECLARATION_H

#include "outbox/outbox.h"
#include "script/generation.h"

struct outbox_declaration {
    struct outbox_declaration *next;
    struct generation *generation;
    struct binding *binding;
    outbox_options options;
    struct outbox *outbox; /* NULL: it is only declared, or has ended */
};

/* Makes what the generations before have not. -1 and *e: then outbox_declarations_release(). */
int outbox_declarations_prepare(struct generation *g, error *e);
/* From now on they are as this generation declared them. */
void outbox_declarations_commit(struct generation *g);
/* One at work, both at once. */
int outbox_declaration_commit(struct outbox_declaration *d, error *e);
/* They are this generation's no more. */
void outbox_declarations_release(struct generation *g);
void outbox_declarations_free(struct generation *g);

#endif
