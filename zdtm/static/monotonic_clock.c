/*
 * The monotonic and boot time clocks, read in turn by a busy thread, never go back.
 *
 * states: signals-and-timers/monotonic-clock-never-goes-back
 * flavours: h
 * oracle: ignore memory: it remembers the last readings
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE };
#define CLOCKS (int)(sizeof(clocks) / sizeof(clocks[0]))
#define AWAY 600 /* seconds that a checkpoint may take: further ahead a clock must not be */

static volatile bool stop;
static volatile long rounds;

static long nanoseconds(clockid_t clock, bool by_call)
{
	struct timespec now;

	if (by_call) /* past the vDSO */
		ok(syscall(SYS_clock_gettime, clock, &now));
	else
		ok(clock_gettime(clock, &now));
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void *watch(void *unused)
{
	long last[CLOCKS], now;

	(void)unused;
	for (int i = 0; i < CLOCKS; i++)
		last[i] = nanoseconds(clocks[i], false);
	while (!stop) {
		for (int i = 0; i < CLOCKS; i++) {
			now = nanoseconds(clocks[i], rounds % 2);
			check(now >= last[i], "clock %d went back by %ld ns", clocks[i], last[i] - now);
			check(now - last[i] < AWAY * 1000000000L, "clock %d jumped %ld ns ahead", clocks[i],
			      now - last[i]);
			last[i] = now;
		}
		rounds++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	test_init(argc, argv);
	thread = test_thread(watch, NULL);
	wait_until(rounds, "the thread runs");
	test_ready();
	for (long before = rounds; rounds < before + 2;)
		;
	stop = true;
	pthread_join(thread, NULL);
	return test_pass();
}
