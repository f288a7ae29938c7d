/*
 * Threads, a thread started by a thread, and processes forked by each of them, all with thread-local data of their own.
 *
 * states: threads/threads-forks-tls
 * flavours: h
 * kernel: thread areas
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "gate.h"

static struct gate gate;
static __thread char mine[32] = "nobody's";
static __thread unsigned long number = 0x5a5a5a5a5a5a5a5a; /* in .tdata */
static __thread int zero; /* in .tbss */

/* Fill the thread-local variables, wait, and look at them. Ends a process with the verdict, a thread by returning. */
static void keep(const char *name)
{
	void *address = &number;

	snprintf(mine, sizeof(mine), "%s's", name);
	zero = gettid();
	number = ~(unsigned long)gettid();
	gate_wait(&gate);
	char expected[32];
	snprintf(expected, sizeof(expected), "%s's", name);
	check(!strcmp(mine, expected), "the data of %s is %s", name, mine);
	check(number == ~(unsigned long)gettid() && zero == gettid(), "the numbers of %s: %#lx, %d", name, number, zero);
	check(address == &number, "the data of %s has another address", name);
}

static pid_t fork_keeper(const char *name)
{
	pid_t pid = ok(fork());

	if (pid == 0) {
		keep(name);
		_exit(0);
	}
	return pid;
}

static void *thread(void *arg)
{
	const char *name = arg;
	char child_name[32];
	pthread_t sub;
	bool has_sub = !strcmp(name, "first");

	if (has_sub)
		sub = test_thread(thread, "sub");
	snprintf(child_name, sizeof(child_name), "child of %s", name);
	pid_t pid = fork_keeper(child_name);
	keep(name);
	int status = test_reap(pid);
	check(status == 0, "status of the %s: %#x", child_name, status);
	if (has_sub)
		pthread_join(sub, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	static char *names[] = { "first", "second" };
	pthread_t threads[2];

	test_init(argc, argv);
	gate_make(&gate);
	for (int i = 0; i < 2; i++)
		threads[i] = test_thread(thread, names[i]);
	gate_expect(&gate, 6); /* three threads and a child of each */
	test_ready();
	check(!strcmp(mine, "nobody's") && number == 0x5a5a5a5a5a5a5a5a && !zero, "the leader's data: %s", mine);
	gate_open(&gate);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return test_pass();
}
