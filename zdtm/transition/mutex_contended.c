/*
 * Eight threads in each of two processes fight for one robust mutex in shared memory, and two more hand a turn to each
 * other by a condition. Who holds the mutex holds it alone.
 *
 * states: threads/contended-futex
 * flavours: h
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS 8
#define PROCESSES 2

static struct shared {
	pthread_mutex_t mutex, guard;
	pthread_cond_t changed;
	volatile bool stop;
	unsigned started; /* threads */
	volatile unsigned long owner, rounds, copy, turns; /* the first three under the mutex, the last under the guard */
} *shared;

static void *fight(void *unused)
{
	unsigned long me = (unsigned long)getpid() << 32 | gettid();

	(void)unused;
	__atomic_add_fetch(&shared->started, 1, __ATOMIC_SEQ_CST);
	while (!shared->stop) {
		int error = pthread_mutex_lock(&shared->mutex);
		check(!error, "pthread_mutex_lock: %s", strerror(error));
		check(shared->owner == 0, "the mutex belongs to %#lx and to %#lx", shared->owner, me);
		shared->owner = me;
		shared->rounds++;
		check(shared->rounds == shared->copy + 1, "round %lu after %lu", shared->rounds, shared->copy);
		shared->copy = shared->rounds;
		check(shared->owner == me, "the mutex of %#lx belongs to %#lx", me, shared->owner);
		shared->owner = 0;
		pthread_mutex_unlock(&shared->mutex);
	}
	return NULL;
}

/* The parent's thread has the even turns, the child's the odd ones. */
static void *take_turns(void *parity)
{
	__atomic_add_fetch(&shared->started, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&shared->guard);
	while (!shared->stop) {
		if (shared->turns % 2 == (unsigned long)parity) {
			shared->turns++;
			pthread_cond_broadcast(&shared->changed);
		} else {
			pthread_cond_wait(&shared->changed, &shared->guard);
		}
	}
	pthread_mutex_unlock(&shared->guard);
	return NULL;
}

static void make_shared(void)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t condition;

	shared = ok(mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->guard, &mutex);
	pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&shared->mutex, &mutex);
	pthread_condattr_init(&condition);
	pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&shared->changed, &condition);
}

static void run(unsigned long parity, void (*wait)(void))
{
	pthread_t threads[THREADS + 1];

	for (int i = 0; i < THREADS; i++)
		threads[i] = test_thread(fight, NULL);
	threads[THREADS] = test_thread(take_turns, (void *)parity);
	wait();
	for (int i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void no_wait(void)
{
}

static void wait_for_term(void)
{
	wait_until(__atomic_load_n(&shared->started, __ATOMIC_SEQ_CST) == PROCESSES * (THREADS + 1), "all threads run");
	test_ready();
	for (unsigned long i = 0; i < 2; i++) { /* both kinds are at work still */
		unsigned long rounds = shared->rounds, turns = shared->turns;

		wait_until(shared->rounds != rounds && shared->turns != turns, "all go on");
	}
	pthread_mutex_lock(&shared->guard);
	shared->stop = true;
	pthread_cond_broadcast(&shared->changed);
	pthread_mutex_unlock(&shared->guard);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	make_shared();
	pid_t pid = ok(fork());
	if (pid == 0) {
		run(1, no_wait);
		_exit(0);
	}
	run(0, wait_for_term);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	check(shared->rounds > 0 && shared->turns > 0, "%lu rounds, %lu turns", shared->rounds, shared->turns);
	return test_pass();
}
