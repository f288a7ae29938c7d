/*
 * Blocked signals wait in the queues of two threads and of the process, each with all that was sent with it.
 *
 * A queue keeps real-time signals one by one and in order, of the others only the first of a kind.
 *
 * states: signals-and-timers/pending-signals
 * flavours: h
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"

#define OWN 64 /* for the first thread, then OTHER for the second and SHARED for the process */
#define OTHER 3
#define SHARED 2
#define REALTIME (SIGRTMIN + 1)
#define KEPT 48 /* bytes of a siginfo_t that the kernel keeps: struct kernel_siginfo. The rest has to be zero. */

static struct gate gate;
static sigset_t blocked;

static siginfo_t numbered(int signo, int number)
{
	siginfo_t info;

	/* Every byte of it counts, so every byte has a value. A negative code says that a user made it up. */
	memset(&info, 0, sizeof(info));
	memset(&info, number, KEPT);
	info.si_signo = signo;
	info.si_errno = number;
	info.si_code = -60 - number;
	info.si_value.sival_ptr = (void *)(0xabcdef0000000000UL + number);
	return info;
}

static void send(pid_t tid, int signo, int number)
{
	siginfo_t info = numbered(signo, number);

	if (tid)
		ok(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, signo, &info));
	else
		ok(syscall(SYS_rt_sigqueueinfo, getpid(), signo, &info));
}

/* Take one signal; the queue of the thread comes before that of the process. */
static void take(int signo, int number)
{
	const struct timespec now = { 0 };
	siginfo_t expected = numbered(signo, number), info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	memset(&info, 0, sizeof(info));
	check(sigtimedwait(&set, &info, &now) == signo, "signal %d no. %d: %s", signo, number, strerror(errno));
	check(info.si_signo == signo && info.si_errno == number && info.si_code == -60 - number,
	      "signal %d no. %d has errno %d and code %d", signo, number, info.si_errno, info.si_code);
	check(!memcmp(&info, &expected, KEPT), "signal %d no. %d has lost what it carried", signo, number);
}

static void check_empty(void)
{
	sigset_t pending;

	ok(sigpending(&pending));
	for (int signo = 1; signo < NSIG; signo++)
		check(!sigismember(&pending, signo), "signal %d is still pending", signo);
}

static void *other_thread(void *unused)
{
	(void)unused;
	for (int i = 0; i < OTHER; i++)
		send(gettid(), REALTIME, i);
	gate_wait(&gate);
	for (int i = 0; i < OTHER; i++)
		take(REALTIME, i);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	test_init(argc, argv);
	gate_make(&gate);
	sigfillset(&blocked);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	thread = test_thread(other_thread, NULL);
	gate_expect(&gate, 1);
	for (int i = 0; i < OWN; i++)
		send(getpid(), REALTIME, i);
	send(getpid(), SIGCHLD, 100);
	send(getpid(), SIGCHLD, 101); /* too many */
	for (int i = 0; i < SHARED; i++)
		send(0, SIGRTMAX, i);
	send(0, SIGUSR1, 5);
	test_ready();
	for (int i = 0; i < OWN; i++)
		take(REALTIME, i);
	take(SIGCHLD, 100);
	gate_open(&gate);
	pthread_join(thread, NULL);
	for (int i = 0; i < SHARED; i++)
		take(SIGRTMAX, i);
	take(SIGUSR1, 5);
	check_empty();
	sigset_t now;
	sigprocmask(SIG_SETMASK, NULL, &now);
	for (int signo = 1; signo < NSIG; signo++)
		check(sigismember(&now, signo) == (signo != SIGKILL && signo != SIGSTOP && signo != 32 && signo != 33),
		      "signal %d is %sblocked", signo, sigismember(&now, signo) ? "" : "not ");
	return test_pass();
}
