/*
 * Contexts of kernel aio without requests, of different sizes: their numbers, which are addresses, stay valid.
 *
 * states: event-fds-and-aio/kernel-aio-context
 * flavours: h
 * kernel: the ring of kernel aio
 * needs: feature aio_remap
 */
#include "zdtmtst.h"

#include <fcntl.h>

#include "kernel_aio.h"

#define CONTEXTS 3

int main(int argc, char **argv)
{
	static const unsigned sizes[CONTEXTS] = { 1, 60, 1000 };
	aio_context_t contexts[CONTEXTS];
	unsigned nr[CONTEXTS];
	struct io_event event;
	char byte = 0;

	test_init(argc, argv);
	test_workdir();
	int fd = ok(open("file", O_RDWR | O_CREAT, 0600));
	ok(write(fd, "abc", 3));
	for (int i = 0; i < CONTEXTS; i++) {
		contexts[i] = aio_setup(sizes[i]);
		nr[i] = ((struct aio_ring *)contexts[i])->nr;
	}
	test_ready();
	for (int i = 0; i < CONTEXTS; i++) {
		check(((struct aio_ring *)contexts[i])->nr == nr[i], "context %d holds %u events, was %u", i,
		      ((struct aio_ring *)contexts[i])->nr, nr[i]);
		check(aio_events(contexts[i], 0, 1, &event) == 0, "context %d has an event", i);
		aio_submit(contexts[i], IOCB_CMD_PREAD, fd, &byte, 1, i, i);
		check(aio_events(contexts[i], 1, 1, &event) == 1, "context %d has no event", i);
		check(event.res == 1 && event.data == (unsigned)i && byte == "abc"[i], "event of context %d", i);
		ok(syscall(SYS_io_destroy, contexts[i]));
		check(syscall(SYS_io_getevents, contexts[i], 0, 1, &event, NULL) < 0, "context %d outlives its end", i);
	}
	return test_pass();
}
