/*
 * Two threads share one chain of filters. It must be one chain again, not two that are alike: only then can one thread
 * extend the other's, with SECCOMP_FILTER_FLAG_TSYNC of seccomp(2).
 *
 * states: credentials-seccomp-and-lsm/seccomp-tsync-after-restore
 * flavours: h
 * needs: root, feature seccomp_filters
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <unistd.h>

#include "gate.h"
#include "seccomp.h"
#include "tasks.h"

static struct gate gate;

static void check_answers(const char *who)
{
	check(syscall(SYS_getppid) < 0 && errno == 101, "getppid of the %s: %s", who, strerror(errno));
	check(syscall(SYS_getuid) < 0 && errno == 102, "getuid of the %s: %s", who, strerror(errno));
	check(syscall(SYS_getgid) < 0 && errno == 103, "getgid of the %s: %s", who, strerror(errno));
}

static void *thread(void *unused)
{
	(void)unused;
	gate_wait(&gate);
	check_answers("thread");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t handle;

	test_init(argc, argv);
	gate_make(&gate);
	check(seccomp_answer(SYS_getppid, SECCOMP_RET_ERRNO | 101, 0) == 0, "first filter: %s", strerror(errno));
	check(seccomp_answer(SYS_getuid, SECCOMP_RET_ERRNO | 102, 0) == 0, "second filter: %s", strerror(errno));
	handle = test_thread(thread, NULL);
	gate_expect(&gate, 1);
	test_ready();
	check(task_status(getpid(), "Seccomp_filters") == 2, "%llu filters", task_status(getpid(), "Seccomp_filters"));
	long result = seccomp_answer(SYS_getgid, SECCOMP_RET_ERRNO | 103, SECCOMP_FILTER_FLAG_TSYNC);
	check(result == 0, "the third filter cannot be given to thread %ld", result);
	check_answers("leader");
	gate_open(&gate);
	pthread_join(handle, NULL);
	return test_pass();
}
