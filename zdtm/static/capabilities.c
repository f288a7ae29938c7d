/*
 * Capability sets that differ from each other: effective, permitted, inheritable, and a smaller bounding set.
 *
 * states: credentials-seccomp-and-lsm/capabilities
 * flavours: h
 * kernel: capabilities the kernel knows
 * needs: root
 */
#include "zdtmtst.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(cap) (1ULL << (cap))

struct sets {
	unsigned long long effective, permitted, inheritable;
};

static struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

static struct sets get(void)
{
	struct __user_cap_data_struct data[2];

	ok(syscall(SYS_capget, &header, data));
	return (struct sets){ data[0].effective | (unsigned long long)data[1].effective << 32,
			      data[0].permitted | (unsigned long long)data[1].permitted << 32,
			      data[0].inheritable | (unsigned long long)data[1].inheritable << 32 };
}

static void set(struct sets sets)
{
	struct __user_cap_data_struct data[2] = {
		{ sets.effective, sets.permitted, sets.inheritable },
		{ sets.effective >> 32, sets.permitted >> 32, sets.inheritable >> 32 },
	};

	ok(syscall(SYS_capset, &header, data));
}

static unsigned long long bounding(void)
{
	unsigned long long set = 0;

	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (ok(prctl(PR_CAPBSET_READ, cap, 0, 0, 0)))
			set |= BIT(cap);
	return set;
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	struct sets sets = get();
	sets.effective &= ~(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_SYSLOG));
	sets.permitted &= ~BIT(CAP_DAC_OVERRIDE);
	sets.inheritable = BIT(CAP_KILL) | BIT(CAP_BPF);
	ok(prctl(PR_CAPBSET_DROP, CAP_SETPCAP, 0, 0, 0));
	ok(prctl(PR_CAPBSET_DROP, CAP_SYSLOG, 0, 0, 0));
	set(sets);
	unsigned long long bound = bounding();
	test_ready();
	struct sets now = get();
	check(now.effective == sets.effective, "effective %#llx, was %#llx", now.effective, sets.effective);
	check(now.permitted == sets.permitted, "permitted %#llx, was %#llx", now.permitted, sets.permitted);
	check(now.inheritable == sets.inheritable, "inheritable %#llx, was %#llx", now.inheritable, sets.inheritable);
	check(bounding() == bound, "bounding %#llx, was %#llx", bounding(), bound);
	return test_pass();
}
