/*
 * Two processes wake each other by eventfds, one of them a semaphore, and count in memory that they share.
 *
 * states: event-fds-and-aio/eventfd
 * flavours: h
 */
#include "zdtmtst.h"

#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEPS 3 /* units that the semaphore gets at once */

struct shared {
	uint64_t pings, pongs;
	bool stop;
};

static void add(int fd, uint64_t value)
{
	ok(write(fd, &value, sizeof(value)));
}

static uint64_t take(int fd)
{
	uint64_t value;

	ok(read(fd, &value, sizeof(value)));
	return value;
}

static void answer(struct shared *shared, int ping, int pong)
{
	for (bool stop = false; !stop;) {
		for (int i = 0; i < STEPS; i++) {
			uint64_t value = take(ping);
			check(value == 1, "the semaphore gives %lu", value);
		}
		check(shared->pings == shared->pongs + 1, "%lu pings after %lu pongs", shared->pings, shared->pongs);
		stop = shared->stop; /* belongs to this ping, as the next one comes after the pong */
		shared->pongs++;
		add(pong, shared->pongs);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	struct shared *shared =
		ok(mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	int ping = ok(eventfd(0, EFD_SEMAPHORE)), pong = ok(eventfd(0, 0));
	pid_t pid = ok(fork());
	if (pid == 0)
		answer(shared, ping, pong);
	test_running();
	do {
		shared->stop = !test_go_on();
		shared->pings++;
		add(ping, STEPS);
		uint64_t value = take(pong);
		check(value == shared->pings, "pong %lu after ping %lu", value, shared->pings);
	} while (!shared->stop);
	int status = test_reap(pid);
	check(status == 0, "status of the other process: %#x", status);
	return test_pass();
}
