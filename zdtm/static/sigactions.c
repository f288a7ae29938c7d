/*
 * What is to be done with each signal: handlers with flags and masks of their own, ignored ones, and one that is reset
 * once it has run.
 *
 * states: signals-and-timers/sigtrap-handler
 * flavours: h
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the kernel has it; the C library's sigaction() hides the restorer. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
#ifdef SA_RESTORER
	void *restorer;
#endif
	unsigned long mask;
};

static struct kernel_sigaction before[NSIG];
static volatile sig_atomic_t traps, resets;

static void handle(int signo)
{
	(void)signo;
}

static void on_trap(int signo)
{
	traps += signo == SIGTRAP;
}

static void on_reset(int signo, siginfo_t *info, void *context)
{
	resets += signo == info->si_signo && context;
}

static struct kernel_sigaction get(int signo)
{
	struct kernel_sigaction action;

	memset(&action, 0, sizeof(action));
	ok(syscall(SYS_rt_sigaction, signo, NULL, &action, sizeof(action.mask)));
	return action;
}

static void set_all(void)
{
	static const int flags[] = { 0,		 SA_RESTART,	SA_NODEFER,   SA_ONSTACK,
				     SA_SIGINFO, SA_NOCLDSTOP, SA_NOCLDWAIT, SA_RESETHAND | SA_SIGINFO };

	for (int signo = 1; signo < NSIG; signo++) {
		struct sigaction action = { .sa_flags = flags[signo % 8] };

		if (signo == SIGKILL || signo == SIGSTOP || signo == SIGTERM || signo == 32 || signo == 33)
			continue;
		action.sa_handler = signo % 5 == 1 ? SIG_IGN : signo % 5 == 2 ? SIG_DFL : handle;
		for (int other = 1; other < NSIG; other++)
			if ((signo * other) % 7 == 3)
				sigaddset(&action.sa_mask, other);
		ok(sigaction(signo, &action, NULL));
	}
	ok(sigaction(SIGTRAP, &(struct sigaction){ .sa_handler = on_trap }, NULL));
	ok(sigaction(SIGUSR1, &(struct sigaction){ .sa_sigaction = on_reset, .sa_flags = SA_RESETHAND | SA_SIGINFO },
		     NULL));
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	set_all();
	for (int signo = 1; signo < NSIG; signo++)
		if (signo != SIGKILL && signo != SIGSTOP)
			before[signo] = get(signo);
	test_ready();
	for (int signo = 1; signo < NSIG; signo++) {
		if (signo == SIGKILL || signo == SIGSTOP)
			continue;
		struct kernel_sigaction now = get(signo);
		check(now.handler == before[signo].handler, "handler of signal %d is %p", signo, now.handler);
		check(now.flags == before[signo].flags, "flags of signal %d are %#lx", signo, now.flags);
		check(now.mask == before[signo].mask, "mask of signal %d is %#lx", signo, now.mask);
		check(!memcmp(&now, &before[signo], sizeof(now)), "restorer of signal %d is another one", signo);
	}
	for (int i = 1; i <= 2; i++) {
		ok(kill(getpid(), SIGTRAP));
		check(traps == i, "the handler of SIGTRAP ran %d times instead of %d", (int)traps, i);
	}
	ok(kill(getpid(), SIGUSR1));
	check(resets == 1, "the handler that is reset ran %d times", (int)resets);
	check(get(SIGUSR1).handler == SIG_DFL, "the handler that is reset is still there");
	return test_pass();
}
