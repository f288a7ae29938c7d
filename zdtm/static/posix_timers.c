/*
 * POSIX timers of several clocks and kinds of notice; their numbers have gaps, as some have been deleted.
 *
 * states: signals-and-timers/posix-timers
 * flavours: h
 * kernel: PR_TIMER_CREATE_RESTORE_IDS, numbers of timers
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HOUR 3600
#define SLACK 360 /* seconds that a checkpoint and the way to the restore may take */
#define SPARE 3 /* timers made, and deleted, before each of those that stay */
#define SIGNO (SIGRTMIN + 3)

static const struct {
	clockid_t clock;
	int notify; /* -1: no sigevent at all, which means SIGALRM with the timer's number */
	struct itimerspec spec;
} timers[] = {
	{ CLOCK_REALTIME, SIGEV_SIGNAL, { .it_value = { HOUR, 0 } } },
	{ CLOCK_MONOTONIC, SIGEV_SIGNAL, { .it_value = { HOUR, 5 }, .it_interval = { 2 * HOUR, 7 } } },
	{ CLOCK_BOOTTIME, SIGEV_NONE, { .it_value = { HOUR, 0 }, .it_interval = { 0, 1000 } } },
	{ CLOCK_MONOTONIC, -1, { .it_value = { HOUR, 0 } } },
	{ CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, { .it_value = { HOUR, 0 } } },
	{ CLOCK_MONOTONIC, SIGEV_SIGNAL, { .it_value = { 0 } } },
};
#define TIMERS (int)(sizeof(timers) / sizeof(timers[0]))

/* The C library's timer_create() may give something else than the kernel's number. */
static int create(int index)
{
	struct sigevent event = { .sigev_notify = timers[index].notify, .sigev_signo = SIGNO };
	int id;

	event.sigev_value.sival_ptr = (void *)(0x1122334400000000UL + index);
	ok(syscall(SYS_timer_create, timers[index].clock, timers[index].notify < 0 ? NULL : &event, &id));
	return id;
}

static void check_timer(int id, int index)
{
	const struct itimerspec *spec = &timers[index].spec;
	struct itimerspec now;

	ok(syscall(SYS_timer_gettime, id, &now));
	check(now.it_value.tv_sec <= spec->it_value.tv_sec, "timer %d has %ld s left", index, now.it_value.tv_sec);
	check(now.it_value.tv_sec >= spec->it_value.tv_sec - SLACK, "timer %d has only %ld s left", index,
	      now.it_value.tv_sec);
	check(now.it_interval.tv_sec == spec->it_interval.tv_sec &&
	      now.it_interval.tv_nsec == spec->it_interval.tv_nsec,
	      "interval of timer %d: %ld.%09ld", index, now.it_interval.tv_sec, now.it_interval.tv_nsec);
}

/* Let the timer expire now, and look at the signal. */
static void check_notice(int id, int index)
{
	const struct itimerspec soon = { .it_value = { 0, 1 } };
	const struct timespec none = { 0 };
	void *value = (void *)(0x1122334400000000UL + index);
	siginfo_t info;
	sigset_t set;

	if (timers[index].notify == SIGEV_NONE)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGNO);
	sigaddset(&set, SIGALRM);
	ok(syscall(SYS_timer_settime, id, 0, &soon, NULL));
	/* Not asleep, as one of the timers runs by the time that is used. */
	while (sigtimedwait(&set, &info, &none) < 0)
		check(errno == EAGAIN, "sigtimedwait: %s", strerror(errno));
	check(info.si_code == SI_TIMER && info.si_timerid == id, "timer %d: code %d, number %d", index, info.si_code,
	      info.si_timerid);
	if (timers[index].notify < 0)
		check(info.si_signo == SIGALRM && info.si_value.sival_int == id, "timer %d: signal %d with %d", index,
		      info.si_signo, info.si_value.sival_int);
	else
		check(info.si_signo == SIGNO && info.si_value.sival_ptr == value, "timer %d: signal %d with %p", index,
		      info.si_signo, info.si_value.sival_ptr);
}

int main(int argc, char **argv)
{
	int ids[TIMERS], spare;
	sigset_t set;

	test_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGNO);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < TIMERS; i++) {
		for (int j = 0; j < SPARE; j++) {
			ok(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &spare));
			ok(syscall(SYS_timer_delete, spare));
		}
		ids[i] = create(i);
		ok(syscall(SYS_timer_settime, ids[i], 0, &timers[i].spec, NULL));
	}
	test_ready();
	for (int i = 0; i < TIMERS; i++)
		check_timer(ids[i], i);
	for (int i = 0; i < TIMERS; i++)
		check_notice(ids[i], i);
	for (int i = 0; i < TIMERS; i++)
		ok(syscall(SYS_timer_delete, ids[i]));
	check(syscall(SYS_timer_delete, spare) < 0, "a timer that was deleted is there again");
	return test_pass();
}
