/* Ledgers: what this process knows of a consumer of JetStream, whatever happens to the links, to
 * the server's consumer, and to the generation of the script that reads it: how far it was read,
 * which messages are not acknowledged yet, and which ones were (acked.h). A server that is killed
 * forgets the acknowledgements of its last moments, and delivers those messages again: the ledger
 * knows them.
 *
 * A ledger is found by its key; generations that read the same consumer, one after the other, share
 * it. Loop thread. */
#ifndef MD_JETSTREAM_LEDGER_H
#define MD_JETSTREAM_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

struct ledger;
struct ledgers;

#define LEDGER_NAME_SIZE 64
#define LEDGERS_MAX 4096u         /* in one process */
#define LEDGER_KEPT_MS 600000u    /* after nobody holds it any more: outages have reloads in them */
#define LEDGER_UNACKED_MAX 65536u /* remembered; beyond it ledger_floor() stays below them */

/* All of one runtime. NULL when out of memory. */
struct ledgers *ledgers_new(void);
/* Those that are still held live on until they are released. */
void ledgers_free(struct ledgers *all);
/* Forgets those that nobody has held for a while: a script that takes over needs a moment to ask.
 */
void ledgers_sweep(struct ledgers *all, uint64_t now_ms);

/* The one with this key, or a new one; the caller releases it. NULL: out of memory, or too many. */
struct ledger *ledger_get(struct ledgers *all, const char *key);
struct ledger *ledger_retain(struct ledger *l);
void ledger_release(struct ledger *l, uint64_t now_ms);
/* The script does not want the consumer any more: whoever asks for the key begins anew. */
void ledger_forget(struct ledger *l);

/* The name of the consumer on the server: the same for as long as the ledger lives, and different
 * from those of other processes. */
const char *ledger_name(const struct ledger *l);

/* The sequence of the stream up to which it was read; 0: nothing. */
uint64_t ledger_position(const struct ledger *l);
void ledger_set_position(struct ledger *l, uint64_t seq);
/* Which incarnation of the stream this is about, any number but 0. When it is another one than
 * before, all that is known is forgotten: false. */
bool ledger_same_stream(struct ledger *l, uint64_t created);
/* Forgets all that is known of messages. */
void ledger_restart(struct ledger *l);

/* An acknowledgement means all messages before it, too. */
void ledger_set_acks_all(struct ledger *l, bool all);

/* How long a message may be handled before the server delivers it again. */
void ledger_set_ack_wait(struct ledger *l, uint64_t ms);

typedef enum {
    LEDGER_NEW,     /* to be handled: for the first time, or again */
    LEDGER_ACKED,   /* it was acknowledged before */
    LEDGER_IN_HAND, /* it was delivered a moment ago, and is not to be delivered again yet: a server
                     * that found nobody at an inbox does that, and more than once */
} ledger_verdict;

/* Message `seq`, stored at `time`, was delivered. */
ledger_verdict ledger_delivered(struct ledger *l, uint64_t seq, uint64_t time, uint64_t now_ms);
/* It is to be delivered again, whenever the server likes. */
void ledger_returned(struct ledger *l, uint64_t seq);
/* The server says that all up to `seq` is done with: whoever makes the consumer again begins behind
 * that, also when nothing has come yet. */
void ledger_note_floor(struct ledger *l, uint64_t seq);
/* It was acknowledged, or will never be. */
void ledger_acked(struct ledger *l, uint64_t seq, uint64_t time);

/* Whether it was, as far as that is remembered. */
bool ledger_is_acked(const struct ledger *l, uint64_t seq, uint64_t time);

/* The first sequence that may not be acknowledged yet: a new consumer begins there. */
uint64_t ledger_floor(const struct ledger *l);
uint32_t ledger_unacked(const struct ledger *l);

#endif
