/*
 * Registers of aarch64: vectors and their control registers, the thread pointer, the keys that sign pointers, in a
 * process and in a thread. Where the processor has SVE, it has been used.
 *
 * states: vdso-rseq-and-cpu-state/other-arch-registers
 * flavours: h
 * kernel: register sets
 * needs: arch aarch64
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

#ifndef HWCAP_SVE
#define HWCAP_SVE (1 << 22)
#endif
#ifndef HWCAP_PACA
#define HWCAP_PACA (1 << 30)
#define HWCAP_PACG (1UL << 31)
#endif

static int entry[2][2];
static struct gate gate;
static volatile pid_t tid;

struct registers {
	uint64_t vectors[32][2];
	uint64_t fpcr, fpsr, thread_pointer;
	uint64_t signature[5];
};

static unsigned long has;

/* The same value signed with each key. The modifier is the same too, so the result is another only if the key is. */
static void sign(uint64_t *result)
{
	uint64_t value = 0x123450, modifier = 0x777;

	for (int i = 0; i < 5; i++)
		result[i] = value;
#ifdef __aarch64__
	if (has & HWCAP_PACA)
		asm(".arch armv8.3-a\n pacia %0, %4\n pacib %1, %4\n pacda %2, %4\n pacdb %3, %4"
		    : "+r"(result[0]), "+r"(result[1]), "+r"(result[2]), "+r"(result[3])
		    : "r"(modifier));
	if (has & HWCAP_PACG)
		asm(".arch armv8.3-a\n pacga %0, %1, %2" : "=r"(result[4]) : "r"(value), "r"(modifier));
#endif
}

#define EACH8(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define EACH16(op) EACH8(op) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define EACH32(op) EACH16(op) op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) \
		   op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define LOAD(n) "ldr q" #n ", [%[in], " #n "*16]\n"
#define SAVE(n) "str q" #n ", [%[out], " #n "*16]\n"

/* All registers are loaded, a byte is read from a pipe, and all are stored. Not inlined, as they are lost. */
static __attribute__((noinline)) void wait_with(const struct registers *in, struct registers *out, int fd)
{
	char byte;

#ifdef __aarch64__
	register long x8 asm("x8") = SYS_read, x0 asm("x0") = fd, x2 asm("x2") = 1;
	register char *x1 asm("x1") = &byte;

	if (has & HWCAP_SVE)
		asm volatile(".arch armv8.2-a+sve\n dup z0.b, #5\n dup z31.b, #5\n ptrue p0.b\n" ::: "v0", "v31");
	asm volatile("msr fpcr, %[fpcr]\n msr fpsr, %[fpsr]\n" EACH32(LOAD) "svc #0\n" EACH32(SAVE)
		     "mrs x2, fpcr\n str x2, [%[out], 512]\n mrs x2, fpsr\n str x2, [%[out], 520]\n msr fpcr, xzr\n"
		     : "+r"(x0), "+r"(x2)
		     : [in] "r"(in), [out] "r"(out), [fpcr] "r"(in->fpcr), [fpsr] "r"(in->fpsr), "r"(x1), "r"(x8)
		     : "memory", "cc");
	check(x0 == 1, "read: %ld", x0);
	asm volatile("mrs %0, tpidr_el0" : "=r"(out->thread_pointer));
#else
	ok(read(fd, &byte, 1));
	*out = *in;
#endif
}

static void keep(int seed)
{
	struct registers in = { .thread_pointer = (uintptr_t)__builtin_thread_pointer() }, out;

	for (int i = 0; i < 64; i++)
		in.vectors[i / 2][i % 2] = 0x0101010101010101ULL * (i + 1) + seed;
	in.fpcr = (1 + seed) << 22; /* how to round */
	in.fpsr = 1 << seed;
	sign(in.signature);
	wait_with(&in, &out, entry[seed][0]);
	sign(out.signature);
	for (int i = 0; i < 32; i++)
		check(!memcmp(in.vectors[i], out.vectors[i], 16), "vector register %d of %d has changed", i, seed);
	check(in.fpcr == out.fpcr, "fpcr of %d: %#lx, was %#lx", seed, (long)out.fpcr, (long)in.fpcr);
	check(in.fpsr == out.fpsr, "fpsr of %d: %#lx, was %#lx", seed, (long)out.fpsr, (long)in.fpsr);
	check(in.thread_pointer == out.thread_pointer, "the thread pointer of %d has changed", seed);
	for (int i = 0; i < 5; i++)
		check(in.signature[i] == out.signature[i], "key %d of %d is another one", i, seed);
}

static void *thread(void *arg)
{
	(void)arg;
	tid = gettid();
	keep(0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread_id;

	test_init(argc, argv);
	has = getauxval(AT_HWCAP);
	gate_make(&gate);
	for (int i = 0; i < 2; i++)
		ok(pipe(entry[i]));
	pid_t pid = ok(fork());
	if (pid == 0) {
		gate_arrive(&gate);
		keep(1);
		_exit(0);
	}
	gate_expect(&gate, 1);
	task_wait_in(pid, SYS_read);
	thread_id = test_thread(thread, NULL);
	wait_until(tid, "the thread runs");
	task_wait_in(tid, SYS_read);
	test_ready();
	for (int i = 0; i < 2; i++)
		ok(write(entry[i][1], "x", 1));
	pthread_join(thread_id, NULL);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	return test_pass();
}
