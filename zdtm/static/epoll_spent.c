/*
 * One-shot epoll watches that have fired: silent, whatever happens, until they are armed again.
 *
 * states: event-fds-and-aio/epoll-watches-on-closed-dup-fds
 * flavours: h
 * oracle: ignore files: EPOLL_CTL_ADD cannot make a spent watch, it always adds the reports of errors and hangups
 */
#include "zdtmtst.h"

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void watch(int epoll, int operation, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events | EPOLLONESHOT, .data.u64 = 0xdeadbeefcafebabe };

	ok(epoll_ctl(epoll, operation, fd, &event));
}

static uint32_t fired(int epoll)
{
	struct epoll_event event = { 0 };

	if (ok(epoll_wait(epoll, &event, 1, 0)) == 0)
		return 0;
	check(event.data.u64 == 0xdeadbeefcafebabe, "data %#llx", (unsigned long long)event.data.u64);
	return event.events;
}

int main(int argc, char **argv)
{
	uint64_t one = 1;

	test_init(argc, argv);
	int readable = ok(eventfd(1, 0)), epoll = ok(epoll_create1(0));
	int writable = ok(eventfd(0, 0)), epoll_of_writable = ok(epoll_create1(0));
	watch(epoll, EPOLL_CTL_ADD, readable, EPOLLIN);
	watch(epoll_of_writable, EPOLL_CTL_ADD, writable, EPOLLOUT | EPOLLET);
	check(fired(epoll) == EPOLLIN && fired(epoll_of_writable) == EPOLLOUT, "the watches did not fire");
	test_ready();
	check(fired(epoll) == 0, "the spent watch of a readable eventfd fired");
	check(fired(epoll_of_writable) == 0, "the spent edge-triggered watch of a writable eventfd fired");
	ok(write(readable, &one, sizeof(one)));
	check(fired(epoll) == 0, "the spent watch fired when something happened");
	watch(epoll, EPOLL_CTL_MOD, readable, EPOLLIN);
	check(fired(epoll) == EPOLLIN && fired(epoll) == 0, "the watch must fire once when it is armed again");
	uint64_t count;
	ok(read(readable, &count, sizeof(count)));
	check(count == 2, "the eventfd counts %llu", (unsigned long long)count);
	watch(epoll_of_writable, EPOLL_CTL_MOD, writable, EPOLLOUT | EPOLLET);
	check(fired(epoll_of_writable) == EPOLLOUT, "the edge-triggered watch must fire when it is armed again");
	return test_pass();
}
