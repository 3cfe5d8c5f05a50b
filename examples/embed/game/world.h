/* The world of the game: players that move, in matches. One thread. */
#ifndef WORLD_H
#define WORLD_H

#include <stddef.h>

#define WORLD_PLAYERS 1000
#define WORLD_MATCHES 20
#define WORLD_SNAPSHOT_SIZE 4096

struct player {
    double x, y, goal_x, goal_y;
    int points;
};

struct world {
    struct player players[WORLD_PLAYERS]; /* number n is in match n % WORLD_MATCHES */
    unsigned long moves;
};

void world_init(struct world *w);
/* The player walks there from now on. Its points; -1: there is none of this number. */
int world_move(struct world *w, double player, double x, double y);
/* All points of the match are gone. */
void world_new_round(struct world *w, double match);
void world_step(struct world *w, double seconds);
/* Writes where the match's players are; returns the length. 0: there is no such match. */
size_t world_snapshot(const struct world *w, double match, char out[WORLD_SNAPSHOT_SIZE]);

#endif
