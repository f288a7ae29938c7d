/*
 * Threads that sleep in system calls with a time limit of an hour: nobody sleeps longer or shorter.
 *
 * Some of these calls the kernel restarts from a note that it keeps to itself (restart_syscall(2)). The note is lost
 * with the task, so a restored call may fail with EINTR, like after a stop (signal(7)), if it has said how much time is
 * left where it should. What restarts from its arguments alone may not.
 *
 * states: process-tree/running-sleeping-task, signals-and-timers/interrupted-poll
 * flavours: h
 * kernel: restarts of system calls
 * oracle: ignore memory: who was interrupted has written how much time is left, and sleeps again
 * cflags: -Wno-missing-field-initializers
 */
#include "zdtmtst.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tasks.h"

#ifndef SYS_poll
#define SYS_poll SYS_ppoll /* what poll(2) is on newer architectures */
#endif
#define HOUR 3600.0
#define SLACK 600.0 /* seconds that a checkpoint and the way to the restore may take */

static double seconds(struct timespec time)
{
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double now(void)
{
	struct timespec time;

	ok(clock_gettime(CLOCK_MONOTONIC, &time));
	return seconds(time);
}

static __thread volatile sig_atomic_t woken;

/*
 * Each sleeps in one call until it is woken, and gives the time that was left then: by the call's own account, if it
 * keeps one. Who may be interrupted before calls again, with what is left.
 */
static double sleep_relative(void)
{
	struct timespec left = { .tv_sec = HOUR };

	do
		check(nanosleep(&left, &left) < 0 && errno == EINTR, "nanosleep: %s", strerror(errno));
	while (!woken);
	return seconds(left);
}

static double sleep_absolute(void)
{
	double end = now() + HOUR;
	struct timespec until = { .tv_sec = end };

	check(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR, "clock_nanosleep did not sleep");
	return end - now();
}

static double wait_poll(void)
{
	double end = now() + HOUR;

	do
		check(poll(NULL, 0, (end - now()) * 1000) < 0 && errno == EINTR, "poll: %s", strerror(errno));
	while (!woken);
	return end - now();
}

static double wait_select(void)
{
	struct timespec left = { .tv_sec = HOUR };

	/* The call itself writes the time that is left, which pselect() of the C library hides. */
	check(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &left, NULL) < 0 && errno == EINTR, "select did not wait");
	return seconds(left);
}

static double wait_futex(void)
{
	static int word;
	double end = now() + HOUR;
	struct timespec left = { .tv_nsec = 0 };

	do {
		left.tv_sec = end - now();
		check(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &left, NULL, 0) < 0 && errno == EINTR,
		      "futex: %s", strerror(errno));
	} while (!woken);
	return end - now();
}

static struct sleeper {
	const char *call;
	long nr;
	double (*sleep)(void);
	pthread_t thread;
	volatile pid_t tid;
	volatile bool early;
	double left;
} sleepers[] = {
	{ "nanosleep", SYS_clock_nanosleep, sleep_relative },
	{ "clock_nanosleep", SYS_clock_nanosleep, sleep_absolute },
	{ "poll", SYS_poll, wait_poll },
	{ "select", SYS_pselect6, wait_select },
	{ "futex", SYS_futex, wait_futex },
};
#define SLEEPERS (int)(sizeof(sleepers) / sizeof(sleepers[0]))

static void wake(int signo)
{
	(void)signo;
	woken = 1;
}

static void *run(void *arg)
{
	struct sleeper *me = arg;

	me->tid = gettid();
	me->left = me->sleep();
	me->early = !woken;
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = wake };

	test_init(argc, argv);
	ok(sigaction(SIGUSR1, &action, NULL));
	for (struct sleeper *each = sleepers; each < sleepers + SLEEPERS; each++) {
		each->thread = test_thread(run, each);
		wait_until(each->tid, "the thread runs");
		task_wait_in(each->tid, each->nr);
	}
	test_ready();
	for (struct sleeper *each = sleepers; each < sleepers + SLEEPERS; each++) {
		task_wait_in(each->tid, each->nr);
		pthread_kill(each->thread, SIGUSR1);
		pthread_join(each->thread, NULL);
		check(!each->early, "%s returned before it was interrupted", each->call);
		check(each->left <= HOUR && each->left > HOUR - SLACK, "%s has %f s left", each->call, each->left);
	}
	return test_pass();
}
