/*
 * A task has moved its vDSO, with the data that belongs to it, to another place, and calls its functions there.
 *
 * states: vdso-rseq-and-cpu-state/vdso-usable
 * flavours: h
 * kernel: the layout of vDSO and vvar
 * needs: arch x86_64 aarch64
 */
#include "zdtmtst.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "maps.h"
#include "vdso.h"

#define MOST 256

/* Move all the parts by the same distance, since the code finds its data by distance. Gives the new vDSO. */
static char *move(void)
{
	static struct mapping maps[MOST];
	int count = maps_read(getpid(), maps, MOST);
	unsigned long start = -1UL, end = 0;
	char *vdso = NULL;

	for (int i = 0; i < count; i++)
		if (is_vdso_part(&maps[i])) {
			start = maps[i].start < start ? maps[i].start : start;
			end = maps[i].end > end ? maps[i].end : end;
		}
	check(end, "there is no vDSO");
	char *place = ok(mmap(NULL, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (int i = 0; i < count; i++) {
		if (!is_vdso_part(&maps[i]))
			continue;
		size_t size = maps[i].end - maps[i].start;
		char *target = place + (maps[i].start - start);
		ok(mremap((void *)maps[i].start, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, target));
		if (!strcmp(maps[i].name, "[vdso]"))
			vdso = target;
	}
	return vdso;
}

int main(int argc, char **argv)
{
	struct timespec before, between, after;

	test_init(argc, argv);
	char *vdso = move();
	int (*get_clock)(clockid_t, struct timespec *) = vdso_function(vdso, VDSO_PREFIX "clock_gettime");
	check(get_clock, "the vDSO has no clock_gettime");
	test_ready();
	/* The C library calls the old place, so from here on only system calls proper. */
	ok(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before));
	check(get_clock(CLOCK_MONOTONIC, &between) == 0, "clock_gettime at the new place failed");
	ok(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after));
	check(between.tv_sec >= before.tv_sec && between.tv_sec <= after.tv_sec, "clock_gettime says %ld", between.tv_sec);
	return test_pass();
}
