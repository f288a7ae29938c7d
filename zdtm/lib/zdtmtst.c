/* See zdtmtst.h. Lines are put together first and written at once: no stdio buffer may be lost or doubled by a fork. */
#include "zdtmtst.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t told_to_finish;

static void say(const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		ssize_t n = write(STDOUT_FILENO, text, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(1);
		text += n;
		left -= n;
	}
}

void test_init(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	setvbuf(stdout, NULL, _IONBF, 0);
}

static void set_term(int how, sigset_t *before)
{
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	if (pthread_sigmask(how, &term, before))
		fail("pthread_sigmask failed");
}

void test_block_term(void)
{
	set_term(SIG_BLOCK, NULL);
}

void test_unblock_term(void)
{
	set_term(SIG_UNBLOCK, NULL);
}

pthread_t test_thread(void *(*body)(void *), void *arg)
{
	sigset_t before;
	pthread_t thread;

	set_term(SIG_BLOCK, &before);
	int error = pthread_create(&thread, NULL, body, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	check(!error, "pthread_create: %s", strerror(error));
	return thread;
}

void test_ready(void)
{
	sigset_t before, term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	set_term(SIG_BLOCK, &before);
	say("READY\n");
	while (sigwaitinfo(&term, NULL) < 0) {
		if (errno != EINTR) /* which is what a dump causes */
			fail_errno("sigwaitinfo");
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_term(int signo)
{
	(void)signo;
	told_to_finish = 1;
}

void test_running(void)
{
	struct sigaction action = { .sa_handler = on_term, .sa_flags = SA_RESTART };

	if (sigaction(SIGTERM, &action, NULL) < 0)
		fail_errno("sigaction");
	say("READY\n");
}

bool test_go_on(void)
{
	return !told_to_finish;
}

int test_pass(void)
{
	say("PASS\n");
	return 0;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

long test_deadline(void)
{
	return milliseconds() + 10000;
}

void test_poll(long ends, const char *file, int line, const char *what)
{
	if (milliseconds() > ends)
		test_fail(file, line, "waited in vain: %s", what);
	usleep(500);
}

const char *test_workdir(void)
{
	static char by_hand[] = "/tmp/zdtm-by-hand-XXXXXX";
	const char *given = getenv("ZDTM_WORKDIR");

	if (given)
		return given;
	if (!mkdtemp(by_hand) || chdir(by_hand) < 0)
		fail_errno(by_hand);
	setenv("ZDTM_WORKDIR", by_hand, 1);
	return by_hand;
}

int test_reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			fail_errno("waitpid");
	}
	return status;
}

void test_fail(const char *file, int line, const char *format, ...)
{
	char message[1024], text[1200];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	snprintf(text, sizeof(text), "FAIL: %s:%d: %s\n", file, line, message);
	say(text);
	_exit(1);
}
