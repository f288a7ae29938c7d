/*
 * An epoll instance with watches of every kind of behaviour: level, edge and one-shot, on pipes, sockets and
 * eventfds, each with 64 bits of data of its own.
 *
 * states: event-fds-and-aio/eventfd
 * flavours: h
 */
#include "zdtmtst.h"

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUSY 0xffffffffffffffffULL
#define ONCE 0xdeadbeefcafebabeULL
#define EDGE 0x0123456789abcdefULL
#define IDLE 0x8000000000000001ULL
#define BOTH 0x7fffffff00000000ULL

static int epoll, one_shot, edge[2], idle, ends[2];

static void watch(int operation, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	ok(epoll_ctl(epoll, operation, fd, &event));
}

/* The events of the watch with that data, 0 if it says nothing. What fires once is gone by looking at it. */
static uint32_t fired(uint64_t data)
{
	struct epoll_event events[8];
	int n = ok(epoll_wait(epoll, events, 8, 0));

	for (int i = 0; i < n; i++)
		if (events[i].data.u64 == data)
			return events[i].events;
	return 0;
}

static void set_up(void)
{
	epoll = ok(epoll_create1(EPOLL_CLOEXEC));
	int busy = ok(eventfd(1, 0));
	watch(EPOLL_CTL_ADD, busy, EPOLLIN, BUSY);
	one_shot = ok(eventfd(0, 0));
	watch(EPOLL_CTL_ADD, one_shot, EPOLLIN | EPOLLONESHOT, ONCE);
	ok(pipe(edge));
	watch(EPOLL_CTL_ADD, edge[0], EPOLLIN | EPOLLET, EDGE);
	idle = ok(eventfd(0, 0));
	watch(EPOLL_CTL_ADD, idle, EPOLLIN, IDLE);
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	watch(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP, BOTH);
}

int main(int argc, char **argv)
{
	uint64_t one = 1;

	test_init(argc, argv);
	set_up();
	test_ready();
	/* In one look, as a watch that fires once by mistake would be silent at the next. */
	struct epoll_event events[8];
	int n = ok(epoll_wait(epoll, events, 8, 0));
	check(n == 2, "%d watches fire instead of the busy one and the socket's", n);
	check(fired(BUSY) == EPOLLIN && fired(BUSY) == EPOLLIN, "a level-triggered watch must fire again and again");
	ok(write(one_shot, &one, sizeof(one)));
	check(fired(ONCE) == EPOLLIN && fired(ONCE) == 0, "the one-shot watch must fire once");
	ok(write(edge[1], "x", 1));
	check(fired(EDGE) == EPOLLIN && fired(EDGE) == 0, "the edge-triggered watch must fire once for one write");
	ok(write(idle, &one, sizeof(one)));
	check(fired(IDLE) == EPOLLIN, "the watch of the eventfd does not fire");
	check(fired(BOTH) == EPOLLOUT, "events of the socket: %#x", fired(BOTH));
	ok(write(ends[1], "x", 1));
	check(fired(BOTH) == (EPOLLIN | EPOLLOUT), "events of the socket with data: %#x", fired(BOTH));
	ok(shutdown(ends[1], SHUT_WR));
	check(fired(BOTH) == (EPOLLIN | EPOLLOUT | EPOLLRDHUP), "events after the shutdown: %#x", fired(BOTH));
	return test_pass();
}
