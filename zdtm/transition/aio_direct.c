/*
 * Direct reads by kernel aio, some of which are always on their way: every request is answered once, with its data.
 *
 * states: event-fds-and-aio/kernel-aio-ring-indices
 * flavours: h
 * needs: feature aio_remap
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <stdlib.h>

#include "kernel_aio.h"

#define BLOCKS 16
#define SIZE 65536

static char *buffers[BLOCKS];
static unsigned long submitted, answered;

static void write_blocks(int fd)
{
	for (int i = 0; i < BLOCKS; i++) {
		check(!posix_memalign((void **)&buffers[i], 4096, SIZE), "posix_memalign failed");
		memset(buffers[i], 'a' + i, SIZE);
		check(ok(write(fd, buffers[i], SIZE)) == SIZE, "a short write");
	}
	ok(fsync(fd));
}

static void submit(aio_context_t context, int fd, int block)
{
	memset(buffers[block], 0, SIZE);
	aio_submit(context, IOCB_CMD_PREAD, fd, buffers[block], SIZE, block * SIZE, block);
	submitted++;
}

static void take(struct io_event *event)
{
	check(event->res == SIZE, "read %lld bytes", (long long)event->res);
	for (int i = 0; i < SIZE; i += 512)
		check(buffers[event->data][i] == (char)('a' + event->data), "block %d at %d", (int)event->data, i);
	answered++;
}

int main(int argc, char **argv)
{
	struct io_event event;

	test_init(argc, argv);
	test_workdir();
	int fd = ok(open("file", O_RDWR | O_CREAT | O_DIRECT, 0600));
	write_blocks(fd);
	aio_context_t context = aio_setup(BLOCKS);
	for (int i = 0; i < BLOCKS; i++)
		submit(context, fd, i);
	test_running();
	while (test_go_on())
		if (aio_events(context, 1, 1, &event) == 1) {
			take(&event);
			submit(context, fd, event.data);
		}
	while (answered < submitted) {
		check(aio_events(context, 1, 1, &event) == 1, "%lu of %lu requests have no answer", submitted - answered,
		      submitted);
		take(&event);
	}
	return test_pass();
}
