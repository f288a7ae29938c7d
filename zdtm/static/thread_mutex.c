/*
 * Ten threads sleep on a locked mutex, more of them on a condition, a barrier and a read-write lock.
 *
 * states: threads/contended-futex
 * flavours: h
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tasks.h"

#define WAITERS 10

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static volatile pid_t tids[WAITERS + 3];
static int passed; /* under the mutex */
static bool is_open; /* under the guard */

static void *wait_mutex(void *tid)
{
	*(volatile pid_t *)tid = gettid();
	pthread_mutex_lock(&mutex);
	passed++;
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static void *wait_condition(void *tid)
{
	pthread_mutex_lock(&guard);
	*(volatile pid_t *)tid = gettid();
	while (!is_open)
		pthread_cond_wait(&condition, &guard);
	pthread_mutex_unlock(&guard);
	return NULL;
}

static void *wait_barrier(void *tid)
{
	*(volatile pid_t *)tid = gettid();
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void *wait_lock(void *tid)
{
	*(volatile pid_t *)tid = gettid();
	pthread_rwlock_wrlock(&lock);
	pthread_rwlock_unlock(&lock);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[WAITERS + 3];

	test_init(argc, argv);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_mutex_lock(&mutex);
	pthread_rwlock_rdlock(&lock);
	for (int i = 0; i < WAITERS + 3; i++) {
		void *(*body)(void *) = i < WAITERS	 ? wait_mutex :
					i == WAITERS	 ? wait_condition :
					i == WAITERS + 1 ? wait_barrier :
							   wait_lock;
		threads[i] = test_thread(body, (void *)&tids[i]);
		wait_until(tids[i], "the thread runs");
		task_wait_in(tids[i], SYS_futex);
	}
	test_ready();
	check(passed == 0, "%d threads have passed a locked mutex", passed);
	pthread_mutex_unlock(&mutex);
	pthread_mutex_lock(&guard);
	is_open = true;
	pthread_mutex_unlock(&guard);
	pthread_cond_signal(&condition);
	pthread_barrier_wait(&barrier);
	pthread_rwlock_unlock(&lock);
	for (int i = 0; i < WAITERS + 3; i++)
		pthread_join(threads[i], NULL);
	check(passed == WAITERS, "%d threads have passed the unlocked mutex", passed);
	check(!pthread_mutex_trylock(&mutex), "the mutex is locked when nobody holds it");
	check(!pthread_rwlock_trywrlock(&lock), "the lock is locked when nobody holds it");
	return test_pass();
}
