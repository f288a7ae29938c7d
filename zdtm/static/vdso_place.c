/*
 * The vDSO and its data stay where they are, and nothing is mapped beside them: at most two areas more, where the
 * restore had to build a bridge to the vDSO of another kernel.
 *
 * states: vdso-rseq-and-cpu-state/vdso-location-proxy
 * flavours: h
 * kernel: the layout of vDSO and vvar
 */
#include "zdtmtst.h"

#include <unistd.h>

#include "maps.h"

#define MOST 256
#define BRIDGE 2

int main(int argc, char **argv)
{
	static struct mapping before[MOST], after[MOST];

	test_init(argc, argv);
	int count = maps_read(getpid(), before, MOST);
	test_ready();
	int now = maps_read(getpid(), after, MOST);
	check(now >= count && now <= count + BRIDGE, "there are %d mappings instead of %d", now, count);
	for (int i = 0; i < count; i++) {
		bool found = false;

		for (int j = 0; j < now; j++)
			found |= before[i].start == after[j].start && before[i].end == after[j].end &&
				 !strcmp(before[i].rights, after[j].rights) &&
				 (!strcmp(before[i].name, after[j].name) || (is_vdso_part(&before[i]) && now > count));
		check(found, "%lx-%lx %s %s is not there any more", before[i].start, before[i].end, before[i].rights,
		      before[i].name);
	}
	return test_pass();
}
