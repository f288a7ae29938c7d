/*
 * The subject of the golden images: `subject memory|files|family|signals|clocks|droppable`.
 *
 * It is static, without libc and, once it runs, without vDSO, so its images can be restored wherever its processor is
 * known; but for `clocks`, which keeps the vDSO of its kernel and goes on to call it on another. It says READY when its state stands, waits for SIGTERM, and says PASS, or FAIL and what is wrong.
 */
#include <asm/unistd.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#define PAGE 4096
#define HOUR 3600
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif
#define KERNEL_SIGSET 8
#define REALTIME 34

#ifdef __x86_64__
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n\thlt\n");

static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#else
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tb start\n");

static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#endif

#define ARG(n, ...) ARG_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define ARG_(a, b, c, d, e, f, ...) (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
#define call(name, ...) call6(__NR_##name, ARG(0, __VA_ARGS__))

static unsigned long length(const char *text)
{
	unsigned long n = 0;

	while (text[n])
		n++;
	return n;
}

static int same(const void *a, const void *b, unsigned long n)
{
	const char *x = a, *y = b;

	while (n && *x == *y)
		x++, y++, n--;
	return !n;
}

static void say(const char *text)
{
	call(write, 1, text, length(text));
}

static void check(int is_so, const char *what)
{
	if (is_so)
		return;
	say("FAIL: ");
	say(what);
	say("\n");
	call(exit_group, 1);
}

/* The result of a call that may not fail. */
#define ok(name, ...) succeeded(call(name, __VA_ARGS__), #name)

static long succeeded(long result, const char *name)
{
	check(result >= 0 || result < -4095, name);
	return result;
}

static int strcmp(const char *a, const char *b)
{
	return !same(a, b, length(a) + 1);
}

static void *map(unsigned long size, int flags)
{
	return (void *)ok(mmap, 0, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
}

/* Waits for one of these signals, all of which are blocked. */
static int await(unsigned long set, siginfo_t *info)
{
	long signo;

	do
		signo = call(rt_sigtimedwait, &set, info, 0, KERNEL_SIGSET);
	while (signo == -4);
	return signo;
}

static long new_child(void)
{
	return ok(clone, SIGCHLD, 0, 0, 0, 0);
}

/* Its own memory, and some that is shared. */

#define PAGES 8
static unsigned char *own, *shared, in_bss[3 * PAGE];

static unsigned char pattern(int page)
{
	return 0x40 + 3 * page;
}

static void make_memory(void)
{
	own = map(PAGES * PAGE, MAP_PRIVATE);
	shared = map(PAGES * PAGE, MAP_SHARED);
	for (int page = 0; page < PAGES; page += 2)
		own[page * PAGE + 7 * page] = shared[page * PAGE + 9 * page] = pattern(page);
	in_bss[PAGE] = pattern(1);
	ok(mprotect, own + 2 * PAGE, PAGE, PROT_READ);
	ok(mprotect, own + 4 * PAGE, PAGE, PROT_NONE);
}

static void check_memory(void)
{
	ok(mprotect, own + 4 * PAGE, PAGE, PROT_READ);
	for (int page = 0; page < PAGES; page++) {
		check(own[page * PAGE + 7 * page] == (page % 2 ? 0 : pattern(page)), "private memory");
		check(shared[page * PAGE + 9 * page] == (page % 2 ? 0 : pattern(page)), "shared memory");
	}
	check(in_bss[PAGE] == pattern(1) && !in_bss[2 * PAGE], "bss");
}

/* Open files. */

static int pipe_ends[2], pair[2], event, epoll, timer, file, ghost;

static void make_files(void)
{
	struct itimerspec in_an_hour = { .it_value = { HOUR, 0 } };
	struct epoll_event readable = { .events = EPOLLIN, .data = { .u64 = 0x1234 } };
	unsigned long seven = 7;

	ok(pipe2, pipe_ends, 0);
	ok(write, pipe_ends[1], "in the pipe", 11);
	ok(socketpair, AF_UNIX, SOCK_DGRAM, 0, pair);
	ok(write, pair[0], "first", 5);
	ok(write, pair[0], "second", 6);
	event = ok(eventfd2, 0, 0);
	ok(write, event, &seven, 8);
	epoll = ok(epoll_create1, 0);
	ok(epoll_ctl, epoll, EPOLL_CTL_ADD, event, &readable);
	timer = ok(timerfd_create, 1, 0);
	ok(timerfd_settime, timer, 0, &in_an_hour, 0);
	file = ok(openat, AT_FDCWD, "file", O_RDWR | O_CREAT, 0644);
	ok(write, file, "0123456789", 10);
	ok(lseek, file, 4, 0);
	ghost = ok(openat, AT_FDCWD, "ghost", O_RDWR | O_CREAT, 0600);
	ok(write, ghost, "removed", 7);
	ok(unlinkat, AT_FDCWD, "ghost", 0);
}

static void check_reads(int fd, const char *text, const char *what)
{
	char buffer[32];

	check(call(read, fd, buffer, sizeof(buffer)) == (long)length(text) && same(buffer, text, length(text)), what);
}

static void check_files(void)
{
	struct itimerspec left;
	struct epoll_event found;
	unsigned long counter;

	check_reads(pipe_ends[0], "in the pipe", "what is in the pipe");
	check_reads(pair[1], "first", "the first datagram");
	check_reads(pair[1], "second", "the second datagram");
	check(call(epoll_pwait, epoll, &found, 1, 0, 0, KERNEL_SIGSET) == 1 && found.data.u64 == 0x1234, "epoll");
	check(call(read, event, &counter, 8) == 8 && counter == 7, "the counter");
	ok(timerfd_gettime, timer, &left);
	check(left.it_value.tv_sec > 0 && left.it_value.tv_sec <= HOUR, "the timer");
	check_reads(file, "456789", "what is left of the file");
	ok(lseek, ghost, 0, 0);
	check_reads(ghost, "removed", "the removed file");
}

/* A child in a group of its own, and one that nobody has waited for. */

static int to_child[2];
static long child, zombie;

static void make_family(void)
{
	siginfo_t info;

	ok(pipe2, to_child, 0);
	child = new_child();
	if (!child) {
		char byte;

		ok(setpgid, 0, 0);
		ok(close, to_child[1]);
		while (call(read, to_child[0], &byte, 1) == -4)
			;
		call(exit_group, byte);
	}
	ok(setpgid, child, child);
	zombie = new_child();
	if (!zombie)
		call(exit_group, 3);
	ok(waitid, 1, zombie, &info, 4 | 0x01000000, 0);
}

static void check_family(void)
{
	int status;

	check(call(getpgid, child) == child, "the child's group");
	ok(write, to_child[1], "\5", 1);
	check(call(wait4, child, &status, 0, 0) == child && status == 5 << 8, "the child");
	check(call(wait4, zombie, &status, 0, 0) == zombie && status == 3 << 8, "the dead child");
}

/* Signals that wait, and timers that will send some. */

static int posix_timer;

static void make_signals(void)
{
	siginfo_t info = { .si_signo = REALTIME, .si_code = SI_QUEUE, .si_int = 0x5678 };
	struct { long value[4]; } ignore = { { (long)SIG_IGN } };
	struct itimerspec in_an_hour = { .it_value = { HOUR, 0 } };
	struct { long interval[2], value[2]; } real = { .value = { HOUR, 0 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };

	ok(rt_sigqueueinfo, call(getpid, 0), REALTIME, &info);
	ok(rt_sigaction, SIGUSR2, &ignore, 0, KERNEL_SIGSET);
	ok(timer_create, 1, &event, &posix_timer);
	ok(timer_settime, posix_timer, 0, &in_an_hour, 0);
	ok(setitimer, 0, &real, 0);
}

static void check_signals(void)
{
	siginfo_t info;
	struct { long value[4]; } action;
	struct itimerspec left;
	struct { long interval[2], value[2]; } real;

	check(await(1UL << (REALTIME - 1), &info) == REALTIME && info.si_int == 0x5678, "the signal that waits");
	ok(rt_sigaction, SIGUSR2, 0, &action, KERNEL_SIGSET);
	check(action.value[0] == (long)SIG_IGN, "the signal that is ignored");
	ok(timer_gettime, posix_timer, &left);
	check(left.it_value.tv_sec > 0 && left.it_value.tv_sec <= HOUR, "the POSIX timer");
	ok(getitimer, 0, &real);
	check(real.value[0] > 0 && real.value[0] <= HOUR, "the interval timer");
}

/* The functions of the vDSO, called where they were in that of the dump. */

#include "vdso.h"

static const char *vdso;
static int (*get_clock)(clockid_t, struct timespec *);
static long (*get_random)(void *, unsigned long, unsigned, void *, unsigned long);

static long nanoseconds(const struct timespec *time)
{
	return time->tv_sec * 1000000000 + time->tv_nsec;
}

/* What the vDSO says lies between two answers of the kernel. */
static void check_clocks(void)
{
	static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI,
					    CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW };
	struct timespec from, seen, to;
	char bytes[16];

	for (unsigned long i = 0; i < sizeof(clocks) / sizeof(*clocks); i++) {
		ok(clock_gettime, clocks[i], &from);
		check(!get_clock(clocks[i], &seen), "clock_gettime");
		ok(clock_gettime, clocks[i], &to);
		check(nanoseconds(&from) <= nanoseconds(&seen) && nanoseconds(&seen) <= nanoseconds(&to), "the clock");
	}
	if (get_random)
		check(get_random(bytes, sizeof(bytes), 0, 0, 0) == sizeof(bytes), "getrandom");
}

static void make_clocks(void)
{
	get_clock = vdso_function(vdso, VDSO_PREFIX "clock_gettime");
	get_random = vdso_function(vdso, VDSO_PREFIX "getrandom"); /* since Linux 6.11 */
	check(get_clock != 0, "the vDSO has no clock");
	check_clocks();
}

/* Memory that the kernel may drop (since Linux 6.11): there is what was written, or zeros. A child finds zeros. */

static unsigned char *droppable;

static void check_droppable(void)
{
	int status;

	for (int page = 0; page < PAGES; page++) {
		check(!droppable[page * PAGE] || droppable[page * PAGE] == pattern(page), "droppable memory");
		droppable[page * PAGE] = pattern(page);
	}
	if (!new_child()) {
		for (int page = 0; page < PAGES; page++)
			check(!droppable[page * PAGE], "a child has its parent's droppable memory");
		call(exit_group, 0);
	}
	check(call(wait4, -1, &status, 0, 0) > 0 && status == 0, "the child");
}

static void make_droppable(void)
{
	droppable = map(PAGES * PAGE, MAP_DROPPABLE);
	check_droppable();
}

static const struct scenario {
	const char *name;
	void (*make)(void);
	void (*check)(void);
	int keeps_vdso;
} scenarios[] = {
	{ "memory", make_memory, check_memory, 0 },
	{ "files", make_files, check_files, 0 },
	{ "family", make_family, check_family, 0 },
	{ "signals", make_signals, check_signals, 0 },
	{ "clocks", make_clocks, check_clocks, 1 },
	{ "droppable", make_droppable, check_droppable, 0 },
};

static unsigned long number(const char **text)
{
	unsigned long value = 0;

	for (;; (*text)++) {
		if (**text >= '0' && **text <= '9')
			value = value << 4 | (**text - '0');
		else if (**text >= 'a' && **text <= 'f')
			value = value << 4 | (**text - 'a' + 10);
		else
			return value;
	}
}

/* What belongs to this kernel alone goes: [vvar], [vvar_vclock], [vdso] in /proc/self/maps. */
static void leave_vdso(void)
{
	static char maps[4 * PAGE];
	unsigned long size = 0, begin[4], end[4];
	int fd = ok(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY, 0), areas = 0;
	long got;

	while ((got = ok(read, fd, maps + size, sizeof(maps) - 1 - size)) > 0)
		size += got;
	ok(close, fd);
	for (const char *line = maps; *line; line++) {
		const char *at = line;

		while (*line != '\n' && *line != '[')
			line++;
		if (*line == '[' && line[1] == 'v' && (line[2] == 'v' || line[2] == 'd')) {
			begin[areas] = number(&at);
			at++;
			end[areas++] = number(&at);
		}
		while (*line != '\n')
			line++;
	}
	while (areas--)
		ok(munmap, begin[areas], end[areas] - begin[areas]);
	for (unsigned long i = 0; i < sizeof(maps); i++)
		maps[i] = 0;
}

/* Behind the arguments and the environment is the auxiliary vector, getauxval(3). */
static const char *find_vdso(const long *stack)
{
	const long *at = stack + 1 + stack[0] + 1;

	while (*at++)
		;
	while (*at != AT_NULL && *at != AT_SYSINFO_EHDR)
		at += 2;
	check(*at == AT_SYSINFO_EHDR, "there is no vDSO");
	return (const char *)at[1];
}

/* An engine may not give what it has not got itself. */
static void drop_capabilities(void)
{
	struct { unsigned version; int pid; } header = { 0x20080522, 0 };
	unsigned none[6] = { 0 };

	for (int capability = 0; capability < 64; capability++)
		call(prctl, 24, capability, 0, 0, 0);
	ok(capset, &header, none);
}

void start(long *stack)
{
	const char *name = ((const char **)stack)[2];
	const struct scenario *scenario = scenarios;
	unsigned long all = ~0UL;
	siginfo_t info;

	check(stack[0] == 2, "usage: subject SCENARIO");
	while (!same(scenario->name, name, length(name) + 1))
		check(++scenario < scenarios + sizeof(scenarios) / sizeof(*scenarios), "there is no such scenario");
	ok(rt_sigprocmask, SIG_SETMASK, &all, 0, KERNEL_SIGSET);
	if (scenario->keeps_vdso)
		vdso = find_vdso(stack);
	else
		leave_vdso();
	drop_capabilities();
	scenario->make();
	say("READY\n");
	await(1UL << (SIGTERM - 1), &info);
	scenario->check();
	say("PASS\n");
	call(exit_group, 0);
}

/* Room for an engine, which can't stand in a vDSO here. */
__asm__(".section .text.room, \"ax\", @progbits\n\t.space 4096\n");
