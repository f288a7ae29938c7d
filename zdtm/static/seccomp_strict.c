/*
 * A child in seccomp's strict mode, in which any call but read(), write() and exit() means death, sleeps in a read.
 *
 * states: credentials-seccomp-and-lsm/seccomp-strict
 * flavours: h
 * kernel: the vDSO under strict seccomp
 * needs: root
 */
#include "zdtmtst.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

static struct gate gate;

static void body(void)
{
	char byte = 1;

	close(gate.entry[1]);
	ok(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
	write(gate.arrivals[1], &byte, 1);
	/* The C library's _exit() would be exit_group(), which is not allowed. */
	syscall(SYS_exit, read(gate.entry[0], &byte, 1) == 1 && byte == 0 ? 0 : 1);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	gate_make(&gate);
	pid_t pid = ok(fork());
	if (pid == 0)
		body();
	pid_t victim = ok(fork());
	if (victim == 0)
		body();
	gate_expect(&gate, 2);
	test_ready();
	check(ok(waitpid(-1, NULL, WNOHANG)) == 0, "a child has ended");
	check(task_status(pid, "Seccomp") == SECCOMP_MODE_STRICT, "seccomp mode %llu", task_status(pid, "Seccomp"));
	gate_open(&gate);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	status = test_reap(victim);
	check(status == 0, "status of the other child: %#x", status);
	return test_pass();
}
