// SPDX-License-Identifier: GPL-2.0
/*
 * Out of memory, systematically: an operation is done again and again, and each
 * time another of the kernel's allocations in it fails, the first, the second
 * and so on, until none of them did and the operation succeeded. Every time it
 * has to fail with an error that says so, or to do without; and nothing may be
 * left of it.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_faults.h"
#include "p2pdma_harness.h"

#define DRIVER		"p2pdma_provider"
#define SYS_PCI		"/sys/bus/pci/devices"
#define PAGES		8
#define ELSEWHERE	0x100000	/* on the medium, not where it is read */
#define TAG		(9ULL << P2PDMA_TEST_POSITION_BITS)

static size_t page;
static const struct p2p_provider *provider;
static const struct p2p_client *client;

/* ---- the operations ---------------------------------------------------- */

/**
 * struct state - what operations work on
 * @dev: the test module
 * @file: a file of sysfs, the pool, or the disk
 * @map: peer-to-peer memory
 * @ram: ordinary memory
 * @id: an object of the test module
 * @at: the position that is in what is written, another one each time
 */
struct state {
	int dev, file;
	char *map, *ram;
	uint32_t id;
	uint64_t at;
};

FIXTURE(fault) {
	struct state s;
	int nth;
};

/**
 * struct fault_variant - an operation
 * @prepare: what is needed first, or NULL: true if it is there
 * @run: the operation: 0, or a negative errno
 * @undo: what takes it back after it succeeded, or NULL: 0, or a negative errno
 * @intact: whether what it works on still does after it failed, or NULL
 * @errors: what it may fail with beside ENOMEM
 * @least: how many allocations there are in it at least; 0 if it may do
 *	without
 * @probe: whether only allocations of slabs fail, with P2PDMA_FAULT_PROBE: x86 does
 *	not look whether there is a page for its page tables
 */
FIXTURE_VARIANT(fault) {
	bool (*prepare)(struct state *s);
	int (*run)(struct state *s);
	int (*undo)(struct state *s);
	bool (*intact)(struct state *s);
	int errors[4];
	int least;
	bool probe;
};

/* By this thread, whose allocations fail, and no other. */
static int driver_write(const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s",
		 provider->driver, file);
	return p2p_sysfs_write(path, provider->bdf) ? -errno : 0;
}

static int bind_it(struct state *s __always_unused)
{
	return driver_write("bind");
}

static int unbind_it(struct state *s __always_unused)
{
	return driver_write("unbind");
}

/* What was bound has memory that can be had, or was not bound. */
static int unbind_provider(struct state *s)
{
	return p2p_is_provider(provider->bdf) &&
	       p2p_available(provider) > 0 ? unbind_it(s) : -ENODEV;
}

static bool is_unbound(struct state *s)
{
	unbind_it(s);
	return !p2p_is_provider(provider->bdf);
}

/*
 * A driver's probe() is run by a thread of the kernel's, whose allocations do not
 * fail, on the node of its device; but by this one if that has no node, which is
 * what P2PDMA_FAULT_PROBE asks for. The kernel warns of some then.
 */
static bool is_unbound_without_node(struct state *s)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/numa_node", provider->bdf);
	return is_unbound(s) && (!getenv("P2PDMA_FAULT_PROBE") || access(path, W_OK) ||
				 !p2p_sysfs_write(path, "-1"));
}

static bool has_mapping(struct state *s)
{
	int pool = p2p_open_pool(provider, O_RDWR);

	s->map = p2p_map(pool, PAGES * page);
	close(pool);
	return s->map != MAP_FAILED;
}

static int bind_and_map(struct state *s)
{
	int ret;

	munmap(s->map, PAGES * page);
	ret = bind_it(s);
	if (!ret && !has_mapping(s))
		ret = -ENOMEM;
	return ret;
}

static int run_publish(struct state *s __always_unused)
{
	char path[PATH_MAX];
	int ret = 0;

	snprintf(path, sizeof(path), SYS_PCI "/%s/" DRIVER "/publish",
		 provider->bdf);
	if (p2p_sysfs_write(path, "0") || p2p_sysfs_write(path, "1"))
		ret = -errno;
	return ret;
}

/* Whether all pages of a mapping that was made are there; if not, it is taken back. */
static int is_whole(struct state *s)
{
	for (size_t i = 0; i < PAGES; i++) {
		if (p2p_try_write(s->map + i * page, i)) {
			munmap(s->map, PAGES * page);
			s->map = MAP_FAILED;
			return -EFAULT;
		}
	}
	return 0;
}

static int run_mmap(struct state *s)
{
	int ret;

	s->file = p2p_open_pool(provider, O_RDWR);
	if (s->file < 0)
		return -errno;
	s->map = p2p_map(s->file, PAGES * page);
	ret = s->map == MAP_FAILED ? -errno : is_whole(s);
	if (ret)
		close(s->file);
	return ret;
}

/* Pages of a mapping that failed belong to nobody: who gets them next finds no reference. */
static bool pages_are_unused(struct state *s)
{
	struct p2pdma_test_page facts[2 * PAGES] = {};
	struct p2pdma_test_peek peek = {
		.pages = h_pointer(facts),
		.nr_pages = ARRAY_SIZE(facts),
	};
	int64_t id = h_memory(s->dev, provider->bdf,
			      ARRAY_SIZE(facts) * page, 1);
	bool unused;

	if (id < 0)
		return false;
	peek.id = id;
	unused = !h_peek(s->dev, &peek) && peek.nr_pages == ARRAY_SIZE(facts);
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		unused &= !facts[i].during;
	return !h_drop(s->dev, id) && unused;
}

/*
 * Where nothing was mapped before, so that there are no page tables either; and
 * the second page needs one of its own.
 */
static int run_mmap_far(struct state *s)
{
	static uintptr_t address = 1UL << 40;
	int fd = p2p_open_pool(provider, O_RDWR);
	int ret;

	if (fd < 0)
		return -errno;
	address += 1UL << 30;
	s->map = mmap((void *)(address - page), PAGES * page,
		      PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	ret = s->map == MAP_FAILED ? -errno : is_whole(s);
	close(fd);
	return ret;
}

static int undo_mmap(struct state *s)
{
	int ret = munmap(s->map, PAGES * page) ? -errno : 0;

	close(s->file);
	s->map = MAP_FAILED;
	return ret;
}

static bool has_transfer(struct state *s)
{
	if (!client || !has_mapping(s))
		return false;
	s->ram = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->file = open(client->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (s->ram == MAP_FAILED || s->file < 0)
		return false;
	p2p_fill(s->ram, PAGES * page, P2P_DATA, 0);
	return pwrite(s->file, s->ram, PAGES * page, 0) ==
	       (ssize_t)(PAGES * page);
}

/* What succeeded has brought the data. */
static int run_read(struct state *s)
{
	ssize_t n = pread(s->file, s->map, PAGES * page, 0);
	char why[256];

	if (n < 0)
		return -errno;
	n = n / page * page;
	if (p2p.corrupt)
		p2p_flip(s->map, 0);
	return p2p_check(s->map, n, P2P_DATA, 0, why, sizeof(why)) ? -EILSEQ :
								    0;
}

static int undo_read(struct state *s)
{
	p2p_fill(s->map, PAGES * page, P2P_PRESET, 0);
	return 0;
}

/* All of it, and never what was written before. */
static int run_write(struct state *s)
{
	ssize_t n;

	s->at += PAGES * page;
	p2p_fill(s->map, PAGES * page, P2P_DATA, s->at);
	n = pwrite(s->file, s->map, PAGES * page, ELSEWHERE);
	if (n < 0)
		return -errno;
	return n < (ssize_t)(PAGES * page) ? -ENOMEM : 0;
}

/* What succeeded is on the medium. */
static int undo_write(struct state *s)
{
	char why[256];

	p2p_fill(s->ram, PAGES * page, P2P_PRESET, 0);
	if (pread(s->file, s->ram, PAGES * page, ELSEWHERE) !=
	    (ssize_t)(PAGES * page))
		return -EIO;
	if (p2p.corrupt)
		p2p_flip(s->ram, 0);
	return p2p_check(s->ram, PAGES * page, P2P_DATA, s->at, why,
			 sizeof(why)) ? -EILSEQ : 0;
}

static int run_alloc(struct state *s)
{
	int64_t id = h_memory(s->dev, provider->bdf, page, PAGES);

	s->id = id > 0 ? id : 0;
	return id > 0 ? 0 : id;
}

static int undo_object(struct state *s)
{
	int ret = s->id ? h_drop(s->dev, s->id) : 0;

	s->id = 0;
	return ret;
}

static bool has_memory(struct state *s)
{
	return !run_alloc(s);
}

static int map_for_client(struct state *s, uint32_t flags)
{
	struct p2pdma_test_map map = {
		.flags = flags,
		.id = s->id,
		.client = h_function(client->bdf),
	};
	int ret = h_map(s->dev, &map);

	return ret ? ret : map.ret;
}

static bool has_memory_for_client(struct state *s)
{
	return client && has_memory(s);
}

static int run_map(struct state *s)
{
	return map_for_client(s, 0);
}

static int run_map_hold(struct state *s)
{
	return map_for_client(s, P2PDMA_TEST_MAP_HOLD);
}

/* The mapping goes, and the memory with it; the next time takes other. */
static int undo_map_hold(struct state *s)
{
	int ret = undo_object(s);

	return ret ? ret : run_alloc(s);
}

/* Not mapped, the id is one of memory, all of which is there. */
static bool memory_is_intact(struct state *s)
{
	struct p2pdma_test_pattern pattern = {
		.id = s->id, .length = PAGES * page, .tag = TAG,
	};

	return !h_fill(s->dev, &pattern) && !h_check(s->dev, &pattern) &&
	       !pattern.wrong;
}

static int pin_by(struct state *s, unsigned int api)
{
	struct p2pdma_test_pin pin = {
		.flags = P2PDMA_TEST_PIN_WRITE | P2PDMA_TEST_PIN_P2PDMA |
			 P2PDMA_TEST_PIN_HOLD,
		.api = api,
		.addr = h_pointer(s->map),
		.length = PAGES * page,
	};
	int ret = h_pin(s->dev, &pin);

	if (!ret) {
		s->id = pin.id;
		if (pin.ret != PAGES) {
			ret = pin.ret < 0 ? pin.ret : -ENOMEM;
			undo_object(s);
		}
	}
	return ret;
}

static int run_pin_fast(struct state *s)
{
	return pin_by(s, P2PDMA_TEST_PIN_FAST);
}

static int run_pin_slow(struct state *s)
{
	return pin_by(s, P2PDMA_TEST_PIN_SLOW);
}

static int run_pin_remote(struct state *s)
{
	return pin_by(s, P2PDMA_TEST_PIN_REMOTE);
}

static int run_get_fast(struct state *s)
{
	return pin_by(s, P2PDMA_TEST_GET_FAST);
}

static int run_get_slow(struct state *s)
{
	return pin_by(s, P2PDMA_TEST_GET_SLOW);
}

static int run_extract(struct state *s)
{
	struct p2pdma_test_segment segment = {
		.addr = h_pointer(s->map), .length = PAGES * page,
	};
	struct p2pdma_test_extract extract = {
		.flags = P2PDMA_TEST_EXTRACT_WRITE |
			 P2PDMA_TEST_EXTRACT_P2PDMA | P2PDMA_TEST_EXTRACT_HOLD,
		.segments = h_pointer(&segment),
		.nr_segments = 1,
		.max_pages = PAGES,
	};
	int ret = h_extract(s->dev, &extract);

	if (!ret) {
		s->id = extract.id;
		if (extract.ret != (int64_t)(PAGES * page)) {
			ret = extract.ret < 0 ? extract.ret : -ENOMEM;
			undo_object(s);
		}
	}
	return ret;
}

/* Memory without the data that is on the disk. */
static bool has_memory_for_disk(struct state *s)
{
	if (!has_transfer(s))
		return false;
	munmap(s->map, PAGES * page);
	s->map = MAP_FAILED;
	return has_memory(s) && memory_is_intact(s);
}

static int run_bio(struct state *s)
{
	struct p2pdma_test_piece pieces[PAGES];
	struct p2pdma_test_bio bio = {
		.fd = s->file,
		.op = P2PDMA_TEST_READ,
		.pieces = h_pointer(pieces),
		.nr_pieces = PAGES,
	};
	int ret;

	for (unsigned int i = 0; i < PAGES; i++)
		pieces[i] = (struct p2pdma_test_piece) {
			.id = s->id, .entry = i, .length = page,
		};
	ret = h_bio(s->dev, &bio);
	return ret ? ret : bio.ret;
}

/* What succeeded has brought the data. The tag is that of p2p_fill(). */
static int undo_bio(struct state *s)
{
	struct p2pdma_test_pattern pattern = {
		.id = s->id,
		.length = PAGES * page,
		.tag = (uint64_t)p2p.seed << 48 |
		       (uint64_t)P2P_DATA << P2PDMA_TEST_POSITION_BITS,
	};
	int ret = h_check(s->dev, &pattern);

	if (ret)
		return ret;
	if (pattern.wrong || p2p.corrupt)
		return -EILSEQ;
	return memory_is_intact(s) ? 0 : -EIO;
}

static int run_peek(struct state *s)
{
	struct p2pdma_test_page facts[PAGES];
	struct p2pdma_test_peek peek = {
		.id = s->id, .pages = h_pointer(facts), .nr_pages = PAGES,
	};
	int ret = h_peek(s->dev, &peek);

	if (ret)
		return ret;
	return peek.nr_pages == PAGES && peek.total == PAGES ? 0 : -EILSEQ;
}

static int run_pattern(struct state *s)
{
	struct p2pdma_test_pattern pattern = {
		.id = s->id, .length = PAGES * page, .tag = TAG,
	};
	int ret = h_fill(s->dev, &pattern);

	if (!ret)
		ret = h_check(s->dev, &pattern);
	return !ret && pattern.wrong ? -EILSEQ : ret;
}

static int run_release(struct state *s)
{
	int ret = h_drop(s->dev, s->id);

	s->id = ret ? s->id : 0;
	return ret;
}

static bool has_client(struct state *s __always_unused)
{
	return client;
}

static int run_distance(struct state *s)
{
	uint64_t clients[] = { h_function(client->bdf) };
	struct p2pdma_test_distance distance = {
		.provider = h_function(provider->bdf),
		.clients = h_pointer(clients),
		.nr_clients = 1,
	};
	int ret = h_distance(s->dev, &distance);

	return !ret && distance.ret < 0 ? -EILSEQ : ret;
}

/* The kernel's function tells of no memory as if there were no provider. */
static int run_find(struct state *s)
{
	uint64_t clients[] = { h_function(client->bdf) };
	struct p2pdma_test_find find = {
		.clients = h_pointer(clients), .nr_clients = 1,
	};
	int ret = h_find(s->dev, &find);

	return !ret && find.provider == P2PDMA_TEST_NO_FUNCTION ? -ENOMEM : ret;
}

static int run_enable(struct state *s)
{
	struct p2pdma_test_enable enable = { 0 };
	int ret;

	strcpy((char *)enable.value, provider->bdf);
	ret = h_enable(s->dev, &enable);
	if (ret || enable.ret)
		return ret ? ret : enable.ret;
	return enable.choice == P2PDMA_TEST_PROVIDER &&
	       enable.provider == h_function(provider->bdf) ? 0 : -EILSEQ;
}

static int run_pool(struct state *s)
{
	struct p2pdma_test_pool pool = {
		.flags = P2PDMA_TEST_POOL_LARGEST,
		.provider = h_function(provider->bdf),
	};
	int ret = h_pool(s->dev, &pool);

	if (ret)
		return ret;
	/* sysfs is not asked here: reading it would fail as well */
	return pool.largest == (uint64_t)provider->rest / provider->ranges ?
	       0 : -EILSEQ;
}

FIXTURE_VARIANT_ADD(fault, bind) {
	.prepare = is_unbound_without_node,
	.run = bind_it,
	.undo = unbind_provider,
	.least = 5,
	.probe = true,
};

FIXTURE_VARIANT_ADD(fault, unbind) {
	.run = unbind_it,
	.undo = bind_it,
};

/* while it is mapped the driver has something to count */
FIXTURE_VARIANT_ADD(fault, unbind_mapped) {
	.prepare = has_mapping,
	.run = unbind_it,
	.undo = bind_and_map,
};

FIXTURE_VARIANT_ADD(fault, publish) {
	.run = run_publish,
};

FIXTURE_VARIANT_ADD(fault, mmap) {
	.run = run_mmap,
	.undo = undo_mmap,
	.intact = pages_are_unused,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, mmap_far) {
	.run = run_mmap_far,
	.undo = undo_mmap,
	.intact = pages_are_unused,
	.least = 4,
};

FIXTURE_VARIANT_ADD(fault, read) {
	.prepare = has_transfer,
	.run = run_read,
	.undo = undo_read,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, write) {
	.prepare = has_transfer,
	.run = run_write,
	.undo = undo_write,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, alloc) {
	.run = run_alloc,
	.undo = undo_object,
	.least = 2,
};

FIXTURE_VARIANT_ADD(fault, map) {
	.prepare = has_memory_for_client,
	.run = run_map,
	.intact = memory_is_intact,
};

FIXTURE_VARIANT_ADD(fault, map_hold) {
	.prepare = has_memory_for_client,
	.run = run_map_hold,
	.undo = undo_map_hold,
	.intact = memory_is_intact,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, pin_fast) {
	.prepare = has_mapping,
	.run = run_pin_fast,
	.undo = undo_object,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, pin_slow) {
	.prepare = has_mapping,
	.run = run_pin_slow,
	.undo = undo_object,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, pin_remote) {
	.prepare = has_mapping,
	.run = run_pin_remote,
	.undo = undo_object,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, get_fast) {
	.prepare = has_mapping,
	.run = run_get_fast,
	.undo = undo_object,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, get_slow) {
	.prepare = has_mapping,
	.run = run_get_slow,
	.undo = undo_object,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, extract) {
	.prepare = has_mapping,
	.run = run_extract,
	.undo = undo_object,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, bio) {
	.prepare = has_memory_for_disk,
	.run = run_bio,
	.undo = undo_bio,
	.intact = memory_is_intact,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, peek) {
	.prepare = has_memory,
	.run = run_peek,
	.intact = memory_is_intact,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, pattern) {
	.prepare = has_memory,
	.run = run_pattern,
	.intact = memory_is_intact,
};

FIXTURE_VARIANT_ADD(fault, release) {
	.prepare = has_memory,
	.run = run_release,
	.undo = run_alloc,
	.intact = memory_is_intact,
};

FIXTURE_VARIANT_ADD(fault, distance) {
	.prepare = has_client,
	.run = run_distance,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, find) {
	.prepare = has_client,
	.run = run_find,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, enable) {
	.run = run_enable,
	.least = 1,
};

FIXTURE_VARIANT_ADD(fault, pool) {
	.run = run_pool,
	.least = 1,
};

FIXTURE_SETUP(fault)
{
	self->s = (struct state) { .dev = -1, .file = -1, .map = MAP_FAILED,
				   .ram = MAP_FAILED };
	self->nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->nth);
	self->s.dev = h_open();
	ASSERT_LE(0, self->s.dev);
	ASSERT_TRUE(p2p_is_provider(provider->bdf));
	ASSERT_EQ(provider->rest, p2p_settled(provider));
	if (variant->probe && getenv("P2PDMA_FAULT_PROBE"))
		ASSERT_EQ(0, p2p_sysfs_write(MIN_ORDER, "20"));
}

FIXTURE_TEARDOWN(fault)
{
	EXPECT_EQ(0, p2p_sysfs_write(MIN_ORDER, "0"));
	fail_nth(self->nth, 0);
	close(self->nth);
	close(self->s.dev);
	if (!p2p_is_provider(provider->bdf))
		EXPECT_EQ(0, p2p_bind(provider));
	if (self->s.map != MAP_FAILED)
		munmap(self->s.map, PAGES * page);
	EXPECT_EQ(provider->size, p2p_pool_size(provider));
	EXPECT_EQ(provider->rest, p2p_settled(provider));
}

/**
 * struct bystander - somebody who maps memory whenever there is some
 * @id: the thread
 * @over: that it is to end
 * @tries: how often it has tried
 * @wrong: the last errno that is none of those of a provider that comes and goes
 */
struct bystander {
	pthread_t id;
	bool over;
	unsigned long tries;
	int wrong;
};

static void *map_again(void *arg)
{
	struct bystander *b = arg;

	while (!__atomic_load_n(&b->over, __ATOMIC_ACQUIRE)) {
		int pool = p2p_open_pool(provider, O_RDWR);
		void *map = pool < 0 ? MAP_FAILED : p2p_map(pool, page);
		int error = map == MAP_FAILED ? errno : 0;

		if (error && error != ENOENT && error != ENODEV &&
		    error != ENOMEM)
			b->wrong = error;
		if (!error)
			munmap(map, page);
		if (pool >= 0)
			close(pool);
		b->tries++;
		usleep(200);
	}
	return NULL;
}

TEST_F_TIMEOUT(fault, each_allocation, 600)
{
	struct bystander bystander = {};
	struct state *s = &self->s;
	int nth, ret, failed = 0;
	bool bound, injected;
	ssize_t rest;

	if (variant->prepare && !variant->prepare(s)) {
		ASSERT_EQ(NULL, getenv("P2PDMA_TOPOLOGY"));
		SKIP(return, "no namespace reaches the provider");
	}
	bound = p2p_is_provider(provider->bdf);
	rest = bound ? p2p_available(provider) : 0;
	/* what is there while probe() fails may be used, for as long as it is there */
	if (variant->probe)
		ASSERT_EQ(0, pthread_create(&bystander.id, NULL, map_again,
					    &bystander));

	for (nth = 1; nth <= MAX_NTH; nth++) {
		ASSERT_TRUE(fail_nth(self->nth, nth));
		ret = variant->run(s);
		injected = has_failed(self->nth);
		ASSERT_TRUE(fail_nth(self->nth, 0));

		if (ret) {
			if (variant->intact)
				EXPECT_TRUE(variant->intact(s))
					TH_LOG("allocation %d", nth);
			EXPECT_TRUE(injected)
				TH_LOG("nothing failed in it, but it did: %s",
				       strerror(-ret));
			EXPECT_TRUE(is_expected(variant->errors, -ret))
				TH_LOG("allocation %d: %s", nth,
				       strerror(-ret));
			failed++;
		} else if (variant->undo) {
			ASSERT_EQ(0, variant->undo(s))
				TH_LOG("allocation %d", nth);
		}
		/* as if nothing had happened */
		ASSERT_EQ(bound, p2p_is_provider(provider->bdf))
			TH_LOG("allocation %d", nth);
		ASSERT_EQ(bound, p2p_attr_number(provider->bdf, "enable"))
			TH_LOG("allocation %d", nth);
		if (bound)
			ASSERT_EQ(rest, p2p_settled_at(provider, rest))
				TH_LOG("allocation %d", nth);
		if (!injected)
			break;
	}
	if (variant->probe) {
		__atomic_store_n(&bystander.over, true, __ATOMIC_RELEASE);
		ASSERT_EQ(0, pthread_join(bystander.id, NULL));
		EXPECT_LT(0UL, bystander.tries);
		EXPECT_EQ(0, bystander.wrong)
			TH_LOG("mapping meanwhile: %s",
			       strerror(bystander.wrong));
	}
	EXPECT_GE(MAX_NTH, nth)
		TH_LOG("there is no end to its allocations");
	/* or nothing was tried */
	EXPECT_LT(variant->least, nth);
	ksft_print_msg("%d allocations: without one it failed %d times, and did without %d times\n",
		       nth - 1, failed, nth - 1 - failed);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "What is done with peer-to-peer memory, while each allocation in turn fails"))
		return test_harness_run(argc, argv);
	p2p_discover();
	require_faults();
	h_require();

	for (unsigned int i = 0; !provider && i < p2p.nr_providers; i++)
		if (!strcmp(p2p.provider[i].driver, DRIVER))
			provider = &p2p.provider[i];
	if (!provider)
		ksft_exit_skip("no device is bound to " DRIVER "\n");
	for (unsigned int i = 0; !client && i < p2p.nr_clients; i++)
		if (p2p.client[i].scratch &&
		    p2p_expect(provider, &p2p.client[i]).verdict !=
		    P2P_NOT_SUPPORTED)
			client = &p2p.client[i];
	return test_harness_run(argc, argv);
}
