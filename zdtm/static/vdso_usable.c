/*
 * The functions of the vDSO work when they are called at the addresses that they had before.
 *
 * states: vdso-rseq-and-cpu-state/vdso-usable
 * flavours: h
 * kernel: the layout of vDSO and vvar
 * needs: arch x86_64 aarch64
 */
#include "zdtmtst.h"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "vdso.h"

static const clockid_t clocks[] = { CLOCK_REALTIME,	    CLOCK_MONOTONIC, CLOCK_BOOTTIME,
				    CLOCK_REALTIME_COARSE, CLOCK_TAI,	     CLOCK_MONOTONIC_RAW };
#define CLOCKS (int)(sizeof(clocks) / sizeof(clocks[0]))

static int (*get_clock)(clockid_t, struct timespec *);
static int (*get_resolution)(clockid_t, struct timespec *);
static int (*get_time_of_day)(struct timeval *, void *);
static time_t (*get_time)(time_t *);
static int (*get_cpu)(unsigned *, unsigned *, void *);

static void look_up(void)
{
	const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);

	check(base, "there is no vDSO");
	get_clock = vdso_function(base, VDSO_PREFIX "clock_gettime");
	get_resolution = vdso_function(base, VDSO_PREFIX "clock_getres");
	get_time_of_day = vdso_function(base, VDSO_PREFIX "gettimeofday");
	get_time = vdso_function(base, VDSO_PREFIX "time"); /* not on aarch64 */
	get_cpu = vdso_function(base, VDSO_PREFIX "getcpu"); /* not on aarch64 */
	check(get_clock && get_resolution && get_time_of_day, "the vDSO lacks functions");
}

static long nanoseconds(struct timespec time)
{
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* Between two answers of the kernel lies that of the vDSO. */
static void check_clock(clockid_t clock)
{
	struct timespec before, between, after, resolution, expected;

	ok(syscall(SYS_clock_gettime, clock, &before));
	check(get_clock(clock, &between) == 0, "clock_gettime(%d) failed", clock);
	ok(syscall(SYS_clock_gettime, clock, &after));
	check(nanoseconds(before) <= nanoseconds(between) && nanoseconds(between) <= nanoseconds(after),
	      "clock %d: %ld is not between %ld and %ld", clock, nanoseconds(between), nanoseconds(before),
	      nanoseconds(after));
	check(get_resolution(clock, &resolution) == 0, "clock_getres(%d) failed", clock);
	ok(syscall(SYS_clock_getres, clock, &expected));
	check(nanoseconds(resolution) == nanoseconds(expected), "resolution of clock %d", clock);
}

int main(int argc, char **argv)
{
	struct timeval time;
	unsigned cpu, node;

	test_init(argc, argv);
	look_up();
	unsigned long base = getauxval(AT_SYSINFO_EHDR);
	test_ready();
	check(getauxval(AT_SYSINFO_EHDR) == base, "the auxiliary vector tells of another vDSO");
	for (int i = 0; i < CLOCKS; i++)
		check_clock(clocks[i]);
	struct timespec now;
	ok(syscall(SYS_clock_gettime, CLOCK_REALTIME, &now));
	check(get_time_of_day(&time, NULL) == 0 && time.tv_sec - now.tv_sec <= 1, "gettimeofday says %ld", time.tv_sec);
	if (get_time)
		check(get_time(NULL) >= now.tv_sec - 1, "time says %ld", get_time(NULL));
	if (get_cpu)
		check(get_cpu(&cpu, &node, NULL) == 0 && cpu < (unsigned)sysconf(_SC_NPROCESSORS_CONF), "getcpu");
	return test_pass();
}
