/* The links that are alive, by a number that no two links of the process ever have. nats.c may call
 * back about a connection after its closed callback, with what it had read before, and says nowhere
 * that it is done: its callback thread gets this number instead of a link. Any thread. */
#ifndef MD_LINK_LIVING_H
#define MD_LINK_LIVING_H

struct link;

/* A link that is new gets its number, and is found from now on. */
void living_enter(struct link *l);

/* It has no references any more, and is not found any more. */
void living_leave(struct link *l);

/* The link of this number with one more reference, which the caller releases; NULL: it is gone.
 * Never waits for more than another call of these. */
struct link *living_find(void *number);

#endif
