/*
 * A child that shares its parent's memory without being a thread: clone(2) with CLONE_VM alone.
 *
 * flavours: h
 * oracle: ignore memory: the kernel writes the rseq area of the parent, which the child sees but has not registered
 * expect: refuse (?i)shares? (its|the) (memory|address space|mm)|CLONE_VM
 */
#include "zdtmtst.h"

#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "gate.h"

static struct gate gate;
static volatile int word = 1;

static int body(void *unused)
{
	(void)unused;
	gate_wait(&gate);
	word = 2;
	return 0;
}

int main(int argc, char **argv)
{
	static char stack[1 << 16] __attribute__((aligned(16)));

	test_init(argc, argv);
	gate_make(&gate);
	pid_t pid = ok(clone(body, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL));
	gate_expect(&gate, 1);
	test_ready();
	check(word == 1, "the word is %d before the child writes it", word);
	gate_open(&gate);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	check(word == 2, "the word is %d after the child wrote it", word);
	return test_pass();
}
