/*
 * A child of vfork() that has not called exec() yet: its parent sleeps inside the call, in memory that both use.
 *
 * states: process-tree/pending-vfork
 * flavours: h
 * dump-options: --timeout 1
 * expect: refuse (?i)vfork
 */
#include "zdtmtst.h"

#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"

static struct gate gate;

/* Its child exits with 7 when the gate opens; only then this process goes on, and exits with 8. */
static void parent(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		gate_wait(&gate);
		_exit(7);
	}
	int status = test_reap(ok(pid));
	check(status == 7 << 8, "status of the vfork child: %#x", status);
	_exit(8);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	gate_make(&gate);
	pid_t pid = ok(fork());
	if (pid == 0)
		parent();
	gate_expect(&gate, 1);
	test_ready();
	check(ok(waitpid(pid, NULL, WNOHANG)) == 0, "the parent went on before its vfork child");
	gate_open(&gate);
	int status = test_reap(pid);
	check(status == 8 << 8, "status of the parent: %#x", status);
	return test_pass();
}
