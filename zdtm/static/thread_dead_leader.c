/*
 * The leader of a thread group has ended, a zombie that cannot be reaped, while another thread goes on and is killed.
 *
 * states: threads/dead-thread-group-leader
 * flavours: h
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

static struct gate gate;

/* Ends the whole process with 5 when it gets a signal that was sent to the process. */
static void *survivor(void *unused)
{
	sigset_t term;
	int signo;

	(void)unused;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	gate_wait(&gate);
	check(!sigwait(&term, &signo) && signo == SIGTERM, "signal %d", signo);
	_exit(5);
}

static void body(void)
{
	test_thread(survivor, NULL);
	pthread_exit(NULL);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	gate_make(&gate);
	pid_t pid = ok(fork());
	if (pid == 0)
		body();
	gate_expect(&gate, 1);
	wait_until(task_state(pid) == 'Z', "the leader is dead");
	test_ready();
	check(task_state(pid) == 'Z', "the leader is in state %c", task_state(pid));
	check(ok(waitpid(pid, NULL, WNOHANG)) == 0, "the process has ended");
	gate_open(&gate);
	ok(kill(pid, SIGTERM));
	int status = test_reap(pid);
	check(status == 5 << 8, "status of the process: %#x", status);
	return test_pass();
}
