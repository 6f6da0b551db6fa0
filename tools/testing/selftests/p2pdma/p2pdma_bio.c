// SPDX-License-Identifier: GPL-2.0
/*
 * Block I/O from inside the kernel on a provider's memory, the way nvmet does
 * it: memory from the pool as a scatterlist, into bios, to a namespace and
 * back. User space looks at the medium by ordinary I/O, and the kernel at the
 * memory through the io accessors; both compare by position.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define KB(_n)		((size_t)(_n) << 10)
#define MB(_n)		((size_t)(_n) << 20)

#define MAX_PIECES	P2PDMA_TEST_MAX_PIECES

static size_t page;

/*
 * The patterns of p2p_fill() and p2p_check(), for the kernel: the tag is what
 * these put above the position.
 */
static uint64_t tag(enum p2p_what what)
{
	return (uint64_t)p2p.seed << 48 |
	       (uint64_t)what << P2PDMA_TEST_POSITION_BITS;
}

/* ---- both ends --------------------------------------------------------- */

/**
 * struct ends - memory and medium
 * @dev: the test device
 * @disk: the namespace, O_DIRECT
 * @ram: ordinary memory, @ram_len bytes
 * @pos: where on the medium the test works
 * @expect: what should come of it
 */
struct ends {
	int dev, disk;
	char *ram;
	size_t ram_len;
	uint64_t pos;
	struct p2p_expect expect;
};

static void ends_open(struct __test_metadata *_metadata, struct ends *e,
		      const struct p2p_provider *provider,
		      const struct p2p_client *client)
{
	e->dev = h_open();
	ASSERT_LE(0, e->dev);
	e->disk = open(client->path, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	ASSERT_LE(0, e->disk)
		TH_LOG("%s: %s", client->path, strerror(errno));
	/* what is moved, and a page before and behind it */
	e->ram_len = MB(4) + 2 * page;
	e->ram = mmap(NULL, e->ram_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)e->ram);
	e->pos = client->size / 2 / MB(1) * MB(1);
	ASSERT_LT(e->pos + e->ram_len, client->size);
	e->expect = p2p_expect(provider, client);
	ASSERT_EQ(provider->rest, p2p_available(provider));
}

static void ends_close(struct __test_metadata *_metadata, struct ends *e,
		       const struct p2p_provider *provider)
{
	close(e->dev);
	close(e->disk);
	munmap(e->ram, e->ram_len);
	EXPECT_EQ(provider->rest, p2p_available(provider));
}

/* Ordinary I/O, at @at behind the place where the test works. */
static void put(struct __test_metadata *_metadata, struct ends *e, int64_t at,
		size_t len, enum p2p_what what)
{
	p2p_fill(e->ram, len, what, e->pos + at);
	ASSERT_EQ((ssize_t)len, pwrite(e->disk, e->ram, len, e->pos + at));
}

static bool medium_holds(struct __test_metadata *_metadata, struct ends *e,
			 int64_t at, size_t len, enum p2p_what what)
{
	char why[256];
	size_t bad;

	EXPECT_EQ((ssize_t)len, pread(e->disk, e->ram, len, e->pos + at));
	if (p2p.corrupt)
		p2p_flip(e->ram, len / 2);
	bad = p2p_check(e->ram, len, what, e->pos + at, why, sizeof(why));
	if (bad)
		TH_LOG("medium: %zu words are wrong: %s", bad, why);
	return !bad;
}

static void fill_memory(struct __test_metadata *_metadata, struct ends *e,
			uint32_t id, size_t offset, size_t len,
			enum p2p_what what, int64_t at)
{
	struct p2pdma_test_pattern args = {
		.id = id,
		.offset = offset,
		.length = len,
		.tag = tag(what),
		.position = e->pos + at,
	};

	ASSERT_EQ(0, h_fill(e->dev, &args));
}

static bool memory_holds(struct __test_metadata *_metadata, struct ends *e,
			 uint32_t id, size_t offset, size_t len,
			 enum p2p_what what, int64_t at)
{
	struct p2pdma_test_pattern args = {
		.id = id,
		.offset = offset,
		.length = len,
		.tag = tag(what),
		.position = e->pos + at,
	};

	if (p2p.corrupt && len) {
		struct p2pdma_test_pattern other = args;

		other.length = 8;
		other.tag ^= tag(P2P_DATA) ^ tag(P2P_PRESET);
		EXPECT_EQ(0, h_fill(e->dev, &other));
	}
	EXPECT_EQ(0, h_check(e->dev, &args));
	if (args.wrong)
		TH_LOG("memory: %llu words are wrong, from byte %llu on, %#llx",
		       args.wrong, args.first, args.found);
	return !args.wrong;
}

/* Right, or wrong because of the defect that this pair is known for. */
static void verdict(struct __test_metadata *_metadata,
		    const struct p2p_expect *expect, bool right)
{
	if (!expect->defect[0]) {
		EXPECT_TRUE(right);
		return;
	}
	if (right)
		P2P_XPASS("data are right in spite of %s", expect->defect);
	else
		P2P_XFAIL("%s: data are wrong", expect->defect);
}

/* Whether the I/O came about; if not, it has to be as it should. */
static bool done(struct __test_metadata *_metadata,
		 const struct p2p_expect *expect, long ret)
{
	bool refused = expect->verdict == P2P_NOT_SUPPORTED ||
		       (expect->verdict == P2P_UNKNOWN && ret);

	EXPECT_EQ(refused ? -EINVAL : 0, ret);
	return !ret;
}

/* ---- transfers --------------------------------------------------------- */

/**
 * struct shape - how memory goes into bios
 * @name: what it is about
 * @length: size of each entry of the scatterlist, 0 for a page; several are
 *	rounded up to whole pages
 * @entries: number of entries
 * @skip: where in an entry the piece starts
 * @piece: length of the piece, one for each entry, 0 for a page
 * @flags: P2PDMA_TEST_BIO_*
 * @gaps: the pieces are no whole pages, so that it takes an SGL of several
 *	descriptors to describe them to an NVMe controller
 */
static const struct shape {
	const char *name;
	size_t length;
	unsigned int entries;
	size_t skip, piece;
	unsigned int flags;
	bool gaps;
} shapes[] = {
	{ "page", 0, 1, 0, 0, 0, false },
	{ "sector", KB(4), 1, 0, 512, 0, false },
	{ "sector_in_page", KB(4), 1, 1536, 512, 0, false },
	{ "64K", KB(64), 1, 0, KB(64), 0, false },
	{ "64K_unaligned", KB(68), 1, 512, KB(64), 0, false },
	/* more than a command can carry */
	{ "768K", KB(768), 1, 0, KB(768), 0, false },
	{ "2_pages", 0, 2, 0, 0, 0, false },
	{ "16_of_12K", KB(12), 16, 0, KB(12), 0, false },
	{ "16_sectors", KB(4), 16, 512, 512, 0, true },
	{ "64_pages", 0, 64, 0, 0, 0, false },
	{ "16_bios", KB(8), 16, 0, KB(8), P2PDMA_TEST_BIO_EACH, false },
	{ "64_bios", 0, 64, 0, 0, P2PDMA_TEST_BIO_EACH, false },
};

static size_t piece_length(const struct shape *s)
{
	return s->piece ? s->piece : page;
}

/* From one entry to the next. */
static size_t entry_length(const struct shape *s)
{
	return h_entry_length(s->length ? s->length : page, s->entries);
}

FIXTURE(transfer) {
	struct ends e;
	struct p2pdma_test_piece piece[MAX_PIECES];
	struct p2pdma_test_bio args;
	uint32_t id;
	size_t total, memory;
};

FIXTURE_VARIANT(transfer) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
	const struct shape *shape;
};

FIXTURE_SETUP(transfer)
{
	const struct shape *s = variant->shape;
	int64_t id;

	ends_open(_metadata, &self->e, variant->provider, variant->client);
	id = h_memory(self->e.dev, variant->provider->bdf, entry_length(s),
		      s->entries);
	ASSERT_LT(0, id);
	self->id = id;
	self->memory = s->entries * entry_length(s);
	self->total = s->entries * piece_length(s);
	for (unsigned int i = 0; i < s->entries; i++)
		self->piece[i] = (struct p2pdma_test_piece){
			.id = id,
			.entry = i,
			.offset = s->skip,
			.length = piece_length(s),
		};
	self->args = (struct p2pdma_test_bio){
		.flags = s->flags,
		.fd = self->e.disk,
		.position = self->e.pos,
		.pieces = h_pointer(self->piece),
		.nr_pieces = s->entries,
	};
}

FIXTURE_TEARDOWN(transfer)
{
	EXPECT_EQ(0, h_drop(self->e.dev, self->id));
	ends_close(_metadata, &self->e, variant->provider);
}

static void expect_bios(struct __test_metadata *_metadata,
			const struct shape *s,
			const struct p2pdma_test_bio *args)
{
	bool each = s->flags & P2PDMA_TEST_BIO_EACH;

	EXPECT_EQ(each ? s->entries : 1, args->nr_bios);
	/* neighbours in memory are one piece, as they are in a page */
	EXPECT_GE(s->entries, args->nr_vecs);
	EXPECT_LE(args->nr_bios, args->nr_vecs);
	/* peer-to-peer memory is never merged */
	EXPECT_EQ(args->nr_bios, args->never_merged);
	EXPECT_EQ(args->nr_pieces, args->refused);
}

/*
 * QEMU's controller takes it for granted that the data are where the list of
 * SGL descriptors is: data in its own CMB, with the list in memory of the host,
 * give Invalid Use of Controller Memory Buffer (nvme_map_sgl() in
 * hw/nvme/ctrl.c), although CMBLOC.CDPMLS says that it can.
 */
static bool qemu_cmb_sgl(const struct p2p_provider *p,
			 const struct p2p_client *c, const struct shape *s)
{
	char path[PATH_MAX], id[16] = "";
	int fd;

	if (!s->gaps || strcmp(p->bdf, c->bdf))
		return false;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", p->bdf);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, id, sizeof(id) - 1) < 0)
		return false;
	close(fd);
	return !strcmp(id, "0x0010\n");
}

/*
 * Whether an error of the controller is that of a known defect: of a list of its own
 * CMB, or of the pair, where a list of descriptors may make an error of what gives
 * wrong data otherwise.
 */
static bool failed_by_defect(struct __test_metadata *_metadata,
			     const struct p2p_expect *expect, bool cmb_sgl,
			     long ret)
{
	const char *defect = cmb_sgl ? "qemu-nvme-cmb-sgl" : expect->defect;

	if (!defect[0] || ret != -EIO)
		return false;
	P2P_XFAIL("%s: an error of the controller", defect);
	return true;
}

/* Where the piece of an entry is in the memory. */
static size_t in_memory(const struct shape *s, unsigned int entry)
{
	return entry * entry_length(s) + s->skip;
}

TEST_F(transfer, write)
{
	const struct shape *s = variant->shape;
	bool defect = qemu_cmb_sgl(variant->provider, variant->client, s);
	const size_t piece = piece_length(s);
	struct ends *e = &self->e;
	bool right;

	put(_metadata, e, -(int64_t)page, self->total + 2 * page, P2P_AROUND);
	for (unsigned int i = 0; i < s->entries; i++)
		fill_memory(_metadata, e, self->id, in_memory(s, i), piece,
			    P2P_DATA, i * piece);

	self->args.op = P2PDMA_TEST_WRITE;
	ASSERT_EQ(0, h_bio(e->dev, &self->args));
	expect_bios(_metadata, s, &self->args);
	if (failed_by_defect(_metadata, &e->expect, defect, self->args.ret))
		return;
	if (!done(_metadata, &e->expect, self->args.ret)) {
		EXPECT_TRUE(medium_holds(_metadata, e, -(int64_t)page,
					 self->total + 2 * page, P2P_AROUND));
		return;
	}
	right = medium_holds(_metadata, e, 0, self->total, P2P_DATA);
	verdict(_metadata, &e->expect, right);
	if (defect)
		P2P_XPASS("qemu-nvme-cmb-sgl did not show itself");
	EXPECT_TRUE(medium_holds(_metadata, e, -(int64_t)page, page,
				 P2P_AROUND));
	EXPECT_TRUE(medium_holds(_metadata, e, self->total, page, P2P_AROUND));
}

TEST_F(transfer, read)
{
	const struct shape *s = variant->shape;
	bool defect = qemu_cmb_sgl(variant->provider, variant->client, s);
	const size_t length = entry_length(s), piece = piece_length(s);
	struct ends *e = &self->e;
	bool right = true;

	put(_metadata, e, 0, self->total, P2P_DATA);
	for (unsigned int i = 0; i < s->entries; i++)
		fill_memory(_metadata, e, self->id, i * length, length,
			    P2P_PRESET, i * length);

	self->args.op = P2PDMA_TEST_READ;
	ASSERT_EQ(0, h_bio(e->dev, &self->args));
	expect_bios(_metadata, s, &self->args);
	if (failed_by_defect(_metadata, &e->expect, defect, self->args.ret))
		return;
	if (!done(_metadata, &e->expect, self->args.ret)) {
		EXPECT_TRUE(memory_holds(_metadata, e, self->id, 0,
					 self->memory, P2P_PRESET, 0));
		return;
	}
	for (unsigned int i = 0; i < s->entries; i++)
		right &= memory_holds(_metadata, e, self->id, in_memory(s, i),
				      piece, P2P_DATA, i * piece);
	verdict(_metadata, &e->expect, right);
	if (defect)
		P2P_XPASS("qemu-nvme-cmb-sgl did not show itself");
	/* what is before and behind the pieces is as it was */
	for (unsigned int i = 0; i < s->entries; i++) {
		size_t start = i * length, behind = s->skip + piece;

		EXPECT_TRUE(memory_holds(_metadata, e, self->id, start, s->skip,
					 P2P_PRESET, start));
		EXPECT_TRUE(memory_holds(_metadata, e, self->id, start + behind,
					 length - behind, P2P_PRESET,
					 start + behind));
	}
}

/* ---- memory of several kinds ------------------------------------------- */

/**
 * struct mix - pieces of a page: 'p' is the provider's, 'q' another one's, 'r'
 *	ordinary memory
 * @layout: a letter for each piece
 * @refused: which one does not go into the same bio
 * @bios: how many it takes
 */
static const struct mix {
	const char *layout;
	unsigned int refused, bios;
} mixes[] = {
	{ "pr", 1, 2 },
	{ "rp", 1, 2 },
	{ "pprr", 2, 2 },
	{ "prp", 1, 3 },
	{ "rpr", 1, 3 },
	{ "pq", 1, 2 },
	{ "qqp", 2, 2 },
	{ "pqr", 1, 3 },
	{ "rprqrp", 1, 6 },
	/* not mixed */
	{ "pp", 2, 1 },
	{ "rr", 2, 1 },
};

FIXTURE(mixed) {
	struct ends e;
	struct p2pdma_test_piece piece[8];
	struct p2pdma_test_bio args;
	unsigned int pieces;
	size_t total;
	bool only_ordinary;
};

FIXTURE_VARIANT(mixed) {
	const struct p2p_provider *provider, *other;
	const struct p2p_client *client;
	const struct mix *mix;
};

FIXTURE_SETUP(mixed)
{
	const char *layout = variant->mix->layout;
	struct ends *e = &self->e;
	int64_t id;

	if (!variant->other && strchr(layout, 'q'))
		SKIP(return, "there is no other provider");
	ends_open(_metadata, e, variant->provider, variant->client);
	if (variant->other) {
		struct p2p_expect other = p2p_expect(variant->other,
						     variant->client);

		/* what the first that is out of reach makes of it */
		if (other.verdict == P2P_NOT_SUPPORTED)
			e->expect.verdict = P2P_NOT_SUPPORTED;
		if (other.defect[0])
			e->expect = other;
	}
	self->pieces = strlen(layout);
	self->total = self->pieces * page;
	self->only_ordinary = true;
	for (unsigned int i = 0; i < self->pieces; i++) {
		self->piece[i].length = page;
		if (layout[i] == 'r')
			continue;
		self->only_ordinary = false;
		id = h_memory(e->dev, layout[i] == 'p' ?
			      variant->provider->bdf : variant->other->bdf,
			      page, 1);
		ASSERT_LT(0, id);
		self->piece[i].id = id;
	}
	if (self->only_ordinary)
		e->expect = (struct p2p_expect){ P2P_BUS_ADDR, "" };
	self->args = (struct p2pdma_test_bio){
		.fd = e->disk,
		.position = e->pos,
		.pieces = h_pointer(self->piece),
		.nr_pieces = self->pieces,
		.ordinary_tag = tag(P2P_DATA),
	};
}

FIXTURE_TEARDOWN(mixed)
{
	for (unsigned int i = 0; i < self->pieces; i++)
		if (self->piece[i].id)
			EXPECT_EQ(0, h_drop(self->e.dev, self->piece[i].id));
	ends_close(_metadata, &self->e, variant->provider);
	if (variant->other)
		EXPECT_EQ(variant->other->rest, p2p_available(variant->other));
}

static void fill_pieces(struct __test_metadata *_metadata, struct ends *e,
			const struct p2pdma_test_piece *piece,
			unsigned int nr, enum p2p_what what)
{
	for (unsigned int i = 0; i < nr; i++)
		if (piece[i].id)
			fill_memory(_metadata, e, piece[i].id, 0, page, what,
				    i * page);
}

/* A bio refuses, and nothing happens. */
TEST_F(mixed, refused)
{
	struct ends *e = &self->e;

	put(_metadata, e, 0, self->total, P2P_AROUND);
	fill_pieces(_metadata, e, self->piece, self->pieces, P2P_DATA);

	self->args.op = P2PDMA_TEST_WRITE;
	ASSERT_EQ(0, h_bio(e->dev, &self->args));
	EXPECT_EQ(variant->mix->refused, self->args.refused);
	EXPECT_EQ(1U, self->args.nr_bios);
	if (variant->mix->bios == 1)
		return;
	EXPECT_EQ(-EXDEV, self->args.ret);
	EXPECT_TRUE(medium_holds(_metadata, e, 0, self->total, P2P_AROUND));
}

/* With a bio for each kind, as many as it takes, all of it arrives. */
TEST_F(mixed, split_write)
{
	struct ends *e = &self->e;
	unsigned int special = 0;

	put(_metadata, e, 0, self->total, P2P_AROUND);
	fill_pieces(_metadata, e, self->piece, self->pieces, P2P_DATA);

	self->args.op = P2PDMA_TEST_WRITE;
	self->args.flags = P2PDMA_TEST_BIO_SPLIT;
	ASSERT_EQ(0, h_bio(e->dev, &self->args));
	EXPECT_EQ(self->pieces, self->args.refused);
	EXPECT_EQ(variant->mix->bios, self->args.nr_bios);
	for (unsigned int i = 0; i < self->pieces; i++)
		special += self->piece[i].id &&
			   (!i || variant->mix->layout[i] !=
				  variant->mix->layout[i - 1]);
	EXPECT_EQ(special, self->args.never_merged);

	if (done(_metadata, &e->expect, self->args.ret))
		verdict(_metadata, &e->expect,
			medium_holds(_metadata, e, 0, self->total, P2P_DATA));
}

TEST_F(mixed, split_read)
{
	struct ends *e = &self->e;
	bool right;

	put(_metadata, e, 0, self->total, P2P_DATA);
	fill_pieces(_metadata, e, self->piece, self->pieces, P2P_PRESET);

	self->args.op = P2PDMA_TEST_READ;
	self->args.flags = P2PDMA_TEST_BIO_SPLIT;
	ASSERT_EQ(0, h_bio(e->dev, &self->args));
	if (!done(_metadata, &e->expect, self->args.ret))
		return;
	right = !self->args.ordinary_wrong;
	for (unsigned int i = 0; i < self->pieces; i++)
		if (self->piece[i].id)
			right &= memory_holds(_metadata, e, self->piece[i].id,
					      0, page, P2P_DATA, i * page);
	verdict(_metadata, &e->expect, right);
}

/* ---- merging ----------------------------------------------------------- */

FIXTURE(merge) {
	struct ends e;
};

FIXTURE_VARIANT(merge) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(merge)
{
	ends_open(_metadata, &self->e, variant->provider, variant->client);
}

FIXTURE_TEARDOWN(merge)
{
	ends_close(_metadata, &self->e, variant->provider);
}

/* Requests that were merged with others so far, of both kinds. */
static unsigned long merges(struct __test_metadata *_metadata,
			    const struct p2p_client *client)
{
	unsigned long reads = 0, writes = 0;
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", client->name);
	file = fopen(path, "r");
	ASSERT_NE(NULL, file);
	EXPECT_EQ(2, fscanf(file, "%*u %lu %*u %*u %*u %lu", &reads, &writes));
	fclose(file);
	return reads + writes;
}

/*
 * Bios for neighbouring blocks are merged into one request while they are
 * plugged, but not where REQ_NOMERGE says otherwise.
 */
TEST_F(merge, only_ordinary_memory)
{
	struct p2pdma_test_piece piece[16];
	struct p2pdma_test_bio args = {
		.flags = P2PDMA_TEST_BIO_EACH,
		.fd = self->e.disk,
		.position = self->e.pos,
		.pieces = h_pointer(piece),
		.nr_pieces = ARRAY_SIZE(piece),
	};
	int64_t id = h_memory(self->e.dev, variant->provider->bdf, page,
			      ARRAY_SIZE(piece));
	unsigned long before;

	ASSERT_LT(0, id);
	for (int op = 0; op < P2PDMA_TEST_NR_OPS; op++) {
		args.op = op;
		for (size_t i = 0; i < ARRAY_SIZE(piece); i++)
			piece[i] = (struct p2pdma_test_piece){
				.length = page,
			};
		before = merges(_metadata, variant->client);
		ASSERT_EQ(0, h_bio(self->e.dev, &args));
		EXPECT_EQ(0, args.ret);
		EXPECT_EQ(0U, args.never_merged);
		EXPECT_LT(before, merges(_metadata, variant->client));

		for (size_t i = 0; i < ARRAY_SIZE(piece); i++) {
			piece[i].id = id;
			piece[i].entry = i;
		}
		before = merges(_metadata, variant->client);
		ASSERT_EQ(0, h_bio(self->e.dev, &args));
		done(_metadata, &self->e.expect, args.ret);
		EXPECT_EQ(ARRAY_SIZE(piece), args.never_merged);
		EXPECT_EQ(before, merges(_metadata, variant->client));
	}
}

/* ---- what is refused --------------------------------------------------- */

TEST_F(merge, arguments)
{
	int64_t id = h_memory(self->e.dev, variant->provider->bdf, 2 * page, 2);
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	int reads = open(variant->client->path, O_RDONLY | O_CLOEXEC);
	struct p2pdma_test_piece piece[MAX_PIECES + 1] = {
		{ .id = id, .length = page },
	};
	const struct p2pdma_test_bio good = {
		.fd = self->e.disk,
		.position = self->e.pos,
		.pieces = h_pointer(piece),
		.nr_pieces = 1,
	};
	struct p2pdma_test_bio args;

	ASSERT_LT(0, id);
	ASSERT_LE(0, zero);
	ASSERT_LE(0, reads);

#define REFUSED(_error, ...) do {					\
	args = good;							\
	__VA_ARGS__;							\
	EXPECT_EQ(-(_error), h_bio(self->e.dev, &args)) {		\
		TH_LOG("%s", #__VA_ARGS__);				\
	}								\
} while (0)

	REFUSED(0, (void)0);
	REFUSED(EBADF, args.fd = 1000);
	REFUSED(EBADF, args.fd = UINT32_MAX);
	REFUSED(ENOTBLK, args.fd = zero);
	REFUSED(ENOTBLK, args.fd = self->e.dev);
	REFUSED(EBADF, args.fd = reads; args.op = P2PDMA_TEST_WRITE);
	REFUSED(0, args.fd = reads);
	REFUSED(EINVAL, args.op = P2PDMA_TEST_NR_OPS);
	REFUSED(EINVAL, args.position++);
	REFUSED(EINVAL, args.position += 256);
	REFUSED(EINVAL, args.position = variant->client->size);
	REFUSED(EINVAL, args.position = variant->client->size - page / 2);
	REFUSED(EINVAL, args.position = UINT64_MAX - 511);
	REFUSED(EINVAL, args.nr_pieces = 0);
	REFUSED(E2BIG, args.nr_pieces = MAX_PIECES + 1);
	REFUSED(E2BIG, args.nr_pieces = UINT32_MAX);
	REFUSED(EFAULT, args.pieces = 8);
	REFUSED(EINVAL, args.reserved = 1);
	REFUSED(EINVAL, args.ordinary_tag = 1);

#define REFUSED_PIECE(_error, ...) do {					\
	piece[0] = (struct p2pdma_test_piece){ __VA_ARGS__ };		\
	REFUSED(_error, (void)#__VA_ARGS__);				\
} while (0)

	/* the kernel warns of what it has no contiguous memory for */
	REFUSED_PIECE(0, .length = P2PDMA_TEST_MAX_ORDINARY);
	REFUSED_PIECE(EINVAL, .length = P2PDMA_TEST_MAX_ORDINARY + 512);
	REFUSED_PIECE(EINVAL, .id = id, .length = 0);
	REFUSED_PIECE(EINVAL, .id = id, .length = 8);
	REFUSED_PIECE(EINVAL, .id = id, .length = page, .offset = 8);
	REFUSED_PIECE(EINVAL, .id = id, .length = 3 * page);
	REFUSED_PIECE(EINVAL, .id = id, .length = page, .offset = 2 * page);
	REFUSED_PIECE(EINVAL, .id = id, .length = page, .offset = -page);
	REFUSED_PIECE(0, .id = id, .length = page, .offset = page);
	REFUSED_PIECE(EINVAL, .id = id, .entry = 2, .length = page);
	REFUSED_PIECE(EINVAL, .id = id, .entry = UINT32_MAX, .length = page);
	REFUSED_PIECE(0, .id = id, .entry = 1, .length = page);
	REFUSED_PIECE(ENOENT, .id = id + 1, .length = page);
	REFUSED_PIECE(EINVAL, .id = 0, .length = 0);
	close(zero);
	close(reads);
}

/* ---- queues that cannot ------------------------------------------------ */

/*
 * A loop device copies with the CPU, which must not be done with device
 * memory; nobody but who makes the bio can know.
 */
FIXTURE(loop) {
	int dev, control, loop, file, number;
	char path[32];
};

FIXTURE_VARIANT(loop) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(loop)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->control)
		TH_LOG("/dev/loop-control: %s", strerror(errno));
	self->number = ioctl(self->control, LOOP_CTL_GET_FREE);
	ASSERT_LE(0, self->number);
	snprintf(self->path, sizeof(self->path), "/dev/loop%d", self->number);
	self->loop = open(self->path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->loop);
	self->file = memfd_create("loop", MFD_CLOEXEC);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, ftruncate(self->file, MB(1)));
	ASSERT_EQ(0, ioctl(self->loop, LOOP_SET_FD, self->file));
}

FIXTURE_TEARDOWN(loop)
{
	EXPECT_EQ(0, ioctl(self->loop, LOOP_CLR_FD));
	close(self->loop);
	close(self->file);
	close(self->control);
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

TEST_F(loop, refused)
{
	int64_t id = h_memory(self->dev, variant->provider->bdf, page, 1);
	struct p2pdma_test_piece piece[] = {
		{ .id = 0, .length = page },
		{ .id = id, .length = page },
	};
	struct p2pdma_test_bio args = {
		.fd = self->loop,
		.op = P2PDMA_TEST_WRITE,
		.pieces = h_pointer(piece + 1),
		.nr_pieces = 1,
	};

	ASSERT_LT(0, id);
	EXPECT_EQ(0, h_bio(self->dev, &args));
	EXPECT_EQ(-EREMOTEIO, args.ret);
	EXPECT_EQ(0U, args.refused);

	/* ordinary memory is fine, in front and alone */
	args.pieces = h_pointer(piece);
	args.nr_pieces = 2;
	args.flags = P2PDMA_TEST_BIO_SPLIT;
	EXPECT_EQ(0, h_bio(self->dev, &args));
	EXPECT_EQ(-EREMOTEIO, args.ret);
	EXPECT_EQ(1U, args.refused);

	args.nr_pieces = 1;
	EXPECT_EQ(0, h_bio(self->dev, &args));
	EXPECT_EQ(0, args.ret);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Block I/O from inside the kernel on a provider's memory"))
		return test_harness_run(argc, argv);
	p2p_discover();
	p2p_require_clients();
	h_require();

	bool scratch = false;

	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		scratch |= p2p.client[i].scratch;
	if (!scratch)
		ksft_exit_skip("writes to namespaces: set P2PDMA_SCRATCH, see --help\n");

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(loop) loop = { p };

		P2P_VARIANT_ADD(loop, loop, "%s@%s", p->kind, p->bdf);

		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			const struct p2p_client *c = &p2p.client[j];

			if (!c->scratch)
				continue;
			for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
				FIXTURE_VARIANT(transfer) v = {
					p, c, &shapes[s],
				};

				if (piece_length(&shapes[s]) % c->lba ||
				    shapes[s].skip % 512)
					continue;
				P2P_VARIANT_ADD(transfer, v, "%s@%s>%s/%s",
						p->kind, p->bdf, c->label,
						shapes[s].name);
			}
			for (size_t m = 0; m < ARRAY_SIZE(mixes); m++) {
				FIXTURE_VARIANT(mixed) v = {
					p, NULL, c, &mixes[m],
				};

				if (strchr(mixes[m].layout, 'q') &&
				    p2p.nr_providers > 1)
					v.other = &p2p.provider[!i];
				P2P_VARIANT_ADD(mixed, v, "%s@%s>%s/%s",
						p->kind, p->bdf, c->label,
						mixes[m].layout);
			}

			FIXTURE_VARIANT(merge) merge = { p, c };

			P2P_VARIANT_ADD(merge, merge, "%s@%s>%s", p->kind,
					p->bdf, c->label);
		}
	}
	return test_harness_run(argc, argv);
}
