/*
 * Where children and threads wait for the verdict; gate.py tells the story.
 *
 *	gate_make(&gate);
 *	if ((pid = ok(fork())) == 0) { ... gate_wait(&gate); ... _exit(0); }
 *	gate_expect(&gate, 1);
 *	test_ready();
 *	gate_open(&gate);
 */
#ifndef GATE_H
#define GATE_H

#include "zdtmtst.h"

#include <unistd.h>

#define GATE_MANY 4096 /* bytes that open it: more than there are waiters */

struct gate {
	pid_t opener;
	int entry[2], arrivals[2];
};

static inline void gate_make(struct gate *gate)
{
	gate->opener = getpid();
	ok(pipe(gate->entry));
	ok(pipe(gate->arrivals));
}

/* Tell the opener that the state is set up, but do not wait. */
static inline void gate_arrive(struct gate *gate)
{
	ok(write(gate->arrivals[1], "", 1));
}

static inline void gate_wait(struct gate *gate)
{
	char byte;

	gate_arrive(gate);
	if (getpid() != gate->opener) /* the end of the opener opens it, too */
		ok(close(gate->entry[1]));
	ok(read(gate->entry[0], &byte, 1));
}

static inline void gate_expect(struct gate *gate, int count)
{
	char byte;

	while (count-- > 0)
		ok(read(gate->arrivals[0], &byte, 1));
}

static inline void gate_open(struct gate *gate)
{
	static const char bytes[GATE_MANY];

	ok(write(gate->entry[1], bytes, GATE_MANY));
}

#endif
