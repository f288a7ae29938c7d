/*
 * Tasks that have unmapped the vDSO and its data: one stopped, one asleep. Nothing may map them back.
 *
 * states: vdso-rseq-and-cpu-state/vdso-unmapped
 * flavours: h
 * modes: not pre-dump: it enters them by their own text, of which a page stays a copy of the file's
 * kernel: the layout of vDSO and vvar
 */
#include "zdtmtst.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "maps.h"

#define MOST 256

static struct gate gate;

static void body(void)
{
	static struct mapping maps[MOST];
	int count = maps_read(getpid(), maps, MOST), unmapped = 0;

	for (int i = 0; i < count; i++)
		if (is_vdso_part(&maps[i])) {
			ok(munmap((void *)maps[i].start, maps[i].end - maps[i].start));
			unmapped++;
		}
	check(unmapped, "there is no vDSO to unmap");
	gate_wait(&gate);
	_exit(0);
}

int main(int argc, char **argv)
{
	static struct mapping maps[MOST];
	pid_t pids[2];

	test_init(argc, argv);
	gate_make(&gate);
	for (int i = 0; i < 2; i++) {
		pids[i] = ok(fork());
		if (pids[i] == 0)
			body();
	}
	gate_expect(&gate, 2);
	ok(kill(pids[1], SIGSTOP));
	siginfo_t info;
	ok(waitid(P_PID, pids[1], &info, WSTOPPED | WNOWAIT));
	test_ready();
	for (int i = 0; i < 2; i++) {
		int count = maps_read(pids[i], maps, MOST);

		check(count > 5, "task %d has only %d mappings", i, count);
		for (int j = 0; j < count; j++)
			check(!is_vdso_part(&maps[j]), "task %d has %s", i, maps[j].name);
	}
	ok(kill(pids[1], SIGCONT));
	gate_open(&gate);
	for (int i = 0; i < 2; i++) {
		int status = test_reap(pids[i]);

		check(status == 0, "status of task %d: %#x", i, status);
	}
	return test_pass();
}
