// SPDX-License-Identifier: GPL-2.0
/*
 * Data on their way through the NVMe target in peer-to-peer memory.
 *
 * p2pdma_nvmet stands in for nvmet-rdma and its adapter: it asks the target's
 * core for memory as that does, fills it and looks at it as the adapter's DMA
 * would. A namespace of the target is an NVMe namespace of this machine, so
 * that what arrived on the medium is seen by reading it there, by position.
 *
 * What the environment can say: p2pdma_nvmet_io --help
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_nvmet_util.h"

#define KB(n)		((size_t)(n) << 10)
#define MB(n)		((size_t)(n) << 20)

#define NQN		"p2pdma-selftest-io"
#define QUEUES		4
#define QUEUE_SIZE	129	/* one less commands can be under way */

/* ---- a namespace of the target, and a host that uses it ---------------- */

/**
 * struct target - what a test works with
 * @provider: whose memory is used
 * @disk: the NVMe namespace of this machine that the target's is
 * @fabric: PCI address of the device that does the fabric's DMA
 * @host: a host with QUEUES I/O queues
 * @fd: the disk, for the view from the other side
 * @kmsg: the kernel's messages since setup began
 * @ram: ordinary memory, @ram_len bytes
 * @pos: where on the medium the tests work
 * @room: how many bytes there are
 */
struct target {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
	const char *fabric;
	struct p2p_expect expect;
	struct nvmet_host host;
	int fd, kmsg;
	char *ram;
	size_t ram_len;
	uint64_t pos, room;
};

/* The device that does the fabric's DMA: rather not the disk's controller. */
static const char *pick_fabric(const struct p2p_provider *provider,
			       const struct p2p_client *disk)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *other = &p2p.client[i];

		if (strcmp(other->bdf, disk->bdf) &&
		    p2p_expect(provider, other).verdict != P2P_NOT_SUPPORTED)
			return other->bdf;
	}
	return disk->bdf;
}

static void target_open(struct __test_metadata *_metadata, struct target *t,
			const struct p2p_provider *provider,
			const struct p2p_client *disk, const char *p2pmem)
{
	char others[1024];
	int ret;

	t->provider = provider;
	t->disk = disk;
	t->fabric = pick_fabric(provider, disk);
	t->expect = p2p_expect(provider, disk);
	t->host.fd = -1;
	t->fd = -1;
	t->kmsg = -1;
	t->ram = MAP_FAILED;
	t->ram_len = MB(32);
	t->pos = MB(4);
	t->room = (disk->size - 2 * t->pos) / MB(1) * MB(1);
	ASSERT_GT(disk->size, MB(32))
		TH_LOG("%s is too small", disk->path);
	ASSERT_EQ(provider->rest, p2p_available(provider))
		TH_LOG("the pool is not as it was, an earlier test or another user holds memory");

	t->kmsg = kmsg_open();
	ASSERT_LE(0, t->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
	t->ram = mmap(NULL, t->ram_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)t->ram);
	t->fd = open(disk->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, t->fd)
		TH_LOG("%s: %s", disk->path, strerror(errno));

	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, disk->path));
	ASSERT_EQ(0, nvmet_ns_set(NQN, 1, "p2pmem", p2pmem));
	ret = nvmet_ns_set(NQN, 1, "enable", "1");
	if (t->expect.verdict == P2P_UNKNOWN && ret == -EINVAL)
		SKIP(return, "the target refuses this pair (EINVAL)");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, NQN));

	ASSERT_EQ(0, nvmet_host_connect(&t->host, NVMET_PORT, NQN, t->fabric,
					QUEUES, QUEUE_SIZE));
	if (strcmp(p2pmem, provider->bdf))
		return;
	ASSERT_TRUE(kmsg_find(t->kmsg, others, sizeof(others),
			      "nvmet: using p2pmem on %s for nsid 1",
			      provider->bdf))
		TH_LOG("the target does not say that it uses p2pmem on %s, but: %s",
		       provider->bdf, others);
}

static void target_close(struct __test_metadata *_metadata, struct target *t)
{
	char refs[32] = "";
	int fd;

	if (!t->provider)
		return;
	nvmet_host_close(&t->host);
	EXPECT_EQ(0, nvmet_cleanup());
	if (t->ram != MAP_FAILED)
		munmap(t->ram, t->ram_len);
	if (t->fd >= 0)
		close(t->fd);
	if (t->kmsg >= 0)
		close(t->kmsg);

	EXPECT_EQ(t->provider->rest, p2p_available(t->provider))
		TH_LOG("the pool is not as it was before the test");
	fd = open(NVMET_MODULE "/refcnt", O_RDONLY | O_CLOEXEC);
	EXPECT_LE(0, fd);
	EXPECT_LT(0, read(fd, refs, sizeof(refs) - 1));
	EXPECT_STREQ("0\n", refs)
		TH_LOG("something of the transport is still there");
	close(fd);
}

/* ---- Reads and Writes -------------------------------------------------- */

/* A run of @len bytes from @pos on, in commands of @size bytes. */
static struct p2pdma_nvmet_run io(const struct target *t, unsigned int op,
				  unsigned int qid, size_t size,
				  unsigned int depth, uint64_t pos, uint64_t len,
				  enum p2p_what what)
{
	return (struct p2pdma_nvmet_run) {
		.op = op,
		.qid = qid,
		.nsid = 1,
		.block_size = t->disk->lba,
		.blocks = size / t->disk->lba,
		.depth = depth,
		.slba = pos / t->disk->lba,
		.span = len / t->disk->lba,
		.count = len / size,
		.pattern = nvmet_pattern(what),
	};
}

static int run(const struct target *t, struct p2pdma_nvmet_run *r)
{
	return ioctl(t->host.fd, P2PDMA_NVMET_RUN, r) ? -errno : 0;
}

/* All went well, and all was in the memory of the provider. */
static void expect_p2p(struct __test_metadata *_metadata,
		       const struct p2p_provider *provider,
		       const struct p2pdma_nvmet_run *r)
{
	char name[32];

	EXPECT_EQ(0ULL, r->errors)
		TH_LOG("%llu commands failed, status %#x, block %llu",
		       r->errors, r->error_status, r->error_slba);
	EXPECT_EQ(r->count, r->commands);
	EXPECT_EQ(r->count, r->p2p_commands);
	EXPECT_EQ(r->count * r->blocks * r->block_size, r->p2p_bytes);
	EXPECT_EQ(0ULL, r->fallback_commands);
	EXPECT_EQ(0ULL, r->ram_commands);
	EXPECT_EQ(0ULL, r->no_memory);
	EXPECT_EQ(0ULL, r->wrong_pages)
		TH_LOG("%llu pages are not the provider's", r->wrong_pages);
	EXPECT_EQ(1ULL, r->providers);
	nvmet_function_name(r->provider, name, sizeof(name));
	EXPECT_STREQ(provider->bdf, name);
}

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

/* What a run of Reads found. */
static bool good_read(struct __test_metadata *_metadata,
		      const struct p2pdma_nvmet_run *r)
{
	if (r->bad_words)
		TH_LOG("%llu words are wrong, the first at byte %#llx: %#llx (P2PDMA_SEED=%#x)",
		       r->bad_words, r->bad_at, r->bad_found, p2p.seed);
	return !r->bad_words;
}

/* The medium as it is seen without the target. */
static bool medium_holds(struct __test_metadata *_metadata, struct target *t,
			 uint64_t pos, uint64_t len, enum p2p_what what)
{
	char why[256];
	bool good = true;

	for (uint64_t at = pos; at < pos + len; at += t->ram_len) {
		size_t part = pos + len - at;
		size_t bad;

		if (part > t->ram_len)
			part = t->ram_len;
		memset(t->ram, 0, part);
		EXPECT_EQ((ssize_t)part, pread(t->fd, t->ram, part, at))
			TH_LOG("reading %s: %s", t->disk->path,
			       strerror(errno));
		if (p2p.corrupt)
			p2p_flip(t->ram, part / 2);
		bad = p2p_check(t->ram, part, what, at, why, sizeof(why));
		if (bad)
			TH_LOG("medium from %#lx: %zu of %zu words are wrong, %s (P2PDMA_SEED=%#x)",
			       at, bad, part / 8, why, p2p.seed);
		good &= !bad;
	}
	return good;
}

static void medium_fill(struct __test_metadata *_metadata, struct target *t,
			uint64_t pos, uint64_t len, enum p2p_what what)
{
	for (uint64_t at = pos; at < pos + len; at += t->ram_len) {
		size_t part = pos + len - at;

		if (part > t->ram_len)
			part = t->ram_len;
		p2p_fill(t->ram, part, what, at);
		if (p2p.corrupt)
			p2p_flip(t->ram, part / 2);
		ASSERT_EQ((ssize_t)part, pwrite(t->fd, t->ram, part, at))
			TH_LOG("writing %s: %s", t->disk->path,
			       strerror(errno));
	}
}

/* Several threads, each with a queue and a part of the medium of its own. */
struct thread {
	pthread_t id;
	const struct target *t;
	struct p2pdma_nvmet_run run;
	int ret;
};

static void *thread_run(void *arg)
{
	struct thread *thread = arg;

	thread->ret = run(thread->t, &thread->run);
	return NULL;
}

static void run_threads(struct __test_metadata *_metadata,
			const struct target *t, struct thread *threads, int nr,
			unsigned int op, size_t size, unsigned int depth,
			uint64_t len, enum p2p_what what)
{
	for (int i = 0; i < nr; i++) {
		threads[i].t = t;
		threads[i].run = io(t, op, 1 + i % QUEUES, size, depth,
				    t->pos + i * len, len, what);
		ASSERT_EQ(0, pthread_create(&threads[i].id, NULL, thread_run,
					    &threads[i]));
	}
	for (int i = 0; i < nr; i++) {
		ASSERT_EQ(0, pthread_join(threads[i].id, NULL));
		ASSERT_EQ(0, threads[i].ret)
			TH_LOG("%s", strerror(-threads[i].ret));
	}
}

/* ---- sizes, depths, threads -------------------------------------------- */

#define MAX_THREADS	8

/* @len is what each thread moves, in commands of @size, 0 being one block. */
static const struct shape {
	const char *name;
	size_t size, len;
	unsigned int depth;
	int threads;
} shapes[] = {
	{ "block*1*1",	0,		KB(64),		1,	1 },
	{ "block*128*8", 0,		KB(128),	128,	8 },
	{ "4K*1*1",	KB(4),		KB(256),	1,	1 },
	{ "4K*32*4",	KB(4),		MB(1),		32,	4 },
	{ "4K*128*4",	KB(4),		MB(1),		128,	4 },
	{ "20K*8*2",	KB(20),		KB(1000),	8,	2 },
	{ "64K*8*1",	KB(64),		MB(4),		8,	1 },
	{ "64K*32*2",	KB(64),		MB(4),		32,	2 },
	{ "1M*1*1",	MB(1),		MB(8),		1,	1 },
	{ "1M*8*2",	MB(1),		MB(8),		8,	2 },
	{ "4M*2*2",	MB(4),		MB(8),		2,	2 },
	{ "16M*1*1",	MB(16),		MB(16),		1,	1 },
};

FIXTURE(io) {
	struct target t;
};

FIXTURE_VARIANT(io) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
	const struct shape *shape;
};

FIXTURE_SETUP(io)
{
	target_open(_metadata, &self->t, variant->provider, variant->disk,
		    variant->provider->bdf);
}

FIXTURE_TEARDOWN(io)
{
	target_close(_metadata, &self->t);
}

TEST_F(io, write)
{
	const struct shape *s = variant->shape;
	struct thread threads[MAX_THREADS];
	size_t size = s->size ?: variant->disk->lba;
	size_t len = s->threads * s->len;
	struct target *t = &self->t;
	bool good;

	medium_fill(_metadata, t, t->pos - KB(64), len + KB(128), P2P_AROUND);
	run_threads(_metadata, t, threads, s->threads, P2PDMA_NVMET_WRITE, size,
		    s->depth, s->len, P2P_DATA);
	for (int i = 0; i < s->threads; i++)
		expect_p2p(_metadata, variant->provider, &threads[i].run);

	good = medium_holds(_metadata, t, t->pos, len, P2P_DATA);
	data_verdict(_metadata, &t->expect, good);
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos - KB(64), KB(64),
				 P2P_AROUND));
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos + len, KB(64),
				 P2P_AROUND));
}

TEST_F(io, read)
{
	const struct shape *s = variant->shape;
	struct thread threads[MAX_THREADS];
	size_t size = s->size ?: variant->disk->lba;
	size_t len = s->threads * s->len;
	struct target *t = &self->t;
	bool good = true;

	medium_fill(_metadata, t, t->pos, len, P2P_DATA);
	run_threads(_metadata, t, threads, s->threads, P2PDMA_NVMET_READ, size,
		    s->depth, s->len, P2P_DATA);
	for (int i = 0; i < s->threads; i++) {
		expect_p2p(_metadata, variant->provider, &threads[i].run);
		good &= good_read(_metadata, &threads[i].run);
	}
	data_verdict(_metadata, &t->expect, good);
}

/* ---- commands ---------------------------------------------------------- */

FIXTURE(command) {
	struct target t;
};

FIXTURE_VARIANT(command) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
};

FIXTURE_SETUP(command)
{
	target_open(_metadata, &self->t, variant->provider, variant->disk,
		    variant->provider->bdf);
}

FIXTURE_TEARDOWN(command)
{
	target_close(_metadata, &self->t);
}

enum {
	OP_FLUSH	= 0x00,
	OP_WRITE	= 0x01,
	OP_READ		= 0x02,
	OP_COMPARE	= 0x05,
	OP_WRITE_ZEROES	= 0x08,
	OP_DSM		= 0x09,
	OP_GET_LOG_PAGE	= 0x02,
	OP_IDENTIFY	= 0x06,
	OP_ASYNC_EVENT	= 0x0c,
};

/* The address of data is in an SGL, as fabrics demand. */
#define FLAG_SGL	0x40

static void put(struct p2pdma_nvmet_command *cmd, size_t at, uint64_t value,
		size_t len)
{
	for (size_t i = 0; i < len; i++)
		cmd->sqe[at + i] = value >> (8 * i);
}

static uint64_t get(const uint8_t *data, size_t at, size_t len)
{
	uint64_t value = 0;

	for (size_t i = len; i--; )
		value = value << 8 | data[at + i];
	return value;
}

static struct p2pdma_nvmet_command command(unsigned int qid, uint8_t opcode,
					   uint32_t nsid)
{
	struct p2pdma_nvmet_command cmd = { .qid = qid };

	put(&cmd, 0, opcode, 1);
	put(&cmd, 1, FLAG_SGL, 1);
	put(&cmd, 2, 0x1234, 2);
	put(&cmd, 4, nsid, 4);
	return cmd;
}

static struct p2pdma_nvmet_command rw(const struct target *t, uint8_t opcode,
				      uint64_t pos, size_t len, void *data)
{
	struct p2pdma_nvmet_command cmd = command(1, opcode, 1);

	put(&cmd, 40, pos / t->disk->lba, 8);
	put(&cmd, 48, len / t->disk->lba - 1, 2);
	cmd.data = (uintptr_t)data;
	cmd.data_len = len;
	return cmd;
}

#define EXPECT_STATUS(_status, _host, _cmd) do {			\
	struct p2pdma_nvmet_command *__cmd = (_cmd);			\
	unsigned int __status = (_status);				\
									\
	EXPECT_EQ(0, nvmet_command(_host, __cmd))			\
		TH_LOG("%s", strerror(errno));				\
	EXPECT_EQ(__status, __cmd->status)				\
		TH_LOG("expected status %#x, got %#x", __status,	\
		       __cmd->status);					\
} while (0)

TEST_F(command, identify)
{
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;
	uint8_t data[4096] = {};

	cmd = command(0, OP_IDENTIFY, 0);
	put(&cmd, 40, 1, 1);	/* CNS 1: controller */
	cmd.data = (uintptr_t)data;
	cmd.data_len = sizeof(data);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(t->host.connect.cntlid, get(data, 78, 2));
	EXPECT_STREQ(NQN, (char *)data + 768);
	/* data of admin commands are never in peer-to-peer memory */
	EXPECT_EQ(P2PDMA_NVMET_RAM, cmd.place);
	EXPECT_EQ(P2PDMA_NVMET_NO_FUNCTION, cmd.provider);

	memset(data, 0, sizeof(data));
	cmd = command(0, OP_IDENTIFY, 1);
	put(&cmd, 40, 0, 1);	/* CNS 0: namespace */
	cmd.data = (uintptr_t)data;
	cmd.data_len = sizeof(data);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(t->disk->size / t->disk->lba, get(data, 0, 8));
	EXPECT_EQ(t->disk->lba, 1UL << data[128 + 2]);
}

/* Data of a single Write and Read, from and to user memory. */
TEST_F(command, write_read)
{
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;
	const size_t len = KB(128);
	char name[32], why[256];

	p2p_fill(t->ram, len, P2P_DATA, t->pos);
	cmd = rw(t, OP_WRITE, t->pos, len, t->ram);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);
	nvmet_function_name(cmd.provider, name, sizeof(name));
	EXPECT_STREQ(variant->provider->bdf, name);
	data_verdict(_metadata, &t->expect,
		     medium_holds(_metadata, t, t->pos, len, P2P_DATA));

	medium_fill(_metadata, t, t->pos, len, P2P_AROUND);
	memset(t->ram, 0, len);
	cmd = rw(t, OP_READ, t->pos, len, t->ram);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);
	data_verdict(_metadata, &t->expect,
		     !p2p_check(t->ram, len, P2P_AROUND, t->pos, why,
				sizeof(why)));
}

TEST_F(command, flush)
{
	struct p2pdma_nvmet_command cmd = command(1, OP_FLUSH, 1);
	struct target *t = &self->t;

	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_NOWHERE, cmd.place);
}

/* No data are moved, but what is on the medium changes. */
TEST_F(command, write_zeroes)
{
	const size_t len = KB(64), around = KB(4);
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;

	medium_fill(_metadata, t, t->pos - around, len + 2 * around,
		    P2P_AROUND);
	cmd = rw(t, OP_WRITE_ZEROES, t->pos, len, NULL);
	cmd.data_len = 0;
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_NOWHERE, cmd.place);

	EXPECT_TRUE(medium_holds(_metadata, t, t->pos - around, around,
				 P2P_AROUND));
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos + len, around,
				 P2P_AROUND));
	ASSERT_EQ((ssize_t)len, pread(t->fd, t->ram, len, t->pos));
	if (p2p.corrupt)
		p2p_flip(t->ram, len / 2);
	for (size_t i = 0; i < len; i += 8) {
		ASSERT_EQ(0UL, *(uint64_t *)(t->ram + i)) {
			TH_LOG("byte %#zx of the zeroed range", i);
		}
	}
}

/*
 * Dataset Management, Deallocate: the list of ranges is data like any other,
 * so the target's core reads it out of peer-to-peer memory.
 */
TEST_F(command, deallocate)
{
	const size_t len = KB(64), around = KB(4);
	uint64_t ranges[2][2] = {};
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;
	size_t lba = t->disk->lba;

	medium_fill(_metadata, t, t->pos - around, len + 2 * around,
		    P2P_AROUND);
	for (int i = 0; i < 2; i++) {
		ranges[i][0] = (uint64_t)(len / 2 / lba) << 32;
		ranges[i][1] = (t->pos + i * len / 2) / lba;
	}
	cmd = command(1, OP_DSM, 1);
	put(&cmd, 40, 1, 1);	/* two ranges */
	put(&cmd, 44, 4, 1);	/* Deallocate */
	cmd.data = (uintptr_t)ranges;
	cmd.data_len = sizeof(ranges);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);

	/* what deallocated blocks hold is the disk's choice, others stay */
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos - around, around,
				 P2P_AROUND));
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos + len, around,
				 P2P_AROUND));
}

/* What the target's core refuses, and with which status. */
TEST_F(command, refused)
{
	struct target *t = &self->t;
	const size_t lba = t->disk->lba;
	const uint64_t end = t->disk->size;
	struct p2pdma_nvmet_command cmd;

	/* a namespace that there is not */
	cmd = rw(t, OP_READ, t->pos, lba, t->ram);
	put(&cmd, 4, 2, 4);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x00b, &t->host, &cmd);

	/* behind the end of the disk */
	cmd = rw(t, OP_READ, end, lba, t->ram);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x006, &t->host, &cmd);
	cmd = rw(t, OP_WRITE, end - lba, 2 * lba, t->ram);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x006, &t->host, &cmd);

	/* more, or less, data than the command is about */
	cmd = rw(t, OP_READ, t->pos, 2 * lba, t->ram);
	cmd.data_len = lba;
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x00f, &t->host, &cmd);
	cmd.data_len = 3 * lba;
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x00f, &t->host, &cmd);
	cmd.data_len = 0;
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x00f, &t->host, &cmd);

	/* fused; and data that are not in an SGL */
	cmd = rw(t, OP_READ, t->pos, lba, t->ram);
	put(&cmd, 1, FLAG_SGL | 1, 1);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x002, &t->host, &cmd);
	put(&cmd, 1, 0, 1);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x002, &t->host, &cmd);

	/* commands that there are not, or that are not for this queue */
	cmd = rw(t, OP_COMPARE, t->pos, lba, t->ram);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x001, &t->host, &cmd);
	cmd = command(1, 0x7f, 0);
	put(&cmd, 4, 1, 1);	/* Connect */
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x001, &t->host, &cmd);

	/* all that was refused gave its memory back */
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* What the transport refuses by itself. */
TEST_F(command, bad_calls)
{
	struct target *t = &self->t;
	int fd = t->host.fd;
	struct p2pdma_nvmet_connect connect = t->host.connect;
	struct p2pdma_nvmet_command cmd = command(1, OP_FLUSH, 1);
	struct p2pdma_nvmet_run good = io(t, P2PDMA_NVMET_READ, 1, KB(4), 1,
					  t->pos, KB(64), P2P_DATA);
	struct p2pdma_nvmet_run r;

	EXPECT_ERRNO(ENOTTY, ioctl(fd, _IO('|', 0x94)));
	EXPECT_ERRNO(EFAULT, ioctl(fd, P2PDMA_NVMET_COMMAND, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(fd, P2PDMA_NVMET_RUN, (void *)8));
	EXPECT_ERRNO(EALREADY, ioctl(fd, P2PDMA_NVMET_CONNECT, &connect));

	cmd.qid = QUEUES + 1;
	EXPECT_ERRNO(ENOENT, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));
	cmd = command(0, OP_ASYNC_EVENT, 0);
	EXPECT_ERRNO(EINVAL, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));
	cmd = command(1, OP_FLUSH, 1);
	cmd.reserved = 1;
	EXPECT_ERRNO(EINVAL, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));
	cmd = rw(t, OP_WRITE, t->pos, KB(4), (void *)8);
	EXPECT_ERRNO(EFAULT, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));
	cmd = rw(t, OP_READ, t->pos, KB(4), (void *)8);
	EXPECT_ERRNO(EFAULT, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));
	cmd.data_len = P2PDMA_NVMET_MAX_DATA + 1;
	EXPECT_ERRNO(EINVAL, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));

#define EXPECT_BAD(_member, _value) do {				\
	r = good;							\
	r._member = _value;						\
	EXPECT_ERRNO(EINVAL, ioctl(fd, P2PDMA_NVMET_RUN, &r));		\
} while (0)
	EXPECT_BAD(op, 2);
	EXPECT_BAD(flags, 0x80);
	EXPECT_BAD(block_size, 0);
	EXPECT_BAD(block_size, 256);
	EXPECT_BAD(block_size, 1000);
	EXPECT_BAD(blocks, 0);
	EXPECT_BAD(blocks, 65537);
	EXPECT_BAD(depth, 0);
	EXPECT_BAD(depth, QUEUE_SIZE);
	EXPECT_BAD(span, 0);
	EXPECT_BAD(span, good.blocks + 1);
	EXPECT_BAD(slba, ~0ULL);
	EXPECT_BAD(slba, 1ULL << 60);
	EXPECT_BAD(count, 0);
	EXPECT_BAD(pattern, 1);
	EXPECT_BAD(pattern, t->pos);
#undef EXPECT_BAD
	r = good;
	r.qid = QUEUES + 1;
	EXPECT_ERRNO(ENOENT, ioctl(fd, P2PDMA_NVMET_RUN, &r));

	/* and a good one still works */
	r = good;
	EXPECT_RET(0, ioctl(fd, P2PDMA_NVMET_RUN, &r));
	EXPECT_EQ(r.count, r.commands);

	EXPECT_RET(0, ioctl(fd, P2PDMA_NVMET_DISCONNECT));
	EXPECT_ERRNO(ENOTCONN, ioctl(fd, P2PDMA_NVMET_DISCONNECT));
	r = good;
	EXPECT_ERRNO(ENOTCONN, ioctl(fd, P2PDMA_NVMET_RUN, &r));
	EXPECT_RET(0, ioctl(fd, P2PDMA_NVMET_CONNECT, &connect));
	r = good;
	EXPECT_RET(0, ioctl(fd, P2PDMA_NVMET_RUN, &r));
	EXPECT_EQ(r.count, r.commands);
}

static void add(const struct p2p_provider *p, const struct p2p_client *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		FIXTURE_VARIANT(io) v = {
			.provider = p,
			.disk = c,
			.shape = &shapes[i],
		};

		P2P_VARIANT_ADD(io, v, "%s@%s>%s/%s", p->kind, p->bdf,
				c->label, shapes[i].name);
	}

	FIXTURE_VARIANT(command) v = { .provider = p, .disk = c };

	P2P_VARIANT_ADD(command, v, "%s@%s>%s", p->kind, p->bdf, c->label);
}

int main(int argc, char **argv)
{
	if (p2p_help(argc, argv,
		     "Data through the NVMe target in peer-to-peer memory"))
		return test_harness_run(argc, argv);

	p2p_discover();
	p2p_require_clients();
	nvmet_init(NQN);
	nvmet_require_transport();

	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		for (unsigned int j = 0; j < p2p.nr_clients; j++)
			if (p2p.client[j].scratch)
				add(&p2p.provider[i], &p2p.client[j]);
	return test_harness_run(argc, argv);
}
