/*
 * A hundred threads, each with a name and a scheduling value of its own, and a stack that tells them apart.
 *
 * states: threads/threads-forks-tls
 * flavours: h
 * kernel: clone3, set_tid
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gate.h"

#define THREADS 100

static struct gate gate;

static void *thread(void *arg)
{
	long index = (long)arg;
	volatile long stack[512];
	char name[16], now[16];
	pid_t tid = gettid();

	for (int i = 0; i < 512; i++)
		stack[i] = index * i;
	snprintf(name, sizeof(name), "thread no. %ld", index);
	ok(prctl(PR_SET_NAME, name));
	ok(setpriority(PRIO_PROCESS, 0, index % 20));
	gate_wait(&gate);
	check(gettid() == tid, "thread %ld has the id %d", index, gettid());
	ok(prctl(PR_GET_NAME, now));
	check(!strcmp(now, name), "thread %ld has the name %s", index, now);
	check(getpriority(PRIO_PROCESS, 0) == index % 20, "thread %ld has another nice value", index);
	for (int i = 0; i < 512; i++)
		check(stack[i] == index * i, "thread %ld has %ld on its stack", index, stack[i]);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	void *result;

	test_init(argc, argv);
	gate_make(&gate);
	ok(prctl(PR_SET_NAME, "the first"));
	for (long i = 0; i < THREADS; i++)
		threads[i] = test_thread(thread, (void *)i);
	gate_expect(&gate, THREADS);
	test_ready();
	char name[16];
	ok(prctl(PR_GET_NAME, name));
	check(!strcmp(name, "the first"), "the first thread has the name %s", name);
	gate_open(&gate);
	for (long i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &result);
		check(result == (void *)i, "thread %ld returned %ld", i, (long)result);
	}
	return test_pass();
}
