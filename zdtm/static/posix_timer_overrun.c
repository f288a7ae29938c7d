/*
 * A POSIX timer whose signal waits, blocked, while it expires again and again: it counts how often.
 *
 * states: signals-and-timers/posix-timers
 * flavours: h
 * kernel: PR_TIMER_CREATE_RESTORE_IDS, numbers of timers
 */
#include "zdtmtst.h"

#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIGNO (SIGRTMIN + 4)
#define MILLISECOND 1000000
#define ENOUGH 20
#define MOST_SIGNALS 8 /* one, and one for each time that the task was restored */

static long milliseconds(void)
{
	struct timespec now;

	ok(clock_gettime(CLOCK_MONOTONIC, &now));
	return now.tv_sec * 1000 + now.tv_nsec / MILLISECOND;
}

static void pass_time(void)
{
	for (long start = milliseconds(); milliseconds() < start + ENOUGH;)
		;
}

int main(int argc, char **argv)
{
	const struct itimerspec every = { { 0, MILLISECOND }, { 0, MILLISECOND } }, never = { 0 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGNO };
	const struct timespec limit = { 10, 0 };
	siginfo_t info;
	sigset_t set;
	int id;

	test_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGNO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	event.sigev_value.sival_ptr = &info;
	ok(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id));
	ok(syscall(SYS_timer_settime, id, 0, &every, NULL));
	pass_time();
	test_ready();
	pass_time();
	/* The signal sent before the dump comes as it was; the restored timer sends one of its own, and counts on that. */
	int overrun = 0;
	for (int i = 0; i < MOST_SIGNALS && overrun < ENOUGH - 2; i++) {
		check(sigtimedwait(&set, &info, &limit) > 0, "the timer sends no signal");
		check(info.si_code == SI_TIMER && info.si_timerid == id, "code %d, timer %d", info.si_code, info.si_timerid);
		check(info.si_value.sival_ptr == &info, "value %p", info.si_value.sival_ptr);
		overrun += info.si_overrun;
	}
	check(overrun >= ENOUGH - 2 && overrun < INT_MAX / 2, "the timer has overrun %d times", overrun);
	ok(syscall(SYS_timer_settime, id, 0, &never, NULL));
	return test_pass();
}
