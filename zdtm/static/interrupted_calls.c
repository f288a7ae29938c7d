/*
 * Threads that sleep in system calls without a time limit: each goes on sleeping, and returns what it would have.
 *
 * The freezing of a task interrupts its call. Those here the kernel starts again when there was no handler to run, so
 * none may return early.
 *
 * states: process-tree/running-sleeping-task
 * flavours: h
 * kernel: restarts of system calls
 * cflags: -Wno-missing-field-initializers
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

static struct gate gate;
static int data[2], full[2], ends[2], polled[2], selected[2], listener, word;
static pid_t pid;
static struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "listener" };

static int fill(int fd)
{
	char page[4096] = { 0 };

	ok(fcntl(fd, F_SETFL, O_NONBLOCK));
	while (write(fd, page, sizeof(page)) > 0)
		;
	return ok(fcntl(fd, F_SETFL, 0));
}

/* Each sleeper does one call; its waker makes the call return what is expected. */
static long read_pipe(void) { char byte; return read(data[0], &byte, 1); }
static void wake_read(void) { ok(write(data[1], "x", 1)); }

static long write_pipe(void) { return write(full[1], "x", 1); }
static void wake_write(void) { char page[4096]; ok(read(full[0], page, sizeof(page))); }

static long receive(void) { char byte; return recv(ends[0], &byte, 1, 0); }
static void wake_receive(void) { ok(send(ends[1], "x", 1, 0)); }

static long accept_one(void) { return accept(listener, NULL, NULL) >= 0; }
static void wake_accept(void) { ok(connect(ok(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&name, sizeof(name))); }

static long open_fifo(void) { return open("fifo", O_RDONLY) >= 0; }
static void wake_open(void) { ok(open("fifo", O_WRONLY)); }

static long futex(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0; }
static void wake_futex(void) { ok(syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0)); }

static long wait_child(void) { int status; return waitpid(pid, &status, 0) == pid && status == 3 << 8; }
static void wake_wait(void) { gate_open(&gate); }

static long poll_pipe(void) { struct pollfd fd = { polled[0], POLLIN, 0 }; return ppoll(&fd, 1, NULL, NULL); }
static void wake_poll(void) { ok(write(polled[1], "x", 1)); }

static long select_pipe(void)
{
	fd_set fds;

	FD_ZERO(&fds);
	FD_SET(selected[0], &fds);
	return pselect(selected[0] + 1, &fds, NULL, NULL, NULL, NULL);
}
static void wake_select(void) { ok(write(selected[1], "x", 1)); }

static struct sleeper {
	const char *call;
	long nr, (*sleep)(void);
	void (*wake)(void);
	pthread_t thread;
	volatile pid_t tid;
	volatile bool woken, early;
	long result;
	int error;
} sleepers[] = {
	{ "read", SYS_read, read_pipe, wake_read },
	{ "write", SYS_write, write_pipe, wake_write },
	{ "recv", SYS_recvfrom, receive, wake_receive },
	{ "accept", SYS_accept, accept_one, wake_accept },
	{ "open", SYS_openat, open_fifo, wake_open },
	{ "futex", SYS_futex, futex, wake_futex },
	{ "wait4", SYS_wait4, wait_child, wake_wait },
	{ "ppoll", SYS_ppoll, poll_pipe, wake_poll },
	{ "pselect6", SYS_pselect6, select_pipe, wake_select },
};
#define SLEEPERS (int)(sizeof(sleepers) / sizeof(sleepers[0]))

static void *run(void *arg)
{
	struct sleeper *me = arg;

	me->tid = gettid();
	me->result = me->sleep();
	me->error = errno;
	me->early = !me->woken;
	return NULL;
}

static void set_up(void)
{
	gate_make(&gate);
	ok(pipe(data));
	ok(pipe(full));
	ok(pipe(polled));
	ok(pipe(selected));
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	fill(full[1]);
	ok(mkfifo("fifo", 0600));
	listener = ok(socket(AF_UNIX, SOCK_STREAM, 0));
	ok(bind(listener, (void *)&name, sizeof(name)));
	ok(listen(listener, 1));
	pid = ok(fork());
	if (pid == 0) {
		gate_wait(&gate);
		_exit(3);
	}
	gate_expect(&gate, 1);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	test_workdir();
	set_up();
	for (struct sleeper *each = sleepers; each < sleepers + SLEEPERS; each++) {
		each->thread = test_thread(run, each);
		wait_until(each->tid, "the thread runs");
		task_wait_in(each->tid, each->nr);
	}
	test_ready();
	for (struct sleeper *each = sleepers; each < sleepers + SLEEPERS; each++) {
		each->woken = true;
		each->wake();
		pthread_join(each->thread, NULL);
		check(!each->early, "%s returned %ld before it was due (%s)", each->call, each->result,
		      strerror(each->error));
		check(each->result == 1, "%s returned %ld (%s)", each->call, each->result, strerror(each->error));
	}
	return test_pass();
}
