/*
 * A task that is never in a system call has live data in its scalable vectors, predicates and first-fault register:
 * beyond what the FPSIMD registers show of them.
 *
 * states: vdso-rseq-and-cpu-state/other-arch-registers
 * flavours: h
 * kernel: where the way home leads
 * needs: arch aarch64
 * oracle: ignore memory: it is busy
 */
#include "zdtmtst.h"

#include <stdint.h>
#include <sys/auxv.h>

#include "spinning.h"

#ifndef HWCAP_SVE
#define HWCAP_SVE (1 << 22)
#endif

#define LONGEST 256
#define SIZE (32 * LONGEST + 17 * LONGEST / 8)

/* Z0-31, P0-15 and FFR, each where the one before it ends: their size is the processor's. */
static uint8_t in[SIZE], out[SIZE];

#define Z(op) \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15) \
	op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define P(op) \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD_Z(n) "ldr z" #n ", [x10, #" #n ", mul vl]\n"
#define LOAD_P(n) "ldr p" #n ", [x11, #" #n ", mul vl]\n"
#define STORE_Z(n) "str z" #n ", [x10, #" #n ", mul vl]\n"
#define STORE_P(n) "str p" #n ", [x11, #" #n ", mul vl]\n"

static int vector_length(void)
{
	unsigned long length = 0;

#ifdef __aarch64__
	asm(".arch armv8.2-a+sve\n rdvl %0, #1" : "=r"(length));
#endif
	return length;
}

/* All registers are loaded, FFR by way of P0; then it waits for `stop`, and all are stored. */
static __attribute__((noinline)) void spin(int length)
{
#ifdef __aarch64__
	asm volatile(".arch armv8.2-a+sve\n"
		     "ldr p0, [%[in_p], #16, mul vl]\n wrffr p0.b\n"
		     "mov x10, %[in_z]\n mov x11, %[in_p]\n"
		     Z(LOAD_Z) P(LOAD_P)
		     "mov w12, #1\n str w12, %[spinning]\n"
		     "1: ldr w12, %[stop]\n cbz w12, 1b\n"
		     "mov x10, %[out_z]\n mov x11, %[out_p]\n"
		     Z(STORE_Z) P(STORE_P)
		     "rdffr p0.b\n str p0, [x11, #16, mul vl]\n"
		     : [spinning] "=m"(spinning)
		     : [stop] "m"(stop), [in_z] "r"(in), [in_p] "r"(in + 32 * length), [out_z] "r"(out),
		       [out_p] "r"(out + 32 * length)
		     : "x10", "x11", "x12", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10",
		       "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
		       "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	if (!(getauxval(AT_HWCAP) & HWCAP_SVE)) {
		/* Nothing that could get lost. */
		test_ready();
		return test_pass();
	}
	int length = vector_length(), size = 32 * length + 17 * length / 8;
	for (int i = 0; i < size; i++)
		in[i] = i * 7 + i / 251;
	/* FFR takes what is true from the first element on and nothing else: half of it. */
	memset(in + size - length / 8, 0, length / 8);
	memset(in + size - length / 8, 0xff, length / 16);
	pthread_t thread = spinning_begin();
	spin(length);
	for (int i = 0; i < size; i++)
		check(in[i] == out[i], "byte %d of Z0-31, P0-15, FFR with vectors of %d bytes is %#x, was %#x", i, length,
		      out[i], in[i]);
	pthread_join(thread, NULL);
	return test_pass();
}
