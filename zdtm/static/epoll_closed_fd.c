/*
 * Epoll watches on 250 pipes whose descriptors have gone from under them: closed while a duplicate lives on, and their
 * numbers taken by other pipes.
 *
 * A watch belongs to an open file and to the number it had when it was added; the number alone finds the wrong file,
 * or none. See epoll(7), questions and answers.
 *
 * states: event-fds-and-aio/epoll-watches-on-closed-dup-fds
 * flavours: h
 * needs: feature kcmp_epoll
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PIPES 250
#define COPIES 600 /* read ends are duplicated to this number and up */

static int readers[PIPES], writers[PIPES];

static void watch(int epoll, int fd, uint64_t data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };

	ok(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* The data of the only watch that fires. */
static uint64_t only_event(int epoll)
{
	struct epoll_event events[3];
	int n = ok(epoll_wait(epoll, events, 3, 0));

	check(n == 1, "%d watches fire where one pipe has data", n);
	check(events[0].events == EPOLLIN, "events %#x", events[0].events);
	return events[0].data.u64;
}

static void set_up(int epoll, int epoll_of_copies)
{
	int ends[2];

	for (int i = 0; i < PIPES; i++) {
		ok(pipe(ends));
		writers[i] = ends[1];
		readers[i] = ok(fcntl(ends[0], F_DUPFD, COPIES + i));
		/* One instance watches the original, under a number that is about to change hands... */
		watch(epoll, ends[0], 0xff00000000000000ULL + i);
		/* ...the other one the copy, whose number is its own. */
		watch(epoll_of_copies, readers[i], i);
		ok(close(ends[0]));
		/* Every other number stays free until a later pipe() takes it; these are taken by the write end. */
		if (i % 2) {
			writers[i] = ok(dup2(ends[1], ends[0]));
			ok(close(ends[1]));
		}
	}
}

int main(int argc, char **argv)
{
	char byte;

	test_init(argc, argv);
	int epoll = ok(epoll_create1(0)), epoll_of_copies = ok(epoll_create1(0));
	set_up(epoll, epoll_of_copies);
	test_ready();
	for (int i = 0; i < PIPES; i++) {
		ok(write(writers[i], "x", 1));
		uint64_t data = only_event(epoll), data_of_copy = only_event(epoll_of_copies);
		check(data == 0xff00000000000000ULL + i, "pipe %d fires the watch of %#llx", i, (long long)data);
		check(data_of_copy == (uint64_t)i, "pipe %d fires the watch of copy %lld", i, (long long)data_of_copy);
		ok(read(readers[i], &byte, 1));
	}
	return test_pass();
}
