/*
 * Alternate signal stacks: one of the first thread, a disabled one, and one that its thread is running on right now.
 *
 * states: signals-and-timers/sigaltstack
 * flavours: h
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "gate.h"

#define SIZE (1 << 16)

static struct gate gate;
static char first_stack[SIZE], thread_stack[SIZE];

static bool is_on(const void *address, const char *stack)
{
	return (const char *)address >= stack && (const char *)address < stack + SIZE;
}

static stack_t current(void)
{
	stack_t now;

	ok(sigaltstack(NULL, &now));
	return now;
}

static void set(char *stack)
{
	stack_t wanted = { .ss_sp = stack, .ss_size = SIZE };

	ok(sigaltstack(&wanted, NULL));
}

/* Runs on the alternate stack, waits there, and must find itself there afterwards. */
static void wait_there(int signo)
{
	volatile long marker = signo;

	check(is_on((void *)&marker, thread_stack), "the handler does not run on the alternate stack");
	gate_wait(&gate);
	stack_t now = current();
	check(now.ss_sp == thread_stack && now.ss_size == SIZE, "stack %p of %zu bytes", now.ss_sp, now.ss_size);
	check(now.ss_flags == SS_ONSTACK, "flags %#x while the handler runs on the stack", now.ss_flags);
	check(marker == SIGUSR1, "the value on the stack is %ld", marker);
}

static volatile bool ran;

static void note(int signo)
{
	ran = is_on(&signo, first_stack);
}

static void *thread(void *unused)
{
	(void)unused;
	set(thread_stack);
	raise(SIGUSR1); /* which comes back after the checkpoint */
	stack_t now = current();
	check(now.ss_sp == thread_stack && now.ss_flags == 0, "flags %#x after the handler", now.ss_flags);
	return NULL;
}

static void *without(void *unused)
{
	(void)unused;
	gate_wait(&gate);
	stack_t now = current();
	check(now.ss_flags == SS_DISABLE, "flags %#x of a thread that has no alternate stack", now.ss_flags);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction there = { .sa_handler = wait_there, .sa_flags = SA_ONSTACK };
	struct sigaction brief = { .sa_handler = note, .sa_flags = SA_ONSTACK };
	pthread_t threads[2];

	test_init(argc, argv);
	gate_make(&gate);
	ok(sigaction(SIGUSR1, &there, NULL));
	ok(sigaction(SIGUSR2, &brief, NULL));
	set(first_stack);
	threads[0] = test_thread(thread, NULL);
	threads[1] = test_thread(without, NULL);
	gate_expect(&gate, 2);
	test_ready();
	stack_t now = current();
	check(now.ss_sp == first_stack && now.ss_size == SIZE && now.ss_flags == 0, "first stack: %p of %zu bytes, %#x",
	      now.ss_sp, now.ss_size, now.ss_flags);
	raise(SIGUSR2);
	check(ran, "the handler did not run on the first thread's alternate stack");
	gate_open(&gate);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return test_pass();
}
