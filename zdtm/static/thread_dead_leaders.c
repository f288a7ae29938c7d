/*
 * Leaders that have ended before several other threads: what they had still shows, and what belongs to the process goes
 * on in those that live. One is stopped, one has timers and waits for its parent's death, one ends by its last thread.
 *
 * states: threads/dead-thread-group-leader
 * flavours: h
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

#define THREADS 3
#define LEADER_CODE 7
#define THREADS_CODE 8
#define LEADER_NICE 3
#define UID 4321

enum { LAST_THREAD, STOPPED, TIMERS, KINDS };

static struct gate gate;
static int kind;
static volatile char *memory;
static char file_name[] = "file";
static pid_t grandchild;

static void queue(int signo, int value)
{
	union sigval given = { .sival_int = value };

	ok(sigqueue(getpid(), signo, given));
}

static void prepare(void)
{
	struct itimerval far = { .it_value.tv_sec = 5000, .it_interval.tv_sec = 40 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 8 };
	struct itimerspec soon = { .it_value.tv_sec = 3000 };
	timer_t timer;

	grandchild = ok(fork());
	if (!grandchild)
		for (;;)
			pause();
	ok(setitimer(ITIMER_REAL, &far, NULL));
	ok(timer_create(CLOCK_MONOTONIC, &event, &timer));
	ok(timer_settime(timer, 0, &soon, NULL));
	queue(SIGRTMIN, 66);
}

/* The first thread that lives looks at all that the process has. */
static void look(void)
{
	struct itimerval left;
	struct itimerspec left_of_posix;
	siginfo_t info;
	sigset_t set;
	int signo;

	check(memory[0] == 'm' && memory[8192] == 'e', "memory of the process");
	int fd = ok(open(file_name, O_RDONLY));
	check(fd == gate.entry[1], "the next descriptor is %d", fd);
	ok(prctl(PR_GET_PDEATHSIG, &signo));
	check(signo == SIGUSR2, "signal for the parent's death: %d", signo);
	ok(getitimer(ITIMER_REAL, &left));
	check(left.it_interval.tv_sec == 40 && left.it_value.tv_sec > 4000, "interval timer: %ld s", left.it_value.tv_sec);
	ok(syscall(SYS_timer_gettime, 0, &left_of_posix));
	check(left_of_posix.it_value.tv_sec > 2000, "POSIX timer: %ld s", left_of_posix.it_value.tv_sec);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	check(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_value.sival_int == 66, "the queued signal");
	ok(kill(grandchild, SIGKILL));
	check(ok(waitpid(grandchild, &signo, __WALL)) == grandchild && signo == SIGKILL, "the child of the process");
}

static void *survivor(void *index)
{
	char byte;

	ok(prctl(PR_SET_NAME, index ? "another" : "the one"));
	ok(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	gate_arrive(&gate);
	ok(read(gate.entry[0], &byte, 1));
	if (kind == TIMERS && !index) {
		look();
		_exit(9);
	}
	if (kind == TIMERS)
		for (;;)
			pause();
	syscall(SYS_exit, THREADS_CODE); /* the threads of the two others end one by one */
	return NULL;
}

static void leader(void)
{
	sigset_t all;

	ok(close(gate.entry[1]));
	sigfillset(&all);
	ok(sigprocmask(SIG_BLOCK, &all, NULL));
	memory = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory[0] = 'm';
	memory[8192] = 'e';
	if (kind == TIMERS)
		prepare();
	for (long i = 0; i < THREADS; i++)
		test_thread(survivor, (void *)i);
	ok(prctl(PR_SET_NAME, "the dead one"));
	ok(setpriority(PRIO_PROCESS, 0, LEADER_NICE));
	ok(syscall(SYS_setresuid, UID, UID, 0)); /* of this thread alone */
	syscall(SYS_exit, LEADER_CODE);
}

static void check_leader(pid_t pid)
{
	char name[32];

	check(task_state(pid) == 'Z', "the leader is in state %c", task_state(pid));
	task_file(pid, "comm", name, sizeof(name));
	check(!strcmp(name, "the dead one\n"), "the leader has the name %s", name);
	check(getpriority(PRIO_PROCESS, pid) == LEADER_NICE, "the leader has another nice value");
	check(ok(waitpid(pid, NULL, WNOHANG)) == 0, "the process has ended");
}

int main(int argc, char **argv)
{
	static const int statuses[KINDS] = { THREADS_CODE << 8, THREADS_CODE << 8, 9 << 8 };
	pid_t pids[KINDS];
	int status;

	test_init(argc, argv);
	test_workdir();
	ok(close(ok(open(file_name, O_RDWR | O_CREAT, 0600))));
	gate_make(&gate);
	for (kind = 0; kind < KINDS; kind++) {
		pids[kind] = ok(fork());
		if (!pids[kind])
			leader();
		gate_expect(&gate, THREADS);
		wait_until(task_state(pids[kind]) == 'Z', "the leader is dead");
	}
	ok(kill(pids[STOPPED], SIGSTOP));
	check(ok(waitpid(pids[STOPPED], &status, WUNTRACED)) == pids[STOPPED] && WIFSTOPPED(status), "the stop");
	test_ready();
	for (kind = 0; kind < KINDS; kind++)
		check_leader(pids[kind]);
	gate_open(&gate);
	for (kind = 0; kind < KINDS; kind++) {
		if (kind == STOPPED) {
			check(ok(waitpid(pids[kind], NULL, WNOHANG)) == 0, "the stopped process has ended");
			ok(kill(pids[kind], SIGCONT));
		}
		status = test_reap(pids[kind]);
		check(status == statuses[kind], "status of process %d: %#x", kind, status);
	}
	return test_pass();
}
