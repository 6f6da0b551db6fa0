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
#include <limits.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_nvmet_target.h"

/* ---- sizes, depths, threads -------------------------------------------- */

#define MAX_THREADS	QUEUES
#define MAX_BLOCKS	65536	/* of a command: NLB has 16 bits */

/*
 * @len is what each thread moves, in commands of @size, 0 being one block. A
 * thread has a queue of its own.
 */
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
	{ "max*1*1",	SIZE_MAX,	SIZE_MAX,	1,	1 },
};

/* P2PDMA_NVMET_SHAPES has the names of those that are tried, else all are. */
static bool is_tried(const struct shape *s)
{
	const char *at = getenv("P2PDMA_NVMET_SHAPES");
	size_t len = strlen(s->name);

	if (!at || !*at)
		return true;
	for (; *at; at += strcspn(at, " ")) {
		at += strspn(at, " ");
		if (strcspn(at, " ") == len && !strncmp(at, s->name, len))
			return true;
	}
	return false;
}

/* A name that no shape has would leave out what somebody wants to be tried. */
static void require_shapes(void)
{
	char list[256], *name, *rest = list;

	snprintf(list, sizeof(list), "%s", getenv("P2PDMA_NVMET_SHAPES") ?: "");
	while ((name = strsep(&rest, " "))) {
		bool found = !*name;

		for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
			found |= !strcmp(name, shapes[i].name);
		if (!found)
			ksft_exit_fail_msg("P2PDMA_NVMET_SHAPES: there is no shape %s\n",
					   name);
	}
}

static size_t shape_size(const struct shape *s, const struct p2p_client *disk)
{
	if (!s->size)
		return disk->lba;
	return s->size == SIZE_MAX ? MAX_BLOCKS * disk->lba : s->size;
}

/* What each thread moves. */
static size_t shape_len(const struct shape *s, const struct p2p_client *disk)
{
	return s->len == SIZE_MAX ? shape_size(s, disk) : s->len;
}

FIXTURE(io) {
	struct target t;
};

FIXTURE_VARIANT(io) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
	const struct shape *shape;
};

/* Memory of the provider that the commands of all threads have at a time. */
static size_t shape_memory(const struct shape *s, const struct p2p_client *disk)
{
	size_t page = sysconf(_SC_PAGESIZE), size = shape_size(s, disk);
	size_t commands = shape_len(s, disk) / size;

	if (commands > s->depth)
		commands = s->depth;
	return s->threads * commands * ((size + page - 1) / page * page);
}

FIXTURE_SETUP(io)
{
	if (!variant)
		SKIP(return, NO_PAIR);
	if (variant->provider->rest <
	    (ssize_t)shape_memory(variant->shape, variant->disk))
		SKIP(return, "not enough memory for so many commands");
	target_prepare(_metadata, &self->t, variant->provider, variant->disk);
	self->t.queues = variant->shape->threads;
	target_start(_metadata, &self->t);
}

FIXTURE_TEARDOWN(io)
{
	target_close(_metadata, &self->t);
}

/* Debugfs has what each queue did, whose threads may be several. */
static void expect_queues_counted(struct __test_metadata *_metadata,
				  const struct target *t,
				  const struct thread *threads, int nr)
{
	struct nvmet_counters c;

	for (int qid = 1; qid <= (int)t->queues; qid++) {
		uint64_t commands = 0, bytes = 0;

		for (int i = 0; i < nr; i++) {
			if (threads[i].run.qid != qid)
				continue;
			commands += threads[i].run.p2p_commands;
			bytes += threads[i].run.p2p_bytes;
		}
		EXPECT_EQ(!!commands, nvmet_counters(&t->host, qid, 1, &c));
		EXPECT_EQ(commands, c.p2p_commands);
		EXPECT_EQ(bytes, c.p2p_bytes);
		EXPECT_EQ(0UL, c.fallback_commands + c.ram_commands);
	}
}

TEST_F(io, write)
{
	const struct shape *s = variant->shape;
	struct thread threads[MAX_THREADS];
	size_t size = shape_size(s, variant->disk);
	size_t part = shape_len(s, variant->disk);
	size_t len = s->threads * part;
	struct target *t = &self->t;
	bool good;

	medium_fill(_metadata, t, t->pos - KB(64), len + KB(128), P2P_AROUND);
	run_threads(_metadata, t, threads, s->threads, P2PDMA_NVMET_WRITE, size,
		    s->depth, part, P2P_DATA);
	for (int i = 0; i < s->threads; i++)
		expect_p2p(_metadata, variant->provider, &threads[i].run);
	expect_queues_counted(_metadata, t, threads, s->threads);

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
	size_t size = shape_size(s, variant->disk);
	size_t part = shape_len(s, variant->disk);
	size_t len = s->threads * part;
	struct target *t = &self->t;
	bool good = true;

	medium_fill(_metadata, t, t->pos, len, P2P_DATA);
	run_threads(_metadata, t, threads, s->threads, P2PDMA_NVMET_READ, size,
		    s->depth, part, P2P_DATA);
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
	if (!variant)
		SKIP(return, NO_PAIR);
	target_open(_metadata, &self->t, variant->provider, variant->disk);
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
	OP_RESV_ACQUIRE	= 0x11,
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

	put(&cmd, 40, pos / t->disk.lba, 8);
	put(&cmd, 48, len / t->disk.lba - 1, 2);
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
	EXPECT_EQ(0ULL, __cmd->wrong_pages)				\
		TH_LOG("%llu pages are not where they are said to be",	\
		       __cmd->wrong_pages);				\
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
	/* MDTS: no limit but that of the field for the number of blocks */
	EXPECT_EQ(0, data[77]);
	EXPECT_STREQ(t->nqn, (char *)data + 768);
	/* data of admin commands are never in peer-to-peer memory */
	EXPECT_EQ(P2PDMA_NVMET_RAM, cmd.place);
	EXPECT_EQ(P2PDMA_NVMET_NO_FUNCTION, cmd.provider);

	memset(data, 0, sizeof(data));
	cmd = command(0, OP_IDENTIFY, 1);
	put(&cmd, 40, 0, 1);	/* CNS 0: namespace */
	cmd.data = (uintptr_t)data;
	cmd.data_len = sizeof(data);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(t->disk.size / t->disk.lba, get(data, 0, 8));
	EXPECT_EQ(t->disk.lba, 1UL << data[128 + 2]);
	/* the disk's metadata, if it has any, are nothing that a host sees */
	EXPECT_EQ(0UL, get(data, 128, 2));
	EXPECT_EQ(0, data[27]);		/* MC */
	EXPECT_EQ(0, data[29]);		/* DPS */
}

/*
 * A limit that the administrator has set is a hint to the host, which the target
 * does not enforce: what exceeds it is moved all the same.
 */
TEST_F(command, limited)
{
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;
	const size_t limit = MB(1);	/* 2^8 pages of 4 KiB */
	uint8_t data[4096] = {};
	char why[256];

	nvmet_host_close(&t->host);
	ASSERT_EQ(-EACCES, nvmet_port_set(NVMET_PORT, "param_mdts", "8"));
	ASSERT_EQ(0, nvmet_unlink(NVMET_PORT, t->nqn));
	ASSERT_EQ(0, nvmet_port_set(NVMET_PORT, "param_mdts", "8"));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));
	target_connect(_metadata, t, t->fabric);

	cmd = command(0, OP_IDENTIFY, 0);
	put(&cmd, 40, 1, 1);	/* CNS 1: controller */
	cmd.data = (uintptr_t)data;
	cmd.data_len = sizeof(data);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(8, data[77]);

	for (size_t len = limit; len <= limit + t->disk.lba;
	     len += t->disk.lba) {
		medium_fill(_metadata, t, t->pos, limit + KB(4), P2P_AROUND);
		p2p_fill(t->ram, len, P2P_DATA, t->pos);
		cmd = rw(t, OP_WRITE, t->pos, len, t->ram);
		EXPECT_STATUS(0, &t->host, &cmd);
		EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);
		data_verdict(_metadata, &t->expect,
			     medium_holds(_metadata, t, t->pos, len, P2P_DATA));

		memset(t->ram, 0, len);
		cmd = rw(t, OP_READ, t->pos, len, t->ram);
		EXPECT_STATUS(0, &t->host, &cmd);
		data_verdict(_metadata, &t->expect,
			     !p2p_check(t->ram, len, P2P_DATA, t->pos, why,
					sizeof(why)));
	}
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

/*
 * Requests that the transport loses end with their queue, and so does the
 * memory of their data: the host can disconnect, and the pool is full again.
 */
TEST_F(command, leaked)
{
	static const enum p2pdma_nvmet_leak leaks[] = {
		P2PDMA_NVMET_LEAK_PARSED,
		P2PDMA_NVMET_LEAK_EXECUTED,
		P2PDMA_NVMET_LEAK_COMPLETED,
	};
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;
	const size_t len = KB(128);

	for (size_t i = 0; i < ARRAY_SIZE(leaks); i++) {
		for (int n = 1; n <= 3; n++) {
			cmd = rw(t, OP_READ, t->pos, len, t->ram);
			cmd.leak = leaks[i];
			ASSERT_EQ(0, nvmet_command(&t->host, &cmd));
			EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);
			EXPECT_EQ((ssize_t)(t->provider->rest - n * len),
				  p2p_available(t->provider));
		}
		/* others are not disturbed */
		cmd = rw(t, OP_READ, t->pos, len, t->ram);
		EXPECT_STATUS(0, &t->host, &cmd);

		nvmet_host_close(&t->host);
		EXPECT_EQ(t->provider->rest, p2p_available(t->provider));
		target_connect(_metadata, t, t->fabric);
	}
}

#define NVME_CLI	"/usr/sbin/nvme"

/* A file of the disk in sysfs, as a line; "" if there is none. */
static void disk_attr(const struct target *t, const char *attr, char *line,
		      size_t len)
{
	char path[PATH_MAX];
	FILE *f;

	line[0] = '\0';
	snprintf(path, sizeof(path), "/sys/block/%s/%s", t->disk.name, attr);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(line, len, f))
		line[strcspn(line, "\n")] = '\0';
	fclose(f);
}

/*
 * Move data between the disk and a file, as an administrator does. Blocks may
 * have metadata: checksums are the controller's business (PRACT), with the
 * block's number as reference tag; others go to a file and come from it.
 */
static int nvme_cli(const struct target *t, const char *what, uint64_t pos,
		    size_t len, const char *file)
{
	char start[48], count[48], size[48], data[PATH_MAX];
	char bytes[32], format[64], meta_size[64], meta[PATH_MAX], tag[48];
	const char *argv[12] = {
		NVME_CLI, what, t->disk.path, start, count, size, data,
	};
	size_t blocks = len / t->disk.lba, argc = 7;

	snprintf(start, sizeof(start), "--start-block=%llu",
		 (unsigned long long)(pos / t->disk.lba));
	snprintf(count, sizeof(count), "--block-count=%zu", blocks - 1);
	snprintf(size, sizeof(size), "--data-size=%zu", len);
	snprintf(data, sizeof(data), "--data=%s", file);

	disk_attr(t, "metadata_bytes", bytes, sizeof(bytes));
	disk_attr(t, "integrity/format", format, sizeof(format));
	if (!strncmp(format, "T10-DIF", strlen("T10-DIF"))) {
		snprintf(tag, sizeof(tag), "--ref-tag=%llu",
			 (unsigned long long)(pos / t->disk.lba));
		argv[argc++] = "--prinfo=8";
		argv[argc++] = tag;
	} else if (strtoul(bytes, NULL, 10)) {
		snprintf(meta_size, sizeof(meta_size), "--metadata-size=%zu",
			 blocks * strtoul(bytes, NULL, 10));
		snprintf(meta, sizeof(meta), "--metadata=%s.meta", file);
		argv[argc++] = meta_size;
		argv[argc++] = meta;
	}
	return p2p_run(argv);
}

/*
 * What came through the target is what nvme-cli reads from the disk, past the
 * block layer; and what nvme-cli writes there comes back through the target.
 */
TEST_F(command, nvme_cli)
{
	char name[] = "/tmp/p2pdma_nvmet.XXXXXX", why[256], meta[64];
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;
	const size_t len = KB(32);
	int fd;

	if (access(NVME_CLI, X_OK)) {
		/* who names a topology has seen to it that it is there */
		ASSERT_EQ(NULL, getenv("P2PDMA_TOPOLOGY"));
		SKIP(return, NVME_CLI ": install nvme-cli");
	}
	fd = mkstemp(name);
	ASSERT_LE(0, fd);

	medium_fill(_metadata, t, t->pos, len, P2P_AROUND);
	p2p_fill(t->ram, len, P2P_DATA, t->pos);
	cmd = rw(t, OP_WRITE, t->pos, len, t->ram);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);
	EXPECT_EQ(0, nvme_cli(t, "read", t->pos, len, name));
	memset(t->ram, 0, len);
	EXPECT_EQ((ssize_t)len, pread(fd, t->ram, len, 0));
	data_verdict(_metadata, &t->expect,
		     !p2p_check(t->ram, len, P2P_DATA, t->pos, why,
				sizeof(why)));

	p2p_fill(t->ram, len, P2P_PRESET, t->pos);
	EXPECT_EQ((ssize_t)len, pwrite(fd, t->ram, len, 0));
	EXPECT_EQ(0, nvme_cli(t, "write", t->pos, len, name));
	memset(t->ram, 0, len);
	cmd = rw(t, OP_READ, t->pos, len, t->ram);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);
	data_verdict(_metadata, &t->expect,
		     !p2p_check(t->ram, len, P2P_PRESET, t->pos, why,
				sizeof(why)));

	close(fd);
	unlink(name);
	snprintf(meta, sizeof(meta), "%s.meta", name);
	unlink(meta);
}

/*
 * Columns of a disk's "stat": Documentation/ABI/stable/sysfs-block, from 0 on.
 */
enum {
	STAT_DISCARD_IOS	= 11,
	STAT_DISCARD_SECTORS	= 13,	/* of 512 bytes */
	STAT_FLUSH_IOS		= 15,
};

static uint64_t disk_stat(struct __test_metadata *_metadata,
			  const struct target *t, unsigned int column)
{
	char text[512], *at = text;
	uint64_t value = 0;

	disk_attr(t, "stat", text, sizeof(text));
	for (unsigned int i = 0; i <= column; i++) {
		char *end;

		value = strtoull(at, &end, 10);
		ASSERT_NE((void *)at, (void *)end)
			TH_LOG("/sys/block/%s/stat has no column %u",
			       t->disk.name, i);
		at = end;
	}
	return value;
}

/* The disk has a cache for what is written, which has to be written back. */
TEST_F(command, flush)
{
	struct p2pdma_nvmet_command cmd = command(1, OP_FLUSH, 1);
	struct target *t = &self->t;
	uint64_t flushes;
	char cache[32];

	disk_attr(t, "queue/write_cache", cache, sizeof(cache));
	medium_fill(_metadata, t, t->pos, KB(4), P2P_AROUND);
	flushes = disk_stat(_metadata, t, STAT_FLUSH_IOS);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_NOWHERE, cmd.place);
	EXPECT_EQ(flushes + !strcmp(cache, "write back"),
		  disk_stat(_metadata, t, STAT_FLUSH_IOS));
	/* that of QEMU has one */
	if (getenv("P2PDMA_TOPOLOGY"))
		EXPECT_STREQ("write back", cache);
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
	uint64_t ios, sectors;
	size_t lba = t->disk.lba;
	char why[256];

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
	ios = disk_stat(_metadata, t, STAT_DISCARD_IOS);
	sectors = disk_stat(_metadata, t, STAT_DISCARD_SECTORS);
	EXPECT_STATUS(0, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_P2P, cmd.place);

	/* all of both ranges, nothing else, in one I/O if they were merged */
	ios = disk_stat(_metadata, t, STAT_DISCARD_IOS) - ios;
	sectors = disk_stat(_metadata, t, STAT_DISCARD_SECTORS) - sectors;
	EXPECT_EQ(len / 512, sectors);
	EXPECT_LE(1UL, ios);
	EXPECT_GE(2UL, ios);

	/* a deallocated block is zero, or what it was: the disk's choice */
	ASSERT_EQ((ssize_t)len, pread(t->fd, t->ram, len, t->pos));
	if (p2p.corrupt)
		p2p_flip(t->ram, len / 2);
	for (size_t at = 0; at < len; at += lba) {
		bool zero = true;

		for (size_t i = 0; i < lba; i += 8)
			zero &= !*(uint64_t *)(t->ram + at + i);
		EXPECT_TRUE(zero || !p2p_check(t->ram + at, lba, P2P_AROUND,
					       t->pos + at, why, sizeof(why)))
			TH_LOG("block %#lx has something else: %s",
			       (t->pos + at) / lba, why);
	}
	/* others stay */
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos - around, around,
				 P2P_AROUND));
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos + len, around,
				 P2P_AROUND));
}

/* What the target refuses, or the library for it, and with which status. */
TEST_F(command, refused)
{
	struct target *t = &self->t;
	const size_t lba = t->disk.lba;
	const uint64_t end = t->disk.size;
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
	/* metadata beside them, as of a block with 8 bytes of it */
	cmd = rw(t, OP_WRITE, t->pos, lba, t->ram);
	cmd.data_len = lba + 8;
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

	/* an event that is never told of; on an I/O queue the opcode is another */
	cmd = command(0, OP_ASYNC_EVENT, 0);
	EXPECT_STATUS(NVME_DNR | 0x105, &t->host, &cmd);
	cmd = command(1, OP_ASYNC_EVENT, 1);
	EXPECT_STATUS(NVME_DNR | NVME_MORE | 0x001, &t->host, &cmd);

	/* all that was refused gave its memory back */
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/*
 * Reservations are the core's, but for the action that has it wait for all requests
 * that were parsed: nobody could drop one that the same thread has.
 */
TEST_F(command, reservations)
{
	enum { ACQUIRE, PREEMPT, PREEMPT_AND_ABORT };
	struct p2pdma_nvmet_command cmd;
	struct target *t = &self->t;

	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "resv_enable", "1"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	for (int action = ACQUIRE; action <= PREEMPT_AND_ABORT; action++) {
		cmd = command(1, OP_RESV_ACQUIRE, 1);
		put(&cmd, 40, action | 1 << 8, 4);	/* Write Exclusive */
		cmd.data = (uintptr_t)t->ram;
		cmd.data_len = 16;
		/* a host that has not registered: Reservation Conflict */
		EXPECT_STATUS(NVME_DNR | (action == PREEMPT_AND_ABORT ? 0x001 : 0x083),
			      &t->host, &cmd);
	}
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

	cmd.qid = t->queues + 1;
	EXPECT_ERRNO(ENOENT, ioctl(fd, P2PDMA_NVMET_COMMAND, &cmd));
	cmd = command(1, OP_FLUSH, 1);
	cmd.leak = P2PDMA_NVMET_LEAK_COMPLETED + 1;
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
	r.qid = t->queues + 1;
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

/* ---- controllers that are passed through -------------------------------- */

FIXTURE(passthru) {
	struct target t;
};

FIXTURE_SETUP(passthru)
{
	const struct p2p_client *disk = NULL;

	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		if (p2p.client[i].scratch)
			disk = &p2p.client[i];
	if (!disk)
		SKIP(return, "may write to the medium, allow it with P2PDMA_SCRATCH=<disk>");
	target_prepare(_metadata, &self->t, &p2p.provider[0], disk);
}

FIXTURE_TEARDOWN(passthru)
{
	target_close(_metadata, &self->t);
}

/*
 * The core looks at the commands of such a subsystem when it has completed
 * them, and so the library executes none; but a host can connect.
 */
TEST_F(passthru, refused)
{
	struct target *t = &self->t;
	struct p2pdma_nvmet_command cmd;
	char device[64], path[PATH_MAX];
	uint8_t data[4096];
	unsigned int ctrl;
	int found;

	found = sscanf(t->disk.name, "nvme%u", &ctrl);
	ASSERT_EQ(1, found);
	snprintf(device, sizeof(device), "/dev/nvme%u", ctrl);
	ASSERT_EQ(0, nvmet_subsys_add(t->nqn));
	snprintf(path, sizeof(path), NVMET_CONFIG "/subsystems/%s/passthru",
		 t->nqn);
	if (access(path, F_OK))
		SKIP(return, "kernel without CONFIG_NVME_TARGET_PASSTHRU");
	snprintf(path, sizeof(path),
		 NVMET_CONFIG "/subsystems/%s/passthru/device_path", t->nqn);
	ASSERT_EQ(0, p2p_sysfs_write(path, device))
		TH_LOG("%s: %s", device, strerror(errno));
	snprintf(path, sizeof(path),
		 NVMET_CONFIG "/subsystems/%s/passthru/enable", t->nqn);
	ASSERT_EQ(0, p2p_sysfs_write(path, "1"))
		TH_LOG("%s: %s", device, strerror(errno));
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));
	ASSERT_EQ(0, nvmet_host_connect(&t->host, NVMET_PORT, t->nqn, t->fabric,
					1, 8));

	cmd = command(0, OP_IDENTIFY, 0);
	put(&cmd, 40, 1, 1);	/* CNS 1: controller */
	cmd.data = (uintptr_t)data;
	cmd.data_len = sizeof(data);
	EXPECT_STATUS(NVME_DNR | 0x001, &t->host, &cmd);
	cmd = rw(t, OP_READ, t->pos, KB(4), t->ram);
	EXPECT_STATUS(NVME_DNR | 0x001, &t->host, &cmd);
	EXPECT_EQ(P2PDMA_NVMET_NOWHERE, cmd.place);
	cmd = command(1, OP_FLUSH, 1);
	EXPECT_STATUS(NVME_DNR | 0x001, &t->host, &cmd);

	nvmet_host_close(&t->host);
	EXPECT_EQ(0, p2p_sysfs_write(path, "0"));
}

/* ---- memory that runs out, and namespaces without a provider ------------ */

FIXTURE(memory) {
	struct target t;
	int pool;
	char *map;
};

FIXTURE_VARIANT(memory) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
};

FIXTURE_SETUP(memory)
{
	if (!variant)
		SKIP(return, NO_PAIR);
	self->map = MAP_FAILED;
	self->pool = -1;
	target_open(_metadata, &self->t, variant->provider, variant->disk);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
}

FIXTURE_TEARDOWN(memory)
{
	if (!variant)
		return;
	if (self->map != MAP_FAILED)
		munmap(self->map, variant->provider->rest);
	if (self->pool >= 0)
		close(self->pool);
	target_close(_metadata, &self->t);
}

/* Take what is left in the pool, but for @free bytes. */
static void exhaust(struct __test_metadata *_metadata,
		    const struct p2p_provider *provider, int pool, char **map,
		    size_t free)
{
	*map = p2p_map_pieces(pool, provider->rest);
	ASSERT_NE(MAP_FAILED, (void *)*map)
		TH_LOG("the pool has no %zd bytes: %s", provider->rest,
		       strerror(errno));
	if (free)
		ASSERT_EQ(0, munmap(*map, free));
	ASSERT_EQ((ssize_t)free, p2p_available(provider));
}

/* What the transport counted in debugfs is what it reported. */
static void expect_counted(struct __test_metadata *_metadata,
			   const struct target *t, int nsid,
			   const struct p2pdma_nvmet_run *r)
{
	struct nvmet_counters c;

	EXPECT_EQ(1, nvmet_counters(&t->host, r->qid, nsid, &c));
	EXPECT_EQ(r->p2p_commands, c.p2p_commands);
	EXPECT_EQ(r->p2p_bytes, c.p2p_bytes);
	EXPECT_EQ(r->fallback_commands, c.fallback_commands);
	EXPECT_EQ(r->fallback_bytes, c.fallback_bytes);
	EXPECT_EQ(r->ram_commands, c.ram_commands);
	EXPECT_EQ(r->ram_bytes, c.ram_bytes);
	EXPECT_EQ(r->no_memory, c.no_memory);
}

/* Memory of the system takes over without a word, and the data are right. */
TEST_F(memory, exhausted)
{
	const size_t size = KB(64), len = MB(4);
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;

	exhaust(_metadata, variant->provider, self->pool, &self->map, 0);
	kmsg_skip(t->kmsg);

	r = io(t, P2PDMA_NVMET_WRITE, 1, size, 8, t->pos, len, P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(0ULL, r.errors);
	EXPECT_EQ(r.count, r.commands);
	EXPECT_EQ(0ULL, r.p2p_commands);
	EXPECT_EQ(r.count, r.fallback_commands);
	EXPECT_EQ(len, r.fallback_bytes);
	EXPECT_EQ(0ULL, r.ram_commands);
	EXPECT_EQ(0ULL, r.wrong_pages);
	EXPECT_EQ(P2PDMA_NVMET_NO_FUNCTION, r.provider);
	expect_counted(_metadata, t, 1, &r);
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos, len, P2P_DATA));

	medium_fill(_metadata, t, t->pos, len, P2P_PRESET);
	r = io(t, P2PDMA_NVMET_READ, 2, size, 8, t->pos, len, P2P_PRESET);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(r.count, r.fallback_commands);
	EXPECT_TRUE(good_read(_metadata, &r));

	/* with memory in the pool again, it is used again */
	ASSERT_EQ(0, munmap(self->map, variant->provider->rest));
	self->map = MAP_FAILED;
	r = io(t, P2PDMA_NVMET_READ, 3, size, 8, t->pos, len, P2P_PRESET);
	ASSERT_EQ(0, run(t, &r));
	expect_p2p(_metadata, variant->provider, &r);
	data_verdict(_metadata, &t->expect, good_read(_metadata, &r));
}

/* Room for two commands out of eight. */
TEST_F(memory, nearly_exhausted)
{
	const size_t size = KB(64), len = MB(4);
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;

	exhaust(_metadata, variant->provider, self->pool, &self->map, 2 * size);

	r = io(t, P2PDMA_NVMET_WRITE, 1, size, 8, t->pos, len, P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(0ULL, r.errors);
	EXPECT_EQ(r.count, r.commands);
	/* all eight are sent before the first is waited for */
	EXPECT_LE(2ULL, r.p2p_commands);
	EXPECT_LE(6ULL, r.fallback_commands);
	EXPECT_EQ(r.count, r.p2p_commands + r.fallback_commands);
	EXPECT_EQ(len, r.p2p_bytes + r.fallback_bytes);
	EXPECT_EQ(0ULL, r.wrong_pages);
	expect_counted(_metadata, t, 1, &r);
	data_verdict(_metadata, &t->expect,
		     medium_holds(_metadata, t, t->pos, len, P2P_DATA));
}

/* A host that names no client gets no peer-to-peer memory. */
TEST_F(memory, no_client)
{
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;
	char others[1024];

	nvmet_host_close(&t->host);
	kmsg_skip(t->kmsg);
	target_connect(_metadata, t, NULL);
	EXPECT_FALSE(kmsg_find(t->kmsg, others, sizeof(others),
			       "nvmet: using p2pmem on %s for nsid 1",
			       variant->provider->bdf));

	r = io(t, P2PDMA_NVMET_WRITE, 1, KB(64), 8, t->pos, MB(1), P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(r.count, r.ram_commands);
	EXPECT_EQ(0ULL, r.p2p_commands);
	EXPECT_EQ(0ULL, r.fallback_commands);
	EXPECT_EQ(0ULL, r.wrong_pages);
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos, MB(1), P2P_DATA));
}

/* p2pmem set to 0 while another host keeps its controller. */
TEST_F(memory, switched_off)
{
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;

	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem", "0"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	r = io(t, P2PDMA_NVMET_WRITE, 1, KB(64), 8, t->pos, MB(1), P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(r.count, r.ram_commands);
	EXPECT_EQ(0ULL, r.p2p_commands);
	EXPECT_EQ(0ULL, r.fallback_commands);
	EXPECT_EQ(0ULL, r.wrong_pages);
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos, MB(1), P2P_DATA));

	/* and on again: the controller that exists is told */
	kmsg_skip(t->kmsg);
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem",
				  variant->provider->bdf));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	expect_using(_metadata, t, variant->provider->bdf, 1);
	r = io(t, P2PDMA_NVMET_READ, 1, KB(64), 8, t->pos, MB(1), P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	expect_p2p(_metadata, variant->provider, &r);
	data_verdict(_metadata, &t->expect, good_read(_metadata, &r));
}

/* ---- which provider is chosen ------------------------------------------ */

FIXTURE(automatic) {
	struct target t;
};

FIXTURE_VARIANT(automatic) {
	const struct p2p_client *disk, *fabric;
};

FIXTURE_SETUP(automatic)
{
	target_prepare(_metadata, &self->t, &p2p.provider[0], variant->disk);
}

FIXTURE_TEARDOWN(automatic)
{
	target_close(_metadata, &self->t);
}

/*
 * Distance of two PCI functions as the kernel has it: the steps from each to
 * the first bridge that both are below.
 */
static unsigned int distance(const char *a, const char *b)
{
	char path[PATH_MAX], x[PATH_MAX], y[PATH_MAX];
	unsigned int steps = 0;
	size_t i, common = 0;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", a);
	if (!realpath(path, x))
		return UINT_MAX;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", b);
	if (!realpath(path, y))
		return UINT_MAX;

	for (i = 0; x[i] && x[i] == y[i]; i++)
		if (x[i] == '/')
			common = i;
	if ((!x[i] || x[i] == '/') && (!y[i] || y[i] == '/'))
		common = i;
	for (i = common; x[i]; i++)
		steps += x[i] == '/';
	for (i = common; y[i]; i++)
		steps += y[i] == '/';
	return steps;
}

/* p2pmem set to 1: the nearest, and any of them if several are equally near. */
TEST_F(automatic, nearest)
{
	unsigned int best = UINT_MAX, dist[P2P_MAX_PROVIDERS], found;
	const struct p2p_client *fabric = variant->fabric;
	const struct p2p_client *disk = variant->disk;
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;
	char name[32];
	int ret;

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];
		enum p2p_verdict to_disk = p2p_expect(p, disk).verdict;
		enum p2p_verdict to_fabric = p2p_expect(p, fabric).verdict;

		if (to_disk == P2P_UNKNOWN || to_fabric == P2P_UNKNOWN)
			SKIP(return, "P2PDMA_EXPECT does not say who is reached from %s",
			     p->bdf);
		dist[i] = UINT_MAX;
		if (to_disk != P2P_NOT_SUPPORTED &&
		    to_fabric != P2P_NOT_SUPPORTED)
			dist[i] = distance(p->bdf, disk->bdf) +
				  distance(p->bdf, fabric->bdf);
		if (dist[i] < best)
			best = dist[i];
	}

	ASSERT_EQ(0, nvmet_subsys_add(t->nqn));
	ASSERT_EQ(0, nvmet_ns_add(t->nqn, 1, t->disk.path));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem", "1"));
	ret = nvmet_ns_set(t->nqn, 1, "enable", "1");
	if (ret == -EINVAL && best == UINT_MAX)
		return;		/* no provider reaches the disk alone */
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));

	/* where several are equally near, one is drawn for each controller */
	for (int round = 0; round < 4; round++) {
		char others[1024];

		kmsg_skip(t->kmsg);
		target_connect(_metadata, t, fabric->bdf);
		r = io(t, P2PDMA_NVMET_READ, 1, KB(4), 4, t->pos, KB(64),
		       P2P_DATA);
		r.flags = P2PDMA_NVMET_NO_DATA;
		ASSERT_EQ(0, run(t, &r));
		EXPECT_EQ(r.count, r.commands);

		if (best == UINT_MAX) {
			EXPECT_EQ(r.count, r.ram_commands);
			EXPECT_TRUE(kmsg_find(t->kmsg, others, sizeof(others),
					      "nvmet: no peer-to-peer memory is available that's supported by %s and %s",
					      fabric->bdf, t->disk.path))
				TH_LOG("the target says: %s", others);
			nvmet_host_close(&t->host);
			continue;
		}
		nvmet_function_name(r.provider, name, sizeof(name));
		for (found = 0; found < p2p.nr_providers; found++)
			if (!strcmp(p2p.provider[found].bdf, name))
				break;
		ASSERT_GT(p2p.nr_providers, found)
			TH_LOG("no provider was used, but %s", name);
		EXPECT_EQ(best, dist[found])
			TH_LOG("%s was used, and there are nearer ones", name);
		expect_p2p(_metadata, &p2p.provider[found], &r);
		expect_using(_metadata, t, name, 1);
		nvmet_host_close(&t->host);
	}
}

/* ---- several namespaces, providers, hosts ------------------------------ */

FIXTURE(several) {
	struct target t;
	struct nvmet_host second;
};

FIXTURE_SETUP(several)
{
	const struct p2p_client *disk = NULL;

	self->second.fd = -1;
	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		if (p2p.client[i].scratch)
			disk = &p2p.client[i];
	if (!disk)
		SKIP(return, "writes to the medium, allow it with P2PDMA_SCRATCH=<disk>");
	target_prepare(_metadata, &self->t, &p2p.provider[0], disk);
}

FIXTURE_TEARDOWN(several)
{
	nvmet_host_close(&self->second);
	target_close(_metadata, &self->t);
}

/* One namespace for each pair that works. */
struct pair {
	const struct p2p_provider *provider;
	struct p2p_client disk;
	uint64_t pos;
};

#define MAX_PAIRS	16
#define PAIR_LEN	MB(1)

/* Nothing is known to go wrong between the two, and the fabric's device. */
static bool is_good(const struct p2p_provider *p, const struct p2p_client *c,
		    const char *fabric)
{
	struct p2p_expect e = p2p_expect(p, c);

	if (!c->scratch || e.defect[0] || e.verdict == P2P_UNKNOWN ||
	    e.verdict == P2P_NOT_SUPPORTED)
		return false;
	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		if (!strcmp(p2p.client[i].bdf, fabric) &&
		    p2p_expect(p, &p2p.client[i]).verdict == P2P_NOT_SUPPORTED)
			return false;
	return true;
}

static int find_pairs(struct pair *pairs, const char *fabric)
{
	int nr = 0;

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *c = &p2p.client[i];
		uint64_t pos = MB(4);

		for (unsigned int j = 0; j < p2p.nr_providers; j++) {
			struct p2p_provider *p = &p2p.provider[j];

			if (nr == MAX_PAIRS || !is_good(p, c, fabric))
				continue;
			pairs[nr].provider = p;
			pairs[nr].disk = *c;
			if (!p2p_find_client(&pairs[nr].disk))
				continue;
			/* the same disk under several namespaces */
			pairs[nr++].pos = pos;
			pos += PAIR_LEN;
		}
	}
	return nr;
}

/*
 * Two hosts use all namespaces of a subsystem at once: each has its own
 * provider, and gets no other's memory.
 */
TEST_F(several, namespaces)
{
	struct target *t = &self->t;
	struct thread threads[2 * MAX_PAIRS] = {};
	struct target other;
	struct pair pairs[MAX_PAIRS];
	struct nvmet_counters c;
	int nr = 0;

	/* the fabric's device that most pairs reach */
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		int n = find_pairs(pairs, p2p.client[i].bdf);

		if (n > nr) {
			nr = n;
			t->fabric = p2p.client[i].bdf;
		}
	}
	if (!nr)
		SKIP(return, "P2PDMA_EXPECT names no pair whose data are right");
	find_pairs(pairs, t->fabric);

	ASSERT_EQ(0, nvmet_subsys_add(t->nqn));
	for (int i = 0; i < nr; i++) {
		ASSERT_EQ(0, nvmet_ns_add(t->nqn, i + 1, pairs[i].disk.path));
		ASSERT_EQ(0, nvmet_ns_set(t->nqn, i + 1, "p2pmem",
					  pairs[i].provider->bdf));
		ASSERT_EQ(0, nvmet_ns_set(t->nqn, i + 1, "enable", "1"));
	}
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));

	/* a queue for each pair */
	ASSERT_EQ(0, nvmet_host_connect(&t->host, NVMET_PORT, t->nqn, t->fabric,
					nr, QUEUE_SIZE));
	for (int i = 0; i < nr; i++)
		expect_using(_metadata, t, pairs[i].provider->bdf, i + 1);
	ASSERT_EQ(0, nvmet_host_connect(&self->second, NVMET_PORT, t->nqn,
					t->fabric, nr, QUEUE_SIZE));
	EXPECT_NE(t->host.connect.cntlid, self->second.connect.cntlid);
	other = *t;
	other.host = self->second;

	/* the first host has the first half of each pair's part */
	for (int i = 0; i < 2 * nr; i++) {
		const struct pair *pair = &pairs[i / 2];

		threads[i].t = i % 2 ? &other : t;
		threads[i].run = io(t, P2PDMA_NVMET_WRITE, 1 + i / 2, KB(16), 8,
				    pair->pos + i % 2 * PAIR_LEN / 2,
				    PAIR_LEN / 2, P2P_DATA);
		threads[i].run.nsid = i / 2 + 1;
		threads[i].run.block_size = pair->disk.lba;
		threads[i].run.blocks = KB(16) / pair->disk.lba;
		threads[i].run.slba = threads[i].run.slba * t->disk.lba /
				      pair->disk.lba;
		threads[i].run.span = PAIR_LEN / 2 / pair->disk.lba;
		ASSERT_EQ(0, pthread_create(&threads[i].id, NULL, thread_run,
					    &threads[i]));
	}
	for (int i = 0; i < 2 * nr; i++) {
		ASSERT_EQ(0, pthread_join(threads[i].id, NULL));
		EXPECT_EQ(0, threads[i].ret);
		expect_p2p(_metadata, pairs[i / 2].provider, &threads[i].run);
	}
	for (int i = 0; i < nr; i++) {
		expect_counted(_metadata, t, i + 1, &threads[2 * i].run);
		expect_counted(_metadata, &other, i + 1,
			       &threads[2 * i + 1].run);
	}
	EXPECT_EQ(nr, nvmet_counters(&t->host, -1, -1, &c));
	EXPECT_EQ(nr * PAIR_LEN / 2, c.p2p_bytes);
	EXPECT_EQ(0UL, c.fallback_bytes);

	for (int i = 0; i < nr; i++) {
		struct target view = *t;

		view.disk = pairs[i].disk;
		view.fd = open(view.disk.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		ASSERT_LE(0, view.fd);
		EXPECT_TRUE(medium_holds(_metadata, &view, pairs[i].pos,
					 PAIR_LEN, P2P_DATA));
		close(view.fd);
	}
}

/* ---- a lot of data ----------------------------------------------------- */

FIXTURE(gigabyte) {
	struct target t;
	int pool;
	char *map;
};

FIXTURE_VARIANT(gigabyte) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
	bool exhausted;
};

FIXTURE_SETUP(gigabyte)
{
	if (!variant)
		SKIP(return, NO_PAIR);
	self->map = MAP_FAILED;
	self->pool = -1;
	target_open(_metadata, &self->t, variant->provider, variant->disk);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	if (variant->exhausted)
		exhaust(_metadata, variant->provider, self->pool, &self->map,
			0);
}

FIXTURE_TEARDOWN(gigabyte)
{
	if (!variant)
		return;
	if (self->map != MAP_FAILED)
		munmap(self->map, variant->provider->rest);
	if (self->pool >= 0)
		close(self->pool);
	target_close(_metadata, &self->t);
}

/*
 * 1 GiB written and read back, in laps over the part of the medium that there
 * is. Each lap has another pattern than the one before, and is looked at on the
 * medium before the next. An eighth of it shows that an exhausted pool is asked
 * in vain each time: nothing is taken from it that could be lost.
 */
TEST_F_TIMEOUT(gigabyte, write_read, 1200)
{
	const size_t size = KB(256), all = variant->exhausted ? MB(128) : MB(1024);
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;
	size_t done = 0, p2p = 0, fallback = 0;

	while (done < all) {
		enum p2p_what what = done / t->room % 2 ? P2P_DATA : P2P_PRESET;
		size_t len = all - done < t->room ? all - done : t->room;

		r = io(t, P2PDMA_NVMET_WRITE, 1, size, 16, t->pos, len, what);
		ASSERT_EQ(0, run(t, &r));
		ASSERT_EQ(r.count, r.commands);
		EXPECT_EQ(0ULL, r.wrong_pages);
		p2p += r.p2p_bytes;
		fallback += r.fallback_bytes;
		ASSERT_TRUE(medium_holds(_metadata, t, t->pos, len, what));

		r = io(t, P2PDMA_NVMET_READ, 2, size, 16, t->pos, len, what);
		ASSERT_EQ(0, run(t, &r));
		ASSERT_EQ(r.count, r.commands);
		EXPECT_EQ(0ULL, r.wrong_pages);
		p2p += r.p2p_bytes;
		fallback += r.fallback_bytes;
		ASSERT_TRUE(good_read(_metadata, &r));
		done += len;
	}
	EXPECT_EQ(variant->exhausted ? 0 : 2 * all, p2p);
	EXPECT_EQ(variant->exhausted ? 2 * all : 0, fallback);
}

/* ---- one variant for each pair ----------------------------------------- */

static void add(const struct p2p_provider *p, const struct p2p_client *c,
		bool last)
{
	struct p2p_expect expect = p2p_expect(p, c);

	/* whether such pairs are refused is p2pdma_nvmet_config's business */
	if (expect.verdict == P2P_NOT_SUPPORTED)
		return;

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		FIXTURE_VARIANT(io) v = {
			.provider = p,
			.disk = c,
			.shape = &shapes[i],
		};
		size_t size = shape_size(&shapes[i], c);

		if (!is_tried(&shapes[i]))
			continue;
		/*
		 * Access to a CMB by the CPU takes too long in a virtual machine.
		 * A command's memory is in one piece, and its disk is asked for
		 * less than 4 MiB at a time, so that what is larger is the same
		 * several times over.
		 */
		if (size > MB(4) && !strcmp(p->kind, "cmb"))
			continue;
		/* the largest command needs a large disk and a large pool */
		if (shapes[i].size == SIZE_MAX &&
		    (size + MB(8) > c->size || size > (size_t)p->rest ||
		     size > P2PDMA_NVMET_MAX_DATA))
			continue;
		P2P_VARIANT_ADD(io, v, "%s@%s>%s/%s", p->kind, p->bdf,
				c->label, shapes[i].name);
	}

	FIXTURE_VARIANT(command) v = { .provider = p, .disk = c };

	P2P_VARIANT_ADD(command, v, "%s@%s>%s", p->kind, p->bdf, c->label);

	FIXTURE_VARIANT(memory) m = { .provider = p, .disk = c };

	P2P_VARIANT_ADD(memory, m, "%s@%s>%s", p->kind, p->bdf, c->label);

	/* access to a CMB by the CPU takes too long in a virtual machine */
	if (!last || expect.defect[0] || !strcmp(p->kind, "cmb"))
		return;

	FIXTURE_VARIANT(gigabyte) g = { .provider = p, .disk = c };

	P2P_VARIANT_ADD(gigabyte, g, "%s@%s>%s", p->kind, p->bdf, c->label);
	g.exhausted = true;
	P2P_VARIANT_ADD(gigabyte, g, "%s@%s>%s/exhausted", p->kind, p->bdf,
			c->label);
}

static void add_automatic(const struct p2p_client *disk)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		FIXTURE_VARIANT(automatic) v = {
			.disk = disk,
			.fabric = &p2p.client[i],
		};

		P2P_VARIANT_ADD(automatic, v, "%s+%s", disk->label,
				p2p.client[i].label);
	}
}

int main(int argc, char **argv)
{
	if (p2p_help(argc, argv,
		     "Data through the NVMe target in peer-to-peer memory"))
		return test_harness_run(argc, argv);

	p2p_discover();
	p2p_require_clients();
	nvmet_init(NQN_PREFIX);
	nvmet_require_transport();
	require_shapes();

	for (unsigned int j = 0; j < p2p.nr_clients; j++) {
		add_automatic(&p2p.client[j]);
		for (unsigned int i = 0; i < p2p.nr_providers; i++)
			if (p2p.client[j].scratch)
				add(&p2p.provider[i], &p2p.client[j],
				    j == p2p.nr_clients - 1);
	}
	return test_harness_run(argc, argv);
}
