/* The world of the game. See world.h. */
#include "world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SIZE 1000.0 /* of the field, in each direction */
#define PACE 5.0    /* of a player, a second */

void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < WORLD_PLAYERS; i++) {
        struct player *p = &w->players[i];
        p->x = p->goal_x = fmod(i * 37.0, SIZE);
        p->y = p->goal_y = fmod(i * 91.0, SIZE);
    }
}

static double into_field(double v)
{
    return v < 0 ? 0 : v > SIZE ? SIZE : v;
}

int world_move(struct world *w, double player, double x, double y)
{
    if (!(player >= 0 && player < WORLD_PLAYERS))
        return -1;
    struct player *p = &w->players[(int)player];
    p->goal_x = into_field(p->x + x);
    p->goal_y = into_field(p->y + y);
    w->moves++;
    return p->points;
}

void world_new_round(struct world *w, double match)
{
    for (int i = 0; i < WORLD_PLAYERS; i++)
        if (i % WORLD_MATCHES == (int)match)
            w->players[i].points = 0;
}

void world_step(struct world *w, double seconds)
{
    for (int i = 0; i < WORLD_PLAYERS; i++) {
        struct player *p = &w->players[i];
        double x = p->goal_x - p->x, y = p->goal_y - p->y, far = hypot(x, y);
        double step = PACE * seconds;
        if (far <= step) {
            p->points += far > 0; /* it got where it wanted */
            p->x = p->goal_x;
            p->y = p->goal_y;
        } else {
            p->x += x / far * step;
            p->y += y / far * step;
        }
    }
}

size_t world_snapshot(const struct world *w, double match, char out[WORLD_SNAPSHOT_SIZE])
{
    size_t length = 0;
    if (!(match >= 0 && match < WORLD_MATCHES))
        return 0;
    for (int i = (int)match; i < WORLD_PLAYERS && length < WORLD_SNAPSHOT_SIZE;
         i += WORLD_MATCHES) {
        const struct player *p = &w->players[i];
        length += (size_t)snprintf(out + length, WORLD_SNAPSHOT_SIZE - length, "%d %.1f %.1f\n", i,
                                   p->x, p->y);
    }
    return length < WORLD_SNAPSHOT_SIZE ? length : WORLD_SNAPSHOT_SIZE - 1;
}
