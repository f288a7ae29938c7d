/*
 * Many epoll watches under one descriptor number: the number was given to one pipe after the other, each was added to
 * the instance, and some of the pipes are closed again.
 *
 * states: event-fds-and-aio/epoll-ambiguous-target-fd
 * flavours: h
 * kernel: KCMP_EPOLL_TFD
 * needs: feature kcmp_epoll
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#define NUMBER 300
#define PIPES 12
#define IS_CLOSED(i) ((i) % 3 == 1)

static int readers[PIPES], writers[PIPES];

/* Watches of the instance that are recorded under NUMBER. */
static int watches(int epoll)
{
	char path[64], line[256];
	int n = 0, fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
	FILE *file = fopen(path, "r");
	check(file, "cannot open %s", path);
	while (fgets(line, sizeof(line), file))
		n += sscanf(line, "tfd: %d", &fd) == 1 && fd == NUMBER;
	fclose(file);
	return n;
}

static void set_up(int epoll)
{
	int ends[2];

	/* Backwards, so that the order of the files is not that of their descriptors. */
	for (int i = PIPES - 1; i >= 0; i--) {
		struct epoll_event event = { .events = EPOLLIN, .data.u64 = 1000 + i };

		ok(pipe(ends));
		writers[i] = ends[1];
		readers[i] = ends[0];
		ok(dup2(ends[0], NUMBER));
		ok(epoll_ctl(epoll, EPOLL_CTL_ADD, NUMBER, &event));
	}
	for (int i = 0; i < PIPES; i++)
		if (IS_CLOSED(i))
			ok(close(readers[i]));
	ok(close(NUMBER));
}

int main(int argc, char **argv)
{
	struct epoll_event events[PIPES];
	int expected = 0;

	test_init(argc, argv);
	int epoll = ok(epoll_create1(0));
	set_up(epoll);
	for (int i = 0; i < PIPES; i++)
		expected += !IS_CLOSED(i);
	check(watches(epoll) == expected, "%d watches, %d expected", watches(epoll), expected);
	test_ready();
	check(watches(epoll) == expected, "%d watches, %d expected", watches(epoll), expected);
	check(fcntl(NUMBER, F_GETFD) < 0, "the number that all the watches had is in use again");
	for (int i = 0; i < PIPES; i++) {
		char byte;

		if (IS_CLOSED(i))
			continue;
		ok(write(writers[i], "x", 1));
		int n = ok(epoll_wait(epoll, events, PIPES, 0));
		check(n == 1, "%d watches fire where pipe %d has data", n, i);
		check(events[0].data.u64 == 1000u + i, "pipe %d fires watch %lld", i, (long long)events[0].data.u64);
		ok(read(readers[i], &byte, 1));
	}
	return test_pass();
}
