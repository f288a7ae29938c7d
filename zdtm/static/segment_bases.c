/*
 * The bases of the segments FS and GS, by which threads find their data, are those that each thread has set.
 *
 * states: threads/threads-forks-tls
 * flavours: h
 * kernel: segment bases
 * needs: arch x86_64
 */
#include "zdtmtst.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"

#define THREADS 3

static struct gate gate;
static unsigned long words[THREADS + 1];

static unsigned long base(int which)
{
	unsigned long value;

	ok(syscall(SYS_arch_prctl, which, &value));
	return value;
}

static void *keep(void *arg)
{
	unsigned long *word = arg, fs = base(ARCH_GET_FS), there;

	*word = 0xabcd0000 + (word - words);
	ok(syscall(SYS_arch_prctl, ARCH_SET_GS, word));
	if (word == &words[THREADS])
		test_ready();
	else
		gate_wait(&gate);
	asm volatile("mov %%gs:0, %0" : "=r"(there));
	check(there == *word, "thread %d reads %#lx at GS", (int)(word - words), there);
	check(base(ARCH_GET_GS) == (unsigned long)word, "GS of thread %d: %#lx", (int)(word - words), base(ARCH_GET_GS));
	check(base(ARCH_GET_FS) == fs && (unsigned long)__builtin_thread_pointer() == fs, "FS of thread %d",
	      (int)(word - words));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	test_init(argc, argv);
	gate_make(&gate);
	for (int i = 0; i < THREADS; i++)
		threads[i] = test_thread(keep, &words[i]);
	gate_expect(&gate, THREADS);
	keep(&words[THREADS]);
	gate_open(&gate);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return test_pass();
}
