/* The leader spins, and never makes a system call; a thread waits for the signal in its place. */
#ifndef ZDTM_SPINNING_H
#define ZDTM_SPINNING_H

#include <pthread.h>

#include "zdtmtst.h"

/* spinning: the state is there; stop: the time to look at it has come. */
static volatile int spinning, stop;

static void *spinning_wait(void *unused)
{
	(void)unused;
	while (!spinning)
		;
	test_ready();
	stop = 1;
	return NULL;
}

/* Start the thread that waits. SIGTERM is blocked from now on. */
static pthread_t spinning_begin(void)
{
	test_block_term();
	return test_thread(spinning_wait, NULL);
}

#endif
