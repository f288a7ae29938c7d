/*
 * A leader without filters, and three threads with one each: each thread's own call fails, and nobody else's.
 *
 * states: credentials-seccomp-and-lsm/seccomp-per-thread
 * flavours: h
 * kernel: SECCOMP_GET_FILTER
 * needs: root, feature seccomp_filters
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <unistd.h>

#include "gate.h"
#include "seccomp.h"
#include "tasks.h"

#define THREADS 3

static struct gate gate;
static const long calls[THREADS] = { SYS_getppid, SYS_getuid, SYS_getgid };

static void check_calls(int failing)
{
	for (int i = 0; i < THREADS; i++) {
		long result = syscall(calls[i]);

		if (i == failing)
			check(result < 0 && errno == 100 + i, "call %d of thread %d: %ld, %s", i, failing, result,
			      strerror(errno));
		else
			check(result >= 0, "call %d of thread %d: %s", i, failing, strerror(errno));
	}
}

static void *thread(void *arg)
{
	int index = (const long *)arg - calls;

	check(seccomp_answer(calls[index], SECCOMP_RET_ERRNO | (100 + index), 0) == 0, "filter: %s", strerror(errno));
	gate_wait(&gate);
	check(task_status(gettid(), "Seccomp_filters") == 1, "thread %d has %llu filters", index,
	      task_status(gettid(), "Seccomp_filters"));
	check_calls(index);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	test_init(argc, argv);
	gate_make(&gate);
	for (int i = 0; i < THREADS; i++)
		threads[i] = test_thread(thread, (void *)&calls[i]);
	gate_expect(&gate, THREADS);
	test_ready();
	check(task_status(getpid(), "Seccomp") == SECCOMP_MODE_DISABLED, "the leader has a filter");
	check_calls(-1);
	gate_open(&gate);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return test_pass();
}
