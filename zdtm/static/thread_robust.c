/*
 * Robust futex lists: the kernel knows where each thread keeps the list of what it has locked, and unlocks that when
 * the thread dies. See get_robust_list(2).
 *
 * states: threads/robust-futex-list
 * flavours: h
 * kernel: robust lists
 */
#include "zdtmtst.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"

struct shared {
	pthread_mutex_t by_thread, by_child;
};

struct list {
	struct robust_list_head *head;
	size_t length;
};

static struct gate gate;
static struct shared *shared;
static volatile pid_t tid;

static struct list list_of(pid_t tid)
{
	struct list list;

	ok(syscall(SYS_get_robust_list, tid, &list.head, &list.length));
	return list;
}

static void *thread(void *unused)
{
	(void)unused;
	tid = gettid();
	pthread_mutex_lock(&shared->by_thread);
	gate_wait(&gate);
	return NULL; /* with the mutex locked */
}

static void check_left_locked(pthread_mutex_t *mutex, const char *who)
{
	int error = pthread_mutex_lock(mutex);

	check(error == EOWNERDEAD, "the mutex left locked by the %s: %s", who, strerror(error));
	pthread_mutex_consistent(mutex);
	pthread_mutex_unlock(mutex);
}

static void set_up(void)
{
	pthread_mutexattr_t attributes;

	shared = ok(mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->by_thread, &attributes);
	pthread_mutex_init(&shared->by_child, &attributes);
}

int main(int argc, char **argv)
{
	pthread_t handle;

	test_init(argc, argv);
	gate_make(&gate);
	set_up();
	handle = test_thread(thread, NULL);
	pid_t pid = ok(fork());
	if (pid == 0) {
		pthread_mutex_lock(&shared->by_child);
		gate_wait(&gate);
		_exit(0); /* with the mutex locked */
	}
	gate_expect(&gate, 2);
	pid_t tasks[] = { getpid(), tid, pid };
	struct list before[3];
	for (int i = 0; i < 3; i++)
		before[i] = list_of(tasks[i]);
	test_ready();
	for (int i = 0; i < 3; i++) {
		struct list now = list_of(tasks[i]);

		check(now.head == before[i].head, "list of task %d: %p, was %p", i, now.head, before[i].head);
		check(now.length == before[i].length, "length of list %d: %zu, was %zu", i, now.length, before[i].length);
	}
	gate_open(&gate);
	pthread_join(handle, NULL);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	check_left_locked(&shared->by_thread, "thread");
	check_left_locked(&shared->by_child, "child");
	return test_pass();
}
