/* The memory map of a task, line by line: /proc/PID/maps. */
#ifndef MAPS_H
#define MAPS_H

#include "zdtmtst.h"

#include <stdio.h>

struct mapping {
	unsigned long start, end;
	char rights[8], name[256];
};

/* Fill in at most `most` mappings of a task. Gives how many there are; fails when there are more. */
static inline int maps_read(pid_t pid, struct mapping *maps, int most)
{
	char path[64], line[512];
	int count = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *file = fopen(path, "r");
	check(file, "cannot open %s", path);
	while (fgets(line, sizeof(line), file)) {
		struct mapping *map = &maps[count++];

		check(count <= most, "task %d has more than %d mappings", pid, most);
		map->name[0] = 0;
		check(sscanf(line, "%lx-%lx %7s %*s %*s %*s %255[^\n]", &map->start, &map->end, map->rights, map->name) >= 3,
		      "what is this mapping: %s", line);
	}
	fclose(file);
	return count;
}

/* [vdso], [vvar] and what else the kernel maps along with them. */
static inline bool is_vdso_part(const struct mapping *map)
{
	return !strcmp(map->name, "[vdso]") || !strncmp(map->name, "[vvar", 5);
}

#endif
