/*
 * An io_uring instance: its rings are memory that the kernel writes to whenever it likes.
 *
 * flavours: h
 * expect: refuse (?i)io_uring
 */
#include "zdtmtst.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USER_DATA 0x1234567890ULL

int main(int argc, char **argv)
{
	struct io_uring_params params = { 0 };

	test_init(argc, argv);
	int fd = ok(syscall(SYS_io_uring_setup, 4, &params));
	size_t size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	char *ring = ok(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING));
	struct io_uring_sqe *requests = ok(mmap(NULL, params.sq_entries * sizeof(*requests), PROT_READ | PROT_WRITE,
						MAP_SHARED, fd, IORING_OFF_SQES));
	test_ready();
	requests[0] = (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = USER_DATA };
	((unsigned *)(ring + params.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(ring + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	check(ok(syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0)) == 1, "nothing was submitted");
	struct io_uring_cqe *answer = (struct io_uring_cqe *)(ring + params.cq_off.cqes);
	check(answer->user_data == USER_DATA && answer->res == 0, "answer %#llx with %d",
	      (unsigned long long)answer->user_data, answer->res);
	return test_pass();
}
