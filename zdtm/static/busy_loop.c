/*
 * Tasks that never leave user space: a child and a thread, each in a loop whose values live in registers and must keep
 * their proportions from one instruction to the next.
 *
 * states: process-tree/running-sleeping-task
 * flavours: h
 * oracle: ignore memory: it counts its rounds as it goes
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

/* The compiler must not know that this value is the product of another one. */
#define HIDE(value) __asm__ volatile("" : "+r"(value))

static volatile sig_atomic_t stop;
static volatile unsigned long rounds;

static void *spin(void *unused)
{
	unsigned long one = 0, three = 0, five = 0, minus = 0;
	double half = 0;

	(void)unused;
	while (!stop) {
		one++, three += 3, five += 5, minus--, half += 0.5;
		HIDE(three);
		HIDE(five);
		HIDE(minus);
		if (three != 3 * one || five != 5 * one || minus + one || half != one * 0.5)
			fail("after %lu rounds: 3x %lu, 5x %lu, -1x %ld, x/2 %f", one, three, five, (long)minus, half);
		rounds = one;
	}
	return NULL;
}

static void on_usr1(int signo)
{
	(void)signo;
	stop = 1;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	test_init(argc, argv);
	ok((long)signal(SIGUSR1, on_usr1));
	pid_t pid = ok(fork());
	if (pid == 0) {
		spin(NULL);
		_exit(0);
	}
	thread = test_thread(spin, NULL);
	wait_until(rounds, "the thread runs");
	test_ready();
	unsigned long before = rounds;
	while (rounds == before && !kill(pid, 0))
		;
	ok(kill(pid, SIGUSR1));
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	stop = 1;
	pthread_join(thread, NULL);
	return test_pass();
}
