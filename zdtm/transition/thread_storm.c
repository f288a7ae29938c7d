/*
 * Threads that live for a moment: each joins the one before it and starts the one after it, in four chains at once.
 *
 * states: threads/thread-storm
 * flavours: h
 * kernel: clone3, set_tid
 * oracle: ignore tree: its threads come and go all the time
 * oracle: ignore creds: those of threads that are gone
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define CHAINS 4

struct link {
	pthread_t predecessor;
	unsigned long number;
	bool is_first;
};

static __thread unsigned long mine;
static pthread_t last[CHAINS];
static pthread_barrier_t end;

static void *run(void *arg);

static pthread_t start(struct link *link)
{
	pthread_t thread;
	int error;

	/* Where threads come faster than they go, there may be too many for a moment. */
	wait_until((error = pthread_create(&thread, NULL, run, link)) != EAGAIN, "there is room for a thread");
	check(!error, "pthread_create: %s", strerror(error));
	return thread;
}

/* The number of a thread is what it returns, and one more than what its predecessor returned. */
static void *run(void *arg)
{
	struct link *link = arg;
	void *result = (void *)(link->number - 1);

	mine = link->number;
	if (!link->is_first)
		check(!pthread_join(link->predecessor, &result), "pthread_join failed");
	check((unsigned long)result == mine - 1, "thread %lu comes after thread %lu", mine, (unsigned long)result);
	link->is_first = false;
	link->predecessor = pthread_self();
	link->number++;
	if (test_go_on()) {
		start(link);
	} else {
		last[link->number >> 48] = pthread_self();
		pthread_barrier_wait(&end);
		free(link);
	}
	return (void *)mine;
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	pthread_barrier_init(&end, NULL, CHAINS + 1);
	test_block_term();
	for (unsigned long i = 0; i < CHAINS; i++) {
		struct link *link = malloc(sizeof(*link));

		*link = (struct link){ .number = i << 48 | 1, .is_first = true };
		start(link);
	}
	test_unblock_term();
	test_running();
	pthread_barrier_wait(&end);
	for (int i = 0; i < CHAINS; i++)
		pthread_join(last[i], NULL);
	return test_pass();
}
