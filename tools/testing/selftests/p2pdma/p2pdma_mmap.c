// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of p2pmem/allocate: which are refused and how, and what the
 * operations on memory do to one. The pages are taken when the mapping is made
 * and go back when the last reference is dropped; there is no fault handler,
 * so what was given back does not come again (p2pmem_alloc_mmap() in
 * drivers/pci/p2pdma.c, kernfs_vma_fault() in fs/kernfs/file.c).
 */
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/stat.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define NOBODY		65534

static ssize_t page;

#define EXPECT_TAKEN(_taken)						\
	EXPECT_EQ(variant->provider->rest - (ssize_t)(_taken),		\
		  p2p_available(variant->provider))

/* ---- mappings that are refused ----------------------------------------- */

/* Lengths that depend on the pool and the page size */
enum { ZERO, ONE, POOL_AND_ONE, FILE_AND_ONE, HUGE, WRAPS };

static const struct refusal {
	const char *name;
	int length;
	int prot, map_flags, open_flags;
	uint64_t offset;
	int error;
} refusals[] = {
	/* p2pmem_alloc_mmap(): not VM_MAYSHARE */
	{ "private", ONE, PROT_READ | PROT_WRITE, MAP_PRIVATE, O_RDWR,
	  0, EINVAL },
	{ "private_read", ONE, PROT_READ, MAP_PRIVATE, O_RDWR, 0, EINVAL },
	{ "private_read_only_file", ONE, PROT_READ, MAP_PRIVATE, O_RDONLY,
	  0, EINVAL },
	/* p2pmem_alloc_mmap(): vm_pgoff */
	{ "offset_of_a_page", ONE, PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR,
	  4096, EINVAL },
	{ "offset_of_1G", ONE, PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR,
	  1 << 30, EINVAL },
	/* ksys_mmap_pgoff(): not a multiple of the page size */
	{ "offset_unaligned", ONE, PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR,
	  8, EINVAL },
	/* do_mmap() */
	{ "nothing", ZERO, PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR,
	  0, EINVAL },
	{ "wrapping_length", WRAPS, PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR,
	  0, ENOMEM },
	/* gen_pool_alloc_owner() */
	{ "more_than_the_pool", POOL_AND_ONE, PROT_READ | PROT_WRITE,
	  MAP_SHARED, O_RDWR, 0, ENOMEM },
	{ "more_than_the_file", FILE_AND_ONE, PROT_READ | PROT_WRITE,
	  MAP_SHARED, O_RDWR, 0, ENOMEM },
	{ "64T", HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR, 0, ENOMEM },
	/* do_mmap(): the mode that the file was opened with */
	{ "write_on_read_only_file", ONE, PROT_READ | PROT_WRITE, MAP_SHARED,
	  O_RDONLY, 0, EACCES },
	{ "read_on_write_only_file", ONE, PROT_READ, MAP_SHARED, O_WRONLY,
	  0, EACCES },
	{ "write_on_write_only_file", ONE, PROT_WRITE, MAP_SHARED, O_WRONLY,
	  0, EACCES },
	/* do_mmap(): sysfs is SB_I_NOEXEC */
	{ "executable", ONE, PROT_READ | PROT_EXEC, MAP_SHARED, O_RDWR,
	  0, EPERM },
	/* ksys_mmap_pgoff(): not a file of hugetlbfs */
	{ "huge_pages", ONE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_HUGETLB,
	  O_RDWR, 0, EINVAL },
	/* do_mmap(): only a DAX file system has MAP_SYNC */
	{ "sync", ONE, PROT_READ | PROT_WRITE,
	  MAP_SHARED_VALIDATE | MAP_SYNC, O_RDWR, 0, EOPNOTSUPP },
};

FIXTURE(refused) {
	int fd;
};

FIXTURE_VARIANT(refused) {
	const struct p2p_provider *provider;
	const struct refusal *row;
};

FIXTURE_SETUP(refused)
{
	EXPECT_TAKEN(0);
	self->fd = p2p_open_pool(variant->provider, variant->row->open_flags);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(refused)
{
	close(self->fd);
	EXPECT_TAKEN(0);
}

TEST_F(refused, mmap)
{
	const struct refusal *row = variant->row;
	const size_t lengths[] = {
		[ZERO] = 0,
		[ONE] = page,
		[POOL_AND_ONE] = variant->provider->size + page,
		[FILE_AND_ONE] = (1UL << 40) + page,
		[HUGE] = 1UL << 46,
		[WRAPS] = -(size_t)page + 1,
	};

	/* ten times in five seconds the kernel may say why, and then not any more */
	for (int i = 0; i < 12; i++) {
		void *map;

		errno = 0;
		map = mmap(NULL, lengths[row->length], row->prot,
			   row->map_flags, self->fd, row->offset);
		ASSERT_EQ(MAP_FAILED, map);
		ASSERT_EQ(row->error, errno)
			TH_LOG("expected '%s', got '%s'", strerror(row->error),
			       strerror(errno));
	}
	EXPECT_TAKEN(0);
}

/* ---- mappings that are made -------------------------------------------- */

static const struct permitted {
	const char *name;
	int prot, map_flags, open_flags;
} permitted[] = {
	{ "shared", PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR },
	{ "shared_validate", PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE,
	  O_RDWR },
	{ "write_only", PROT_WRITE, MAP_SHARED, O_RDWR },
	{ "read_only", PROT_READ, MAP_SHARED, O_RDWR },
	{ "read_only_file", PROT_READ, MAP_SHARED, O_RDONLY },
	{ "no_access", PROT_NONE, MAP_SHARED, O_RDWR },
	{ "noreserve", PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
	  O_RDWR },
	{ "populate", PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
	  O_RDWR },
	{ "locked", PROT_READ | PROT_WRITE, MAP_SHARED | MAP_LOCKED, O_RDWR },
};

FIXTURE(permitted) {
	int fd;
};

FIXTURE_VARIANT(permitted) {
	const struct p2p_provider *provider;
	const struct permitted *row;
};

FIXTURE_SETUP(permitted)
{
	EXPECT_TAKEN(0);
	self->fd = p2p_open_pool(variant->provider, variant->row->open_flags);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(permitted)
{
	close(self->fd);
	EXPECT_TAKEN(0);
}

TEST_F(permitted, mmap)
{
	const struct permitted *row = variant->row;
	uint64_t value = 0;
	char *map;

	map = mmap(NULL, 4 * page, row->prot, row->map_flags, self->fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("%s", strerror(errno));
	EXPECT_TAKEN(4 * page);

	for (int i = 0; i < 4; i++) {
		/* a page that can be written can be read, on most machines */
		if (row->prot & PROT_READ || !row->prot)
			EXPECT_EQ(row->prot ? 0 : SIGSEGV,
				  p2p_try_read(map + i * page, &value));
		EXPECT_EQ(row->prot & PROT_WRITE ? 0 : SIGSEGV,
			  p2p_try_write(map + i * page, i));
		if (row->prot == (PROT_READ | PROT_WRITE)) {
			EXPECT_EQ(0, p2p_try_read(map + i * page, &value));
			EXPECT_EQ((uint64_t)i, value);
		}
	}
	EXPECT_TAKEN(4 * page);
	EXPECT_EQ(0, munmap(map, 4 * page));
}

/* ---- the file ---------------------------------------------------------- */

FIXTURE(file) {
	int fd;
};

FIXTURE_VARIANT(file) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(file)
{
	EXPECT_TAKEN(0);
	self->fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(file)
{
	close(self->fd);
	EXPECT_TAKEN(0);
}

/* The memory is mapped, never read or written through the file. */
TEST_F(file, read_and_write)
{
	char buf[64] = "";

	/* sysfs_kf_bin_read(), sysfs_kf_bin_write() */
	EXPECT_ERRNO(EIO, read(self->fd, buf, sizeof(buf)));
	EXPECT_ERRNO(EIO, write(self->fd, buf, sizeof(buf)));
	EXPECT_ERRNO(EIO, pread(self->fd, buf, sizeof(buf), (1L << 40) - 1));
	EXPECT_RET(0, pread(self->fd, buf, sizeof(buf), 1L << 40));
	EXPECT_ERRNO(EFBIG, pwrite(self->fd, buf, sizeof(buf), 1L << 40));
	EXPECT_RET(0, read(self->fd, buf, 0));
	EXPECT_ERRNO(EOPNOTSUPP, fallocate(self->fd, 0, 0, page));
}

/* kernfs_iop_setattr() takes a new size and does nothing with it. */
TEST_F(file, truncate)
{
	struct stat st;

	EXPECT_RET(0, ftruncate(self->fd, 0));
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(1L << 40, st.st_size);
}

/* Give up all privileges; the caller is a child that ends with the test. */
static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		_exit(255);
}

/* Status of a child that ran @fn: its return value, or -signal. */
static int in_child(int (*fn)(void *data), void *data)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -1000;
	if (!pid)
		_exit(fn(data));
	if (waitpid(pid, &status, 0) != pid)
		return -1001;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int open_as_nobody(void *data)
{
	const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };

	become_nobody();
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		if (p2p_open_pool(data, modes[i]) >= 0)
			return 254;
		if (errno != EACCES)
			return errno;
	}
	return 0;
}

TEST_F(file, unprivileged_open)
{
	EXPECT_EQ(0, in_child(open_as_nobody, (void *)variant->provider));
}

static int map_as_nobody(void *data)
{
	char *map;

	become_nobody();
	map = p2p_map(*(int *)data, page);
	if (map == MAP_FAILED)
		return errno;
	return p2p_try_write(map, 1);
}

/* The file's mode is checked when it is opened: a descriptor can be lent. */
TEST_F(file, unprivileged_descriptor)
{
	EXPECT_EQ(0, in_child(map_as_nobody, &self->fd));
}

/* Every mapping is an allocation of its own, also on one open file. */
TEST_F(file, two_mappings)
{
	char *a = p2p_map(self->fd, page), *b = p2p_map(self->fd, page);
	char why[256];

	ASSERT_NE(MAP_FAILED, (void *)a);
	ASSERT_NE(MAP_FAILED, (void *)b);
	EXPECT_TAKEN(2 * page);
	p2p_fill(a, page, P2P_DATA, 0);
	p2p_fill(b, page, P2P_PRESET, 0);
	EXPECT_EQ(0UL, p2p_check(a, page, P2P_DATA, 0, why, sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_EQ(0, munmap(a, page));
	EXPECT_TAKEN(page);
	EXPECT_EQ(0UL, p2p_check(b, page, P2P_PRESET, 0, why, sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_EQ(0, munmap(b, page));
}

/* The mapping holds the memory, not the descriptor. */
TEST_F(file, close)
{
	int fd = p2p_open_pool(variant->provider, O_RDWR);
	char *map, why[256];

	ASSERT_LE(0, fd);
	map = p2p_map(fd, 2 * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	EXPECT_EQ(0, close(fd));
	EXPECT_TAKEN(2 * page);
	p2p_fill(map, 2 * page, P2P_DATA, 0);
	EXPECT_EQ(0UL, p2p_check(map, 2 * page, P2P_DATA, 0, why, sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_EQ(0, munmap(map, 2 * page));
}

/* ---- operations on a mapping ------------------------------------------- */

#define PAGES		8

FIXTURE(mapping) {
	int fd;
	char *map;
	size_t len;
};

FIXTURE_VARIANT(mapping) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(mapping)
{
	EXPECT_TAKEN(0);
	self->map = MAP_FAILED;
	self->len = PAGES * page;
	self->fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->fd);
	self->map = p2p_map(self->fd, self->len);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	EXPECT_TAKEN(self->len);
	p2p_fill(self->map, self->len, P2P_DATA, 0);
}

FIXTURE_TEARDOWN(mapping)
{
	if (self->map != MAP_FAILED)
		EXPECT_EQ(0, munmap(self->map, self->len));
	close(self->fd);
	EXPECT_TAKEN(0);
}

/* Pages @first to @last of the mapping, now at @mem, hold what was written. */
static bool pages_hold(struct __test_metadata *_metadata, const char *mem,
		       int first, int last)
{
	char why[256];
	size_t bad;

	bad = p2p_check(mem, (last - first + 1) * page, P2P_DATA, first * page,
			why, sizeof(why));
	if (bad)
		TH_LOG("pages %d to %d: %s", first, last, why);
	return !bad;
}

#define EXPECT_PAGES(_mem, _first, _last)				\
	EXPECT_TRUE(pages_hold(_metadata, _mem, _first, _last))

/* Neither reading nor writing gets through. */
static bool faults(struct __test_metadata *_metadata, int sig, char *mem)
{
	int on_read = p2p_try_read(mem, NULL), on_write = p2p_try_write(mem, 0);

	if (on_read != sig || on_write != sig)
		TH_LOG("expected signal %d, reading gave %d and writing %d",
		       sig, on_read, on_write);
	return on_read == sig && on_write == sig;
}

#define EXPECT_FAULTS(_signal, _mem)					\
	EXPECT_TRUE(faults(_metadata, _signal, _mem))

/* munmap() of a part gives back that part. */
TEST_F(mapping, partial_munmap)
{
	EXPECT_EQ(0, munmap(self->map + 3 * page, 2 * page));
	EXPECT_TAKEN(self->len - 2 * page);
	EXPECT_FAULTS(SIGSEGV, self->map + 3 * page);
	EXPECT_FAULTS(SIGSEGV, self->map + 5 * page - 8);
	EXPECT_PAGES(self->map, 0, 2);
	EXPECT_PAGES(self->map + 5 * page, 5, PAGES - 1);

	EXPECT_EQ(0, munmap(self->map, page));
	EXPECT_TAKEN(self->len - 3 * page);
	EXPECT_EQ(0, munmap(self->map + (PAGES - 1) * page, page));
	EXPECT_TAKEN(self->len - 4 * page);
	EXPECT_PAGES(self->map + page, 1, 2);
}

/* Another allocation in place of some pages of this one. */
TEST_F(mapping, replaced_in_part)
{
	char *at = self->map + 2 * page, why[256];

	ASSERT_EQ((void *)at, mmap(at, 2 * page, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, self->fd, 0));
	EXPECT_TAKEN(self->len);
	p2p_fill(at, 2 * page, P2P_PRESET, 0);
	EXPECT_EQ(0UL, p2p_check(at, 2 * page, P2P_PRESET, 0, why,
				 sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_PAGES(self->map, 0, 1);
	EXPECT_PAGES(self->map + 4 * page, 4, PAGES - 1);
}

/*
 * With MAP_FIXED, what is at the address is unmapped before the file is asked
 * (__mmap_setup()), so a refusal leaves a hole, as it does with any file. The
 * pages must be back in the pool all the same.
 */
TEST_F(mapping, refused_in_place)
{
	errno = 0;
	EXPECT_EQ(MAP_FAILED, mmap(self->map + 2 * page, 2 * page,
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_FIXED, self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TAKEN(self->len - 2 * page);
	EXPECT_FAULTS(SIGSEGV, self->map + 2 * page);
	EXPECT_PAGES(self->map, 0, 1);
	EXPECT_PAGES(self->map + 4 * page, 4, PAGES - 1);
}

struct child_view {
	char *map;
	int ready, go;
};

/* Check the inherited pages, change one, and keep them until told. */
static int inherit(void *data)
{
	struct child_view *view = data;
	char why[256], byte = 0;

	if (p2p_check(view->map, PAGES * page, P2P_DATA, 0, why, sizeof(why)))
		return 1;
	p2p_fill(view->map, page, P2P_PRESET, 0);
	if (write(view->ready, &byte, 1) != 1 || read(view->go, &byte, 1) < 0)
		return 2;
	/* the parent has unmapped its own, the pages are still here */
	if (p2p_check(view->map + page, (PAGES - 1) * page, P2P_DATA, page,
		      why, sizeof(why)))
		return 3;
	return 0;
}

/* fork() shares the pages; they go back when the last process is done. */
TEST_F(mapping, fork)
{
	int ready[2], go[2], status;
	struct child_view view;
	char why[256], byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	view = (struct child_view){
		.map = self->map, .ready = ready[1], .go = go[0],
	};
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(inherit(&view));
	close(ready[1]);

	ASSERT_EQ(1, read(ready[0], &byte, 1))
		TH_LOG("the child did not find what the parent wrote");
	EXPECT_EQ(0UL, p2p_check(self->map, page, P2P_PRESET, 0, why,
				 sizeof(why)))
		TH_LOG("what the child wrote: %s", why);
	EXPECT_PAGES(self->map + page, 1, PAGES - 1);
	EXPECT_TAKEN(self->len);

	EXPECT_EQ(0, munmap(self->map, self->len));
	self->map = MAP_FAILED;
	EXPECT_TAKEN(self->len);

	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TAKEN(0);
}

static int touch(void *data)
{
	return p2p_try_read(data, NULL);
}

TEST_F(mapping, dontfork)
{
	ASSERT_EQ(0, madvise(self->map + page, page, MADV_DONTFORK));
	EXPECT_EQ(0, in_child(touch, self->map));
	EXPECT_EQ(SIGSEGV, in_child(touch, self->map + page));
	EXPECT_EQ(0, in_child(touch, self->map + 2 * page));
	EXPECT_PAGES(self->map, 0, PAGES - 1);
	EXPECT_TAKEN(self->len);
}

/* The pages go back at once and nothing comes in their place. */
TEST_F(mapping, dontneed)
{
	EXPECT_EQ(0, madvise(self->map + 2 * page, 2 * page, MADV_DONTNEED));
	EXPECT_TAKEN(self->len - 2 * page);
	EXPECT_FAULTS(SIGBUS, self->map + 2 * page);
	EXPECT_FAULTS(SIGBUS, self->map + 4 * page - 8);
	EXPECT_PAGES(self->map, 0, 1);
	EXPECT_PAGES(self->map + 4 * page, 4, PAGES - 1);

	/* they are not counted twice when the mapping goes */
	EXPECT_EQ(0, munmap(self->map, self->len));
	self->map = MAP_FAILED;
	EXPECT_TAKEN(0);
}

/* In a child, MADV_DONTNEED takes the pages from that child only. */
TEST_F(mapping, dontneed_after_fork)
{
	pid_t pid = fork();
	int status;

	ASSERT_LE(0, pid);
	if (!pid) {
		if (madvise(self->map, self->len, MADV_DONTNEED))
			_exit(errno);
		_exit(p2p_try_read(self->map, NULL) == SIGBUS ? 0 : 255);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TAKEN(self->len);
	EXPECT_PAGES(self->map, 0, PAGES - 1);
}

TEST_F(mapping, mremap_shrink)
{
	ASSERT_EQ((void *)self->map, mremap(self->map, self->len, 3 * page, 0));
	EXPECT_TAKEN(3 * page);
	EXPECT_PAGES(self->map, 0, 2);
	EXPECT_FAULTS(SIGSEGV, self->map + 3 * page);
}

/*
 * A mapping can grow, as VM_DONTEXPAND is not set, but mmap() is not called
 * again: the address range has no memory behind it.
 */
TEST_F(mapping, mremap_grow)
{
	char *map = mremap(self->map, self->len, self->len + 2 * page,
			   MREMAP_MAYMOVE);

	ASSERT_NE(MAP_FAILED, (void *)map);
	EXPECT_TAKEN(self->len);
	EXPECT_PAGES(map, 0, PAGES - 1);
	EXPECT_FAULTS(SIGBUS, map + self->len);
	EXPECT_FAULTS(SIGBUS, map + self->len + 2 * page - 8);
	self->map = map;
	self->len += 2 * page;
}

/*
 * Where there is room behind the mapping, it should grow in place, or move as it
 * does otherwise. But expand_vma() takes what vma_merge_extend() refuses, a
 * mapping that cannot be merged (VM_MIXEDMAP is VM_SPECIAL), for a lack of
 * memory, and gives up.
 */
TEST_F(mapping, mremap_grow_with_room)
{
	char *room, *map;

	room = mmap(NULL, 4 * self->len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)room);
	ASSERT_EQ((void *)room, mremap(self->map, self->len, self->len,
				       MREMAP_MAYMOVE | MREMAP_FIXED, room));
	self->map = room;
	ASSERT_EQ(0, munmap(room + self->len, 3 * self->len));

	map = mremap(room, self->len, self->len + 2 * page, MREMAP_MAYMOVE);
	if (map == MAP_FAILED && errno == ENOMEM) {
		EXPECT_PAGES(room, 0, PAGES - 1);
		P2P_XFAIL("mremap-mixedmap-enomem: mremap() gives ENOMEM");
		return;
	}
	ASSERT_NE(MAP_FAILED, (void *)map);
	EXPECT_PAGES(map, 0, PAGES - 1);
	EXPECT_FAULTS(SIGBUS, map + self->len);
	self->map = map;
	self->len += 2 * page;
	P2P_XPASS("mremap-mixedmap-enomem did not show itself");
}

TEST_F(mapping, mremap_move)
{
	char *old = self->map, *to;

	to = mmap(NULL, self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0);
	ASSERT_NE(MAP_FAILED, (void *)to);
	ASSERT_EQ((void *)to, mremap(self->map, self->len, self->len,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	self->map = to;
	EXPECT_TAKEN(self->len);
	EXPECT_FAULTS(SIGSEGV, old);
	EXPECT_PAGES(to, 0, PAGES - 1);
	EXPECT_EQ(0, p2p_try_write(to, 0));
}

/* The pages move, the old range stays behind without any. */
TEST_F(mapping, mremap_dontunmap)
{
	char *to = mremap(self->map, self->len, self->len,
			  MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	ASSERT_NE(MAP_FAILED, (void *)to)
		TH_LOG("%s", strerror(errno));
	EXPECT_TAKEN(self->len);
	EXPECT_PAGES(to, 0, PAGES - 1);
	EXPECT_FAULTS(SIGBUS, self->map);
	EXPECT_EQ(0, munmap(to, self->len));
	EXPECT_TAKEN(0);
}

/* An old length of 0 maps a shared range again, here without memory. */
TEST_F(mapping, mremap_duplicate)
{
	char *again = mremap(self->map, 0, self->len, MREMAP_MAYMOVE);

	ASSERT_NE(MAP_FAILED, (void *)again)
		TH_LOG("%s", strerror(errno));
	EXPECT_TAKEN(self->len);
	EXPECT_FAULTS(SIGBUS, again);
	EXPECT_PAGES(self->map, 0, PAGES - 1);
	EXPECT_EQ(0, munmap(again, self->len));
	EXPECT_TAKEN(self->len);
}

TEST_F(mapping, protect)
{
	EXPECT_EQ(0, mprotect(self->map, page, PROT_NONE));
	EXPECT_FAULTS(SIGSEGV, self->map);
	EXPECT_EQ(0, mprotect(self->map, page, PROT_READ));
	EXPECT_EQ(SIGSEGV, p2p_try_write(self->map, 0));
	EXPECT_PAGES(self->map, 0, PAGES - 1);
	EXPECT_TAKEN(self->len);
}

/* What was opened for reading cannot be made writable later. */
TEST_F(mapping, protect_read_only_file)
{
	int fd = p2p_open_pool(variant->provider, O_RDONLY);
	char *map;

	ASSERT_LE(0, fd);
	map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)map);
	EXPECT_ERRNO(EACCES, mprotect(map, page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, munmap(map, page));
	close(fd);
}

/* Code cannot be run from it: sysfs is mounted without VM_MAYEXEC. */
TEST_F(mapping, protect_executable)
{
	EXPECT_ERRNO(EACCES, mprotect(self->map, page, PROT_READ | PROT_EXEC));
	EXPECT_PAGES(self->map, 0, PAGES - 1);
}

/* A debugger cannot look into it: no page for get_user_pages(), no access(). */
TEST_F(mapping, proc_self_mem)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint64_t value = 0;

	ASSERT_LE(0, fd);
	EXPECT_ERRNO(EIO, pread(fd, &value, sizeof(value), (off_t)self->map));
	EXPECT_ERRNO(EIO, pwrite(fd, &value, sizeof(value), (off_t)self->map));
	close(fd);
	EXPECT_PAGES(self->map, 0, PAGES - 1);
}

/* What /proc says of a process is safe to read with such a mapping. */
TEST_F(mapping, proc_files)
{
	static const char * const files[] = {
		"/proc/self/maps", "/proc/self/smaps",
		"/proc/self/smaps_rollup", "/proc/self/numa_maps",
	};
	static char buf[1 << 16];
	uint64_t entry = 0;
	ssize_t n;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		ssize_t total = 0;

		fd = open(files[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)	/* without CONFIG_NUMA */
			continue;
		ASSERT_LE(0, fd);
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			total += n;
		EXPECT_EQ(0, n)
			TH_LOG("%s: %s", files[i], strerror(errno));
		EXPECT_LT(0, total);
		close(fd);
	}

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(8, pread(fd, &entry, 8, (off_t)self->map / page * 8));
	EXPECT_EQ(1UL, entry >> 63)
		TH_LOG("the page is not present in pagemap: %#lx", entry);
	close(fd);
	EXPECT_TAKEN(self->len);
}

TEST_F(mapping, msync)
{
	EXPECT_RET(0, msync(self->map, self->len, MS_SYNC));
	EXPECT_RET(0, msync(self->map, self->len, MS_ASYNC));
	EXPECT_RET(0, msync(self->map, self->len, MS_SYNC | MS_INVALIDATE));
	EXPECT_PAGES(self->map, 0, PAGES - 1);
}

TEST_F(mapping, mincore)
{
	unsigned char vec[PAGES] = { 0 };

	EXPECT_RET(0, mincore(self->map, self->len, vec));
	for (int i = 0; i < PAGES; i++)
		EXPECT_EQ(1, vec[i] & 1);
}

/* What mlock() refuses, mlockall() passes over. */
TEST_F(mapping, mlockall)
{
	EXPECT_RET(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_PAGES(self->map, 0, PAGES - 1);
	EXPECT_TAKEN(self->len);
	EXPECT_RET(0, munlockall());
	EXPECT_TAKEN(self->len);
}

/* ---- known defects of the kernel --------------------------------------- */

/*
 * Write once, in a child that is killed if its page faults do not end, so that a
 * write that never returns ends as a signal: the fault is retried for ever, in a
 * way that can be killed.
 */
static int write_within_limit(char *mem)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(p2p_try_write(mem, 0x1234));
	status = p2p_wait_limited(pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void write_returns(struct __test_metadata *_metadata, char *mem)
{
	uint64_t value = 0;
	int status = write_within_limit(mem);

	/*
	 * kernfs_vma_page_mkwrite() returns 0, do_page_mkwrite() finds no
	 * folio->mapping and has the fault retried, again and again.
	 */
	if (status == -SIGKILL) {
		P2P_XFAIL("kernfs-mkwrite-livelock: the write never returns");
		return;
	}
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, p2p_try_read(mem, &value));
	EXPECT_EQ(0x1234UL, value);
	P2P_XPASS("kernfs-mkwrite-livelock did not show itself");
}

/* With PTEs that are clean: the pages have never been written to. */
TEST_F(mapping, write_after_protect)
{
	char *map = p2p_map(self->fd, page);

	ASSERT_NE(MAP_FAILED, (void *)map);
	ASSERT_EQ(0, mprotect(map, page, PROT_READ));
	ASSERT_EQ(0, mprotect(map, page, PROT_READ | PROT_WRITE));
	write_returns(_metadata, map);
	EXPECT_TAKEN(self->len + page);
	EXPECT_EQ(0, munmap(map, page));
}

TEST_F(mapping, write_after_upgrade)
{
	char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, (void *)map);
	ASSERT_EQ(0, mprotect(map, page, PROT_READ | PROT_WRITE));
	write_returns(_metadata, map);
	EXPECT_TAKEN(self->len + page);
	EXPECT_EQ(0, munmap(map, page));
}

/*
 * A PTE that is dirty is made writable again by mprotect() itself, so there
 * is no fault to be retried (can_change_shared_pte_writable()).
 */
TEST_F(mapping, rewrite_after_protect)
{
	uint64_t value = 0;

	ASSERT_EQ(0, mprotect(self->map, page, PROT_READ));
	ASSERT_EQ(0, mprotect(self->map, page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_within_limit(self->map));
	EXPECT_EQ(0, p2p_try_read(self->map, &value));
	EXPECT_EQ(0x1234UL, value);
	EXPECT_TAKEN(self->len);
}

/*
 * The pages are present and cannot go away, so locking them has nothing to
 * do. But __mm_populate() walks them with get_user_pages() without
 * FOLL_PCI_P2PDMA, and __mlock_posix_error_return() hands the EREMOTEIO of
 * try_grab_folio() on, which mlock() is not documented to return.
 */
static void lock_verdict(struct __test_metadata *_metadata, int ret, int error)
{
	if (ret == -1 && error == EREMOTEIO) {
		P2P_XFAIL("populate-eremoteio: mlock() gives EREMOTEIO");
		return;
	}
	EXPECT_EQ(0, ret)
		TH_LOG("%s", strerror(error));
	P2P_XPASS("populate-eremoteio did not show itself");
}

TEST_F(mapping, mlock)
{
	int ret = mlock(self->map, self->len);

	lock_verdict(_metadata, ret, errno);
	EXPECT_PAGES(self->map, 0, PAGES - 1);
	EXPECT_TAKEN(self->len);
	EXPECT_RET(0, munlock(self->map, self->len));
	EXPECT_TAKEN(self->len);
}

TEST_F(mapping, mlock2_onfault)
{
	int ret = mlock2(self->map, self->len, MLOCK_ONFAULT);

	lock_verdict(_metadata, ret, errno);
	EXPECT_PAGES(self->map, 0, PAGES - 1);
	EXPECT_TAKEN(self->len);
	EXPECT_RET(0, munlock(self->map, self->len));
	EXPECT_TAKEN(self->len);
}

/* ---- advice ------------------------------------------------------------ */

static const struct advice {
	const char *name;
	int advice;
	int error;		/* what it fails with, 0 if it succeeds */
	const char *defect;	/* why @error is wrong, if it is */
} advices[] = {
	{ "normal", MADV_NORMAL, 0, NULL },
	{ "random", MADV_RANDOM, 0, NULL },
	{ "sequential", MADV_SEQUENTIAL, 0, NULL },
	{ "willneed", MADV_WILLNEED, 0, NULL },
	{ "cold", MADV_COLD, 0, NULL },
	{ "pageout", MADV_PAGEOUT, 0, NULL },
	/* no way back from MADV_DONTFORK and MADV_DONTDUMP: VM_MIXEDMAP */
	{ "dofork", MADV_DOFORK, EINVAL, NULL },
	{ "dontdump", MADV_DONTDUMP, 0, NULL },
	{ "dodump", MADV_DODUMP, EINVAL, NULL },
	/* anonymous memory only */
	{ "free", MADV_FREE, EINVAL, NULL },
	{ "wipeonfork", MADV_WIPEONFORK, EINVAL, NULL },
	{ "hugepage", MADV_HUGEPAGE, 0, NULL },
	{ "nohugepage", MADV_NOHUGEPAGE, 0, NULL },
	{ "collapse", MADV_COLLAPSE, EINVAL, NULL },
	{ "mergeable", MADV_MERGEABLE, 0, NULL },
	{ "unmergeable", MADV_UNMERGEABLE, 0, NULL },
	{ "remove", MADV_REMOVE, EOPNOTSUPP, NULL },
	/*
	 * The pages are there. But faultin_page_range() gives EREMOTEIO, which
	 * madvise_populate() does not know: it logs "unhandled return value"
	 * and makes ENOMEM of it.
	 */
	{ "populate_read", MADV_POPULATE_READ, ENOMEM,
	  "populate-eremoteio" },
	{ "populate_write", MADV_POPULATE_WRITE, ENOMEM,
	  "populate-eremoteio" },
};

FIXTURE(advice) {
	int fd;
	char *map;
};

FIXTURE_VARIANT(advice) {
	const struct p2p_provider *provider;
	const struct advice *row;
};

FIXTURE_SETUP(advice)
{
	EXPECT_TAKEN(0);
	self->map = MAP_FAILED;
	self->fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->fd);
	self->map = p2p_map(self->fd, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	p2p_fill(self->map, PAGES * page, P2P_DATA, 0);
}

FIXTURE_TEARDOWN(advice)
{
	if (self->map != MAP_FAILED)
		EXPECT_EQ(0, munmap(self->map, PAGES * page));
	close(self->fd);
	EXPECT_TAKEN(0);
}

/* No advice of these takes the pages away or changes what they hold. */
TEST_F(advice, madvise)
{
	const struct advice *row = variant->row;
	int ret, error;

	if ((row->advice == MADV_MERGEABLE || row->advice == MADV_UNMERGEABLE) &&
	    access("/sys/kernel/mm/ksm", F_OK))
		SKIP(return, "the kernel does not merge pages (CONFIG_KSM)");
	ret = madvise(self->map, PAGES * page, row->advice);
	error = ret ? errno : 0;

	if (row->defect && !error) {
		P2P_XPASS("%s did not show itself", row->defect);
	} else {
		EXPECT_EQ(row->error, error)
			TH_LOG("expected '%s', got '%s'", strerror(row->error),
			       strerror(error));
		if (row->defect)
			P2P_XFAIL("%s: %s", row->defect, strerror(error));
	}
	EXPECT_TAKEN(PAGES * page);
	EXPECT_PAGES(self->map, 0, PAGES - 1);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Mappings of peer-to-peer memory: refusals and operations"))
		return test_harness_run(argc, argv);
	p2p_discover();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		for (size_t r = 0; r < ARRAY_SIZE(refusals); r++) {
			FIXTURE_VARIANT(refused) v = { p, &refusals[r] };

			P2P_VARIANT_ADD(refused, v, "%s@%s/%s", p->kind,
					p->bdf, refusals[r].name);
		}
		for (size_t r = 0; r < ARRAY_SIZE(permitted); r++) {
			FIXTURE_VARIANT(permitted) v = { p, &permitted[r] };

			P2P_VARIANT_ADD(permitted, v, "%s@%s/%s", p->kind,
					p->bdf, permitted[r].name);
		}
		for (size_t r = 0; r < ARRAY_SIZE(advices); r++) {
			FIXTURE_VARIANT(advice) v = { p, &advices[r] };

			P2P_VARIANT_ADD(advice, v, "%s@%s/%s", p->kind, p->bdf,
					advices[r].name);
		}

		FIXTURE_VARIANT(file) file = { p };
		FIXTURE_VARIANT(mapping) mapping = { p };

		P2P_VARIANT_ADD(file, file, "%s@%s", p->kind, p->bdf);
		P2P_VARIANT_ADD(mapping, mapping, "%s@%s", p->kind, p->bdf);
	}
	return test_harness_run(argc, argv);
}
