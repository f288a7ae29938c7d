/*
 * The end of the heap, in the middle of a page, is where it was: the heap goes on from there, both ways.
 *
 * states: memory/end-of-the-heap
 * flavours: h
 */
#include "zdtmtst.h"

#include <unistd.h>

#define ROOM (3 * 4096 + 100)

int main(int argc, char **argv)
{
	test_init(argc, argv);
	char *start = ok(sbrk(ROOM));
	memset(start, 'a', ROOM);
	char *end = ok(sbrk(0));
	test_ready();
	check(sbrk(0) == end, "the heap ends at %p, not at %p", sbrk(0), end);
	check(ok(sbrk(4096)) == end, "the heap did not grow from its end");
	memset(end, 'b', 4096);
	check(start[0] == 'a' && start[ROOM - 1] == 'a', "what was in the heap has changed");
	ok(sbrk(-4096 - ROOM));
	check(sbrk(0) == start, "the heap shrank to %p, not to %p", sbrk(0), start);
	return test_pass();
}
