// SPDX-License-Identifier: GPL-2.0
/*
 * The pool behind p2pmem/allocate: what a mapping takes from it and gives
 * back, to the page; exhaustion, fragmentation, and holders that die.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

static ssize_t page;

FIXTURE(pool) {
	const struct p2p_provider *provider;
	int fd;
};

FIXTURE_VARIANT(pool) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(pool)
{
	self->provider = variant->provider;
	self->fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->fd)
		TH_LOG("p2pmem/allocate: %s", strerror(errno));
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider))
		TH_LOG("the pool is not as it was, an earlier test or another user holds memory");
}

FIXTURE_TEARDOWN(pool)
{
	close(self->fd);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider))
		TH_LOG("the pool is not as it was before the test");
}

static ssize_t round_to_page(ssize_t len)
{
	return (len + page - 1) / page * page;
}

/* Map, or fail the test. */
static char *must_map(struct __test_metadata *_metadata, int fd, size_t len)
{
	char *map = p2p_map(fd, len);

	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("mapping %zu bytes: %s", len, strerror(errno));
	return map;
}

#define EXPECT_TAKEN(_taken)						\
	EXPECT_EQ(self->provider->rest - (ssize_t)(_taken),		\
		  p2p_available(self->provider))

/* The memory that a driver registers is all there, unless it needs some. */
TEST_F(pool, starts_full)
{
	ssize_t size = variant->provider->size;

	EXPECT_EQ(0, size % page);
	EXPECT_EQ(0, variant->provider->rest % page);
	if (!strcmp(variant->provider->driver, "nvme")) {
		/* nvme_alloc_sq_cmds() takes the submission queues from it */
		EXPECT_LE(variant->provider->rest, size);
		EXPECT_LT(0, variant->provider->rest);
	} else {
		EXPECT_EQ(variant->provider->rest, size);
	}
}

static void attribute(char *path, size_t len,
		      const struct p2p_provider *provider, const char *name)
{
	snprintf(path, len, "/sys/bus/pci/devices/%s/p2pmem/%s", provider->bdf,
		 name);
}

TEST_F(pool, attributes)
{
	static const char * const read_only[] = {
		"size", "available", "published",
	};
	struct stat st;
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(read_only); i++) {
		attribute(path, sizeof(path), variant->provider, read_only[i]);
		ASSERT_EQ(0, stat(path, &st))
			TH_LOG("%s: %s", path, strerror(errno));
		EXPECT_EQ(0444U, st.st_mode & 07777)
			TH_LOG("%s", path);
		/* not even root may: KERNFS_ROOT_EXTRA_OPEN_PERM_CHECK */
		EXPECT_ERRNO(EACCES, open(path, O_WRONLY));
	}

	attribute(path, sizeof(path), variant->provider, "allocate");
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0660U, st.st_mode & 07777);
	EXPECT_EQ(0U, st.st_uid);
	EXPECT_EQ(0U, st.st_gid);
	/* larger than any pool, for callers that check before they map */
	EXPECT_EQ(1LL << 40, st.st_size);
}

/* A mapping takes its length, rounded up to pages, and gives it back. */
TEST_F(pool, exact)
{
	const ssize_t lengths[] = {
		1, page - 1, page, page + 1, 3 * page, 16 * page,
		256 * page, 256 * page + 1, 511 * page, 513 * page,
	};
	char *map;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		if (lengths[i] > variant->provider->rest / variant->provider->ranges)
			break;
		map = must_map(_metadata, self->fd, lengths[i]);
		EXPECT_TAKEN(round_to_page(lengths[i]))
			TH_LOG("length %zd", lengths[i]);
		EXPECT_EQ(0, munmap(map, lengths[i]));
		EXPECT_TAKEN(0)
			TH_LOG("length %zd", lengths[i]);
	}
}

/* A mapping that cannot be had takes nothing. */
TEST_F(pool, too_large)
{
	const ssize_t lengths[] = {
		variant->provider->rest + 1,
		variant->provider->rest + page,
		2 * variant->provider->size,
		1L << 40,
		(1L << 40) + page,
	};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		errno = 0;
		EXPECT_EQ(MAP_FAILED, p2p_map(self->fd, lengths[i]));
		EXPECT_EQ(ENOMEM, errno)
			TH_LOG("length %zd: %s", lengths[i], strerror(errno));
		EXPECT_TAKEN(0);
	}
}

/* The last page can be had, the one after it cannot, and all comes back. */
TEST_F(pool, to_the_last_page)
{
	ssize_t rest = variant->provider->rest;
	uint64_t value = 0;
	char *map;

	if (variant->provider->ranges > 1)
		SKIP(return, "the pool is no single run of pages");

	map = must_map(_metadata, self->fd, rest);
	EXPECT_TAKEN(rest);
	EXPECT_EQ(0, p2p_available(variant->provider));

	errno = 0;
	EXPECT_EQ(MAP_FAILED, p2p_map(self->fd, page));
	EXPECT_EQ(ENOMEM, errno);

	/* all of it is memory, and no two places are the same */
	for (ssize_t at = 0; at < rest; at += rest / 64 / page * page)
		p2p_fill(map + at, 8, P2P_DATA, at);
	p2p_fill(map + rest - 8, 8, P2P_DATA, rest - 8);
	for (ssize_t at = 0; at < rest; at += rest / 64 / page * page) {
		char why[256];

		EXPECT_EQ(0UL, p2p_check(map + at, 8, P2P_DATA, at, why, 256))
			TH_LOG("%s", why);
	}
	EXPECT_EQ(0, p2p_try_read(map + rest - 8, &value));

	/* one page given back is one page to be had */
	EXPECT_EQ(0, munmap(map + rest - page, page));
	EXPECT_EQ(page, p2p_available(variant->provider));
	EXPECT_NE(MAP_FAILED, mmap(map + rest - page, page,
				   PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, self->fd, 0));
	EXPECT_EQ(0, p2p_available(variant->provider));

	EXPECT_EQ(0, munmap(map, rest));
	EXPECT_TAKEN(0);
}

/* Many mappings at once have no memory in common. */
TEST_F(pool, disjoint)
{
	long maps = variant->provider->rest / page;
	char *map[511], why[256];

	if (maps > (long)ARRAY_SIZE(map))
		maps = ARRAY_SIZE(map);
	if (maps % 2 == 0)
		maps--;
	for (long i = 0; i < maps; i++) {
		map[i] = must_map(_metadata, self->fd, page);
		p2p_fill(map[i], 64, P2P_DATA, i * page);
		p2p_fill(map[i] + page - 64, 64, P2P_DATA, i * page + 64);
	}
	EXPECT_TAKEN(maps * page);
	for (long i = 0; i < maps; i++) {
		EXPECT_EQ(0UL, p2p_check(map[i], 64, P2P_DATA, i * page, why,
					 sizeof(why)))
			TH_LOG("mapping %ld: %s", i, why);
		EXPECT_EQ(0UL, p2p_check(map[i] + page - 64, 64, P2P_DATA,
					 i * page + 64, why, sizeof(why)))
			TH_LOG("mapping %ld: %s", i, why);
	}

	/* an odd number, so that every second one comes to all of them */
	for (long i = 0; i < maps; i++)
		EXPECT_EQ(0, munmap(map[i * 2 % maps], page));
}

/*
 * An allocation is one run of pages. With every other part of the pool taken,
 * half of it is free and still no two parts' worth can be had.
 */
TEST_F(pool, fragmented)
{
	enum { PARTS = 64 };
	ssize_t part = variant->provider->rest / PARTS / page * page;
	ssize_t odd = variant->provider->rest - PARTS * part;
	char *map[PARTS], *rest = NULL, *big;

	if (variant->provider->ranges > 1)
		SKIP(return, "the pool is no single run of pages");

	for (int i = 0; i < PARTS; i++)
		map[i] = must_map(_metadata, self->fd, part);
	if (odd)
		rest = must_map(_metadata, self->fd, odd);
	EXPECT_EQ(0, p2p_available(variant->provider));

	for (int i = 0; i < PARTS; i += 2)
		EXPECT_EQ(0, munmap(map[i], part));
	EXPECT_EQ(PARTS / 2 * part, p2p_available(variant->provider));

	errno = 0;
	EXPECT_EQ(MAP_FAILED, p2p_map(self->fd, 2 * part));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(PARTS / 2 * part, p2p_available(variant->provider));

	/* one neighbour more, and three parts are together */
	EXPECT_EQ(0, munmap(map[1], part));
	big = must_map(_metadata, self->fd, 3 * part);
	EXPECT_EQ((PARTS / 2 - 2) * part, p2p_available(variant->provider));
	EXPECT_EQ(0, munmap(big, 3 * part));

	for (int i = 3; i < PARTS; i += 2)
		EXPECT_EQ(0, munmap(map[i], part));
	if (odd)
		EXPECT_EQ(0, munmap(rest, odd));
}

static void wait_for_byte(int fd)
{
	char byte;

	if (read(fd, &byte, 1) < 0)
		_exit(1);
}

/* A process that is killed gives back what it had mapped. */
TEST_F(pool, killed_holder)
{
	int status, ready[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (p2p_map(self->fd, 16 * page) == MAP_FAILED)
			_exit(1);
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		while (true)
			pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	close(ready[0]);
	EXPECT_TAKEN(16 * page);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TAKEN(0);
}

/* So does one that runs another program. */
TEST_F(pool, exec)
{
	int status, ready[2], go[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		if (dup2(go[0], 0) < 0 || dup2(ready[1], 1) < 0 ||
		    p2p_map(self->fd, 16 * page) == MAP_FAILED)
			_exit(1);
		execl("/proc/self/exe", "p2pdma_pool", "--be-executed", NULL);
		_exit(2);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ('x', byte);
	EXPECT_TAKEN(0);
	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* The program that the test above runs: report, and wait to be let go. */
static int be_executed(void)
{
	if (write(1, "x", 1) != 1)
		return 1;
	wait_for_byte(0);
	return 0;
}

/* Several processes take, use and give back at the same time. */
TEST_F(pool, concurrent)
{
	enum { CHILDREN = 4, ROUNDS = 100 };
	pid_t pid[CHILDREN];
	int status;

	for (int c = 0; c < CHILDREN; c++) {
		unsigned int seed = p2p.seed + c;
		char why[256], *map;

		pid[c] = fork();
		ASSERT_LE(0, pid[c]);
		if (pid[c])
			continue;

		for (int r = 0; r < ROUNDS; r++) {
			size_t len = (1 + rand_r(&seed) % 32) * page;
			uint64_t at = ((uint64_t)c << 32) + r * len;

			map = p2p_map(self->fd, len);
			if (map == MAP_FAILED)
				_exit(errno);
			p2p_fill(map + len - 64, 64, P2P_DATA, at);
			p2p_fill(map, 64, P2P_DATA, at + 64);
			sched_yield();
			if (p2p_check(map + len - 64, 64, P2P_DATA, at, why,
				      sizeof(why)) ||
			    p2p_check(map, 64, P2P_DATA, at + 64, why,
				      sizeof(why))) {
				TH_LOG("process %d, round %d: %s", c, r, why);
				_exit(255);
			}
			if (munmap(map, len))
				_exit(errno);
		}
		_exit(0);
	}
	for (int c = 0; c < CHILDREN; c++) {
		ASSERT_EQ(pid[c], waitpid(pid[c], &status, 0));
		EXPECT_TRUE(WIFEXITED(status));
		EXPECT_EQ(0, WEXITSTATUS(status))
			TH_LOG("process %d: %s", c,
			       strerror(WEXITSTATUS(status)));
	}
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (argc == 2 && !strcmp(argv[1], "--be-executed"))
		return be_executed();
	if (p2p_help(argc, argv,
		     "What mappings take from a pool of peer-to-peer memory"))
		return test_harness_run(argc, argv);
	p2p_discover();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(pool) v = { .provider = p };

		P2P_VARIANT_ADD(pool, v, "%s@%s", p->kind, p->bdf);
	}
	return test_harness_run(argc, argv);
}
