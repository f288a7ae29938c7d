/*
 * POSIX aio, which the C library does by helper threads, on a file without a name: reads and writes without end.
 *
 * states: event-fds-and-aio/posix-aio-on-file
 * flavours: h
 * oracle: ignore tree: the helper threads come and go
 * oracle: ignore creds: those of threads that are gone
 */
#include "zdtmtst.h"

#include <aio.h>
#include <fcntl.h>
#include <unistd.h>

#define SIZE 4096
#define REQUESTS 4

static char buffers[REQUESTS][SIZE];

/* Wait for a request. */
static void finish(struct aiocb *request)
{
	const struct aiocb *requests[] = { request };
	int error;

	while ((error = aio_error(request)) == EINPROGRESS)
		if (aio_suspend(requests, 1, NULL) < 0)
			check(errno == EINTR, "aio_suspend: %s", strerror(errno));
	check(!error, "the request failed: %s", strerror(error));
	ssize_t size = aio_return(request);
	check(size == SIZE, "%zd bytes of %d", size, SIZE);
}

static struct aiocb request_of(int fd, int i)
{
	return (struct aiocb){ .aio_fildes = fd, .aio_buf = buffers[i], .aio_nbytes = SIZE, .aio_offset = i * SIZE };
}

int main(int argc, char **argv)
{
	struct aiocb requests[REQUESTS];

	test_init(argc, argv);
	test_workdir();
	int fd = ok(open("file", O_RDWR | O_CREAT, 0600));
	ok(unlink("file"));
	test_running();
	for (unsigned round = 0; test_go_on(); round++) {
		for (int i = 0; i < REQUESTS; i++) {
			memset(buffers[i], round + i, SIZE);
			requests[i] = request_of(fd, i);
			ok(aio_write(&requests[i]));
		}
		for (int i = 0; i < REQUESTS; i++)
			finish(&requests[i]);
		memset(buffers, 0, sizeof(buffers));
		for (int i = 0; i < REQUESTS; i++) {
			requests[i] = request_of(fd, i);
			ok(aio_read(&requests[i]));
		}
		for (int i = 0; i < REQUESTS; i++) {
			finish(&requests[i]);
			for (int j = 0; j < SIZE; j++)
				check(buffers[i][j] == (char)(round + i), "byte %d of request %d in round %u is %d", j,
				      i, round, buffers[i][j]);
		}
	}
	return test_pass();
}
