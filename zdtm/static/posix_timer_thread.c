/*
 * POSIX timers whose signals go to one thread: SIGEV_THREAD_ID, as the C library's SIGEV_THREAD uses it.
 *
 * states: signals-and-timers/sigev-thread-timers
 * flavours: h
 * kernel: PR_TIMER_CREATE_RESTORE_IDS, numbers of timers
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"

#define THREADS 3
#define SIGNO (SIGRTMIN + 5)

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct gate gate;
static sigset_t blocked;
static volatile int notices; /* of the C library's timer */

static void notice(union sigval value)
{
	if (value.sival_int == 77)
		notices++;
}

/* Arms the timer of this thread after the checkpoint, and must be the one who gets the signal. */
static void *thread(void *arg)
{
	const struct itimerspec hour = { .it_value = { 3600, 0 } }, soon = { .it_value = { 0, 1 } };
	const struct timespec limit = { 10, 0 };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNO, .sigev_value.sival_ptr = arg };
	siginfo_t info;
	int id;

	event.sigev_notify_thread_id = gettid();
	ok(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id));
	ok(syscall(SYS_timer_settime, id, 0, &hour, NULL));
	gate_wait(&gate);
	ok(syscall(SYS_timer_settime, id, 0, &soon, NULL));
	check(sigtimedwait(&blocked, &info, &limit) == SIGNO, "thread %ld gets no signal", (long)arg);
	check(info.si_value.sival_ptr == arg, "thread %ld gets the signal of %ld", (long)arg,
	      (long)info.si_value.sival_ptr);
	return NULL;
}

int main(int argc, char **argv)
{
	const struct itimerspec hour = { .it_value = { 3600, 0 } }, soon = { .it_value = { 0, 1 } };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notice,
				  .sigev_value.sival_int = 77 };
	pthread_t threads[THREADS];
	timer_t timer;

	test_init(argc, argv);
	gate_make(&gate);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGNO);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (long i = 0; i < THREADS; i++)
		threads[i] = test_thread(thread, (void *)(1000 + i));
	test_block_term(); /* the C library starts a thread for the timer */
	ok(timer_create(CLOCK_MONOTONIC, &event, &timer));
	ok(timer_settime(timer, 0, &hour, NULL));
	test_unblock_term();
	gate_expect(&gate, THREADS);
	test_ready();
	gate_open(&gate);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ok(timer_settime(timer, 0, &soon, NULL));
	wait_until(notices, "the function of the timer runs");
	check(notices == 1, "the function of the timer ran %d times", notices);
	return test_pass();
}
