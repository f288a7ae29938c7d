/*
 * The frame of a test program in C. The protocol on stdout is that of program.py: READY, then PASS or "FAIL: message".
 *
 *	int main(int argc, char **argv)
 *	{
 *		test_init(argc, argv);
 *		... set up the state ...
 *		test_ready();
 *		check(counter == 5, "counter is %d", counter);
 *		return test_pass();
 *	}
 *
 * The harness compiles with -std=gnu11 -O2 -Wall -Wextra -Werror -pthread -D_GNU_SOURCE and the flags of the
 * program's "cflags:" line.
 */
#ifndef ZDTMTST_H
#define ZDTMTST_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

void test_init(int argc, char **argv);

/* Say READY and wait for SIGTERM: blocked, taken without a handler, and the old mask put back. */
void test_ready(void);

/* Say READY and go on while test_go_on() is true; the handler of SIGTERM makes it false. */
void test_running(void);
bool test_go_on(void);

/* Print PASS; the value is the exit status: return test_pass(); */
int test_pass(void);

/* Absolute path of a directory of this program's own, which is also the current one. By hand a new one, which stays. */
const char *test_workdir(void);

/* Poll until a condition holds; fail when it takes too long: wait_until(tid, "the thread says who it is"); */
#define wait_until(condition, what)						\
	for (long ends = test_deadline(); !(condition);)			\
		test_poll(ends, __FILE__, __LINE__, what)

long test_deadline(void);
void test_poll(long ends, const char *file, int line, const char *what);

/* Wait for a child and give the raw wait status. */
int test_reap(pid_t pid);

/* Start a thread with SIGTERM blocked, which must find the main thread. */
pthread_t test_thread(void *(*body)(void *), void *arg);

/* Around what starts threads by itself. */
void test_block_term(void);
void test_unblock_term(void);

/* Print "FAIL: file:line: message" and end this process with status 1, also in a child. */
#define fail(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define fail_errno(what) test_fail(__FILE__, __LINE__, "%s: %s", what, strerror(errno))

/* Fail unless the condition holds: check(n == 3, "n is %d", n); */
#define check(condition, ...)				\
	do {						\
		if (!(condition))			\
			fail(__VA_ARGS__);		\
	} while (0)

/* Fail with strerror unless a call succeeded; the value is the call's: int fd = ok(open(path, O_RDONLY)); */
#define ok(call)					\
	({						\
		__typeof__(call) ok_value = (call);	\
		if (ok_value == (__typeof__(call))-1)	\
			fail_errno(#call);		\
		ok_value;				\
	})

void test_fail(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

#endif
