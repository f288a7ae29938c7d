/*
 * A SIGTRAP waits, blocked. It cannot be told from those that tracing makes, so the dump is refused.
 *
 * states: signals-and-timers/pending-sigtrap
 * flavours: h
 * expect: refuse SIGTRAP
 */
#include "zdtmtst.h"

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void on_trap(int signo, siginfo_t *info, void *context)
{
	(void)context;
	handled += signo == SIGTRAP && info->si_code == SI_USER && info->si_pid == getpid();
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	sigset_t trap, pending;

	test_init(argc, argv);
	ok(sigaction(SIGTRAP, &action, NULL));
	sigemptyset(&trap);
	sigaddset(&trap, SIGTRAP);
	sigprocmask(SIG_BLOCK, &trap, NULL);
	ok(kill(getpid(), SIGTRAP));
	test_ready();
	ok(sigpending(&pending));
	check(sigismember(&pending, SIGTRAP), "SIGTRAP is not pending any more");
	check(!handled, "SIGTRAP was handled although it is blocked");
	sigprocmask(SIG_UNBLOCK, &trap, NULL);
	check(handled == 1, "the handler of SIGTRAP ran %d times", (int)handled);
	return test_pass();
}
