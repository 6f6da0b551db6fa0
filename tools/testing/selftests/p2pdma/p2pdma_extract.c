// SPDX-License-Identifier: GPL-2.0
/*
 * iov_iter_extract_pages() on peer-to-peer memory: what direct I/O does with
 * the buffers that it is given, with and without ITER_ALLOW_P2PDMA, alone and
 * mixed with ordinary memory. What each call takes is the table vectors[].
 */
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define MAX_PAGES	16
#define MAX_CALLS	8

/* for max_pages: as many as there are */
#define ALL		1024

static size_t page;

/* ---- what is expected -------------------------------------------------- */

/**
 * struct vector - segments, and what the calls take of them
 * @name: what it is about
 * @layout: the segments, with a comma between them, a letter for each page:
 *	'p' is the pool's, 'q' another provider's, 'r' the pool's and mapped
 *	read-only, 'a' anonymous, '-' not mapped
 * @max: most pages a call
 * @write: the I/O writes to the memory
 * @with: what each call returns with ITER_ALLOW_P2PDMA, in pages or as an
 *	error, ended by 0
 * @without: the same without
 */
static const struct vector {
	const char *name;
	const char *layout;
	unsigned int max;
	bool write;
	int with[MAX_CALLS], without[MAX_CALLS];
} vectors[] = {
	/* one call for each segment */
	{ "one_page", "p", ALL, true, { 1 }, { -EREMOTEIO } },
	{ "one_page_source", "p", ALL, false, { 1 }, { -EREMOTEIO } },
	{ "one_segment", "pppp", ALL, true, { 4 }, { -EREMOTEIO } },
	{ "segments", "pp,p,ppp", ALL, true, { 2, 1, 3 }, { -EREMOTEIO } },
	/* and as many as it takes, where there is no room for more */
	{ "few_at_a_time", "ppppp,p", 2, true, { 2, 2, 1, 1 },
	  { -EREMOTEIO } },
	{ "one_at_a_time", "ppp", 1, true, { 1, 1, 1 }, { -EREMOTEIO } },
	/* ordinary memory is taken in any case */
	{ "anonymous", "aa,a", ALL, true, { 2, 1 }, { 2, 1 } },
	{ "anonymous_first", "aa,pp", ALL, true, { 2, 2 },
	  { 2, -EREMOTEIO } },
	{ "anonymous_last", "pp,aa", ALL, true, { 2, 2 }, { -EREMOTEIO } },
	{ "anonymous_between", "p,a,p", ALL, true, { 1, 1, 1 },
	  { -EREMOTEIO } },
	/* within a segment: what is in front of the refusal is taken */
	{ "mixed", "apa", ALL, true, { 3 }, { 1, -EREMOTEIO } },
	{ "mixed_first", "pa", ALL, true, { 2 }, { -EREMOTEIO } },
	{ "providers", "p,q,p", ALL, true, { 1, 1, 1 }, { -EREMOTEIO } },
	{ "providers_in_one", "pq", ALL, true, { 2 }, { -EREMOTEIO } },
	/* nothing there */
	{ "hole", "pp-p", ALL, true, { 2, -EFAULT }, { -EREMOTEIO } },
	{ "hole_first", "-p", ALL, true, { -EFAULT }, { -EFAULT } },
	{ "hole_between", "p,-,p", ALL, true, { 1, -EFAULT },
	  { -EREMOTEIO } },
	/* writing is checked before whose memory it is */
	{ "read_only", "rr", ALL, true, { -EFAULT }, { -EFAULT } },
	{ "read_only_source", "rr", ALL, false, { 2 }, { -EREMOTEIO } },
	{ "read_only_last", "p,r", ALL, true, { 1, -EFAULT },
	  { -EREMOTEIO } },
	/* segments of no length are passed over */
	{ "empty", "", ALL, true, { 0 }, { 0 } },
	{ "empty_first", ",,p", ALL, true, { 1 }, { -EREMOTEIO } },
	{ "empty_last", "p,,", ALL, true, { 1 }, { -EREMOTEIO } },
};

/* ---- the memory -------------------------------------------------------- */

FIXTURE(vector) {
	int dev, pool, other;
	const struct p2p_provider *other_provider;
	struct p2pdma_test_segment segment[MAX_PAGES];
	char kinds[MAX_PAGES + 1];
	char *addr[MAX_PAGES];
	unsigned int segments, pages;
	size_t taken, taken_other;
};

FIXTURE_VARIANT(vector) {
	const struct p2p_provider *provider, *other;
	const struct vector *vector;
};

static void map_page(struct __test_metadata *_metadata, int pool, int other,
		     char *at, char kind)
{
	int prot = PROT_READ | PROT_WRITE, fd = -1;
	int flags = MAP_FIXED | MAP_SHARED;
	void *mem;

	switch (kind) {
	case 'p':
		fd = pool;
		break;
	case 'q':
		fd = other;
		break;
	case 'r':
		fd = pool;
		prot = PROT_READ;
		break;
	case 'a':
		flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;
		break;
	default:
		ASSERT_EQ(0, munmap(at, page));
		return;
	}
	mem = mmap(at, page, prot, flags, fd, 0);
	ASSERT_EQ((void *)at, mem)
		TH_LOG("mmap: %s", strerror(errno));
}

FIXTURE_SETUP(vector)
{
	const char *layout = variant->vector->layout;
	char *at;

	if (!variant->other && strchr(layout, 'q'))
		SKIP(return, "there is no other provider");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->other = -1;
	if (variant->other) {
		self->other = p2p_open_pool(variant->other, O_RDWR);
		ASSERT_LE(0, self->other);
	}
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));

	/* a page between segments, so that neighbours are none */
	at = mmap(NULL, 2 * MAX_PAGES * page, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)at);

	self->segment[0].addr = h_pointer(at);
	for (; *layout; layout++) {
		if (*layout == ',') {
			at += page;
			self->segment[++self->segments].addr = h_pointer(at);
			continue;
		}
		map_page(_metadata, self->pool, self->other, at, *layout);
		self->taken += *layout == 'p' || *layout == 'r' ? page : 0;
		self->taken_other += *layout == 'q' ? page : 0;
		self->segment[self->segments].length += page;
		self->addr[self->pages] = at;
		self->kinds[self->pages++] = *layout;
		at += page;
	}
	self->segments++;
}

static void unmap_all(struct __test_metadata *_metadata,
		      struct p2pdma_test_segment *segment, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (segment[i].length)
			EXPECT_EQ(0, munmap((void *)segment[i].addr,
					    segment[i].length));
}

FIXTURE_TEARDOWN(vector)
{
	if (self->dev >= 0)
		close(self->dev);
	unmap_all(_metadata, self->segment, self->segments);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
	if (variant->other) {
		close(self->other);
		EXPECT_EQ(variant->other->rest, p2p_available(variant->other));
	}
}

/* ---- the calls --------------------------------------------------------- */

struct answer {
	struct p2pdma_test_extract args;
	struct p2pdma_test_extraction call[MAX_CALLS];
	struct p2pdma_test_page page[MAX_PAGES];
};

static void ask(struct __test_metadata *_metadata, int dev,
		const struct p2pdma_test_segment *segment, unsigned int nr,
		unsigned int max, unsigned int flags, struct answer *a)
{
	memset(a, 0, sizeof(*a));
	a->args.flags = flags;
	a->args.segments = h_pointer(segment);
	a->args.nr_segments = nr;
	a->args.max_pages = max;
	a->args.calls = h_pointer(a->call);
	a->args.nr_calls = MAX_CALLS;
	a->args.pages = h_pointer(a->page);
	a->args.nr_pages = MAX_PAGES;
	ASSERT_EQ(0, h_extract(dev, &a->args));
}

static void expect_calls(struct __test_metadata *_metadata,
			 const struct answer *a, const int *calls,
			 unsigned int pages)
{
	unsigned int taken = 0;
	int i;

	for (i = 0; i < MAX_CALLS && calls[i]; i++) {
		long ret = calls[i] > 0 ? calls[i] * (long)page : calls[i];

		EXPECT_EQ(ret, a->call[i].ret) {
			TH_LOG("call %d", i);
		}
		EXPECT_EQ(0U, a->call[i].offset);
		EXPECT_EQ(calls[i] > 0 ? calls[i] : 0,
			  (int)a->call[i].nr_pages);
		taken += calls[i] > 0 ? calls[i] : 0;
	}
	EXPECT_EQ(i, (int)a->args.nr_calls);
	EXPECT_EQ(taken, a->args.nr_pages);
	EXPECT_EQ((pages - taken) * page, a->args.left);
	/* what was taken before the error, or the error */
	EXPECT_EQ(i && !taken ? calls[0] : (long)(taken * page), a->args.ret);
}

/*
 * The pages are those that are mapped at @addr, in this order. To be called
 * before anything is unmapped.
 */
static void expect_frames(struct __test_metadata *_metadata,
			  char * const *addr, const struct answer *a)
{
	for (unsigned int i = 0; i < a->args.nr_pages; i++) {
		EXPECT_EQ(p2p_frame_at(addr[i]), a->page[i].phys / page) {
			TH_LOG("page %u is another than is mapped there", i);
		}
	}
}

static void expect_pages(struct __test_metadata *_metadata,
			 const struct p2p_provider *provider,
			 const struct p2p_provider *other, const char *kinds,
			 const struct answer *a)
{
	for (unsigned int i = 0; i < a->args.nr_pages; i++) {
		const struct p2pdma_test_page *facts = &a->page[i];
		bool ours = kinds[i] == 'p' || kinds[i] == 'r';
		__u64 whose = ours ? h_function(provider->bdf) :
			      kinds[i] == 'q' ? h_function(other->bdf) :
			      P2PDMA_TEST_NO_FUNCTION;

		EXPECT_EQ(whose, facts->provider) {
			TH_LOG("page %u", i);
		}
		EXPECT_EQ(kinds[i] == 'a' ? 0U : P2PDMA_TEST_PAGE_P2PDMA,
			  facts->flags);
		if (kinds[i] == 'a')
			continue;
		EXPECT_EQ(1 + P2PDMA_TEST_PIN_BIAS, facts->during) {
			TH_LOG("page %u", i);
		}
	}
}

TEST_F(vector, allowed)
{
	const struct vector *v = variant->vector;
	struct answer a;

	ask(_metadata, self->dev, self->segment, self->segments, v->max,
	    P2PDMA_TEST_EXTRACT_P2PDMA |
	    (v->write ? P2PDMA_TEST_EXTRACT_WRITE : 0), &a);
	expect_calls(_metadata, &a, v->with, self->pages);
	expect_pages(_metadata, variant->provider, variant->other, self->kinds,
		     &a);
	expect_frames(_metadata, self->addr, &a);
	EXPECT_EQ(0U, a.args.id);
}

TEST_F(vector, not_allowed)
{
	const struct vector *v = variant->vector;
	struct answer a;

	ask(_metadata, self->dev, self->segment, self->segments, v->max,
	    v->write ? P2PDMA_TEST_EXTRACT_WRITE : 0, &a);
	expect_calls(_metadata, &a, v->without, self->pages);
	expect_pages(_metadata, variant->provider, variant->other, self->kinds,
		     &a);
	expect_frames(_metadata, self->addr, &a);
}

/* What is extracted stays taken, without its mapping, until it is released. */
TEST_F(vector, held)
{
	const struct vector *v = variant->vector;
	struct p2pdma_test_page held[MAX_PAGES];
	size_t left = 0;
	struct answer a;

	ask(_metadata, self->dev, self->segment, self->segments, v->max,
	    P2PDMA_TEST_EXTRACT_P2PDMA | P2PDMA_TEST_EXTRACT_HOLD |
	    (v->write ? P2PDMA_TEST_EXTRACT_WRITE : 0), &a);
	expect_calls(_metadata, &a, v->with, self->pages);
	expect_pages(_metadata, variant->provider, variant->other, self->kinds,
		     &a);
	expect_frames(_metadata, self->addr, &a);
	EXPECT_EQ(a.args.ret > 0, a.args.id != 0);

	unmap_all(_metadata, self->segment, self->segments);
	for (unsigned int i = 0; i < a.args.nr_pages; i++)
		left += self->kinds[i] == 'p' || self->kinds[i] == 'r' ? page :
			0;
	EXPECT_EQ(variant->provider->rest - (ssize_t)left,
		  p2p_available(variant->provider));

	if (a.args.id) {
		struct p2pdma_test_peek peek = {
			.id = a.args.id,
			.pages = h_pointer(held),
			.nr_pages = MAX_PAGES,
		};

		EXPECT_EQ(0, h_peek(self->dev, &peek));
		EXPECT_EQ(a.args.nr_pages, peek.nr_pages);
		for (unsigned int i = 0; i < peek.nr_pages; i++) {
			EXPECT_EQ(a.page[i].phys, held[i].phys);
			if (self->kinds[i] != 'a')
				EXPECT_EQ(P2PDMA_TEST_PIN_BIAS,
					  held[i].during);
		}
		EXPECT_EQ(0, h_drop(self->dev, a.args.id));
	}
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* ---- buffers that do not start with a page ----------------------------- */

FIXTURE(offset) {
	int dev, pool;
	char *map;
};

FIXTURE_VARIANT(offset) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(offset)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->map = p2p_map(self->pool, 4 * page);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
}

FIXTURE_TEARDOWN(offset)
{
	close(self->dev);
	munmap(self->map, 4 * page);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

TEST_F(offset, into_a_page)
{
	static const struct {
		size_t offset, length;
		unsigned int pages;
	} rows[] = {
		{ 0, 1, 1 }, { 1, 1, 1 }, { 4095, 1, 1 }, { 4095, 2, 2 },
		{ 512, 4096, 2 }, { 8, 8184, 2 }, { 1, 4 * 4096 - 2, 4 },
		{ 4096, 4096, 1 }, { 8191, 4098, 3 },
	};
	char *addr[4 + MAX_PAGES];
	struct answer a;

	if (page != 4096)
		SKIP(return, "the table is for pages of 4096 bytes");
	/* for as many pages as an answer has room for */
	for (size_t i = 0; i < ARRAY_SIZE(addr); i++)
		addr[i] = self->map + i * page;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct p2pdma_test_segment segment = {
			h_pointer(self->map + rows[i].offset), rows[i].length,
		};

		ask(_metadata, self->dev, &segment, 1, ALL,
		    P2PDMA_TEST_EXTRACT_P2PDMA | P2PDMA_TEST_EXTRACT_WRITE,
		    &a);
		EXPECT_EQ((long)rows[i].length, a.args.ret) {
			TH_LOG("row %zu", i);
		}
		EXPECT_EQ(1U, a.args.nr_calls);
		EXPECT_EQ(rows[i].offset % page, a.call[0].offset) {
			TH_LOG("row %zu", i);
		}
		EXPECT_EQ(rows[i].pages, a.args.nr_pages) {
			TH_LOG("row %zu", i);
		}
		expect_frames(_metadata, addr + rows[i].offset / page, &a);
	}
}

/* ---- who lets go of what is held --------------------------------------- */

#define HELD	4	/* pages of the pool */

/*
 * Memory in two segments: an anonymous page, and those of the pool. Their
 * mappings are gone when this returns, and the pages are held: their id, or 0.
 */
static uint32_t hold(int dev, int pool)
{
	struct p2pdma_test_segment segment[2] = {
		{ .length = page }, { .length = HELD * page },
	};
	struct p2pdma_test_extract args = {
		.flags = P2PDMA_TEST_EXTRACT_P2PDMA |
			 P2PDMA_TEST_EXTRACT_WRITE | P2PDMA_TEST_EXTRACT_HOLD,
		.segments = h_pointer(segment),
		.nr_segments = ARRAY_SIZE(segment),
		.max_pages = ALL,
	};
	char *ram, *map = p2p_map(pool, HELD * page);

	ram = mmap(NULL, page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED || map == MAP_FAILED)
		return 0;
	segment[0].addr = h_pointer(ram);
	segment[1].addr = h_pointer(map);
	if (h_extract(dev, &args) || args.ret != (long)((1 + HELD) * page) ||
	    munmap(ram, page) || munmap(map, HELD * page))
		return 0;
	return args.id;
}

FIXTURE(hold) {
	int dev, pool;
};

FIXTURE_VARIANT(hold) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(hold)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

FIXTURE_TEARDOWN(hold)
{
	if (self->dev >= 0)
		close(self->dev);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

#define EXPECT_TAKEN(_taken)						\
	EXPECT_EQ(variant->provider->rest - (ssize_t)(_taken),		\
		  p2p_available(variant->provider))

/* Closing the descriptor releases. */
TEST_F(hold, close)
{
	ASSERT_NE(0U, hold(self->dev, self->pool));
	EXPECT_TAKEN(HELD * page);
	close(self->dev);
	self->dev = -1;
	EXPECT_TAKEN(0);
}

/* So does the death of the only process that has it. */
TEST_F(hold, kill)
{
	int status, ready[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = h_open();

		h_ready(ready[1], dev >= 0 && hold(dev, self->pool));
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TAKEN(HELD * page);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TAKEN(0);
}

/*
 * The driver of the provider is unbound while pages are held: unbinding waits
 * for all references, and gets them.
 */
FIXTURE(unbind) {
};

FIXTURE_VARIANT(unbind) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(unbind)
{
	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no device is bound to p2pdma_provider");
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

FIXTURE_TEARDOWN(unbind)
{
	if (!variant)
		return;
	EXPECT_EQ(0, p2p_bind(variant->provider));
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

TEST_F(unbind, held)
{
	int pool, dev;
	uint32_t id;

	dev = h_open();
	ASSERT_LE(0, dev);
	pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, pool);
	id = hold(dev, pool);
	ASSERT_NE(0U, id);
	EXPECT_TAKEN(HELD * page);

	EXPECT_EQ(0, p2p_unbind(variant->provider));
	EXPECT_FALSE(p2p_is_provider(variant->provider->bdf));
	EXPECT_EQ(-ENOENT, h_drop(dev, id));
	close(pool);
	close(dev);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Peer-to-peer memory as the buffer of direct I/O"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(offset) offset = { p };
		FIXTURE_VARIANT(hold) hold = { p };
		FIXTURE_VARIANT(unbind) unbind = { p };

		for (size_t r = 0; r < ARRAY_SIZE(vectors); r++) {
			FIXTURE_VARIANT(vector) v = { p, NULL, &vectors[r] };

			if (strchr(vectors[r].layout, 'q') &&
			    p2p.nr_providers > 1)
				v.other = &p2p.provider[!i];
			P2P_VARIANT_ADD(vector, v, "%s@%s/%s", p->kind, p->bdf,
					vectors[r].name);
		}
		P2P_VARIANT_ADD(offset, offset, "%s@%s", p->kind, p->bdf);
		P2P_VARIANT_ADD(hold, hold, "%s@%s", p->kind, p->bdf);
		/* other drivers have more to do than to provide */
		if (!strcmp(p->driver, "p2pdma_provider"))
			P2P_VARIANT_ADD(unbind, unbind, "%s@%s", p->kind,
					p->bdf);
	}
	return test_harness_run(argc, argv);
}
