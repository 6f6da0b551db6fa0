/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A namespace of the NVMe target with a host that uses it, for the selftests
 * that move data. To be included after kselftest_harness.h.
 */
#ifndef _SELFTESTS_P2PDMA_NVMET_TARGET_H
#define _SELFTESTS_P2PDMA_NVMET_TARGET_H

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "p2pdma_nvmet_util.h"

#define KB(n)		((size_t)(n) << 10)
#define MB(n)		((size_t)(n) << 20)

#define QUEUES		8	/* at most: each takes a grace period of RCU to go */
#define FEW_QUEUES	4
#define QUEUE_SIZE	129	/* one less commands can be under way */

/**
 * struct target - what a test works with
 * @provider: whose memory is used
 * @disk: the NVMe namespace of this machine that the target's is
 * @expect: what is expected of the two
 * @nqn: name of the subsystem
 * @fabric: PCI address of the device that does the fabric's DMA
 * @host: a host with @queues I/O queues
 * @queues: FEW_QUEUES, unless the test wants more of them
 * @fd: the disk, for the view from the other side
 * @kmsg: the kernel's messages since setup began
 * @ram: ordinary memory, @ram_len bytes
 * @pos: where on the medium the tests work
 * @room: how many bytes there are
 * @lost: the provider does not come back, and nobody looks for its memory
 */
struct target {
	const struct p2p_provider *provider;
	struct p2p_client disk;
	struct p2p_expect expect;
	const char *nqn;
	const char *fabric;
	struct nvmet_host host;
	unsigned int queues;
	int fd, kmsg;
	char *ram;
	size_t ram_len;
	uint64_t pos, room;
	bool lost;
};

/*
 * The device that does the fabric's DMA: neither the disk's controller nor the
 * provider, if there is another disk's.
 */
static inline const char *pick_fabric(const struct p2p_provider *provider,
				      const struct p2p_client *disk)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *other = &p2p.client[i];

		if (strcmp(other->bdf, disk->bdf) &&
		    strcmp(other->bdf, provider->bdf) &&
		    p2p_expect(provider, other).verdict != P2P_NOT_SUPPORTED)
			return other->bdf;
	}
	return disk->bdf;
}

/*
 * Pairs are known at run time only. Where there is none for a fixture, the
 * harness runs its tests without a variant: they are skipped, and say why.
 */
#define NO_PAIR	"no provider that reaches a disk whose content may be destroyed, allow it with P2PDMA_SCRATCH=<disk>"

/* Nothing is configured yet. */
static inline void target_prepare(struct __test_metadata *_metadata,
				  struct target *t,
				  const struct p2p_provider *provider,
				  const struct p2p_client *disk)
{
	t->provider = provider;
	t->disk = *disk;
	t->expect = p2p_expect(provider, disk);
	t->nqn = NQN_PREFIX "subsystem";
	t->fabric = pick_fabric(provider, disk);
	t->host.fd = -1;
	t->queues = FEW_QUEUES;
	t->fd = -1;
	t->kmsg = -1;
	t->ram = MAP_FAILED;
	t->ram_len = MB(32);
	t->pos = MB(4);
	t->room = (disk->size - 2 * t->pos) / MB(1) * MB(1);
	ASSERT_LT(MB(32), disk->size)
		TH_LOG("%s is too small", disk->path);
	ASSERT_EQ(provider->rest, p2p_available(provider))
		TH_LOG("the pool is not as it was, an earlier test or another user holds memory");

	t->kmsg = kmsg_open();
	ASSERT_LE(0, t->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
	t->ram = mmap(NULL, t->ram_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)t->ram);
	ASSERT_TRUE(p2p_find_client(&t->disk))
		TH_LOG("%s is gone", disk->label);
	t->fd = open(t->disk.path, (disk->scratch ? O_RDWR : O_RDONLY) |
				   O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, t->fd)
		TH_LOG("%s: %s", t->disk.path, strerror(errno));
	ASSERT_EQ(0, nvmet_cleanup());
}

/* A subsystem with the disk as namespace 1, linked to a port. */
static inline void target_configure(struct __test_metadata *_metadata,
				    struct target *t, const char *p2pmem)
{
	int ret;

	ASSERT_EQ(0, nvmet_subsys_add(t->nqn));
	ASSERT_EQ(0, nvmet_ns_add(t->nqn, 1, t->disk.path));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem", p2pmem));
	ret = nvmet_ns_set(t->nqn, 1, "enable", "1");
	if (t->expect.verdict == P2P_UNKNOWN && ret == -EINVAL)
		SKIP(return, "the target refuses this pair (EINVAL)");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));
}

/*
 * IDs of controllers are given from 1 on, so that another one means that an
 * earlier controller was not freed.
 */
static inline void target_connect(struct __test_metadata *_metadata,
				  struct target *t, const char *fabric)
{
	ASSERT_EQ(0, nvmet_host_connect(&t->host, NVMET_PORT, t->nqn, fabric,
					t->queues, QUEUE_SIZE));
	EXPECT_EQ(1, t->host.connect.cntlid)
		TH_LOG("controllers that should be gone are there");
}

/* The kernel has said which provider it uses for a namespace. */
static inline void expect_using(struct __test_metadata *_metadata,
				struct target *t, const char *bdf,
				unsigned int nsid)
{
	char others[1024];

	EXPECT_TRUE(kmsg_find(t->kmsg, others, sizeof(others),
			      "nvmet: using p2pmem on %s for nsid %u", bdf,
			      nsid))
		TH_LOG("the target does not say that it uses p2pmem on %s for nsid %u, but: %s",
		       bdf, nsid, others);
}

/* With everything as it was prepared. */
static inline void target_start(struct __test_metadata *_metadata,
				struct target *t)
{
	target_configure(_metadata, t, t->provider->bdf);
	if (_metadata->exit_code == KSFT_SKIP)
		return;
	target_connect(_metadata, t, t->fabric);
	expect_using(_metadata, t, t->provider->bdf, 1);
}

static inline void target_open(struct __test_metadata *_metadata,
			       struct target *t,
			       const struct p2p_provider *provider,
			       const struct p2p_client *disk)
{
	target_prepare(_metadata, t, provider, disk);
	target_start(_metadata, t);
}

static inline void target_close(struct __test_metadata *_metadata,
				struct target *t)
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

	if (!t->lost)
		EXPECT_EQ(t->provider->rest, p2p_available(t->provider))
			TH_LOG("the pool is not as it was before the test");
	/* one that is built in counts no references, and has no such file */
	fd = open(NVMET_MODULE "/refcnt", O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return;
	EXPECT_LE(0, fd);
	EXPECT_LT(0, read(fd, refs, sizeof(refs) - 1));
	EXPECT_STREQ("0\n", refs)
		TH_LOG("something of the transport is still there");
	close(fd);
}

/* ---- Reads and Writes -------------------------------------------------- */

/* A run of @len bytes from @pos on, in commands of @size bytes. */
static inline struct p2pdma_nvmet_run io(const struct target *t,
					 unsigned int op, unsigned int qid,
					 size_t size, unsigned int depth,
					 uint64_t pos, uint64_t len,
					 enum p2p_what what)
{
	return (struct p2pdma_nvmet_run) {
		.op = op,
		.qid = qid,
		.nsid = 1,
		.block_size = t->disk.lba,
		.blocks = size / t->disk.lba,
		.depth = depth,
		.slba = pos / t->disk.lba,
		.span = len / t->disk.lba,
		.count = len / size,
		.pattern = nvmet_pattern(what),
	};
}

static inline int run(const struct target *t, struct p2pdma_nvmet_run *r)
{
	return ioctl(t->host.fd, P2PDMA_NVMET_RUN, r) ? -errno : 0;
}

/* All went well, and all was in the memory of the provider. */
static inline void expect_p2p(struct __test_metadata *_metadata,
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
static inline void data_verdict(struct __test_metadata *_metadata,
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
static inline bool good_read(struct __test_metadata *_metadata,
			     const struct p2pdma_nvmet_run *r)
{
	if (r->bad_words)
		TH_LOG("%llu words are wrong, the first at byte %#llx: %#llx (P2PDMA_SEED=%#x)",
		       r->bad_words, r->bad_at, r->bad_found, p2p.seed);
	return !r->bad_words;
}

/* The medium as it is seen without the target. */
static inline bool medium_holds(struct __test_metadata *_metadata,
				struct target *t, uint64_t pos, uint64_t len,
				enum p2p_what what)
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
			TH_LOG("reading %s: %s", t->disk.path,
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

static inline void medium_fill(struct __test_metadata *_metadata,
			       struct target *t, uint64_t pos, uint64_t len,
			       enum p2p_what what)
{
	for (uint64_t at = pos; at < pos + len; at += t->ram_len) {
		size_t part = pos + len - at;

		if (part > t->ram_len)
			part = t->ram_len;
		p2p_fill(t->ram, part, what, at);
		if (p2p.corrupt)
			p2p_flip(t->ram, part / 2);
		ASSERT_EQ((ssize_t)part, pwrite(t->fd, t->ram, part, at))
			TH_LOG("writing %s: %s", t->disk.path,
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

static inline void *thread_run(void *arg)
{
	struct thread *thread = arg;

	thread->ret = run(thread->t, &thread->run);
	return NULL;
}

static inline void run_threads(struct __test_metadata *_metadata,
			       const struct target *t, struct thread *threads,
			       int nr, unsigned int op, size_t size,
			       unsigned int depth, uint64_t len,
			       enum p2p_what what)
{
	for (int i = 0; i < nr; i++) {
		threads[i].t = t;
		threads[i].run = io(t, op, 1 + i % t->queues, size, depth,
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

#endif /* _SELFTESTS_P2PDMA_NVMET_TARGET_H */
