/*
 * Every kind of memory barrier that processes can register for is registered for, in a child only some.
 *
 * states: vdso-rseq-and-cpu-state/membarrier
 * flavours: h
 * kernel: commands of membarrier
 */
#include "zdtmtst.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"

#ifndef MEMBARRIER_CMD_GET_REGISTRATIONS
#define MEMBARRIER_CMD_GET_REGISTRATIONS (1 << 9) /* since Linux 6.3 */
#endif

static const struct {
	int registration, command;
} kinds[] = {
	{ MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, MEMBARRIER_CMD_GLOBAL_EXPEDITED },
	{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED },
	{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE },
	{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ },
};
#define KINDS (int)(sizeof(kinds) / sizeof(kinds[0]))

static struct gate gate;
static int supported;

static int membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0);
}

/* Registrations of this process, 0 where the kernel cannot tell. */
static int registrations(void)
{
	return supported & MEMBARRIER_CMD_GET_REGISTRATIONS ? ok(membarrier(MEMBARRIER_CMD_GET_REGISTRATIONS)) : 0;
}

/* Register for the kinds in a bit set. A private command fails where it is not registered for. */
static void keep(int wanted, void (*wait)(void))
{
	for (int i = 0; i < KINDS; i++)
		if (wanted >> i & 1 && supported & kinds[i].registration)
			ok(membarrier(kinds[i].registration));
	int before = registrations();
	wait();
	check(registrations() == before, "registrations %#x, were %#x", registrations(), before);
	for (int i = 0; i < KINDS; i++) {
		bool is_private = i > 0, may = wanted >> i & 1;

		if (!(supported & kinds[i].registration))
			continue;
		int result = membarrier(kinds[i].command);
		check(result == (may || !is_private ? 0 : -1), "command %#x: %d, %s", kinds[i].command, result,
		      strerror(errno));
	}
}

static void wait_at_gate(void)
{
	gate_wait(&gate);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	gate_make(&gate);
	supported = ok(membarrier(MEMBARRIER_CMD_QUERY));
	check(supported, "the kernel has no membarrier");
	pid_t pid = ok(fork());
	if (pid == 0) {
		keep(1 << 1, wait_at_gate);
		_exit(0);
	}
	gate_expect(&gate, 1);
	keep((1 << KINDS) - 1, test_ready);
	gate_open(&gate);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	return test_pass();
}
