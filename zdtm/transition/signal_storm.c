/*
 * A child sends its parent numbered real-time signals all the time, as many as the parent has confirmed: by a handler,
 * each once, in order, with its number. Another one, of a timer, keeps interrupting the parent.
 *
 * states: signals-and-timers/pending-signals
 * flavours: h
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define AHEAD 50 /* signals that wait at a time */
#define SIGNO (SIGRTMIN + 2)

static struct shared {
	volatile long sent, received, alarms;
	volatile bool stop;
} *shared;

static volatile sig_atomic_t inside;

static void on_signal(int signo, siginfo_t *info, void *context)
{
	(void)context;
	check(!inside, "signal %d comes into its own handler", signo);
	inside = 1;
	check(info->si_code == SI_QUEUE, "signal no. %ld has code %d", shared->received, info->si_code);
	check((long)info->si_value.sival_ptr == shared->received, "signal no. %ld comes as no. %ld",
	      (long)info->si_value.sival_ptr, shared->received);
	shared->received++;
	inside = 0;
}

static void on_alarm(int signo)
{
	(void)signo;
	shared->alarms++;
}

static void send(pid_t target)
{
	while (!shared->stop) {
		union sigval number = { .sival_ptr = (void *)shared->sent };

		if (shared->sent >= shared->received + AHEAD)
			continue;
		/* Counted first, as the parent may be faster than this. */
		shared->sent++;
		ok(sigqueue(target, SIGNO, number));
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigaction alarm = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval interval = { { 0, 500 }, { 0, 500 } };

	test_init(argc, argv);
	shared = ok(mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	ok(sigaction(SIGNO, &action, NULL));
	ok(sigaction(SIGALRM, &alarm, NULL));
	pid_t parent = getpid(), pid = ok(fork());
	ok(setitimer(ITIMER_REAL, &interval, NULL));
	if (pid == 0)
		send(parent);
	test_running();
	while (test_go_on() || shared->received < AHEAD) {
		long received = shared->received;

		check(received <= shared->sent, "%ld received, %ld sent", received, shared->sent);
	}
	long alarms = shared->alarms;
	while (shared->alarms == alarms)
		;
	shared->stop = true;
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	check(shared->received == shared->sent, "%ld received, %ld sent", shared->received, shared->sent);
	return test_pass();
}
