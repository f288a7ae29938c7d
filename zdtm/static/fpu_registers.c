/*
 * The registers for floating point and vectors: x87 stack and control word, MMX, SSE with its control register, AVX and
 * AVX-512 where there is one, in the leader of a child and in threads.
 *
 * states: vdso-rseq-and-cpu-state/x87-mmx-sse-avx
 * flavours: h
 * kernel: register sets
 * needs: arch x86_64
 */
#include "zdtmtst.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"
#include "tasks.h"

#define THREADS 3

/* All that is loaded before the wait and stored after it. */
struct registers {
	uint8_t vectors[32][64];
	uint64_t masks[8]; /* of AVX-512 */
	uint8_t x87[8][10];
	uint32_t mxcsr;
	uint16_t control;
} __attribute__((aligned(64)));

static enum { SSE, AVX, AVX512 } level;

static struct gate gate;
static int entry[THREADS + 1][2];
static volatile pid_t tids[THREADS];

/* One line of assembly for each register that the machine has. A read from the pipe is all that happens in between. */
#define EACH8(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define EACH16(op) EACH8(op) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define EACH32(op) EACH16(op) op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) \
		   op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define LOAD_XMM(n) "movups " #n "*64(%[in]), %%xmm" #n "\n"
#define SAVE_XMM(n) "movups %%xmm" #n ", " #n "*64(%[out])\n"
#define LOAD_YMM(n) "vmovups " #n "*64(%[in]), %%ymm" #n "\n"
#define SAVE_YMM(n) "vmovups %%ymm" #n ", " #n "*64(%[out])\n"
#define LOAD_ZMM(n) "vmovups " #n "*64(%[in]), %%zmm" #n "\n"
#define SAVE_ZMM(n) "vmovups %%zmm" #n ", " #n "*64(%[out])\n"
#define LOAD_MASK(n) "kmovq 2048+" #n "*8(%[in]), %%k" #n "\n"
#define SAVE_MASK(n) "kmovq %%k" #n ", 2048+" #n "*8(%[out])\n"
#define LOAD_X87(n) "fldt 2112+(7-" #n ")*10(%[in])\n"
#define SAVE_X87(n) "fstpt 2112+" #n "*10(%[out])\n"
#define WAIT(load, save)                                                                                      \
	asm volatile("fninit\n" EACH8(LOAD_X87) "fldcw 2196(%[in])\n ldmxcsr 2192(%[in])\n" load              \
		     "syscall\n" save "stmxcsr 2192(%[out])\n fnstcw 2196(%[out])\n" EACH8(SAVE_X87) "fninit\n" \
		     : "+a"(number)                                                                           \
		     : [in] "r"(in), [out] "r"(out), "D"(fd), "S"(&byte), "d"(1L)                             \
		     : "rcx", "r11", "memory")

/* Not inlined, since a call is what tells the compiler that all these registers are lost. */
static __attribute__((noinline)) void wait_with(const struct registers *in, struct registers *out, long fd)
{
	long number = SYS_read;
	char byte;

	_Static_assert(offsetof(struct registers, masks) == 2048 && offsetof(struct registers, x87) == 2112 &&
		       offsetof(struct registers, mxcsr) == 2192 && offsetof(struct registers, control) == 2196, "offsets");
	if (level == AVX512)
		WAIT(EACH32(LOAD_ZMM) EACH8(LOAD_MASK), EACH32(SAVE_ZMM) EACH8(SAVE_MASK) "vzeroupper\n");
	else if (level == AVX)
		WAIT(EACH16(LOAD_YMM), EACH16(SAVE_YMM) "vzeroupper\n");
	else
		WAIT(EACH16(LOAD_XMM), EACH16(SAVE_XMM));
	/* Back to what the compiler counts on. */
	asm volatile("ldmxcsr %0" : : "m"((uint32_t){ 0x1f80 }));
}

static void fill(struct registers *registers, int seed)
{
	int vectors = level == AVX512 ? 32 : 16, size = level == AVX512 ? 64 : level == AVX ? 32 : 16;

	memset(registers, 0, sizeof(*registers));
	for (int i = 0; i < vectors; i++)
		for (int j = 0; j < size; j++)
			registers->vectors[i][j] = seed * 131 + i * 17 + j;
	for (int i = 0; level == AVX512 && i < 8; i++)
		registers->masks[i] = 0x0123456789abcdef * (seed + 2) + i;
	for (int i = 0; i < 8; i++) {
		long double value = seed + i / 7.0L;

		memcpy(registers->x87[i], &value, 10);
		/* An MMX register is the mantissa of an x87 one whose exponent is all ones. */
		if (seed == 1)
			memset(registers->x87[i] + 8, 0xff, 2);
	}
	/* Different rounding, all exceptions masked, and one noted as having happened. */
	registers->mxcsr = 0x1f80 | (seed & 3) << 13 | 1 << (seed % 6);
	registers->control = 0x037f | (seed & 3) << 10;
}

static void keep(int seed)
{
	struct registers in, out = { 0 };

	fill(&in, seed);
	wait_with(&in, &out, entry[seed][0]);
	for (int i = 0; i < 32; i++)
		check(!memcmp(in.vectors[i], out.vectors[i], 64), "vector register %d of %d has changed", i, seed);
	for (int i = 0; i < 8; i++) {
		check(in.masks[i] == out.masks[i], "mask %d of %d: %#lx", i, seed, out.masks[i]);
		check(!memcmp(in.x87[i], out.x87[i], 10), "x87 register %d of %d has changed", i, seed);
	}
	check(in.mxcsr == out.mxcsr, "mxcsr of %d: %#x, was %#x", seed, out.mxcsr, in.mxcsr);
	check(in.control == out.control, "control word of %d: %#x, was %#x", seed, out.control, in.control);
}

static void *thread(void *arg)
{
	int index = (long)arg;

	tids[index] = gettid();
	keep(index);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	test_init(argc, argv);
	level = __builtin_cpu_supports("avx512bw") ? AVX512 : __builtin_cpu_supports("avx") ? AVX : SSE;
	gate_make(&gate);
	for (int i = 0; i <= THREADS; i++)
		ok(pipe(entry[i]));
	pid_t pid = ok(fork());
	if (pid == 0) {
		gate_arrive(&gate);
		keep(THREADS);
		_exit(0);
	}
	gate_expect(&gate, 1);
	task_wait_in(pid, SYS_read);
	for (long i = 0; i < THREADS; i++) {
		threads[i] = test_thread(thread, (void *)i);
		wait_until(tids[i], "the thread runs");
		task_wait_in(tids[i], SYS_read);
	}
	test_ready();
	for (int i = 0; i <= THREADS; i++)
		ok(write(entry[i][1], "x", 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	int status = test_reap(pid);
	check(status == 0, "status of the child: %#x", status);
	return test_pass();
}
