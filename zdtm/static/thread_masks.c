/*
 * Each thread blocks signals of its own, and has another string behind one pthread key; so does the only thread of a
 * child.
 *
 * states: threads/per-thread-signal-mask-tls
 * flavours: h
 * kernel: thread areas
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "gate.h"

#define THREADS 4

static struct gate gate;
static pthread_key_t key;
static const int signals[THREADS] = { SIGUSR1, 40, SIGCHLD, 64 };
static char *const strings[THREADS] = { "one", "two", "three", "four" };

static void set_mask(sigset_t *mask, int index)
{
	sigemptyset(mask);
	sigaddset(mask, SIGTERM); /* is for the first thread */
	for (int i = 0; i <= index; i++)
		sigaddset(mask, signals[i]);
}

static void *thread(void *arg)
{
	int index = (int *)arg - signals;
	sigset_t mask, now;

	set_mask(&mask, index);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	pthread_setspecific(key, strings[index]);
	gate_wait(&gate);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	for (int signo = 1; signo < NSIG; signo++)
		check(sigismember(&now, signo) == sigismember(&mask, signo), "signal %d is %sblocked in thread %d",
		      signo, sigismember(&now, signo) ? "" : "not ", index);
	check(pthread_getspecific(key) == strings[index], "string of thread %d: %s", index,
	      (char *)pthread_getspecific(key));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	sigset_t before, now;

	test_init(argc, argv);
	gate_make(&gate);
	pthread_key_create(&key, NULL);
	pid_t pid = ok(fork());
	if (pid == 0) {
		thread((void *)&signals[1]);
		_exit(0);
	}
	for (int i = 0; i < THREADS; i++)
		threads[i] = test_thread(thread, (void *)&signals[i]);
	gate_expect(&gate, THREADS + 1);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	test_ready();
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	check(!memcmp(&before, &now, NSIG / 8), "the first thread blocks other signals");
	check(!pthread_getspecific(key), "the first thread has a string");
	gate_open(&gate);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	return test_pass();
}
