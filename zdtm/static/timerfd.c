/*
 * Timerfds of three clocks: one-shot, periodic, absolute, expired and never armed.
 *
 * states: event-fds-and-aio/timerfd
 * flavours: h
 * kernel: TFD_IOC_SET_TICKS, fdinfo
 * needs: feature timerfd
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HOUR 3600
#define SLACK 600 /* seconds that a checkpoint and the way to the restore may take */

static const struct {
	int clock, flags;
	struct itimerspec spec;
} timers[] = {
	{ CLOCK_MONOTONIC, 0, { .it_value = { .tv_sec = HOUR } } },
	{ CLOCK_REALTIME, 0, { .it_value = { .tv_sec = HOUR, .tv_nsec = 7 }, .it_interval = { 1, 2 } } },
	{ CLOCK_BOOTTIME, 0, { .it_value = { .tv_sec = HOUR }, .it_interval = { .tv_nsec = 5000 } } },
	{ CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, { .it_value = { .tv_sec = HOUR } } },
	{ CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, { .it_value = { .tv_sec = HOUR } } },
	{ CLOCK_MONOTONIC, 0, { .it_value = { 0 } } },
};
#define TIMERS (int)(sizeof(timers) / sizeof(timers[0]))

/* One line of /proc/self/fdinfo/FD, as a number. */
static long field(int fd, const char *format)
{
	char path[64], line[128];
	long value = -1;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "r");
	check(file, "cannot open %s", path);
	while (value < 0 && fgets(line, sizeof(line), file))
		sscanf(line, format, &value);
	fclose(file);
	return value;
}

static void arm(int fd, int index)
{
	struct itimerspec spec = timers[index].spec;
	struct timespec now;

	if (timers[index].flags & TFD_TIMER_ABSTIME) {
		ok(clock_gettime(timers[index].clock, &now));
		spec.it_value.tv_sec += now.tv_sec;
	}
	ok(timerfd_settime(fd, timers[index].flags, &spec, NULL));
}

static void check_timer(int fd, int index)
{
	const struct timespec *value = &timers[index].spec.it_value, *interval = &timers[index].spec.it_interval;
	struct itimerspec now;
	uint64_t ticks;

	ok(timerfd_gettime(fd, &now));
	check(now.it_value.tv_sec <= value->tv_sec, "timer %d has %ld s left", index, now.it_value.tv_sec);
	check(now.it_value.tv_sec >= value->tv_sec - SLACK, "timer %d has only %ld s left", index, now.it_value.tv_sec);
	check(now.it_interval.tv_sec == interval->tv_sec && now.it_interval.tv_nsec == interval->tv_nsec,
	      "timer %d has an interval of %ld.%09ld s", index, now.it_interval.tv_sec, now.it_interval.tv_nsec);
	check(field(fd, "clockid: %ld") == timers[index].clock, "timer %d runs by another clock", index);
	check(field(fd, "settime flags: %lo") == timers[index].flags, "timer %d was set with other flags", index);
	check(field(fd, "ticks: %ld") == 0, "timer %d has expired", index);
	check(read(fd, &ticks, sizeof(ticks)) < 0 && errno == EAGAIN, "timer %d can be read", index);
}

/* An expired timerfd stays readable until it is read, and gives the number of expirations. */
static int expired(time_t interval)
{
	struct itimerspec spec = { .it_value = { .tv_nsec = 1 }, .it_interval = { .tv_sec = interval } };
	int fd = ok(timerfd_create(CLOCK_MONOTONIC, 0));
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	ok(timerfd_settime(fd, 0, &spec, NULL));
	ok(poll(&readable, 1, -1));
	return fd;
}

static void check_expired(int fd, const char *which)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	uint64_t ticks;

	check(ok(poll(&readable, 1, 0)) == 1, "the expired %s timer cannot be read", which);
	ok(read(fd, &ticks, sizeof(ticks)));
	check(ticks == 1, "the %s timer expired %llu times", which, (unsigned long long)ticks);
	check(ok(poll(&readable, 1, 0)) == 0, "the expired %s timer can be read twice", which);
}

int main(int argc, char **argv)
{
	struct itimerspec soon = { .it_value = { .tv_nsec = 1 } };
	int fds[TIMERS], once, repeated;
	uint64_t ticks;

	test_init(argc, argv);
	for (int i = 0; i < TIMERS; i++) {
		fds[i] = ok(timerfd_create(timers[i].clock, TFD_NONBLOCK | TFD_CLOEXEC));
		arm(fds[i], i);
	}
	once = expired(0);
	repeated = expired(HOUR);
	test_ready();
	for (int i = 0; i < TIMERS; i++) {
		check(fcntl(fds[i], F_GETFD) == FD_CLOEXEC, "timer %d lost its close-on-exec flag", i);
		check_timer(fds[i], i);
	}
	check(!(ok(fcntl(once, F_GETFL)) & O_NONBLOCK), "the expired timer does not block any more");
	check_expired(once, "one-shot");
	check_expired(repeated, "periodic");
	for (int i = 0; i < TIMERS; i++) {
		struct pollfd readable = { .fd = fds[i], .events = POLLIN };

		ok(timerfd_settime(fds[i], 0, &soon, NULL));
		check(ok(poll(&readable, 1, 10000)) == 1, "timer %d does not fire", i);
		ok(read(fds[i], &ticks, sizeof(ticks)));
	}
	return test_pass();
}
