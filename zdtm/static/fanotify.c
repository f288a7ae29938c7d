/*
 * A fanotify group with a mark on an inode, one on a mount, and a mask of ignored events that survives changes.
 *
 * states: event-fds-and-aio/fanotify
 * flavours: h
 * kernel: fdinfo of fanotify
 * needs: root
 * modes: not snapshot: the suite copies the directory meanwhile, and that is seen
 */
#include "zdtmtst.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void mark(int group, unsigned int flags, uint64_t mask, const char *path)
{
	ok(fanotify_mark(group, FAN_MARK_ADD | flags, mask, AT_FDCWD, path));
}

/* Reads all events: the union of their masks. */
static uint64_t events(int group)
{
	struct fanotify_event_metadata buffer[64], *event = buffer;
	uint64_t seen = 0;
	ssize_t length;

	while ((length = read(group, buffer, sizeof(buffer))) > 0)
		for (event = buffer; FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length)) {
			seen |= event->mask;
			close(event->fd);
		}
	return seen;
}

static void touch(const char *path)
{
	int fd = ok(open(path, O_RDWR | O_CREAT, 0600));

	ok(write(fd, "x", 1));
	ok(close(fd));
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	touch("marked");
	touch("ignored");
	int group = ok(fanotify_init(FAN_NONBLOCK | FAN_UNLIMITED_MARKS, O_RDONLY | O_LARGEFILE));
	int on_mount = ok(fanotify_init(FAN_NONBLOCK | FAN_CLASS_CONTENT, O_RDWR | O_CLOEXEC));
	mark(group, 0, FAN_MODIFY | FAN_OPEN, "marked");
	mark(group, 0, FAN_MODIFY | FAN_OPEN, "ignored");
	mark(group, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_MODIFY, "ignored");
	mark(on_mount, FAN_MARK_MOUNT, FAN_CLOSE_WRITE, "/dev/shm");
	test_ready();
	events(on_mount);
	check(events(group) == 0, "events although nothing has happened");
	touch("marked");
	uint64_t seen = events(group);
	check(seen == (FAN_MODIFY | FAN_OPEN), "events %#llx of the marked file", (unsigned long long)seen);
	touch("ignored");
	seen = events(group);
	check(seen == FAN_OPEN, "events %#llx of the file with ignored ones", (unsigned long long)seen);
	touch("ignored");
	check(events(group) == FAN_OPEN, "the ignored mask did not survive a change");
	touch("/dev/shm/zdtm-fanotify");
	ok(unlink("/dev/shm/zdtm-fanotify"));
	check(events(on_mount) == FAN_CLOSE_WRITE, "the mark on the mount gives no event");
	return test_pass();
}
