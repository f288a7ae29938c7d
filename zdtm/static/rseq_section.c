/*
 * A thread, and the leader of a child, are frozen inside a critical section: that must end by its abort handler.
 *
 * A restartable sequence is aborted when its thread has lost the CPU, see commit d7822b1e24f2 of the kernel. These
 * sleep inside the section, in a read, so it is aborted however the sleep ends, and its last instruction, the commit,
 * never runs. A restore that forgets the section lets it go on to the commit.
 *
 * states: vdso-rseq-and-cpu-state/rseq-critical-section
 * flavours: h
 * kernel: restartable sequences
 * needs: arch x86_64
 * oracle: ignore memory: the abort handler notes that it ran
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tasks.h"

static int data[2];
static volatile pid_t tid;

/* Give true when the section was aborted, false when it came to its end. */
static bool sleep_in_section(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	long committed = 0, aborted = 0, number = SYS_read;
	char byte;

	asm volatile(".pushsection .data, \"aw\"\n"
		     ".balign 32\n"
		     "3: .long 0, 0\n" /* struct rseq_cs: version, flags, */
		     ".quad 1f, 2f - 1f, 4f\n" /* start, length, abort handler */
		     ".popsection\n"
		     "lea 3b(%%rip), %%rcx\n"
		     "mov %%rcx, 8(%[area])\n" /* rseq_cs of struct rseq */
		     "1: syscall\n"
		     "movq $1, %[committed]\n"
		     "2: jmp 5f\n"
		     ".long %c[signature]\n" /* stands before every abort handler */
		     "4: movq $1, %[aborted]\n"
		     "5:\n"
		     : "+a"(number), [committed] "+m"(committed), [aborted] "+m"(aborted)
		     : [area] "r"(area), [signature] "i"(RSEQ_SIG), "D"(data[0]), "S"(&byte), "d"(1)
		     : "rcx", "r11", "memory");
	check(aborted + committed == 1, "aborted: %ld, committed: %ld", aborted, committed);
	ok(read(data[0], &byte, 1)); /* stay here to be looked at */
	return aborted;
}

static void *thread(void *unused)
{
	(void)unused;
	check(__rseq_size, "the C library has registered nothing");
	tid = gettid();
	check(sleep_in_section(), "the section of the thread was not aborted");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t handle;

	test_init(argc, argv);
	ok(pipe(data));
	pid_t pid = ok(fork());
	if (pid == 0) {
		ok(close(data[1]));
		_exit(sleep_in_section() ? 0 : 1);
	}
	handle = test_thread(thread, NULL);
	wait_until(tid, "the thread runs");
	task_wait_in(tid, SYS_read);
	task_wait_in(pid, SYS_read);
	test_ready();
	ok(write(data[1], "xxxx", 4)); /* two for the reads inside the section, where nobody was frozen */
	pthread_join(handle, NULL);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	return test_pass();
}
