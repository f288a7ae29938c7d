/*
 * Two filters, one after the other: they forbid calls that a restore needs, on pain of death.
 *
 * Of several filters' answers the strictest counts; of equal ones that of the filter installed last.
 *
 * states: credentials-seccomp-and-lsm/seccomp-filters
 * flavours: h
 * kernel: SECCOMP_GET_FILTER
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

static void install(void)
{
	check(seccomp_answer(SYS_setresuid, SECCOMP_RET_KILL_PROCESS, 0) == 0, "first filter: %s", strerror(errno));
	check(seccomp_answer(SYS_getppid, SECCOMP_RET_ERRNO | 77, SECCOMP_FILTER_FLAG_LOG) == 0, "second filter");
	check(seccomp_answer(SYS_getppid, SECCOMP_RET_ERRNO | 78, 0) == 0, "third filter");
	check(seccomp_answer(SYS_prctl, SECCOMP_RET_KILL_PROCESS, 0) == 0, "fourth filter");
}

static void body(bool transgress)
{
	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); /* needed for what follows, without CAP_SYS_ADMIN */
	ok(setresuid(1, 2, 0));
	install();
	gate_wait(&gate);
	check(syscall(SYS_getppid) < 0 && errno == 78, "getppid: %s", strerror(errno));
	check(getuid() == 1 && geteuid() == 2, "uids %d %d", getuid(), geteuid());
	if (transgress)
		syscall(SYS_setresuid, 0, 0, 0);
	_exit(6);
}

int main(int argc, char **argv)
{
	pid_t pids[2];

	test_init(argc, argv);
	gate_make(&gate);
	for (int i = 0; i < 2; i++) {
		pids[i] = ok(fork());
		if (pids[i] == 0)
			body(i);
	}
	gate_expect(&gate, 2);
	test_ready();
	for (int i = 0; i < 2; i++) {
		check(task_status(pids[i], "Seccomp") == SECCOMP_MODE_FILTER, "child %d is in another mode", i);
		check(task_status(pids[i], "Seccomp_filters") == 4, "child %d has %llu filters", i,
		      task_status(pids[i], "Seccomp_filters"));
	}
	gate_open(&gate);
	int law_abiding = test_reap(pids[0]), killed = test_reap(pids[1]);
	check(law_abiding == 6 << 8, "status of the law-abiding child: %#x", law_abiding);
	check(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGSYS, "status of the other child: %#x", killed);
	return test_pass();
}
