/*
 * A child traced by its parent and stopped when a signal is about to be delivered: a task has one tracer at most.
 *
 * states: process-tree/traced-tasks
 * flavours: h
 * expect: refuse (?i)traced
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void on_usr1(int signo)
{
	handled = signo;
}

static void child(void)
{
	check(signal(SIGUSR1, on_usr1) != SIG_ERR, "signal failed");
	ok(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	ok(kill(getpid(), SIGUSR1));
	_exit(handled == SIGUSR1 ? 0 : 1);
}

int main(int argc, char **argv)
{
	int status;

	test_init(argc, argv);
	pid_t pid = ok(fork());
	if (pid == 0)
		child();
	ok(ptrace(PTRACE_SETOPTIONS, ok(waitpid(pid, &status, 0)), NULL, PTRACE_O_EXITKILL));
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1, "the child stopped with %#x", status);
	test_ready();
	check(ok(waitpid(pid, &status, WNOHANG)) == 0, "the child did something: %#x", status);
	siginfo_t info;
	ok(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info));
	check(info.si_signo == SIGUSR1 && info.si_pid == pid, "signal %d of %d", info.si_signo, info.si_pid);
	ok(ptrace(PTRACE_CONT, pid, NULL, (void *)SIGUSR1));
	status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	return test_pass();
}
