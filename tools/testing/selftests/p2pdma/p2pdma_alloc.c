// SPDX-License-Identifier: GPL-2.0
/*
 * The pool from inside the kernel: pci_alloc_p2pmem(), pci_p2pmem_alloc_sgl()
 * and their counterparts. What is taken, what comes back and what is left, to
 * the page; the content of the memory through the io accessors; and user space
 * taking its share at the same time.
 */
#include <limits.h>
#include <linux/io.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define TAG(_n)	((__u64)(_n) << P2PDMA_TEST_POSITION_BITS)

static size_t page;

FIXTURE(alloc) {
	int dev;
};

FIXTURE_VARIANT(alloc) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(alloc)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

FIXTURE_TEARDOWN(alloc)
{
	if (self->dev >= 0)
		close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

#define EXPECT_TAKEN(_taken)						\
	EXPECT_EQ(variant->provider->rest - (ssize_t)(_taken),		\
		  p2p_available(variant->provider))

#define MEMORY(_length, _entries) ({					\
	int64_t __id = h_memory(self->dev, variant->provider->bdf,	\
				_length, _entries);			\
									\
	ASSERT_LT(0, __id);						\
	(uint32_t)__id;							\
})

/* What an allocation can have at most, as long as there is nothing else. */
static size_t largest(const struct p2p_provider *provider)
{
	return provider->rest / provider->ranges;
}

/* The size of an entry is a number of 32 bits. */
static bool is_huge(const struct p2p_provider *provider)
{
	return largest(provider) + page > UINT32_MAX;
}

#define HUGE_RANGES	"ranges of 4 GiB, and entries have less"

/* ---- accounting -------------------------------------------------------- */

static const size_t lengths[] = {
	4, 512, 4092, 4096, 4100, 8192, 65536, 65540, 1 << 20,
};

/* Whole pages, whatever is asked for. */
TEST_F(alloc, one_entry)
{
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t taken = (lengths[i] + page - 1) / page * page;
		uint32_t id;

		if (taken > largest(variant->provider))
			continue;
		id = MEMORY(lengths[i], 1);
		EXPECT_TAKEN(taken) {
			TH_LOG("%zu bytes", lengths[i]);
		}
		EXPECT_EQ(0, h_drop(self->dev, id));
		EXPECT_TAKEN(0);
	}
}

TEST_F(alloc, several_entries)
{
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t taken = (lengths[i] + page - 1) / page * page;
		uint32_t id;

		if (7 * taken > largest(variant->provider))
			continue;
		id = MEMORY(lengths[i], 7);
		EXPECT_TAKEN(7 * taken) {
			TH_LOG("7 times %zu bytes", lengths[i]);
		}
		EXPECT_EQ(0, h_drop(self->dev, id));
		EXPECT_TAKEN(0);
	}
}

/* A list of more entries than fit into a page. */
TEST_F(alloc, many_entries)
{
	uint32_t id;

	if (variant->provider->rest < (ssize_t)(1000 * page))
		SKIP(return, "the pool has less than 1000 pages");
	id = MEMORY(page, 1000);
	EXPECT_TAKEN(1000 * page);
	EXPECT_EQ(0, h_drop(self->dev, id));
}

TEST_F(alloc, most_entries)
{
	size_t n = variant->provider->rest / page;
	uint32_t id;

	if (n > P2PDMA_TEST_MAX_ENTRIES)
		n = P2PDMA_TEST_MAX_ENTRIES;
	id = MEMORY(page, n);
	EXPECT_TAKEN(n * page);
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_TAKEN(0);
}

/* What is found out by allocating is what the kernel says. */
TEST_F(alloc, facts)
{
	struct p2pdma_test_pool args = {
		.flags = P2PDMA_TEST_POOL_LARGEST | P2PDMA_TEST_POOL_COUNT,
		.provider = h_function(variant->provider->bdf),
	};

	ASSERT_EQ(0, h_pool(self->dev, &args));
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
	EXPECT_EQ(variant->provider->rest, (ssize_t)(args.pages * page));
	/*
	 * What is taken at rest is at the start: see nvme_alloc_sq_cmds().
	 * Ranges are all of one size, and of them nothing is taken.
	 */
	EXPECT_EQ(largest(variant->provider), args.largest);
}

TEST_F(alloc, to_the_last_page)
{
	struct p2pdma_test_pool args = {
		.flags = P2PDMA_TEST_POOL_LARGEST | P2PDMA_TEST_POOL_COUNT,
		.provider = h_function(variant->provider->bdf),
	};
	const unsigned int ranges = variant->provider->ranges;
	const size_t part = largest(variant->provider);
	uint32_t id;

	if (is_huge(variant->provider))
		SKIP(return, HUGE_RANGES);

	/* each range in one piece, and in two */
	id = MEMORY(part, ranges);
	EXPECT_TAKEN(ranges * part);
	EXPECT_EQ(-ENOMEM, h_memory(self->dev, variant->provider->bdf, 4, 1));
	EXPECT_EQ(0, h_pool(self->dev, &args));
	EXPECT_EQ(0U, args.largest);
	EXPECT_EQ(0U, args.pages);
	EXPECT_EQ(0, h_drop(self->dev, id));

	id = MEMORY(part - page, ranges);
	MEMORY(page, ranges);
	EXPECT_TAKEN(ranges * part);
	EXPECT_EQ(-ENOMEM, h_memory(self->dev, variant->provider->bdf, 4, 1));
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_TAKEN(ranges * page);
}

TEST_F(alloc, too_much)
{
	size_t rest = variant->provider->rest;

	if (is_huge(variant->provider))
		SKIP(return, HUGE_RANGES);
	EXPECT_EQ(-ENOMEM, h_memory(self->dev, variant->provider->bdf,
				    largest(variant->provider) + page, 1));
	EXPECT_EQ(-ENOMEM, h_memory(self->dev, variant->provider->bdf,
				    UINT32_MAX & ~3U, 1));
	/* the last entry is one too many, and the others come back */
	if (rest / 4 / page * page + page <= UINT32_MAX)
		EXPECT_EQ(-ENOMEM, h_memory(self->dev, variant->provider->bdf,
					    rest / 4 / page * page + page, 4));
	EXPECT_TAKEN(0);
}

/* Every other page: half of it is free, and nothing larger than a page. */
TEST_F(alloc, fragmented)
{
	struct p2pdma_test_pool args = {
		.flags = P2PDMA_TEST_POOL_LARGEST | P2PDMA_TEST_POOL_COUNT,
		.provider = h_function(variant->provider->bdf),
	};
	size_t n = variant->provider->rest / page;
	uint32_t *id;

	if (n > P2PDMA_TEST_MAX_OBJECTS)
		SKIP(return, "more pages than a descriptor can have objects");
	if (n < 500)
		SKIP(return, "too few pages to make holes, and a list of 100");
	id = calloc(n, sizeof(*id));
	ASSERT_NE(NULL, id);
	for (size_t i = 0; i < n; i++)
		id[i] = MEMORY(page, 1);
	EXPECT_TAKEN(n * page);
	for (size_t i = 0; i < n; i += 2)
		ASSERT_EQ(0, h_drop(self->dev, id[i]));

	ASSERT_EQ(0, h_pool(self->dev, &args));
	EXPECT_EQ((ssize_t)((n + 1) / 2 * page),
		  p2p_available(variant->provider));
	EXPECT_EQ(page, args.largest);
	EXPECT_EQ((n + 1) / 2, args.pages);
	EXPECT_EQ(-ENOMEM, h_memory(self->dev, variant->provider->bdf,
				    page + 4, 1));
	/* a list takes the pages all the same */
	EXPECT_LT(0, h_memory(self->dev, variant->provider->bdf, page, 100));

	/* where three neighbours are free, behind the list, three pages fit */
	ASSERT_EQ(0, h_drop(self->dev, id[n / 2 | 1]));
	args.flags = P2PDMA_TEST_POOL_LARGEST;
	ASSERT_EQ(0, h_pool(self->dev, &args));
	EXPECT_EQ(3 * page, args.largest);
	free(id);
}

/* Mappings of user space come from the same pool. */
TEST_F(alloc, with_user_space)
{
	int pool = p2p_open_pool(variant->provider, O_RDWR);
	size_t rest = variant->provider->rest;
	uint32_t id;
	char *map;

	if (variant->provider->ranges > 1)
		SKIP(return, "the pool is no single run of pages");
	if (is_huge(variant->provider))
		SKIP(return, HUGE_RANGES);
	id = MEMORY(rest / 2, 1);
	ASSERT_LE(0, pool);
	EXPECT_EQ(MAP_FAILED, p2p_map(pool, rest - rest / 2 + page));
	EXPECT_EQ(ENOMEM, errno);
	map = p2p_map(pool, 4 * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	EXPECT_TAKEN((rest / 2 + page - 1) / page * page + 4 * page);
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_TAKEN(4 * page);
	EXPECT_EQ(0, munmap(map, 4 * page));
	close(pool);
}

/* ---- whose the pages are ----------------------------------------------- */

TEST_F(alloc, pages)
{
	struct p2pdma_test_page facts[12];
	struct p2pdma_test_peek args = {
		.id = MEMORY(3 * page, 4),
		.pages = h_pointer(facts),
		.nr_pages = ARRAY_SIZE(facts),
	};

	ASSERT_EQ(0, h_peek(self->dev, &args));
	EXPECT_EQ(ARRAY_SIZE(facts), args.nr_pages);
	EXPECT_EQ(ARRAY_SIZE(facts), args.total);
	for (size_t i = 0; i < args.nr_pages; i++) {
		EXPECT_NE(0U, facts[i].flags & P2PDMA_TEST_PAGE_P2PDMA);
		EXPECT_EQ(h_function(variant->provider->bdf),
			  facts[i].provider);
		/* nobody maps it, and allocating does not count */
		EXPECT_EQ(0, facts[i].during);
		EXPECT_GT((uint64_t)variant->provider->size, facts[i].offset);
		/* entries are contiguous, and none overlaps another */
		if (i % 3)
			EXPECT_EQ(facts[i - 1].offset + page, facts[i].offset);
		for (size_t j = 0; j < i; j++)
			EXPECT_NE(facts[j].offset, facts[i].offset);
	}
}

/* ---- what they hold ---------------------------------------------------- */

static void fill(struct __test_metadata *_metadata, int dev, uint32_t id,
		 uint64_t offset, uint64_t length, uint64_t tag,
		 uint64_t position)
{
	struct p2pdma_test_pattern args = {
		.id = id,
		.offset = offset,
		.length = length,
		.tag = tag,
		.position = position,
	};

	EXPECT_EQ(0, h_fill(dev, &args));
	if (length)
		EXPECT_EQ(p2pdma_test_word(tag, position + length - 8),
			  args.found);
}

static uint64_t wrong(struct __test_metadata *_metadata, int dev, uint32_t id,
		      uint64_t offset, uint64_t length, uint64_t tag,
		      uint64_t position, uint64_t *first)
{
	struct p2pdma_test_pattern args = {
		.id = id,
		.offset = offset,
		.length = length,
		.tag = tag,
		.position = position,
	};

	EXPECT_EQ(0, h_check(dev, &args));
	if (first)
		*first = args.first;
	return args.wrong;
}

#define FILL(...) fill(_metadata, self->dev, __VA_ARGS__)
#define WRONG(...) wrong(_metadata, self->dev, __VA_ARGS__)

TEST_F(alloc, content)
{
	uint32_t id = MEMORY(3 * page, 5);
	uint64_t first;

	FILL(id, 0, 15 * page, TAG(1), 0);
	EXPECT_EQ(0U, WRONG(id, 0, 15 * page, TAG(1), 0, NULL));
	/* another tag, another position: all words are wrong */
	EXPECT_EQ(15 * page / 8, WRONG(id, 0, 15 * page, TAG(2), 0, &first));
	EXPECT_EQ(0U, first);
	EXPECT_EQ(15 * page / 8, WRONG(id, 0, 15 * page, TAG(1), page, NULL));
	/* across the border of two entries */
	FILL(id, 3 * page - 8, 16, TAG(3), 512);
	EXPECT_EQ(0U, WRONG(id, 3 * page - 8, 16, TAG(3), 512, NULL));
	EXPECT_EQ(2U, WRONG(id, 0, 15 * page, TAG(1), 0, &first));
	EXPECT_EQ(3 * page - 8, first);
	/* the last word, and nothing */
	FILL(id, 15 * page - 8, 8, TAG(4), 0);
	EXPECT_EQ(3U, WRONG(id, 0, 15 * page, TAG(1), 0, NULL));
	FILL(id, 15 * page, 0, TAG(4), 0);
	EXPECT_EQ(0U, WRONG(id, 15 * page, 0, TAG(4), 0, NULL));
}

/* Two pieces of memory do not share a byte. */
TEST_F(alloc, disjoint)
{
	uint32_t id[8];

	for (size_t i = 0; i < ARRAY_SIZE(id); i++) {
		id[i] = MEMORY(page, 1 + i);
		FILL(id[i], 0, (1 + i) * page, TAG(i), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(id); i++)
		EXPECT_EQ(0U, WRONG(id[i], 0, (1 + i) * page, TAG(i), 0, NULL));
}

/* What the kernel writes, user space reads, where the pool hands it on. */
TEST_F(alloc, seen_by_user_space)
{
	int pool = p2p_open_pool(variant->provider, O_RDWR);
	uint32_t id = MEMORY(2 * page, 1);
	uint64_t word;
	char *map;

	ASSERT_LE(0, pool);
	FILL(id, 0, 2 * page, TAG(7), 4096);
	EXPECT_EQ(0, h_drop(self->dev, id));
	/* the pool gives out the first pages that are free, the same again */
	map = p2p_map(pool, 2 * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	for (size_t at = 0; at < 2 * page; at += 8) {
		ASSERT_EQ(0, p2p_try_read(map + at, &word));
		ASSERT_EQ(p2pdma_test_word(TAG(7), 4096 + at), word);
	}
	EXPECT_EQ(0, munmap(map, 2 * page));
	close(pool);
}

/* ---- who lets go ------------------------------------------------------- */

TEST_F(alloc, close)
{
	MEMORY(page, 3);
	MEMORY(5 * page, 1);
	EXPECT_TAKEN(8 * page);
	close(self->dev);
	self->dev = -1;
	EXPECT_TAKEN(0);
}

/* A child has the descriptor, too: it goes with the last of them. */
TEST_F(alloc, fork)
{
	int status, wake[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(wake));
	MEMORY(page, 1);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(wake[1]);
		_exit(read(wake[0], &c, 1) != 0);
	}
	close(self->dev);
	self->dev = -1;
	EXPECT_TAKEN(page);
	close(wake[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TAKEN(0);
}

TEST_F(alloc, kill)
{
	int status, ready[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = h_open();

		h_ready(ready[1], h_memory(dev, variant->provider->bdf, page,
					   9) > 0);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TAKEN(9 * page);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TAKEN(0);
}

/* A namespace whose controller is said to reach the provider, or NULL. */
static const struct p2p_client *client_of(const struct p2p_provider *provider)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		enum p2p_verdict verdict =
			p2p_expect(provider, &p2p.client[i]).verdict;

		if (verdict == P2P_BUS_ADDR || verdict == P2P_HOST_BRIDGE)
			return &p2p.client[i];
	}
	return NULL;
}

/* Memory that is mapped for a client goes the same way. */
TEST_F(alloc, kill_mapped)
{
	const struct p2p_client *client = client_of(variant->provider);
	int status, ready[2];
	pid_t pid;
	char c;

	if (!client)
		SKIP(return, "P2PDMA_EXPECT names no client that reaches it");
	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = h_open();
		int64_t id = h_memory(dev, variant->provider->bdf, page, 9);
		struct p2pdma_test_map args = {
			.flags = P2PDMA_TEST_MAP_HOLD,
			.id = id,
			.client = h_function(client->bdf),
		};
		struct p2pdma_test_pattern pattern = { .id = id };

		/* mapped, it is no memory to work on */
		h_ready(ready[1], id > 0 && !h_map(dev, &args) && !args.ret &&
			h_check(dev, &pattern) == -EMEDIUMTYPE);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TAKEN(9 * page);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TAKEN(0);
}

/* ---- many at a time ---------------------------------------------------- */

#define THREADS	4
#define ROUNDS	200

struct worker {
	pthread_t thread;
	const struct p2p_provider *provider;
	int dev, number;
	const char *failed;
};

/*
 * Take a piece, write to all of it who has it, see that it is still so, let
 * go. Some workers allocate in the kernel, some by mapping.
 */
static void *work(void *data)
{
	struct worker *w = data;
	unsigned int seed = p2p.seed + w->number;
	int pool = p2p_open_pool(w->provider, O_RDWR);

	for (int i = 0; i < ROUNDS && !w->failed; i++) {
		size_t length = (1 + rand_r(&seed) % 16) * page;
		uint64_t tag = TAG(1 + w->number * ROUNDS + i);

		if (w->number % 2) {
			char *map = p2p_map(pool, length);

			if (map == MAP_FAILED) {
				w->failed = "mmap";
				break;
			}
			writeq(tag, map);
			writeq(tag, map + length - 8);
			sched_yield();
			if (readq(map) != tag || readq(map + length - 8) != tag)
				w->failed = "content of the mapping";
			munmap(map, length);
		} else {
			struct p2pdma_test_pattern args = {
				.length = page,
				.tag = tag,
			};
			int64_t id = h_memory(w->dev, w->provider->bdf, length,
					      1);

			if (id < 0) {
				w->failed = "h_memory";
				break;
			}
			args.id = id;
			if (h_fill(w->dev, &args))
				w->failed = "h_fill";
			sched_yield();
			if (h_check(w->dev, &args) || args.wrong)
				w->failed = "content of the memory";
			if (h_drop(w->dev, id))
				w->failed = "h_drop";
		}
	}
	close(pool);
	return NULL;
}

TEST_F(alloc, threads)
{
	struct worker worker[THREADS] = { 0 };

	for (int i = 0; i < THREADS; i++) {
		worker[i].provider = variant->provider;
		worker[i].dev = self->dev;
		worker[i].number = i;
		ASSERT_EQ(0, pthread_create(&worker[i].thread, NULL, work,
					    &worker[i]));
	}
	for (int i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(worker[i].thread, NULL));
		EXPECT_EQ(NULL, worker[i].failed) {
			TH_LOG("worker %d: %s", i, worker[i].failed);
		}
	}
	EXPECT_TAKEN(0);
}

/* ---- removal ----------------------------------------------------------- */

FIXTURE(unbind) {
	int dev;
};

FIXTURE_VARIANT(unbind) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(unbind)
{
	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no device is bound to p2pdma_provider");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(unbind)
{
	if (!variant)
		return;
	if (!p2p_is_provider(variant->provider->bdf))
		EXPECT_EQ(0, p2p_bind(variant->provider));
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* Unbinding gets what is allocated, and nothing else of the descriptor. */
TEST_F(unbind, allocated)
{
	const struct p2p_provider *p = variant->provider;
	int64_t id = h_memory(self->dev, p->bdf, page, 10), other = 0;

	ASSERT_LT(0, id);
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		if (&p2p.provider[i] != p)
			other = h_memory(self->dev, p2p.provider[i].bdf, page,
					 1);
	}

	ASSERT_EQ(0, p2p_unbind(p));
	EXPECT_FALSE(p2p_is_provider(p->bdf));
	EXPECT_EQ(-ENOENT, h_drop(self->dev, id));
	EXPECT_EQ(-ENODEV, h_memory(self->dev, p->bdf, page, 1));
	if (other)
		EXPECT_EQ(0, h_drop(self->dev, other));

	ASSERT_EQ(0, p2p_bind(p));
	/* and the descriptor is as good as before */
	id = h_memory(self->dev, p->bdf, page, 1);
	EXPECT_LT(0, id);
	EXPECT_EQ(0, h_drop(self->dev, id));
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv, "A provider's pool from inside the kernel"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(alloc) alloc = { p };
		FIXTURE_VARIANT(unbind) unbind = { p };

		P2P_VARIANT_ADD(alloc, alloc, "%s@%s", p->kind, p->bdf);
		/* other drivers have more to do than to provide */
		if (!strcmp(p->driver, "p2pdma_provider"))
			P2P_VARIANT_ADD(unbind, unbind, "%s@%s", p->kind,
					p->bdf);
	}
	return test_harness_run(argc, argv);
}
