/*
 * One child after the other, all with the same pid and at the same addresses, each with other content there.
 *
 * states: process-tree/pid-reuse-between-pre-dumps
 * flavours: h
 * oracle: ignore tree: the child is another one all the time
 * oracle: ignore creds: the child is not always there
 * oracle: ignore limits: the child is not always there
 */
#include "zdtmtst.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (1 << 18)

static unsigned char content[SIZE];
static int orders[2], answers[2];

/* Has content of its own, says so, and looks after it when that is asked for. */
static void live(unsigned char number)
{
	char byte;

	memset(content, number, SIZE);
	ok(write(answers[1], "!", 1));
	ok(read(orders[0], &byte, 1));
	for (int i = 0; i < SIZE; i++)
		check(content[i] == number, "byte %d of child %d is %d", i, number, content[i]);
	_exit(0);
}

/* pid: 0 for any. */
static pid_t fork_with(pid_t pid, unsigned char number)
{
	struct clone_args how = { .exit_signal = SIGCHLD };
	if (pid) {
		how.set_tid = (unsigned long)&pid;
		how.set_tid_size = 1;
	}

	pid_t made = ok(syscall(SYS_clone3, &how, sizeof(how)));
	char byte;

	if (made == 0)
		live(number);
	check(pid == 0 || made == pid, "the child is %d, not %d", made, pid);
	ok(read(answers[0], &byte, 1));
	return made;
}

int main(int argc, char **argv)
{
	unsigned char number = 0;

	test_init(argc, argv);
	ok(pipe(orders));
	ok(pipe(answers));
	pid_t pid = fork_with(0, number);
	test_running();
	while (test_go_on()) {
		ok(write(orders[1], "?", 1));
		int status = test_reap(pid);
		check(status == 0, "status of child %d: %#x", number, status);
		fork_with(pid, ++number);
	}
	ok(write(orders[1], "?", 1));
	int status = test_reap(pid);
	check(status == 0, "status of the last child: %#x", status);
	return test_pass();
}
