// SPDX-License-Identifier: GPL-2.0
/*
 * Who reaches whom, and how: distances, finding a provider, what the user
 * enables, and above all the mapping of a scatterlist of peer-to-peer memory
 * for a client, which is what counts in the end.
 *
 * What the kernel should say is worked out from two sources that it does not
 * ask: the place of the devices in sysfs, and P2PDMA_EXPECT.
 */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <signal.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define SYS_PCI		"/sys/bus/pci/devices"
#define MAX_ENTRIES	64

static size_t page;

/* ---- distances, from sysfs --------------------------------------------- */

/*
 * The PCI functions from the host bridge down to a device, as in the path of
 * its directory: their number.
 */
static int path_of(const char *bdf, char functions[][16], int max)
{
	char link[PATH_MAX], real[PATH_MAX], *part, *save = NULL;
	unsigned int domain, bus, device, function;
	int n = 0;

	snprintf(link, sizeof(link), SYS_PCI "/%s", bdf);
	if (!realpath(link, real))
		return -1;
	for (part = strtok_r(real, "/", &save); part && n < max;
	     part = strtok_r(NULL, "/", &save)) {
		if (sscanf(part, "%x:%x:%x.%x", &domain, &bus, &device,
			   &function) == 4 && strlen(part) < 16)
			strcpy(functions[n++], part);
	}
	return n;
}

/*
 * The number of steps from one to the other by way of the bridge that they
 * have in common, or, if there is none, by way of the host bridge.
 */
static int steps_between(const char *a, const char *b)
{
	char from[16][16], to[16][16];
	int n = path_of(a, from, 16), m = path_of(b, to, 16), common = 0;

	while (common < n && common < m && !strcmp(from[common], to[common]))
		common++;
	return n - common + m - common;
}

/* ---- pairs ------------------------------------------------------------- */

FIXTURE(pair) {
	int dev;
	struct p2p_expect expect;
};

FIXTURE_VARIANT(pair) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(pair)
{
	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no NVMe namespaces");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->expect = p2p_expect(variant->provider, variant->client);
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

FIXTURE_TEARDOWN(pair)
{
	if (!variant)
		return;
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

static int64_t distance(struct __test_metadata *_metadata, int dev,
			uint64_t provider, const uint64_t *client,
			unsigned int nr)
{
	struct p2pdma_test_distance args = {
		.provider = provider,
		.clients = h_pointer(client),
		.nr_clients = nr,
	};

	EXPECT_EQ(0, h_distance(dev, &args));
	return args.ret;
}

TEST_F(pair, distance)
{
	uint64_t provider = h_function(variant->provider->bdf);
	uint64_t client = h_function(variant->client->bdf);
	int steps = steps_between(variant->provider->bdf, variant->client->bdf);
	int64_t ret = distance(_metadata, self->dev, provider, &client, 1);

	switch (self->expect.verdict) {
	case P2P_BUS_ADDR:
	case P2P_HOST_BRIDGE:
		EXPECT_EQ(steps, ret);
		break;
	case P2P_NOT_SUPPORTED:
		EXPECT_EQ(-1, ret);
		break;
	case P2P_UNKNOWN:
		EXPECT_TRUE(ret == steps || ret == -1) {
			TH_LOG("expected %d or -1, got %ld", steps, ret);
		}
		break;
	}
	/* and it is as far back */
	EXPECT_EQ(ret, distance(_metadata, self->dev, client, &provider, 1));
}

static void map(struct __test_metadata *_metadata, int dev, uint32_t id,
		const struct p2p_client *client, unsigned int flags,
		unsigned int direction, struct p2pdma_test_map *args,
		struct p2pdma_test_dma *dma)
{
	*args = (struct p2pdma_test_map){
		.id = id,
		.flags = flags,
		.direction = direction,
		.client = h_function(client->bdf),
		.entries = h_pointer(dma),
		.nr_entries = MAX_ENTRIES,
	};
	ASSERT_EQ(0, h_map(dev, args));
}

/*
 * Which of the two types it must be is for P2PDMA_EXPECT to say; what an
 * address of that type looks like is the same everywhere.
 */
static void expect_mapped(struct __test_metadata *_metadata,
			  const struct p2p_expect *expect,
			  const struct p2pdma_test_map *args,
			  const struct p2pdma_test_dma *dma,
			  unsigned int entries, size_t length)
{
	size_t total = 0;

	if (expect->verdict == P2P_NOT_SUPPORTED ||
	    (expect->verdict == P2P_UNKNOWN && args->ret)) {
		EXPECT_EQ(-EREMOTEIO, args->ret);
		EXPECT_EQ(P2PDMA_TEST_MAP_NONE, (int)args->type);
		EXPECT_EQ(0U, args->mapped);
		EXPECT_EQ(0U, args->nr_entries);
		return;
	}

	EXPECT_EQ(0, args->ret);
	EXPECT_EQ(args->mapped, args->nr_entries);
	if (expect->verdict != P2P_UNKNOWN)
		EXPECT_EQ(expect->verdict == P2P_BUS_ADDR ?
			  P2PDMA_TEST_MAP_BUS_ADDR :
			  P2PDMA_TEST_MAP_HOST_BRIDGE, (int)args->type);

	for (unsigned int i = 0; i < args->nr_entries; i++) {
		total += dma[i].dma_length;
		if (args->type == P2PDMA_TEST_MAP_BUS_ADDR) {
			EXPECT_EQ(dma[i].bus_address, dma[i].dma_address);
			EXPECT_EQ(length, dma[i].dma_length);
		}
	}
	if (args->type == P2PDMA_TEST_MAP_BUS_ADDR)
		EXPECT_EQ(entries, args->nr_entries);
	EXPECT_EQ(entries * length, total);
}

/*
 * Where an IOMMU makes one piece of several entries, it is known by the bus
 * address of the first of them. From page to page a bus address is as far from
 * the address that the processor uses.
 */
static void expect_bus_addresses(struct __test_metadata *_metadata, int dev,
				 uint32_t id,
				 const struct p2pdma_test_map *args,
				 const struct p2pdma_test_dma *dma)
{
	static struct p2pdma_test_page facts[512];
	struct p2pdma_test_peek peek = {
		.id = id,
		.pages = h_pointer(facts),
		.nr_pages = ARRAY_SIZE(facts),
	};
	size_t at = 0;

	ASSERT_EQ(0, h_peek(dev, &peek));
	for (unsigned int i = 0; i < args->nr_entries; i++) {
		ASSERT_LT(at / page, peek.nr_pages);
		EXPECT_EQ(facts[at / page].phys - facts[0].phys,
			  dma[i].bus_address - dma[0].bus_address) {
			TH_LOG("entry %u, %zu bytes on", i, at);
		}
		at += dma[i].dma_length;
	}
}

static const struct {
	size_t length;
	unsigned int entries;
} lists[] = {
	{ 4, 1 }, { 4096, 1 }, { 1 << 20, 1 }, { 4096, 2 }, { 12288, 16 },
	{ 4096, MAX_ENTRIES },
};

TEST_F(pair, map)
{
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		int64_t id = h_memory(self->dev, variant->provider->bdf,
				      lists[i].length, lists[i].entries);
		size_t length = h_entry_length(lists[i].length,
					       lists[i].entries);

		ASSERT_LT(0, id);
		for (int d = 0; d < P2PDMA_TEST_NR_DIRECTIONS; d++) {
			map(_metadata, self->dev, id, variant->client, 0, d,
			    &args, dma);
			expect_mapped(_metadata, &self->expect, &args, dma,
				      lists[i].entries, length);
			expect_bus_addresses(_metadata, self->dev, id, &args,
					     dma);
		}
		/* whatever came of it, the memory is still there */
		EXPECT_EQ(0, h_drop(self->dev, id));
	}
}

TEST_F(pair, hold)
{
	struct p2pdma_test_pattern pattern = { .length = 8 };
	struct p2pdma_test_peek peek = { 0 };
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args;
	int64_t id = h_memory(self->dev, variant->provider->bdf, page, 3);

	ASSERT_LT(0, id);
	map(_metadata, self->dev, id, variant->client, P2PDMA_TEST_MAP_HOLD,
	    P2PDMA_TEST_BIDIRECTIONAL, &args, dma);
	expect_mapped(_metadata, &self->expect, &args, dma, 3, page);

	pattern.id = id;
	peek.id = id;
	if (args.ret) {
		/* not mapped: memory like any other */
		EXPECT_EQ(0, h_fill(self->dev, &pattern));
		EXPECT_EQ(0, h_peek(self->dev, &peek));
	} else {
		EXPECT_EQ(-EMEDIUMTYPE, h_fill(self->dev, &pattern));
		EXPECT_EQ(-EMEDIUMTYPE, h_check(self->dev, &pattern));
		EXPECT_EQ(-EMEDIUMTYPE, h_peek(self->dev, &peek));
		EXPECT_EQ(-EMEDIUMTYPE, h_map(self->dev, &args));
	}
	EXPECT_EQ(variant->provider->rest - (ssize_t)(3 * page),
		  p2p_available(variant->provider));
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/*
 * A list that was mapped once, and then refused for another client, is what it
 * was: its memory, and where that is. What the first mapping left in the entries
 * must not be taken for the second's (__invalidate_sg(), where an IOMMU
 * translates).
 */
TEST_F(pair, map_after_another)
{
	uint64_t own = h_function(variant->provider->bdf);
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args;
	int64_t id;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		size_t length = h_entry_length(lists[i].length,
					       lists[i].entries);

		id = h_memory(self->dev, variant->provider->bdf,
			      lists[i].length, lists[i].entries);
		ASSERT_LT(0, id);
		for (int turn = 0; turn < 3; turn++) {
			/* to its own memory every device has a path */
			args = (struct p2pdma_test_map){
				.id = id,
				.client = own,
				.entries = h_pointer(dma),
				.nr_entries = MAX_ENTRIES,
			};
			ASSERT_EQ(0, h_map(self->dev, &args));
			/* all but those that take less in a piece, or 32 bits */
			if (args.ret != -EINVAL && args.ret != -ERANGE) {
				EXPECT_EQ(0, args.ret);
				EXPECT_EQ(P2PDMA_TEST_MAP_BUS_ADDR,
					  (int)args.type);
				EXPECT_EQ(lists[i].entries, args.nr_entries);
			}
			map(_metadata, self->dev, id, variant->client, 0,
			    P2PDMA_TEST_BIDIRECTIONAL, &args, dma);
			expect_mapped(_metadata, &self->expect, &args, dma,
				      lists[i].entries, length);
			expect_bus_addresses(_metadata, self->dev, id, &args,
					     dma);
		}
		EXPECT_EQ(0, h_drop(self->dev, id));
		EXPECT_EQ(variant->provider->rest,
			  p2p_available(variant->provider));
	}
}

/* ---- one provider ------------------------------------------------------ */

FIXTURE(provider) {
	int dev;
	uint64_t function;
};

FIXTURE_VARIANT(provider) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(provider)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->function = h_function(variant->provider->bdf);
}

FIXTURE_TEARDOWN(provider)
{
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

#define DISTANCE(_client, _nr)						\
	distance(_metadata, self->dev, self->function, _client, _nr)

TEST_F(provider, distance_to_itself)
{
	EXPECT_EQ(0, DISTANCE(&self->function, 1));
}

/* Whether all BARs are where a device that has 32 bits of address gets at. */
static bool within_32_bits(const char *bdf)
{
	uint64_t start, end = 0, flags;
	char path[PATH_MAX];
	bool within = true;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", bdf);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (fscanf(file, "%lx %lx %lx", &start, &end, &flags) == 3)
		within &= end <= UINT32_MAX;
	fclose(file);
	return within;
}

/*
 * For a client that takes 64 KiB in a piece, and 32 bits of address, as those
 * whose driver does not say. An IOMMU makes several pieces of the list then, of
 * several entries each. What such a client does not get at is refused: the kernel
 * alone warns, or hands out addresses that are of no use.
 */
TEST_F(provider, map_in_pieces)
{
	bool within = within_32_bits(variant->provider->bdf);
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	unsigned int asked = 0;
	int64_t id;

	id = h_memory(self->dev, variant->provider->bdf, page, MAX_ENTRIES);
	ASSERT_LT(0, id);
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *client = &p2p.provider[i];
		struct p2pdma_test_map args = {
			.id = id,
			.client = h_function(client->bdf),
			.entries = h_pointer(dma),
			.nr_entries = MAX_ENTRIES,
		};

		if (strcmp(client->driver, "p2pdma_provider"))
			continue;
		asked++;
		ASSERT_EQ(0, h_map(self->dev, &args));
		if (args.ret) {
			EXPECT_TRUE(args.ret == -EREMOTEIO ||
				    (args.ret == -ERANGE && !within)) {
				TH_LOG("%s: %ld", client->bdf,
				       (long)args.ret);
			}
			continue;
		}
		/* an address of 32 bits, by translation only */
		EXPECT_TRUE(within || p2p_has_iommu(client->bdf));
		for (unsigned int j = 0; j < args.nr_entries; j++)
			EXPECT_LE(dma[j].dma_address + dma[j].dma_length - 1,
				  (uint64_t)UINT32_MAX);
		expect_bus_addresses(_metadata, self->dev, id, &args, dma);
	}
	EXPECT_EQ(0, h_drop(self->dev, id));
	if (!asked)
		SKIP(return, "no device of p2pdma_provider");
}

/* Several clients: the sum, unless one of them is out of reach. */
TEST_F(provider, distance_of_many)
{
	uint64_t client[P2PDMA_TEST_MAX_CLIENTS];
	int64_t each, sum = 0;
	unsigned int nr = 0;
	bool reach = true;

	while (nr < ARRAY_SIZE(client)) {
		client[nr] = nr % 2 || !p2p.nr_clients ? self->function :
			     h_function(p2p.client[nr / 2 %
						   p2p.nr_clients].bdf);
		each = DISTANCE(&client[nr], 1);
		reach &= each >= 0;
		sum += each;
		nr++;
		EXPECT_EQ(reach ? sum : -1, DISTANCE(client, nr)) {
			TH_LOG("%u clients", nr);
		}
	}
}

static bool is_published(const struct p2p_provider *provider)
{
	return p2p_attr_number(provider->bdf, "p2pmem/published") == 1;
}

static int64_t nearest(struct __test_metadata *_metadata, int dev,
		       const uint64_t *client, unsigned int nr)
{
	int64_t best = -1;

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];
		int64_t d = distance(_metadata, dev, h_function(p->bdf),
				     client, nr);

		if (is_published(p) && d >= 0 &&
		    (best < 0 || d < best))
			best = d;
	}
	return best;
}

static uint64_t find(struct __test_metadata *_metadata, int dev,
		     const uint64_t *client, unsigned int nr)
{
	struct p2pdma_test_find args = {
		.clients = h_pointer(client),
		.nr_clients = nr,
	};

	EXPECT_EQ(0, h_find(dev, &args));
	return args.provider;
}

/* One of the nearest that are published, or none. */
static void expect_found(struct __test_metadata *_metadata, int dev,
			 const uint64_t *client, unsigned int nr)
{
	int64_t best = nearest(_metadata, dev, client, nr);
	uint64_t found = find(_metadata, dev, client, nr);

	if (best < 0) {
		EXPECT_EQ(P2PDMA_TEST_NO_FUNCTION, found);
		return;
	}
	ASSERT_NE(P2PDMA_TEST_NO_FUNCTION, found);
	EXPECT_EQ(best, distance(_metadata, dev, found, client, nr));
}

TEST_F(provider, find)
{
	uint64_t client[P2P_MAX_CLIENTS];

	/* nearest to itself, if it is published */
	expect_found(_metadata, self->dev, &self->function, 1);
	if (is_published(variant->provider))
		EXPECT_EQ(self->function,
			  find(_metadata, self->dev, &self->function, 1));

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		client[i] = h_function(p2p.client[i].bdf);
		expect_found(_metadata, self->dev, &client[i], 1);
		expect_found(_metadata, self->dev, client, i + 1);
	}
}

static int set_published(const struct p2p_provider *provider, const char *value)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/p2pdma_provider/publish",
		 provider->bdf);
	return p2p_sysfs_write(path, value);
}

/* ---- what the user enables --------------------------------------------- */

static void enable(struct __test_metadata *_metadata, int dev,
		   const char *value, struct p2pdma_test_enable *args)
{
	memset(args, 0, sizeof(*args));
	snprintf((char *)args->value, sizeof(args->value), "%s", value);
	EXPECT_EQ(0, h_enable(dev, args));
}

static void expect_choice(struct __test_metadata *_metadata, int dev,
			  const char *value, int choice, uint64_t provider,
			  const char *shown)
{
	struct p2pdma_test_enable args;

	enable(_metadata, dev, value, &args);
	EXPECT_EQ(0, args.ret) {
		TH_LOG("'%s'", value);
	}
	EXPECT_EQ(choice, (int)args.choice);
	EXPECT_EQ(provider, args.provider);
	EXPECT_STREQ(shown, (const char *)args.shown) {
		TH_LOG("'%s'", value);
	}
}

static void expect_no_choice(struct __test_metadata *_metadata, int dev,
			     const char *value)
{
	struct p2pdma_test_enable args;

	enable(_metadata, dev, value, &args);
	EXPECT_EQ(-ENODEV, args.ret) {
		TH_LOG("'%s'", value);
	}
	EXPECT_EQ(P2PDMA_TEST_NO_FUNCTION, args.provider);
}

TEST_F(provider, enable)
{
	static const char * const on[] = { "1", "1\n", "y", "Y\n", "on", "ON\n",
					   "true", "enable" };
	static const char * const off[] = { "0", "0\n", "n", "N\n", "off",
					    "OFF\n", "false", "disable" };
	static const char * const wrong[] = {
		"", "\n", "2", "-1", "00", "01", "10", "0x1", "1.",
		"0000:ff:1f.7", "0000:ff:1f.7\n", "0000:", "pci", "auto",
	};
	const char *bdf = variant->provider->bdf;
	char value[32];

	for (size_t i = 0; i < ARRAY_SIZE(on); i++)
		expect_choice(_metadata, self->dev, on[i], P2PDMA_TEST_AUTO,
			      P2PDMA_TEST_NO_FUNCTION, "1\n");
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		expect_choice(_metadata, self->dev, off[i], P2PDMA_TEST_OFF,
			      P2PDMA_TEST_NO_FUNCTION, "0\n");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		expect_no_choice(_metadata, self->dev, wrong[i]);

	snprintf(value, sizeof(value), "%s\n", bdf);
	if (is_published(variant->provider)) {
		expect_choice(_metadata, self->dev, bdf, P2PDMA_TEST_PROVIDER,
			      self->function, value);
		expect_choice(_metadata, self->dev, value,
			      P2PDMA_TEST_PROVIDER, self->function, value);
	} else {
		expect_no_choice(_metadata, self->dev, value);
	}
	/* without its domain, and with more behind it */
	expect_no_choice(_metadata, self->dev, strchr(bdf, ':') + 1);
	snprintf(value, sizeof(value), "%s ", bdf);
	expect_no_choice(_metadata, self->dev, value);
}

/* A PCI device that provides nothing. */
TEST_F(provider, enable_no_provider)
{
	struct dirent *entry;
	DIR *dir;

	dir = opendir(SYS_PCI);
	ASSERT_NE(NULL, dir);
	while ((entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    !p2p_is_provider(entry->d_name))
			expect_no_choice(_metadata, self->dev, entry->d_name);
	}
	closedir(dir);
}

/* ---- what a change does ------------------------------------------------ */

FIXTURE(change) {
	int dev;
	uint64_t function;
};

FIXTURE_VARIANT(change) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(change)
{
	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no device is bound to p2pdma_provider");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->function = h_function(variant->provider->bdf);
}

FIXTURE_TEARDOWN(change)
{
	if (!variant)
		return;
	if (!p2p_is_provider(variant->provider->bdf))
		EXPECT_EQ(0, p2p_bind(variant->provider));
	EXPECT_EQ(0, set_published(variant->provider, "1"));
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

TEST_F(change, publish)
{
	char value[32];

	snprintf(value, sizeof(value), "%s\n", variant->provider->bdf);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, set_published(variant->provider, "0"));
		EXPECT_FALSE(is_published(variant->provider));
		EXPECT_NE(self->function,
			  find(_metadata, self->dev, &self->function, 1));
		expect_no_choice(_metadata, self->dev, value);

		ASSERT_EQ(0, set_published(variant->provider, "1"));
		EXPECT_TRUE(is_published(variant->provider));
		EXPECT_EQ(self->function,
			  find(_metadata, self->dev, &self->function, 1));
		expect_choice(_metadata, self->dev, value,
			      P2PDMA_TEST_PROVIDER, self->function, value);
	}
	/* the memory can be had in any case */
	ASSERT_EQ(0, set_published(variant->provider, "0"));
	EXPECT_LT(0, h_memory(self->dev, variant->provider->bdf, page, 1));
}

/* The provider goes while a client has its memory mapped. */
TEST_F(change, unbind_provider_while_mapped)
{
	const struct p2p_provider *p = variant->provider;
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args;
	unsigned int held = 0;
	int64_t id[P2P_MAX_CLIENTS];

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		id[i] = h_memory(self->dev, p->bdf, page, 2);
		ASSERT_LT(0, id[i]);
		map(_metadata, self->dev, id[i], &p2p.client[i],
		    P2PDMA_TEST_MAP_HOLD, P2PDMA_TEST_TO_DEVICE, &args, dma);
		held += !args.ret;
	}
	if (!held)
		SKIP(return, "no client reaches this provider");

	ASSERT_EQ(0, p2p_unbind(p));
	EXPECT_FALSE(p2p_is_provider(p->bdf));
	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		EXPECT_EQ(-ENOENT, h_drop(self->dev, id[i]));
}

/* ---- the client goes --------------------------------------------------- */

FIXTURE(client_gone) {
	int dev;
	bool unbound;
};

FIXTURE_VARIANT(client_gone) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(client_gone)
{
	char driver[64];

	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no controller to spare reaches a provider");
	/* after a test that was ended by its limit */
	if (p2p_driver_link(variant->client->bdf, driver, sizeof(driver)))
		ASSERT_EQ(0, p2p_driver_write("nvme", "bind",
					      variant->client->bdf));
	P2P_WAIT_FOR(p2p_find_clients(variant->client->bdf));
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(client_gone)
{
	if (!variant)
		return;
	if (self->unbound) {
		EXPECT_EQ(0, p2p_driver_write("nvme", "bind",
					      variant->client->bdf));
		P2P_WAIT_FOR(p2p_find_clients(variant->client->bdf));
	}
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* A mapping ends with its client, and with it the memory comes back. */
TEST_F(client_gone, while_mapped)
{
	struct p2pdma_test_pattern pattern = { .length = 8 };
	struct p2pdma_test_peek peek = { 0 };
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args;
	int64_t id = h_memory(self->dev, variant->provider->bdf, page, 3);

	ASSERT_LT(0, id);
	map(_metadata, self->dev, id, variant->client, P2PDMA_TEST_MAP_HOLD,
	    P2PDMA_TEST_BIDIRECTIONAL, &args, dma);
	if (args.ret)
		SKIP(return, "the client does not reach the provider");
	peek.id = id;
	EXPECT_EQ(-EMEDIUMTYPE, h_peek(self->dev, &peek));

	ASSERT_EQ(0, p2p_driver_write("nvme", "unbind", variant->client->bdf));
	self->unbound = true;
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
	pattern.id = id;
	EXPECT_EQ(-ENODATA, h_fill(self->dev, &pattern));
	peek.id = id;
	EXPECT_EQ(-ENODATA, h_peek(self->dev, &peek));
	EXPECT_EQ(-ENODEV, h_map(self->dev, &args));
	EXPECT_EQ(0, h_drop(self->dev, id));

	/* and nothing is mapped for who is not bound */
	id = h_memory(self->dev, variant->provider->bdf, page, 1);
	ASSERT_LT(0, id);
	args.id = id;
	EXPECT_EQ(-ENODEV, h_map(self->dev, &args));
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Who reaches whom: distances, mappings, finding providers"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(provider) provider = { p };
		FIXTURE_VARIANT(change) change = { p };

		P2P_VARIANT_ADD(provider, provider, "%s@%s", p->kind, p->bdf);
		if (!strcmp(p->driver, "p2pdma_provider"))
			P2P_VARIANT_ADD(change, change, "%s@%s", p->kind,
					p->bdf);

		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			const struct p2p_client *c = &p2p.client[j];

			FIXTURE_VARIANT(pair) pair = { p, c };

			P2P_VARIANT_ADD(pair, pair, "%s@%s>%s", p->kind,
					p->bdf, c->label);
			/* a controller that nobody else is in need of */
			if (!p2p_why_not_take(c->bdf) && strcmp(c->bdf, p->bdf) &&
			    p2p_expect(p, c).verdict != P2P_NOT_SUPPORTED) {
				FIXTURE_VARIANT(client_gone) gone = { p, c };

				P2P_VARIANT_ADD(client_gone, gone,
						"%s@%s>%s", p->kind, p->bdf,
						c->label);
			}
		}
	}
	return test_harness_run(argc, argv);
}
