/*
 * A child that shares its parent's working directory, root and umask: clone(2) with CLONE_FS.
 *
 * flavours: h
 * expect: refuse (?i)CLONE_FS|shares? .*(root|cwd|working directory)
 */
#include "zdtmtst.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate.h"

static struct gate gate;

static int body(void *unused)
{
	(void)unused;
	gate_wait(&gate);
	umask(0123);
	return 0;
}

int main(int argc, char **argv)
{
	static char stack[1 << 16] __attribute__((aligned(16)));

	test_init(argc, argv);
	gate_make(&gate);
	umask(022);
	pid_t pid = ok(clone(body, stack + sizeof(stack), CLONE_FS | SIGCHLD, NULL));
	gate_expect(&gate, 1);
	test_ready();
	gate_open(&gate);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	mode_t mask = umask(0);
	check(mask == 0123, "the umask is %#o after the child set it", mask);
	return test_pass();
}
