/*
 * A task of which one thread, and not the first, is traced by another task of the tree.
 *
 * states: process-tree/traced-tasks
 * flavours: h
 * expect: refuse (?i)traced
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"

static struct gate gate, tracer_gate;
static volatile pid_t tid;

static void *thread(void *unused)
{
	(void)unused;
	tid = gettid();
	gate_wait(&gate);
	return NULL;
}

/* Seizes the thread, and lets it go once the gate is open and it has shown that it still can stop it. */
static void trace(void)
{
	int status;

	ok(ptrace(PTRACE_SEIZE, tid, NULL, NULL));
	gate_wait(&tracer_gate);
	ok(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL));
	ok(waitpid(tid, &status, __WALL));
	check(WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP, "the thread stopped with %#x", status);
	ok(ptrace(PTRACE_DETACH, tid, NULL, NULL));
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t handle;

	test_init(argc, argv);
	gate_make(&gate);
	gate_make(&tracer_gate);
	handle = test_thread(thread, NULL);
	gate_expect(&gate, 1);
	pid_t pid = ok(fork());
	if (pid == 0)
		trace();
	gate_expect(&tracer_gate, 1);
	test_ready();
	gate_open(&tracer_gate);
	int status = test_reap(pid);
	check(status == 0, "status of the tracer: %#x", status);
	gate_open(&gate);
	pthread_join(handle, NULL);
	return test_pass();
}
