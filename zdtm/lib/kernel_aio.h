/* The kernel's asynchronous input and output by its system calls: see io_submit(2). */
#ifndef KERNEL_AIO_H
#define KERNEL_AIO_H

#include "zdtmtst.h"

#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What a context number points to: the head of its ring, of which libaio reads the events without a system call. */
struct aio_ring {
	unsigned id, nr, head, tail, magic, compatible, incompatible, length;
};

static inline aio_context_t aio_setup(unsigned events)
{
	aio_context_t context = 0;

	ok(syscall(SYS_io_setup, events, &context));
	return context;
}

/* Submit a read, or write, of size bytes at an offset; its completion carries data. */
static inline void aio_submit(aio_context_t context, int command, int fd, void *buffer, size_t size, long offset,
			      uint64_t data)
{
	struct iocb request = { .aio_lio_opcode = command, .aio_fildes = fd, .aio_buf = (uintptr_t)buffer,
				.aio_nbytes = size, .aio_offset = offset, .aio_data = data };
	struct iocb *requests[] = { &request };

	check(ok(syscall(SYS_io_submit, context, 1, requests)) == 1, "the request was not taken");
}

/* Take up to `most` events, at least `least`. Gives how many. A checkpoint interrupts the wait, see signal(7). */
static inline long aio_events(aio_context_t context, long least, long most, struct io_event *events)
{
	struct timespec limit = { .tv_sec = least ? 10 : 0 };
	long count;

	do
		count = syscall(SYS_io_getevents, context, least, most, events, &limit);
	while (count < 0 && errno == EINTR);
	return ok(count);
}

#endif
