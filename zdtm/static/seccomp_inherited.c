/*
 * A filter that a child has inherited, and one more of its own; without CAP_SYS_ADMIN, so with no_new_privs.
 *
 * states: credentials-seccomp-and-lsm/seccomp-inheritance
 * flavours: h
 * needs: root, feature seccomp_filters
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "seccomp.h"
#include "tasks.h"

static struct gate gate;

static void body(void)
{
	ok(setresuid(1, 1, 1));
	check(seccomp_answer(SYS_getsid, SECCOMP_RET_TRAP, 0) == 0, "filter of the child: %s", strerror(errno));
	gate_wait(&gate);
	check(syscall(SYS_getppid) < 0 && errno == 77, "getppid of the child: %s", strerror(errno));
	syscall(SYS_getsid, 0);
	_exit(0);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	gate_make(&gate);
	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	check(seccomp_answer(SYS_getppid, SECCOMP_RET_ERRNO | 77, 0) == 0, "filter of the parent: %s", strerror(errno));
	pid_t pid = ok(fork());
	if (pid == 0)
		body();
	gate_expect(&gate, 1);
	test_ready();
	check(task_status(pid, "Seccomp_filters") == 2, "the child has %llu filters", task_status(pid, "Seccomp_filters"));
	check(task_status(getpid(), "Seccomp") == 2 && task_status(getpid(), "Seccomp_filters") == 1,
	      "the parent has mode %llu and %llu filters", task_status(getpid(), "Seccomp"),
	      task_status(getpid(), "Seccomp_filters"));
	check(syscall(SYS_getppid) < 0 && errno == 77, "getppid of the parent: %s", strerror(errno));
	check(getsid(0) > 0, "getsid of the parent: %s", strerror(errno));
	gate_open(&gate);
	int status = test_reap(pid);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status of the child: %#x", status);
	return test_pass();
}
