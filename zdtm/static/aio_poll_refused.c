/*
 * A poll submitted to kernel aio waits for its event: refused, and answered when the event comes.
 *
 * states: event-fds-and-aio/kernel-aio-context
 * flavours: h
 * kernel: whether it can be looked into
 * expect: refuse (?i)aio context 0x[0-9a-f]+ has poll requests
 * needs: feature aio_remap, cap CAP_BPF, file /sys/kernel/btf/vmlinux
 */
#include "zdtmtst.h"

#include <poll.h>

#include "kernel_aio.h"

int main(int argc, char **argv)
{
	struct io_event event;
	int fds[2];

	test_init(argc, argv);
	ok(pipe(fds));
	aio_context_t context = aio_setup(1);
	struct iocb request = { .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = fds[0], .aio_buf = POLLIN };
	struct iocb *requests[] = { &request };
	check(ok(syscall(SYS_io_submit, context, 1, requests)) == 1, "the request was not taken");
	test_ready();
	check(aio_events(context, 0, 1, &event) == 0, "there is an event");
	ok(write(fds[1], "x", 1));
	check(aio_events(context, 1, 1, &event) == 1 && event.res & POLLIN, "event %#llx", (long long)event.res);
	return test_pass();
}
