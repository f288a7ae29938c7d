/*
 * Interval timers that keep firing, by real time, by the time in user space and by all the time used.
 *
 * states: signals-and-timers/interval-timers-periodic
 * flavours: h
 * kernel: timers
 * oracle: ignore memory: the handlers count
 * oracle: ignore signals: one may be on its way when the oracle looks
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static const struct {
	const char *name;
	int which, signo;
	suseconds_t interval;
} timers[] = {
	{ "ITIMER_REAL", ITIMER_REAL, SIGALRM, 20000 },
	{ "ITIMER_VIRTUAL", ITIMER_VIRTUAL, SIGVTALRM, 24000 },
	{ "ITIMER_PROF", ITIMER_PROF, SIGPROF, 28000 },
};

static volatile sig_atomic_t fired[NSIG];

static void on_timer(int signo)
{
	fired[signo]++;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };

	test_init(argc, argv);
	for (int i = 0; i < 3; i++) {
		struct itimerval value = { { 0, timers[i].interval }, { 0, timers[i].interval } };

		ok(sigaction(timers[i].signo, &action, NULL));
		ok(setitimer(timers[i].which, &value, NULL));
	}
	test_ready();
	for (int i = 0; i < 3; i++) {
		struct itimerval now;

		ok(getitimer(timers[i].which, &now));
		check(now.it_interval.tv_sec == 0 && now.it_interval.tv_usec == timers[i].interval,
		      "interval of %s: %ld.%06ld s", timers[i].name, now.it_interval.tv_sec, now.it_interval.tv_usec);
		/* Time is used by waiting for it, so all three must go on; the harness ends those that do not. */
		int before = fired[timers[i].signo];
		while (fired[timers[i].signo] < before + 2)
			;
	}
	return test_pass();
}
