/*
 * A context of kernel aio that has gone around its ring, with completed requests of which nobody has taken notice.
 *
 * states: event-fds-and-aio/kernel-aio-ring-indices
 * flavours: h
 * kernel: the ring of kernel aio
 * needs: feature aio_remap
 */
#include "zdtmtst.h"

#include <fcntl.h>

#include "kernel_aio.h"

#define ROOM 32
#define WAITING 11
#define MARK 0xfeed000000000000ULL

static char buffers[WAITING];

/* Every request is answered with another number of bytes and carries another number. */
static void submit(aio_context_t context, int fd, int i)
{
	aio_submit(context, IOCB_CMD_PREAD, fd, &buffers[i], i % 2, i, MARK + i);
}

int main(int argc, char **argv)
{
	struct io_event events[WAITING + 1];

	test_init(argc, argv);
	test_workdir();
	int fd = ok(open("file", O_RDWR | O_CREAT, 0600));
	ok(write(fd, "0123456789abcdef", 16));
	aio_context_t context = aio_setup(ROOM);
	struct aio_ring *ring = (struct aio_ring *)context;
	/* Around the ring, and up to near its end: what waits goes over the edge. */
	for (unsigned i = 0; i < 2 * ring->nr - 5; i++) {
		submit(context, fd, 1);
		check(aio_events(context, 1, 1, events) == 1, "no event");
	}
	for (int i = 0; i < WAITING; i++)
		submit(context, fd, i);
	struct aio_ring before = *ring;
	check(before.tail < before.head, "head %u, tail %u", before.head, before.tail);
	test_ready();
	check(ring->nr == before.nr && ring->head == before.head && ring->tail == before.tail,
	      "size %u, head %u, tail %u, were %u, %u, %u", ring->nr, ring->head, ring->tail, before.nr, before.head,
	      before.tail);
	check(aio_events(context, WAITING, WAITING + 1, events) == WAITING, "another number of events");
	for (int i = 0; i < WAITING; i++)
		check(events[i].data == MARK + i && events[i].res == i % 2, "event %d: data %#llx, result %lld", i,
		      (unsigned long long)events[i].data, (long long)events[i].res);
	for (unsigned i = 0; i < 2 * ring->nr; i++) {
		buffers[1] = 0;
		submit(context, fd, 1);
		check(aio_events(context, 1, 2, events) == 1, "another number of events for a new request");
		check(events[0].data == MARK + 1 && buffers[1] == '1', "the new request was answered wrongly");
	}
	return test_pass();
}
