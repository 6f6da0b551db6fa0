// SPDX-License-Identifier: GPL-2.0
/*
 * The NVMe target without memory, systematically: what a host or an
 * administrator does is done again and again, and each time another of the
 * kernel's allocations in it fails.
 *
 * What has to come of it is not always an error. Without memory for its
 * scatterlist a command gets none of the pool, and memory of the system in its
 * place, which is counted as fallback. With an exhausted pool there is nothing
 * left to fall back on: the command is not sent, which is counted as well.
 */
#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_faults.h"
#include "p2pdma_nvmet_target.h"

#define SIZE		KB(64)

/* NVMe's status Internal Error, and what it may be joined by */
#define INTERNAL_ERROR	0x006

#define MAX_ROUNDS	10

static const struct p2p_provider *provider;
static const struct p2p_client *disk;

/**
 * struct seen - what the transport reported
 * @p2p: commands with data in peer-to-peer memory
 * @fallback: commands with data in memory of the system in its place
 * @no_memory: commands for which there was none
 * @errors: commands that were completed with an error
 */
struct seen {
	uint64_t p2p, fallback, no_memory, errors;
};

FIXTURE(nvmet_fault) {
	struct target t;
	struct seen seen;
	int nth, pool;
	char *map;
};

/**
 * struct nvmet_fault_variant - an operation
 * @prepare: what comes before it each time, or NULL
 * @run: the operation: 0, or a negative errno
 * @undo: what takes it back after it succeeded, or NULL: 0, or a negative errno
 * @intact: whether all is as it was after it failed, or NULL
 * @exhausted: with an empty pool
 * @depth: commands under way at a time
 * @errors: what it may fail with beside ENOMEM
 * @least: how many allocations there are in it at least
 * @falls_back, @lacks_memory: both have to be seen
 */
FIXTURE_VARIANT(nvmet_fault) {
	void (*prepare)(struct target *t);
	int (*run)(struct target *t, struct seen *seen, unsigned int depth);
	int (*undo)(struct target *t, unsigned int depth);
	bool (*intact)(struct target *t);
	bool exhausted, falls_back, lacks_memory;
	unsigned int depth;
	int errors[4];
	int least;
};

static int run_op(struct target *t, struct seen *seen, unsigned int op,
		  unsigned int depth)
{
	uint64_t count = 2 * depth;
	struct p2pdma_nvmet_run r = io(t, op, 1, SIZE, depth, t->pos,
				       count * SIZE, P2P_DATA);
	int ret = run(t, &r);

	if (ret)
		return ret;
	seen->p2p += r.p2p_commands;
	seen->fallback += r.fallback_commands;
	seen->no_memory += r.no_memory;
	seen->errors += r.errors;
	if (r.errors)
		return (r.error_status & 0x7ff) == INTERNAL_ERROR ? -ENOMEM :
								    -EPROTO;
	if (r.wrong_pages || r.bad_words || r.commands != count)
		return -EILSEQ;
	return r.p2p_commands + r.fallback_commands == count ? 0 : -EBADE;
}

static int run_write(struct target *t, struct seen *seen, unsigned int depth)
{
	return run_op(t, seen, P2PDMA_NVMET_WRITE, depth);
}

static int run_read(struct target *t, struct seen *seen, unsigned int depth)
{
	return run_op(t, seen, P2PDMA_NVMET_READ, depth);
}

/* All of what was written is on the medium; the next time it is not. */
static int undo_write(struct target *t, unsigned int depth)
{
	size_t len = 2 * depth * SIZE;
	char why[256];

	memset(t->ram, 0, len);
	if (pread(t->fd, t->ram, len, t->pos) != (ssize_t)len)
		return -errno;
	if (p2p.corrupt)
		p2p_flip(t->ram, len / 2);
	if (p2p_check(t->ram, len, P2P_DATA, t->pos, why, sizeof(why)))
		return -EILSEQ;
	p2p_fill(t->ram, len, P2P_AROUND, t->pos);
	return pwrite(t->fd, t->ram, len, t->pos) == (ssize_t)len ? 0 : -errno;
}

/* One Read into user memory, which counts in debugfs alone. */
static int run_command(struct target *t, struct seen *seen,
		       unsigned int depth __always_unused)
{
	struct p2pdma_nvmet_command cmd = {
		.sqe = { [0] = 0x02, [1] = 0x40, [4] = 1 },
		.qid = 1,
		.data = (uintptr_t)t->ram,
		.data_len = SIZE,
	};
	uint64_t slba = t->pos / t->disk.lba;
	char why[256];
	int ret;

	memcpy(&cmd.sqe[40], &slba, sizeof(slba));
	cmd.sqe[48] = SIZE / t->disk.lba - 1;
	memset(t->ram, 0, SIZE);
	ret = nvmet_command(&t->host, &cmd);
	if (ret)
		return ret;
	if (cmd.status)
		return (cmd.status & 0x7ff) == INTERNAL_ERROR ? -ENOMEM :
								-EPROTO;
	seen->p2p += cmd.place == P2PDMA_NVMET_P2P;
	seen->fallback += cmd.place == P2PDMA_NVMET_FALLBACK;
	if (p2p.corrupt)
		p2p_flip(t->ram, SIZE / 2);
	if (cmd.wrong_pages ||
	    p2p_check(t->ram, SIZE, P2P_DATA, t->pos, why, sizeof(why)))
		return -EILSEQ;
	return 0;
}

static void disconnect(struct target *t)
{
	nvmet_host_close(&t->host);
}

static int run_connect(struct target *t, struct seen *seen __always_unused,
		       unsigned int depth __always_unused)
{
	int ret = nvmet_host_connect(&t->host, NVMET_PORT, t->nqn, t->fabric,
				     1, 8);

	if (ret > 0)	/* a status */
		ret = (ret & 0x7ff) == INTERNAL_ERROR ? -ENOMEM : -EPROTO;
	return ret;
}

/* No controller is left of one that could not be connected. */
static bool nobody_is_connected(struct target *t)
{
	bool first;

	if (nvmet_host_connect(&t->host, NVMET_PORT, t->nqn, t->fabric, 1, 8))
		return false;
	first = t->host.connect.cntlid == 1;
	nvmet_host_close(&t->host);
	return first;
}

static void disable(struct target *t)
{
	nvmet_ns_set(t->nqn, 1, "enable", "0");
}

static int run_enable(struct target *t, struct seen *seen __always_unused,
		      unsigned int depth __always_unused)
{
	return nvmet_ns_set(t->nqn, 1, "enable", "1");
}

static bool is_disabled(struct target *t)
{
	char text[16] = "";

	return nvmet_ns_get(t->nqn, 1, "enable", text, sizeof(text)) >= 0 &&
	       text[0] == '0';
}

static int run_p2pmem(struct target *t, struct seen *seen __always_unused,
		      unsigned int depth __always_unused)
{
	return nvmet_ns_set(t->nqn, 1, "p2pmem", t->provider->bdf);
}

FIXTURE_VARIANT_ADD(nvmet_fault, write) {
	.run = run_write,
	.undo = undo_write,
	.depth = 1,
	.falls_back = true,
	.least = 4,
};

FIXTURE_VARIANT_ADD(nvmet_fault, write_deep) {
	.run = run_write,
	.undo = undo_write,
	.depth = 8,
	.falls_back = true,
	.least = 20,
};

FIXTURE_VARIANT_ADD(nvmet_fault, read) {
	.run = run_read,
	.depth = 1,
	.falls_back = true,
	.least = 4,
};

FIXTURE_VARIANT_ADD(nvmet_fault, write_exhausted) {
	.run = run_write,
	.undo = undo_write,
	.depth = 1,
	.exhausted = true,
	.lacks_memory = true,
	.least = 4,
};

/* what is sent again when others have given their memory back */
FIXTURE_VARIANT_ADD(nvmet_fault, read_deep_exhausted) {
	.run = run_read,
	.depth = 8,
	.exhausted = true,
	.lacks_memory = true,
	.least = 20,
};

FIXTURE_VARIANT_ADD(nvmet_fault, command) {
	.run = run_command,
	.falls_back = true,
	.least = 3,
};

FIXTURE_VARIANT_ADD(nvmet_fault, command_exhausted) {
	.run = run_command,
	.exhausted = true,
	.lacks_memory = true,
	.least = 3,
};

FIXTURE_VARIANT_ADD(nvmet_fault, connect) {
	.prepare = disconnect,
	.run = run_connect,
	.intact = nobody_is_connected,
	.least = 10,
};

FIXTURE_VARIANT_ADD(nvmet_fault, enable) {
	.prepare = disable,
	.run = run_enable,
	.intact = is_disabled,
	.least = 3,
};

FIXTURE_VARIANT_ADD(nvmet_fault, p2pmem) {
	.prepare = disable,
	.run = run_p2pmem,
	.intact = is_disabled,
	.least = 1,
};

FIXTURE_SETUP(nvmet_fault)
{
	struct target *t = &self->t;

	self->pool = -1;
	self->map = MAP_FAILED;
	self->nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->nth);
	target_open(_metadata, t, provider, disk);
	ASSERT_EQ(KSFT_PASS, _metadata->exit_code);
	medium_fill(_metadata, t, t->pos, 16 * SIZE, P2P_DATA);
	if (!variant->exhausted)
		return;
	self->pool = p2p_open_pool(provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->map = p2p_map_pieces(self->pool, provider->rest);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	ASSERT_EQ(0, p2p_available(provider));
}

FIXTURE_TEARDOWN(nvmet_fault)
{
	fail_nth(self->nth, 0);
	close(self->nth);
	if (self->map != MAP_FAILED)
		munmap(self->map, provider->rest);
	if (self->pool >= 0)
		close(self->pool);
	target_close(_metadata, &self->t);
}

/*
 * An allocation has another number whenever one before it must refill a slab
 * first, so a round can miss the one of the scatterlist: rounds until it has
 * failed.
 */
TEST_F_TIMEOUT(nvmet_fault, each_allocation, 600)
{
	ssize_t rest = variant->exhausted ? 0 : provider->rest;
	struct target *t = &self->t;
	struct seen *seen = &self->seen;
	int nth, ret, rounds = 0, tried = 0, failed = 0;
	struct nvmet_counters before, after;
	bool injected;

	nvmet_counters(&t->host, -1, -1, &before);
	for (nth = 1; nth <= MAX_NTH; nth++) {
		if (variant->prepare)
			variant->prepare(t);
		ASSERT_TRUE(fail_nth(self->nth, nth));
		ret = variant->run(t, seen, variant->depth);
		injected = has_failed(self->nth);
		ASSERT_TRUE(fail_nth(self->nth, 0));

		if (ret) {
			if (variant->intact)
				EXPECT_TRUE(variant->intact(t))
					TH_LOG("allocation %d", nth);
			EXPECT_TRUE(injected)
				TH_LOG("nothing failed in it, but it did: %s",
				       strerror(-ret));
			EXPECT_TRUE(is_expected(variant->errors, -ret))
				TH_LOG("allocation %d: %s", nth,
				       strerror(-ret));
			failed++;
		} else if (variant->undo) {
			ASSERT_EQ(0, variant->undo(t, variant->depth))
				TH_LOG("allocation %d", nth);
		}
		/* whatever became of it, all memory is in the pool again */
		ASSERT_EQ(rest, p2p_available(provider))
			TH_LOG("allocation %d", nth);
		if (injected)
			continue;

		/* or nothing was tried */
		EXPECT_LT(variant->least, nth);
		tried += nth - 1;
		/* a call that failed has reported nothing, but debugfs has it */
		if (variant->run != run_connect &&
		    nvmet_counters(&t->host, -1, -1, &after) > 0) {
			EXPECT_LE(seen->p2p,
				  after.p2p_commands - before.p2p_commands);
			EXPECT_LE(seen->fallback,
				  after.fallback_commands -
				  before.fallback_commands);
			EXPECT_LE(seen->no_memory,
				  after.no_memory - before.no_memory);
			seen->no_memory = after.no_memory - before.no_memory;
		}
		if (((variant->exhausted ||
		      variant->falls_back == !!seen->fallback) &&
		     variant->lacks_memory == !!seen->no_memory) ||
		    ++rounds == MAX_ROUNDS)
			break;
		nth = 0;
	}
	EXPECT_GE(MAX_NTH, nth)
		TH_LOG("there is no end to its allocations");
	EXPECT_EQ(variant->lacks_memory, !!seen->no_memory);
	if (!variant->exhausted)
		EXPECT_EQ(variant->falls_back, !!seen->fallback);
	EXPECT_FALSE(variant->exhausted && seen->p2p);
	ksft_print_msg("%d allocations: without one it failed %d times, and did without %d times\n",
		       tried, failed, tried - failed);
	ksft_print_msg("commands in the pool: %lu, in system memory: %lu, without memory: %lu\n",
		       seen->p2p, seen->fallback, seen->no_memory);
}

int main(int argc, char **argv)
{
	if (p2p_help(argc, argv,
		     "The NVMe target with peer-to-peer memory, while each allocation fails"))
		return test_harness_run(argc, argv);
	p2p_discover();
	require_faults();
	p2p_require_clients();
	nvmet_init(NQN_PREFIX);
	nvmet_require_transport();

	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		for (unsigned int j = 0; !disk && j < p2p.nr_clients; j++) {
			const struct p2p_expect e =
				p2p_expect(&p2p.provider[i], &p2p.client[j]);

			if (!p2p.client[j].scratch || e.defect[0] ||
			    e.verdict == P2P_UNKNOWN ||
			    e.verdict == P2P_NOT_SUPPORTED)
				continue;
			provider = &p2p.provider[i];
			disk = &p2p.client[j];
		}
	if (!disk)
		ksft_exit_skip(NO_PAIR "\n");
	return test_harness_run(argc, argv);
}
