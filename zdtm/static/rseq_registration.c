/*
 * Restartable sequences: the area that a task has registered by itself, instead of the C library's, is still registered.
 *
 * states: vdso-rseq-and-cpu-state/rseq-registration
 * flavours: h
 * kernel: the size of struct rseq
 * needs: arch x86_64
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"

#define SIGNATURE 0x12345678U
#define LENGTH 32

static struct gate gate;
static __thread struct rseq mine __attribute__((aligned(32)));

static long rseq(struct rseq *area, int flags, unsigned signature)
{
	return syscall(SYS_rseq, area, LENGTH, flags, signature);
}

static void register_mine(void)
{
	struct rseq *theirs = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);

	check(__rseq_size, "the C library has registered nothing");
	ok(rseq(theirs, RSEQ_FLAG_UNREGISTER, RSEQ_SIG));
	ok(rseq(&mine, 0, SIGNATURE));
}

/* The kernel keeps the number of the CPU in the area: on every CPU that we move to. */
static void check_mine(const char *who)
{
	cpu_set_t all, one;

	check(rseq(&mine, 0, SIGNATURE) < 0 && errno == EBUSY, "registering again, %s: %s", who, strerror(errno));
	ok(sched_getaffinity(0, sizeof(all), &all));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		ok(sched_setaffinity(0, sizeof(one), &one));
		check((int)mine.cpu_id == cpu, "the area of %s says CPU %d instead of %d", who, (int)mine.cpu_id, cpu);
	}
	ok(sched_setaffinity(0, sizeof(all), &all));
	check(rseq(&mine, RSEQ_FLAG_UNREGISTER, SIGNATURE + 1) < 0 && errno == EPERM, "another signature, %s", who);
	ok(rseq(&mine, RSEQ_FLAG_UNREGISTER, SIGNATURE));
}

static void *thread(void *unused)
{
	(void)unused;
	register_mine();
	gate_wait(&gate);
	check_mine("the thread");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t handle;

	test_init(argc, argv);
	gate_make(&gate);
	handle = test_thread(thread, NULL);
	register_mine();
	gate_expect(&gate, 1);
	test_ready();
	check_mine("the leader");
	gate_open(&gate);
	pthread_join(handle, NULL);
	return test_pass();
}
