/*
 * A task that is never in a system call keeps data below its stack pointer, in the red zone, and in its registers.
 *
 * states: memory/stack-red-zone
 * flavours: h
 * kernel: where the way home leads
 * needs: arch x86_64
 * oracle: ignore memory: it is busy, and what is on its stack is its own concern
 */
#include "zdtmtst.h"

#include <stdint.h>

#include "spinning.h"

/* The ABI of x86_64 leaves 128 bytes below the stack pointer to the running function. */
#define RED_ZONE 128

/*
 * Fills the red zone with words derived from the seed, then compares them until `stop` is set. No call and no push in
 * between. Gives the number of the word that changed, from 1, or 0; or -1 when the stack pointer itself moved.
 */
static long spin_in_red_zone(uint64_t seed)
{
	long result = 0;

	asm volatile("sub $256, %%rsp\n" /* away from what the compiler may keep in the red zone of this function */
		     "mov %%rsp, %%r12\n"
		     "mov $1, %%rcx\n"
		     "1: mov %[seed], %%rax\n" /* fill: word n is seed * n */
		     "imul %%rcx, %%rax\n"
		     "mov %%rcx, %%rdx\n"
		     "neg %%rdx\n"
		     "mov %%rax, (%%rsp, %%rdx, 8)\n"
		     "inc %%rcx\n"
		     "cmp %[words], %%rcx\n"
		     "jbe 1b\n"
		     "movl $1, %[spinning]\n"
		     "2: mov $1, %%rcx\n" /* compare */
		     "3: mov %[seed], %%rax\n"
		     "imul %%rcx, %%rax\n"
		     "mov %%rcx, %%rdx\n"
		     "neg %%rdx\n"
		     "cmp %%rax, (%%rsp, %%rdx, 8)\n"
		     "jne 4f\n"
		     "inc %%rcx\n"
		     "cmp %[words], %%rcx\n"
		     "jbe 3b\n"
		     "cmp %%rsp, %%r12\n"
		     "jne 5f\n"
		     "cmpl $0, %[stop]\n"
		     "je 2b\n"
		     "xor %%ecx, %%ecx\n"
		     "jmp 4f\n"
		     "5: mov $-1, %%rcx\n"
		     "4: add $256, %%rsp\n"
		     "mov %%rcx, %[result]\n"
		     : [result] "=r"(result), [spinning] "=m"(spinning)
		     : [seed] "r"(seed), [words] "i"(RED_ZONE / 8), [stop] "m"(stop)
		     : "rax", "rcx", "rdx", "r12", "cc", "memory");
	return result;
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	pthread_t thread = spinning_begin();
	long changed = spin_in_red_zone(0x0123456789abcdef);
	check(changed != -1, "the stack pointer has moved");
	check(changed == 0, "word %ld below the stack pointer has changed", changed);
	pthread_join(thread, NULL);
	return test_pass();
}
