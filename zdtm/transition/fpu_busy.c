/*
 * Threads compute without end, in x87, SSE and wide vector registers, and must always get the result of the first time.
 *
 * states: vdso-rseq-and-cpu-state/x87-mmx-sse-avx
 * flavours: h
 * kernel: register sets
 * cflags: -Wno-psabi -lm
 */
#include "zdtmtst.h"

#include <fenv.h>
#include <pthread.h>

#define THREADS 4
#define STEPS 20000

typedef double vector __attribute__((vector_size(64)));

struct result {
	vector wide;
	long double extended;
	double plain;
};

static volatile bool stop;

/* A chaotic map, so that one bit that is wrong makes another result. `mode` is how to round. */
static struct result compute(int mode)
{
	struct result now = { { 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8 }, 0.15L, 0.25 };

	fesetround(mode);
	for (int i = 0; i < STEPS; i++) {
		now.wide = now.wide * 3.99 * (1.0 - now.wide);
		now.extended = now.extended * 3.99L * (1.0L - now.extended);
		now.plain = now.plain * 3.99 * (1.0 - now.plain);
	}
	return now;
}

static void *run(void *arg)
{
	static const int modes[THREADS] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
	int index = (long)arg;
	struct result first = compute(modes[index]);

	while (!stop) {
		struct result again = compute(modes[index]);

		check(again.extended == first.extended && again.plain == first.plain, "another result in thread %d", index);
		for (int i = 0; i < 8; i++)
			check(again.wide[i] == first.wide[i], "another result in element %d of thread %d", i, index);
		check(fegetround() == modes[index], "thread %d rounds in another way", index);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	test_init(argc, argv);
	for (long i = 0; i < THREADS; i++)
		threads[i] = test_thread(run, (void *)i);
	test_ready();
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return test_pass();
}
