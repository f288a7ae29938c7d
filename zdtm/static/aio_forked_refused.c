/*
 * A child has the ring of its parent's aio context mapped, but no context of its own: refused.
 *
 * states: event-fds-and-aio/kernel-aio-context
 * flavours: h
 * expect: refuse (?i)aio context at 0x[0-9a-f]+ is another process's
 * needs: feature aio_remap
 */
#include "zdtmtst.h"

#include <sys/wait.h>

#include "gate.h"
#include "kernel_aio.h"

int main(int argc, char **argv)
{
	struct gate gate;
	struct io_event event;

	test_init(argc, argv);
	gate_make(&gate);
	aio_context_t context = aio_setup(1);
	pid_t pid = ok(fork());
	if (pid == 0) {
		gate_wait(&gate);
		check(syscall(SYS_io_getevents, context, 0, 1, &event, NULL) < 0, "the child has a context");
		check(((struct aio_ring *)context)->nr > 0, "the child has no ring");
		_exit(0);
	}
	gate_expect(&gate, 1);
	test_ready();
	gate_open(&gate);
	check(test_reap(pid) == 0, "the child has failed");
	check(aio_events(context, 0, 1, &event) == 0, "the context has an event");
	return test_pass();
}
