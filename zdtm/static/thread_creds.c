/*
 * Threads with credentials of their own: the system calls, unlike the C library, change those of the calling thread.
 *
 * states: threads/per-thread-credentials
 * flavours: h
 * kernel: capabilities
 * needs: root
 */
#include "zdtmtst.h"

#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

static struct gate gate;
static volatile pid_t tids[3];

/* Lines of /proc/PID/status that tell the credentials. */
static const char *const fields[] = { "Uid",	"Gid",	  "Groups", "CapInh", "CapPrm",
				      "CapEff", "CapBnd", "CapAmb", "NoNewPrivs" };
#define FIELDS (int)(sizeof(fields) / sizeof(fields[0]))

static void set_caps(unsigned effective, unsigned permitted)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { effective, permitted, 0 } };

	ok(syscall(SYS_capset, &header, data));
}

static void *other_user(void *unused)
{
	const gid_t groups[] = { 11, 22, 33 };

	(void)unused;
	ok(syscall(SYS_setgroups, 3, groups));
	ok(syscall(SYS_setresgid, 5, 6, 7));
	ok(syscall(SYS_setresuid, 1, 2, 3));
	tids[0] = gettid();
	gate_wait(&gate);
	return NULL;
}

static void *fewer_caps(void *unused)
{
	(void)unused;
	ok(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0));
	set_caps(1 << CAP_CHOWN, 1 << CAP_CHOWN | 1 << CAP_KILL);
	tids[1] = gettid();
	gate_wait(&gate);
	return NULL;
}

static void *no_privileges(void *unused)
{
	(void)unused;
	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	syscall(SYS_setfsuid, 4);
	tids[2] = gettid();
	gate_wait(&gate);
	return NULL;
}

/* The line of a field, without its end; in a buffer that the next call overwrites. */
static const char *field(pid_t tid, const char *name)
{
	static char text[8192];

	task_file(tid, "status", text, sizeof(text));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			return line;
	fail("no %s in the status of %d", name, tid);
}

int main(int argc, char **argv)
{
	void *(*bodies[])(void *) = { other_user, fewer_caps, no_privileges };
	char before[4][FIELDS][256];
	pthread_t threads[3];

	test_init(argc, argv);
	gate_make(&gate);
	for (int i = 0; i < 3; i++)
		threads[i] = test_thread(bodies[i], NULL);
	gate_expect(&gate, 3);
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < FIELDS; j++)
			strcpy(before[i][j], field(i < 3 ? tids[i] : getpid(), fields[j]));
	check(!strcmp(before[0][0], "Uid:\t1\t2\t3\t2"), "the other user is %s", before[0][0]);
	test_ready();
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < FIELDS; j++) {
			const char *now = field(i < 3 ? tids[i] : getpid(), fields[j]);

			check(!strcmp(now, before[i][j]), "task %d: %s, was %s", i, now, before[i][j]);
		}
	gate_open(&gate);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	return test_pass();
}
