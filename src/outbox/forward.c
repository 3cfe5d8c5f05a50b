/* The decisions of an outbox. See forward.h. Pure. */
#include "outbox/forward.h"

#include <stddef.h>
#include <string.h>

#define GROW_AFTER 32u

forward_entry *forward_at(forward *f, unsigned index)
{
    return &f->entries[(f->first + index) % FORWARD_ENTRIES_MAX];
}

static unsigned clamp(unsigned window)
{
    if (window == 0)
        return 1;
    return window > FORWARD_WINDOW_MAX ? FORWARD_WINDOW_MAX : window;
}

void forward_init(forward *f, unsigned window)
{
    memset(f, 0, sizeof *f);
    f->window = f->limit = clamp(window);
    f->careful = true;
}

void forward_set_window(forward *f, unsigned window)
{
    window = clamp(window);
    if (f->limit == f->window || f->limit > window)
        f->limit = window;
    f->window = window;
}

/* ---- the entries ---- */

unsigned forward_room(const forward *f)
{
    return FORWARD_ENTRIES_MAX - f->count;
}

unsigned forward_waiting(const forward *f)
{
    return f->count - f->next;
}

forward_entry *forward_add(forward *f, int64_t id, int64_t created, bool doubt, void *data)
{
    if (f->count == FORWARD_ENTRIES_MAX)
        return NULL;
    forward_entry *entry = forward_at(f, f->count++);
    *entry =
        (forward_entry){.id = id, .created = created, .doubt = doubt && !f->sure, .data = data};
    f->last = id;
    return entry;
}

forward_entry *forward_find(forward *f, int64_t id)
{
    unsigned low = 0, high = f->count;
    while (low < high) { /* the ids ascend */
        unsigned middle = low + (high - low) / 2;
        if (forward_at(f, middle)->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < f->count && forward_at(f, low)->id == id ? forward_at(f, low) : NULL;
}

forward_entry *forward_oldest(forward *f)
{
    for (unsigned i = 0; f->in_flight > 0 && i < f->next; i++)
        if (forward_at(f, i)->state == FORWARD_IN_FLIGHT)
            return forward_at(f, i);
    return NULL;
}

bool forward_take(forward *f, forward_entry *out)
{
    if (f->count == 0 || forward_at(f, 0)->state != FORWARD_DONE)
        return false;
    *out = *forward_at(f, 0);
    f->first = (f->first + 1) % FORWARD_ENTRIES_MAX;
    f->count--;
    if (f->next > 0)
        f->next--;
    return true;
}

int64_t forward_sent_max(const forward *f)
{
    if (f->next == 0)
        return 0;
    return f->entries[(f->first + f->next - 1) % FORWARD_ENTRIES_MAX].id;
}

/* ---- what to do ---- */

/* Whether it is too old for the stream to know it again. */
static bool is_too_old(const forward_entry *entry, int64_t wall)
{
    int64_t margin = entry->window / 4;
    if (margin > FORWARD_MARGIN_MS)
        margin = FORWARD_MARGIN_MS;
    int64_t since = entry->sent > 0 ? entry->sent : entry->created;
    return wall - since > entry->window - margin || wall < since; /* the clock was set back */
}

static void go_back(forward *f)
{
    f->stopped = false;
    f->next = 0;
    while (f->next < f->count && forward_at(f, f->next)->state == FORWARD_DONE)
        f->next++;
}

/* Skips those that are done. */
static forward_entry *next_waiting(forward *f)
{
    while (f->next < f->count && forward_at(f, f->next)->state != FORWARD_WAITS)
        f->next++;
    return f->next < f->count ? forward_at(f, f->next) : NULL;
}

forward_step forward_next(forward *f, uint64_t now, int64_t wall)
{
    forward_step nothing = {.action = FORWARD_NOTHING};
    if (f->stopped && f->in_flight == 0)
        go_back(f);
    if (f->stopped || f->busy)
        return nothing;
    if (now < f->resume) {
        nothing.at = f->resume;
        return nothing;
    }
    forward_entry *entry = next_waiting(f);
    if (entry == NULL || f->in_flight >= (f->careful ? 1 : f->limit))
        return nothing;
    if (entry->stream == 0)
        return (forward_step){.action = FORWARD_FIND, .entry = entry};
    bool look = entry->doubt && !entry->looked && is_too_old(entry, wall);
    if (f->in_flight == 0)
        return (forward_step){.action = look ? FORWARD_LOOK : FORWARD_SEND, .entry = entry};
    const forward_entry *before = forward_find(f, f->last_sent); /* not done all: it is there */
    if (look || before == NULL || forward_oldest(f)->stream != entry->stream)
        return nothing; /* when nothing is in flight any more */
    return (forward_step){.action = FORWARD_SEND, .entry = entry, .expected = before};
}

void forward_sent(forward *f, forward_entry *entry, uint64_t now, int64_t wall)
{
    entry->state = FORWARD_IN_FLIGHT;
    entry->expects = f->in_flight > 0;
    entry->sent_at = now > 0 ? now : 1;
    if (entry->sent == 0 && !entry->doubt)
        entry->sent = wall;
    f->last_sent = entry->id;
    f->in_flight++;
    next_waiting(f);
}

void forward_begin(forward *f)
{
    f->busy = true;
}

void forward_end(forward *f)
{
    f->busy = false;
}

void forward_found(forward *f, forward_entry *entry, unsigned stream, int64_t window)
{
    f->busy = false;
    f->failures = 0;
    entry->stream = stream;
    entry->window = window;
}

/* ---- what became of it ---- */

static void finish(forward *f, forward_entry *entry)
{
    if (entry->state == FORWARD_IN_FLIGHT)
        f->in_flight--;
    entry->state = FORWARD_DONE;
}

/* The stream did not have this one before. One behind it was never sent before this one was stored
 * or refused, so it has none of them either; but those that this process has sent since are another
 * matter. */
static void clear_doubt(forward *f, const forward_entry *from)
{
    f->sure = f->sure || from->sent == 0;
    for (unsigned i = 0; i < f->count; i++) {
        forward_entry *entry = forward_at(f, i);
        if (entry->id >= from->id && entry->sent_at == 0)
            entry->doubt = false;
    }
}

void forward_looked(forward *f, forward_entry *entry, bool found, uint64_t after)
{
    f->busy = false;
    f->failures = 0;
    entry->looked = true;
    entry->after = after;
    if (found)
        finish(f, entry);
}

/* After so many acknowledgements without trouble a little more may be in flight. */
static void grow(forward *f)
{
    unsigned enough = f->limit > GROW_AFTER ? f->limit : GROW_AFTER;
    if (f->limit >= f->window || ++f->acked < enough)
        return;
    unsigned step = f->window / 16 > 0 ? f->window / 16 : 1;
    f->limit = f->limit + step < f->window ? f->limit + step : f->window;
    f->acked = 0;
}

void forward_acked(forward *f, forward_entry *entry, bool duplicate)
{
    if (entry->state == FORWARD_DONE)
        return;
    if (!duplicate && entry->doubt)
        clear_doubt(f, entry);
    finish(f, entry);
    f->failures = 0;
    if (!f->stopped) {
        f->careful = false;
        grow(f);
    }
}

static void stop(forward *f)
{
    f->stopped = true;
}

/* Back to where it was before it was sent; now it may be in the stream. */
static void back_to_waiting(forward *f, forward_entry *entry)
{
    if (entry->state != FORWARD_IN_FLIGHT)
        return;
    f->in_flight--;
    entry->state = entry->gone ? FORWARD_DONE : FORWARD_WAITS;
    entry->doubt = true;
    entry->looked = false;
}

void forward_failed(forward *f, forward_entry *entry, forward_failure failure, uint64_t now,
                    uint32_t delay)
{
    bool first = !f->stopped; /* of those that go wrong together */
    bool was_sent = entry->state == FORWARD_IN_FLIGHT;
    f->busy = f->busy && was_sent;
    if (failure == FORWARD_REFUSED) {
        finish(f, entry);
        if (f->in_flight > 0)
            stop(f); /* those behind it expected it */
        return;
    }
    if (failure == FORWARD_WRONG_LAST) {
        /* It was not stored; it keeps what doubt there was before. */
        bool doubt = entry->doubt;
        back_to_waiting(f, entry);
        entry->doubt = doubt;
        if (first) {
            f->limit = f->limit > 1 ? f->limit / 2 : 1;
            f->acked = 0;
        }
        stop(f);
        return;
    }
    back_to_waiting(f, entry);
    stop(f);
    f->careful = true;
    if (first) {
        f->failures++;
        f->resume = now + delay;
    } else if (f->resume < now + delay) {
        f->resume = now + delay;
    }
}

void forward_drop(forward_entry *entry)
{
    entry->gone = true;
    if (entry->state == FORWARD_WAITS)
        entry->state = FORWARD_DONE;
}

void forward_drop_all(forward *f)
{
    for (unsigned i = 0; i < f->count; i++)
        forward_drop(forward_at(f, i));
}

void forward_forget_streams(forward *f)
{
    for (unsigned i = 0; i < f->count; i++)
        if (forward_at(f, i)->state == FORWARD_WAITS)
            forward_at(f, i)->stream = 0;
}

void forward_link_lost(forward *f)
{
    f->careful = true;
    f->busy = false;
    f->resume = 0;
    forward_forget_streams(f);
}
