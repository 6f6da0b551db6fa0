// SPDX-License-Identifier: GPL-2.0
/*
 * O_DIRECT between an NVMe namespace and a provider's peer-to-peer memory.
 *
 * For every provider and every namespace that this machine has, data are
 * moved both ways and compared by position: each 64-bit word carries its
 * offset, the destination holds another pattern beforehand, and what lies
 * around the destination must stay. Where the kernel is expected to refuse a
 * pair, it must do so with EINVAL and leave both sides alone.
 *
 * What the environment can say: p2pdma_odirect --help
 */
#include <fcntl.h>
#include <sys/uio.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define KB(n)		((size_t)(n) << 10)
#define MB(n)		((size_t)(n) << 20)

static size_t page;

/* Transfers: length, and distance of the buffer from the start of a page. */
static const struct {
	const char *name;
	size_t len, shift;
} transfers[] = {
	{ "512",	512,		0 },	/* less than a page */
	{ "4K",		KB(4),		0 },
	{ "4K+512",	KB(4),		512 },	/* not page aligned */
	{ "12K",	KB(12),		0 },
	{ "64K",	KB(64),		0 },
	{ "64K+8",	KB(64),		8 },
	{ "1M",		MB(1),		0 },	/* several commands */
	{ "1028K",	KB(1028),	0 },	/* several bios */
};

static uint64_t round_down_to(uint64_t value, uint64_t to)
{
	return value / to * to;
}

static size_t round_up_to(size_t value, size_t to)
{
	return (value + to - 1) / to * to;
}

/* ---- both ends of a transfer ------------------------------------------- */

/**
 * struct ends - a mapping of the pool and an open namespace
 * @provider: whose memory is mapped
 * @client: which namespace is open
 * @pool: descriptor of p2pmem/allocate
 * @disk: descriptor of the namespace, O_DIRECT
 * @map: the mapping, @map_len bytes
 * @ram: ordinary memory for the reference, @ram_len bytes
 * @pos: where on the medium the tests work
 */
struct ends {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
	int pool, disk;
	char *map, *ram;
	size_t map_len, ram_len;
	uint64_t pos;
};

static int open_disk(const struct p2p_client *client)
{
	int flags = O_DIRECT | O_CLOEXEC;

	/* O_EXCL: refuse a disk that is mounted or otherwise in use */
	flags |= client->scratch ? O_RDWR | O_EXCL : O_RDONLY;
	return open(client->path, flags);
}

static void ends_open(struct __test_metadata *_metadata, struct ends *e,
		      const struct p2p_provider *provider,
		      const struct p2p_client *client, size_t map_len)
{
	e->provider = provider;
	e->client = client;
	e->pool = -1;
	e->disk = -1;
	e->map = MAP_FAILED;
	e->map_len = map_len;
	e->ram_len = map_len;
	e->pos = round_down_to(client->size / 2, MB(1));

	ASSERT_GT(client->size / 2, (uint64_t)map_len)
		TH_LOG("%s is too small", client->path);
	ASSERT_EQ(provider->rest, p2p_settled(provider))
		TH_LOG("the pool is not as it was, an earlier test or another user holds memory");

	e->ram = mmap(NULL, e->ram_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)e->ram);

	e->disk = open_disk(client);
	ASSERT_LE(0, e->disk)
		TH_LOG("%s: %s%s", client->path, strerror(errno),
		       errno == EBUSY ? ": listed as scratch, but in use" : "");

	e->pool = p2p_open_pool(provider, O_RDWR);
	ASSERT_LE(0, e->pool)
		TH_LOG("p2pmem/allocate: %s", strerror(errno));

	e->map = p2p_map(e->pool, e->map_len);
	ASSERT_NE(MAP_FAILED, (void *)e->map)
		TH_LOG("mapping %zu bytes of the pool: %s", e->map_len,
		       strerror(errno));
	ASSERT_EQ(provider->rest - (ssize_t)e->map_len,
		  p2p_available(provider));
}

static void ends_close(struct __test_metadata *_metadata, struct ends *e)
{
	if (!e->provider)
		return;
	if (e->map != MAP_FAILED)
		EXPECT_EQ(0, munmap(e->map, e->map_len));
	if (e->pool >= 0)
		close(e->pool);
	if (e->disk >= 0)
		close(e->disk);
	EXPECT_EQ(e->provider->rest, p2p_settled(e->provider))
		TH_LOG("the pool is not as it was before the test");
}

/* The reference: move data between medium and ordinary memory. */
static void plain_write(struct __test_metadata *_metadata, struct ends *e,
			size_t len, uint64_t pos)
{
	ASSERT_EQ((ssize_t)len, pwrite(e->disk, e->ram, len, pos))
		TH_LOG("writing %s from ordinary memory: %s", e->client->path,
		       strerror(errno));
}

static void plain_read(struct __test_metadata *_metadata, struct ends *e,
		       size_t len, uint64_t pos)
{
	ASSERT_EQ((ssize_t)len, pread(e->disk, e->ram, len, pos))
		TH_LOG("reading %s to ordinary memory: %s", e->client->path,
		       strerror(errno));
}

/* P2PDMA_TEST_CORRUPT: make the comparison that follows a transfer fail. */
static void corrupt(void *mem, size_t at)
{
	if (p2p.corrupt)
		p2p_flip(mem, at);
}

/* Compare, and say where the data went wrong. */
static bool holds(struct __test_metadata *_metadata, const char *what_mem,
		  const void *mem, size_t len, enum p2p_what what, uint64_t at)
{
	char why[256];
	size_t bad = p2p_check(mem, len, what, at, why, sizeof(why));

	if (bad)
		TH_LOG("%s: %zu of %zu words are wrong, %s (P2PDMA_SEED=%#x)",
		       what_mem, bad, len / 8, why, p2p.seed);
	return !bad;
}

#define EXPECT_HOLDS(...)						\
	EXPECT_TRUE(holds(_metadata, __VA_ARGS__))

/* The data decide; a known defect makes them an expected failure. */
static void data_verdict(struct __test_metadata *_metadata,
			 const struct p2p_expect *expect, bool good)
{
	if (!expect->defect[0]) {
		EXPECT_TRUE(good);
		return;
	}
	if (good)
		P2P_XPASS("data are right in spite of %s", expect->defect);
	else
		P2P_XFAIL("%s", expect->defect);
}

/*
 * True if the transfer was made, so that data are to be compared. If it was
 * refused, whether it had to be is decided here, and the caller checks that
 * both ends are as before.
 */
static bool transferred(struct __test_metadata *_metadata,
			const struct p2p_expect *expect, ssize_t ret,
			int error, size_t len)
{
	if (expect->verdict == P2P_NOT_SUPPORTED) {
		EXPECT_EQ(-1, ret)
			TH_LOG("the kernel made a transfer that it should refuse");
		if (ret == -1) {
			EXPECT_EQ(EINVAL, error)
				TH_LOG("refused with: %s", strerror(error));
		}
		return ret != -1;
	}
	if (expect->verdict == P2P_UNKNOWN && ret == -1 && error == EINVAL)
		return false;

	ASSERT_EQ((ssize_t)len, ret)
		TH_LOG("expected %s, got: %s",
		       p2p_verdict_name(expect->verdict),
		       ret == -1 ? strerror(error) : "a short transfer");
	return true;
}

/* Nothing was said about the pair, and the kernel refused it. */
static void skip_refused(struct __test_metadata *_metadata,
			 const struct p2p_expect *expect)
{
	if (expect->verdict == P2P_UNKNOWN &&
	    _metadata->exit_code == KSFT_PASS)
		SKIP(return, "kernel refuses this pair (EINVAL)");
}

/* Without permission to write a test is skipped, and says how to allow it. */
static bool may_write(struct __test_metadata *_metadata,
		      const struct p2p_client *client)
{
	if (!client->scratch)
		SKIP(return false,
		     "writes to the medium, allow it with P2PDMA_SCRATCH=%s",
		     client->path);
	return true;
}

/* ---- the machine is the one described ---------------------------------- */

TEST(as_described)
{
	char why[512];

	EXPECT_EQ(0U, p2p_missing(why, sizeof(why)))
		TH_LOG("expected and not there: %s", why);
}

/* ---- the comparison finds what it is there to find --------------------- */

TEST(pattern)
{
	static uint64_t mem[4096], copy[4096];
	const size_t len = sizeof(mem);
	char why[256];

	p2p_fill(mem, len, P2P_DATA, 0x10000);
	EXPECT_EQ(0UL, p2p_check(mem, len, P2P_DATA, 0x10000, why, 256));

	/* everything one page late, as if an offset had been forgotten */
	EXPECT_EQ(len / 8, p2p_check(mem, len, P2P_DATA, 0x11000, why, 256));
	EXPECT_NE(NULL, strstr(why, "shifted by 4096 bytes"))
		TH_LOG("%s", why);

	/* two pages exchanged */
	memcpy(copy, mem, len);
	memcpy(copy, (char *)mem + 4096, 4096);
	memcpy((char *)copy + 4096, mem, 4096);
	EXPECT_EQ(1024UL, p2p_check(copy, len, P2P_DATA, 0x10000, why, 256));

	/* one bit, in any byte of the first and the last word */
	memcpy(copy, mem, len);
	for (size_t i = 0; i < 8; i++) {
		p2p_flip(copy, i);
		EXPECT_EQ(1UL, p2p_check(copy, len, P2P_DATA, 0x10000, why, 256));
		p2p_flip(copy, i);
		p2p_flip(copy, len - 1 - i);
		EXPECT_EQ(1UL, p2p_check(copy, len, P2P_DATA, 0x10000, why, 256));
		p2p_flip(copy, len - 1 - i);
	}

	/* nothing arrived */
	p2p_fill(mem, len, P2P_PRESET, 0x10000);
	EXPECT_EQ(len / 8, p2p_check(mem, len, P2P_DATA, 0x10000, why, 256));
	EXPECT_NE(NULL, strstr(why, "found the preset content"))
		TH_LOG("%s", why);

	/* left over from another run */
	p2p.seed ^= 1;
	p2p_fill(mem, len, P2P_DATA, 0x10000);
	p2p.seed ^= 1;
	EXPECT_EQ(len / 8, p2p_check(mem, len, P2P_DATA, 0x10000, why, 256));
}

/* ---- transfers --------------------------------------------------------- */

FIXTURE(odirect) {
	struct ends e;
	struct p2p_expect expect;
	char *buf;		/* the transfer's place in the mapping */
	size_t before, after;	/* bytes of the mapping on either side */
};

FIXTURE_VARIANT(odirect) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
	size_t len, shift;
};

FIXTURE_SETUP(odirect)
{
	size_t body = round_up_to(variant->shift + variant->len, page);

	/* a page of the mapping on either side must not be touched */
	ends_open(_metadata, &self->e, variant->provider, variant->client,
		  page + body + page);
	self->expect = p2p_expect(variant->provider, variant->client);
	self->before = page + variant->shift;
	self->after = self->e.map_len - self->before - variant->len;
	self->buf = self->e.map + self->before;
}

FIXTURE_TEARDOWN(odirect)
{
	ends_close(_metadata, &self->e);
}

/* From the medium into peer-to-peer memory. */
TEST_F(odirect, read)
{
	struct ends *e = &self->e;
	size_t len = variant->len;
	ssize_t ret;
	bool good;
	int error;

	if (variant->client->scratch) {
		p2p_fill(e->ram, len, P2P_DATA, e->pos);
		plain_write(_metadata, e, len, e->pos);
	}
	p2p_fill(e->map, e->map_len, P2P_PRESET, 0);

	ret = pread(e->disk, self->buf, len, e->pos);
	error = errno;

	corrupt(self->buf, len / 2);

	if (!transferred(_metadata, &self->expect, ret, error, len)) {
		EXPECT_HOLDS("mapping after a refusal", e->map, e->map_len,
			     P2P_PRESET, 0);
		skip_refused(_metadata, &self->expect);
		return;
	}

	if (variant->client->scratch) {
		good = holds(_metadata, "mapping", self->buf, len, P2P_DATA,
			     e->pos);
	} else {
		/* compare with what an ordinary read sees, now and again */
		char *copy = malloc(len);

		ASSERT_NE(NULL, copy);
		p2p_copy_out(copy, self->buf, len);
		plain_read(_metadata, e, len, e->pos);
		good = !memcmp(copy, e->ram, len);
		if (!good) {
			memcpy(copy, e->ram, len);
			plain_read(_metadata, e, len, e->pos);
			if (memcmp(copy, e->ram, len))
				SKIP(return, "others write to the medium");
			TH_LOG("mapping differs from what an ordinary read sees");
		}
	}
	data_verdict(_metadata, &self->expect, good);
	EXPECT_HOLDS("mapping before the buffer", e->map, self->before,
		     P2P_PRESET, 0);
	EXPECT_HOLDS("mapping behind the buffer", self->buf + len, self->after,
		     P2P_PRESET, self->before + len);
}

/* From peer-to-peer memory to the medium. */
TEST_F(odirect, write)
{
	struct ends *e = &self->e;
	size_t len = variant->len;
	uint64_t start = e->pos - page;
	ssize_t ret;
	bool good;
	int error;

	if (!may_write(_metadata, variant->client))
		return;

	p2p_fill(e->ram, len + 2 * page, P2P_AROUND, start);
	plain_write(_metadata, e, len + 2 * page, start);
	p2p_fill(e->map, e->map_len, P2P_PRESET, 0);
	p2p_fill(self->buf, len, P2P_DATA, e->pos);

	ret = pwrite(e->disk, self->buf, len, e->pos);
	error = errno;

	memset(e->ram, 0, e->ram_len);
	plain_read(_metadata, e, len + 2 * page, start);
	corrupt(e->ram, page + len / 2);

	if (!transferred(_metadata, &self->expect, ret, error, len)) {
		EXPECT_HOLDS("medium after a refusal", e->ram, len + 2 * page,
			     P2P_AROUND, start);
		skip_refused(_metadata, &self->expect);
		return;
	}

	good = holds(_metadata, "medium", e->ram + page, len, P2P_DATA, e->pos);
	data_verdict(_metadata, &self->expect, good);
	EXPECT_HOLDS("medium before the data", e->ram, page, P2P_AROUND, start);
	EXPECT_HOLDS("medium behind the data", e->ram + page + len, page,
		     P2P_AROUND, e->pos + len);
	EXPECT_HOLDS("mapping that was written from", self->buf, len, P2P_DATA,
		     e->pos);
}

/* ---- boundaries and unusual buffers ------------------------------------ */

#define EDGE_PAGES	8

FIXTURE(edge) {
	struct ends e;
	struct p2p_expect expect;
};

FIXTURE_VARIANT(edge) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(edge)
{
	ends_open(_metadata, &self->e, variant->provider, variant->client,
		  EDGE_PAGES * page);
	self->expect = p2p_expect(variant->provider, variant->client);
	p2p_fill(self->e.map, self->e.map_len, P2P_PRESET, 0);
}

FIXTURE_TEARDOWN(edge)
{
	ends_close(_metadata, &self->e);
}

/* Have known data on the medium, if that is allowed. */
static bool seed_medium(struct __test_metadata *_metadata, struct ends *e,
			uint64_t pos, size_t len)
{
	if (!may_write(_metadata, e->client))
		return false;
	p2p_fill(e->ram, len, P2P_DATA, pos);
	plain_write(_metadata, e, len, pos);
	return true;
}

/* A length that is no multiple of the block size: EINVAL, for every pair. */
TEST_F(edge, unaligned_length)
{
	struct ends *e = &self->e;
	size_t lba = variant->client->lba;
	const size_t lengths[] = { 1, 8, lba - 1, lba + 1, page + 8 };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		EXPECT_ERRNO(EINVAL, pread(e->disk, e->map, lengths[i],
					   e->pos));
		if (variant->client->scratch)
			EXPECT_ERRNO(EINVAL, pwrite(e->disk, e->map, lengths[i],
						    e->pos));
	}
	EXPECT_HOLDS("mapping", e->map, e->map_len, P2P_PRESET, 0);
}

/* A place on the medium that is no multiple of the block size. */
TEST_F(edge, unaligned_position)
{
	struct ends *e = &self->e;
	size_t lba = variant->client->lba;
	const uint64_t places[] = { 1, 8, lba - 1, lba + lba / 2 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		EXPECT_ERRNO(EINVAL, pread(e->disk, e->map, page,
					   e->pos + places[i]));
		if (variant->client->scratch)
			EXPECT_ERRNO(EINVAL, pwrite(e->disk, e->map, page,
						    e->pos + places[i]));
	}
	EXPECT_HOLDS("mapping", e->map, e->map_len, P2P_PRESET, 0);
}

/* A buffer that breaks the alignment that the controller asks for. */
TEST_F(edge, unaligned_buffer)
{
	struct ends *e = &self->e;

	for (size_t shift = 1; shift < 4; shift++) {
		EXPECT_ERRNO(EINVAL, pread(e->disk, e->map + shift, page,
					   e->pos));
		if (variant->client->scratch)
			EXPECT_ERRNO(EINVAL, pwrite(e->disk, e->map + shift,
						    page, e->pos));
	}
	EXPECT_HOLDS("mapping", e->map, e->map_len, P2P_PRESET, 0);
}

/* Nothing is moved, and no pair is refused for nothing. */
TEST_F(edge, zero_length)
{
	struct ends *e = &self->e;

	EXPECT_RET(0, pread(e->disk, e->map, 0, e->pos));
	EXPECT_HOLDS("mapping", e->map, e->map_len, P2P_PRESET, 0);
}

TEST_F(edge, read_at_end)
{
	struct ends *e = &self->e;
	uint64_t size = variant->client->size;

	EXPECT_RET(0, pread(e->disk, e->map, page, size));
	EXPECT_RET(0, pread(e->disk, e->map, page, size + MB(1)));
	EXPECT_HOLDS("mapping", e->map, e->map_len, P2P_PRESET, 0);
}

TEST_F(edge, write_at_end)
{
	struct ends *e = &self->e;
	uint64_t size = variant->client->size;

	if (!may_write(_metadata, variant->client))
		return;

	EXPECT_ERRNO(ENOSPC, pwrite(e->disk, e->map, page, size));
	EXPECT_ERRNO(ENOSPC, pwrite(e->disk, e->map, page, size + MB(1)));
}

/* Two pages from one page before the end: one page comes, and no more. */
TEST_F(edge, read_across_end)
{
	struct ends *e = &self->e;
	uint64_t last = variant->client->size - page;
	ssize_t ret;
	bool good;
	int error;

	if (!seed_medium(_metadata, e, last, page))
		return;
	ret = pread(e->disk, e->map, 2 * page, last);
	error = errno;
	corrupt(e->map, 0);
	if (transferred(_metadata, &self->expect, ret, error, page)) {
		good = holds(_metadata, "mapping", e->map, page, P2P_DATA,
			     last);
		data_verdict(_metadata, &self->expect, good);
		EXPECT_HOLDS("mapping behind the end", e->map + page,
			     e->map_len - page, P2P_PRESET, page);
	} else {
		EXPECT_HOLDS("mapping after a refusal", e->map, e->map_len,
			     P2P_PRESET, 0);
		skip_refused(_metadata, &self->expect);
	}
}

/* The last page of the buffer is gone: what is before it still works. */
TEST_F(edge, hole_in_buffer)
{
	struct ends *e = &self->e;
	ssize_t ret;
	bool good;
	int error;

	if (!seed_medium(_metadata, e, e->pos, 2 * page))
		return;
	ASSERT_EQ(0, munmap(e->map + page, page));
	EXPECT_EQ(variant->provider->rest - (ssize_t)(e->map_len - page),
		  p2p_available(variant->provider));

	EXPECT_ERRNO(EFAULT, pread(e->disk, e->map + page, page, e->pos));

	ret = pread(e->disk, e->map, 2 * page, e->pos);
	error = errno;
	corrupt(e->map, 0);
	if (transferred(_metadata, &self->expect, ret, error, page)) {
		good = holds(_metadata, "mapping", e->map, page, P2P_DATA,
			     e->pos);
		data_verdict(_metadata, &self->expect, good);
	} else {
		EXPECT_HOLDS("mapping after a refusal", e->map, page,
			     P2P_PRESET, 0);
	}
	EXPECT_HOLDS("mapping behind the hole", e->map + 2 * page,
		     e->map_len - 2 * page, P2P_PRESET, 2 * page);
	skip_refused(_metadata, &self->expect);
}

/* A mapping for reading only can be written to the medium, not read into. */
TEST_F(edge, read_only_mapping)
{
	struct ends *e = &self->e;
	ssize_t ret;
	char *ro;

	ro = mmap(NULL, page, PROT_READ, MAP_SHARED, e->pool, 0);
	ASSERT_NE(MAP_FAILED, (void *)ro);

	EXPECT_ERRNO(EFAULT, pread(e->disk, ro, page, e->pos));

	if (variant->client->scratch) {
		ret = pwrite(e->disk, ro, page, e->pos);
		transferred(_metadata, &self->expect, ret, errno, page);
	}
	EXPECT_EQ(0, munmap(ro, page));
	if (variant->client->scratch)
		skip_refused(_metadata, &self->expect);
}

/* The mapping that a child inherits serves it as it does the parent. */
TEST_F(edge, read_in_child)
{
	struct ends *e = &self->e;
	int status;
	pid_t pid;
	bool good;

	if (!seed_medium(_metadata, e, e->pos, 2 * page))
		return;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		ssize_t ret = pread(e->disk, e->map, 2 * page, e->pos);

		_exit(ret == -1 ? errno : ret == (ssize_t)(2 * page) ? 0 : 255);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	status = WEXITSTATUS(status);
	corrupt(e->map, 0);

	if (transferred(_metadata, &self->expect,
			status ? -1 : (ssize_t)(2 * page), status, 2 * page)) {
		good = holds(_metadata, "mapping", e->map, 2 * page, P2P_DATA,
			     e->pos);
		data_verdict(_metadata, &self->expect, good);
	} else {
		EXPECT_HOLDS("mapping after a refusal", e->map, e->map_len,
			     P2P_PRESET, 0);
		skip_refused(_metadata, &self->expect);
	}
}

#define CHILDREN	4
#define ROUNDS		32

/* Several processes at once, each in its own part of mapping and medium. */
TEST_F(edge, concurrent_reads)
{
	const size_t len = EDGE_PAGES * page / CHILDREN;
	struct ends *e = &self->e;
	bool moved = true, good = true;
	pid_t pid[CHILDREN];
	int status;

	for (int i = 0; i < CHILDREN * ROUNDS; i++)
		if (!seed_medium(_metadata, e, e->pos + i * len, len))
			return;

	for (int c = 0; c < CHILDREN; c++) {
		pid[c] = fork();
		ASSERT_LE(0, pid[c]);
		if (pid[c])
			continue;

		for (int r = 0; r < ROUNDS; r++) {
			uint64_t pos = e->pos + (r * CHILDREN + c) * len;
			char *buf = e->map + c * len;

			if (pread(e->disk, buf, len, pos) != (ssize_t)len)
				_exit(errno ?: 255);
			corrupt(buf, 0);
			if (!holds(_metadata, "mapping", buf, len, P2P_DATA,
				   pos))
				_exit(254);
		}
		_exit(0);
	}
	for (int c = 0; c < CHILDREN; c++) {
		ASSERT_EQ(pid[c], waitpid(pid[c], &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		status = WEXITSTATUS(status);
		if (status == 254)
			good = false;
		else
			moved &= transferred(_metadata, &self->expect,
					     status ? -1 : (ssize_t)len,
					     status, len);
	}
	if (moved)
		data_verdict(_metadata, &self->expect, good);
	else
		skip_refused(_metadata, &self->expect);
}

/* ---- vectors that mix kinds of memory ---------------------------------- */

/*
 * One letter per page: 'p' is the provider's memory, 'q' another provider's,
 * 'r' ordinary memory. A bio holds memory of one kind only, so the direct I/O
 * ends where the kind changes, and the block device does the rest through its
 * page cache (blkdev_read_iter(), direct_write_fallback()). The caller sees a
 * whole transfer with the right data, and only the first kind decides whether
 * the kernel can refuse it.
 */
static const char * const layouts[] = { "pp", "pr", "rp", "rprp", "pqp", "rqp" };

#define VECTOR_MAX	4

FIXTURE(vector) {
	struct ends e;
	struct p2p_expect expect;
	int other_pool;
	char *other_map;
	struct iovec iov[VECTOR_MAX];
	int pages;
};

FIXTURE_VARIANT(vector) {
	const struct p2p_provider *provider, *other;
	const struct p2p_client *client;
	const char *layout;
};

FIXTURE_SETUP(vector)
{
	struct ends *e = &self->e;

	self->other_pool = -1;
	self->other_map = MAP_FAILED;
	self->pages = strlen(variant->layout);

	/* a page between any two, so that neighbours in the vector are none */
	ends_open(_metadata, e, variant->provider, variant->client,
		  2 * VECTOR_MAX * page);
	if (variant->other) {
		self->other_pool = p2p_open_pool(variant->other, O_RDWR);
		ASSERT_LE(0, self->other_pool);
		self->other_map = p2p_map(self->other_pool, e->map_len);
		ASSERT_NE(MAP_FAILED, (void *)self->other_map);
	}

	for (int i = 0; i < self->pages; i++) {
		char *base = variant->layout[i] == 'p' ? e->map :
			     variant->layout[i] == 'q' ? self->other_map :
			     e->ram;

		self->iov[i].iov_base = base + (2 * i + 1) * page;
		self->iov[i].iov_len = page;
	}

	/* ordinary memory in front can always be transferred */
	self->expect.verdict = P2P_BUS_ADDR;
	if (variant->layout[0] == 'p')
		self->expect = p2p_expect(variant->provider, variant->client);
}

FIXTURE_TEARDOWN(vector)
{
	if (self->other_map != MAP_FAILED)
		EXPECT_EQ(0, munmap(self->other_map, self->e.map_len));
	if (self->other_pool >= 0)
		close(self->other_pool);
	if (variant->other)
		EXPECT_EQ(variant->other->rest, p2p_settled(variant->other));
	ends_close(_metadata, &self->e);
}

TEST_F(vector, read)
{
	size_t len = self->pages * page;
	struct ends *e = &self->e;
	bool good = true;
	ssize_t ret;
	int error;

	if (!seed_medium(_metadata, e, e->pos, len))
		return;
	for (int i = 0; i < self->pages; i++)
		p2p_fill(self->iov[i].iov_base, page, P2P_PRESET, 0);

	ret = preadv(e->disk, self->iov, self->pages, e->pos);
	error = errno;
	corrupt(self->iov[self->pages - 1].iov_base, 0);

	if (!transferred(_metadata, &self->expect, ret, error, len)) {
		for (int i = 0; i < self->pages; i++)
			EXPECT_HOLDS("buffer after a refusal",
				     self->iov[i].iov_base, page, P2P_PRESET,
				     0);
		skip_refused(_metadata, &self->expect);
		return;
	}
	for (int i = 0; i < self->pages; i++)
		good &= holds(_metadata, "buffer", self->iov[i].iov_base, page,
			      P2P_DATA, e->pos + i * page);
	data_verdict(_metadata, &self->expect, good);
}

TEST_F(vector, write)
{
	size_t len = self->pages * page;
	struct ends *e = &self->e;
	uint64_t start;
	ssize_t ret;
	int error;

	start = e->pos - page;
	if (!may_write(_metadata, variant->client))
		return;

	p2p_fill(e->ram, len + 2 * page, P2P_AROUND, start);
	plain_write(_metadata, e, len + 2 * page, start);
	for (int i = 0; i < self->pages; i++)
		p2p_fill(self->iov[i].iov_base, page, P2P_DATA,
			 e->pos + i * page);

	ret = pwritev(e->disk, self->iov, self->pages, e->pos);
	error = errno;
	plain_read(_metadata, e, len + 2 * page, start);
	corrupt(e->ram, page + len / 2);

	if (!transferred(_metadata, &self->expect, ret, error, len)) {
		EXPECT_HOLDS("medium after a refusal", e->ram, len + 2 * page,
			     P2P_AROUND, start);
		skip_refused(_metadata, &self->expect);
		return;
	}
	data_verdict(_metadata, &self->expect,
		     holds(_metadata, "medium", e->ram + page, len, P2P_DATA,
			   e->pos));
	EXPECT_HOLDS("medium before the data", e->ram, page, P2P_AROUND, start);
	EXPECT_HOLDS("medium behind the data", e->ram + page + len, page,
		     P2P_AROUND, e->pos + len);
}

/* ---- one variant for each pair ----------------------------------------- */

static void add_pair(const struct p2p_provider *p, const struct p2p_client *c)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(transfers); i++) {
		FIXTURE_VARIANT(odirect) v = {
			.provider = p,
			.client = c,
			.len = round_up_to(transfers[i].len, c->lba),
			.shift = transfers[i].shift,
		};

		P2P_VARIANT_ADD(odirect, v, "%s@%s>%s/%s", p->kind, p->bdf,
				c->label, transfers[i].name);
	}

	FIXTURE_VARIANT(edge) edge = { .provider = p, .client = c };

	P2P_VARIANT_ADD(edge, edge, "%s@%s>%s", p->kind, p->bdf, c->label);
}

static void add_vectors(const struct p2p_provider *p,
			const struct p2p_client *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		FIXTURE_VARIANT(vector) v = {
			.provider = p,
			.client = c,
			.layout = layouts[i],
		};

		if (!strchr(layouts[i], 'q')) {
			P2P_VARIANT_ADD(vector, v, "%s@%s>%s/%s", p->kind,
					p->bdf, c->label, layouts[i]);
			continue;
		}
		for (unsigned int o = 0; o < p2p.nr_providers; o++) {
			v.other = &p2p.provider[o];
			if (v.other == p)
				continue;
			P2P_VARIANT_ADD(vector, v, "%s@%s+%s@%s>%s/%s",
					p->kind, p->bdf, v.other->kind,
					v.other->bdf, c->label, layouts[i]);
		}
	}
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "O_DIRECT between NVMe namespaces and peer-to-peer memory"))
		return test_harness_run(argc, argv);

	p2p_discover();
	p2p_require_clients();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			add_pair(&p2p.provider[i], &p2p.client[j]);
			add_vectors(&p2p.provider[i], &p2p.client[j]);
		}
	}
	return test_harness_run(argc, argv);
}
