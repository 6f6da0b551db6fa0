// SPDX-License-Identifier: GPL-2.0
/*
 * A driver in place of p2pdma_provider: that of the p2pdma_test module, which
 * tries in its probe() what only a driver can, and is bound only if all of it
 * was as it should be. What was not is in the kernel log. Another of that
 * module is never bound: its probe() fails when its memory is in use.
 */
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define DRIVER		"p2pdma_test"
#define FAILING		"p2pdma_test_fails"
#define RAW		"p2pdma_raw"
#define BARE		"p2pdma_raw_bare"
#define PROVIDER	"p2pdma_provider"
#define CYCLES		20
#define SYS_PCI		"/sys/bus/pci/devices"

static ssize_t page;

FIXTURE(driver) {
	int kmsg;
};

FIXTURE_VARIANT(driver) {
	const struct p2p_provider *provider;
};

static int bind_provider(const struct p2p_provider *p)
{
	if (p2p_set_override(p->bdf, *p->override ? p->override : "\n"))
		return -1;
	return p2p_driver_write(PROVIDER, "bind", p->bdf);
}

/* Whatever driver the device has. */
static void hand_back(struct __test_metadata *_metadata,
		      const struct p2p_provider *p)
{
	char driver[64];

	if (!p2p_driver_link(p->bdf, driver, sizeof(driver)))
		EXPECT_EQ(0, p2p_driver_write(driver, "unbind", p->bdf));
	EXPECT_EQ(0, bind_provider(p))
		TH_LOG("%s", strerror(errno));
}

FIXTURE_SETUP(driver)
{
	char driver[64] = "";

	if (!variant)
		SKIP(return, "no device is bound to " PROVIDER);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
	/* an earlier setup may have failed after it was unbound */
	p2p_driver_link(variant->provider->bdf, driver, sizeof(driver));
	if (strcmp(driver, PROVIDER))
		hand_back(_metadata, variant->provider);
	ASSERT_EQ(0, p2p_driver_write(PROVIDER, "unbind", variant->provider->bdf))
		TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, p2p_set_override(variant->provider->bdf, DRIVER))
		TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(driver)
{
	const struct p2p_provider *p = variant ? variant->provider : NULL;

	if (!p)
		return;
	hand_back(_metadata, p);
	EXPECT_EQ(p->rest, p2p_available(p));
	close(self->kmsg);
}

/*
 * What the driver says of the device is why it does not take it. What the
 * kernel says of every device, and every provider, is left out.
 */
static void expect_bound(struct __test_metadata *_metadata, int kmsg,
			 const char *bdf)
{
	char prefix[64], text[1024];
	int ret;

	snprintf(prefix, sizeof(prefix), DRIVER " %s: ", bdf);
	kmsg_skip(kmsg);
	ret = p2p_driver_write(DRIVER, "bind", bdf);
	EXPECT_EQ(0, ret)
		TH_LOG("%s", strerror(errno));
	while (kmsg_next(kmsg, text, sizeof(text))) {
		if (strncmp(text, prefix, strlen(prefix)) ||
		    strstr(text, "enabling device") ||
		    strstr(text, "added peer-to-peer DMA memory"))
			continue;
		EXPECT_STREQ("", text + strlen(prefix));
	}
}

/* The bitmaps of all pools that there are: a lost pool stays here. */
static int count_pools(void)
{
	FILE *file = fopen("/proc/vmallocinfo", "r");
	char line[512];
	int n = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		n += !!strstr(line, "gen_pool_add_owner");
	fclose(file);
	return n;
}

TEST_F(driver, probe)
{
	const struct p2p_provider *p = variant->provider;
	int pools = count_pools();
	char driver[64];

	ASSERT_LE(0, pools);
	for (int i = 0; i < CYCLES; i++) {
		expect_bound(_metadata, self->kmsg, p->bdf);
		ASSERT_EQ(pools + 1, count_pools());
		ASSERT_EQ(0, p2p_driver_link(p->bdf, driver, sizeof(driver)));
		ASSERT_STREQ(DRIVER, driver);
		ASSERT_EQ(p->size, p2p_pool_size(p));
		ASSERT_EQ(p->size - page, p2p_available(p));
		ASSERT_EQ(0, p2p_attr_number(p->bdf, "p2pmem/published"));
		ASSERT_EQ(0, p2p_driver_write(DRIVER, "unbind", p->bdf));
		ASSERT_FALSE(p2p_is_provider(p->bdf));
		ASSERT_EQ(pools, count_pools());
	}
}

/* User space maps it, as that of any other driver, and loses it in the end. */
TEST_F(driver, mapped)
{
	const struct p2p_provider *p = variant->provider;
	uint64_t value;
	char *map;
	int fd;

	expect_bound(_metadata, self->kmsg, p->bdf);
	fd = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, fd);
	map = p2p_map(fd, page);
	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, p2p_try_write(map, 0x5a5a5a5a5a5a5a5a));
	EXPECT_EQ(0, p2p_try_read(map, &value));
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aUL, value);
	EXPECT_EQ(p->size - 2 * page, p2p_available(p));

	EXPECT_EQ(0, p2p_driver_write(DRIVER, "unbind", p->bdf));
	EXPECT_EQ(SIGBUS, p2p_try_read(map, NULL));
	EXPECT_EQ(0, munmap(map, page));
	close(fd);
}

/* Reads of attributes while their provider goes. */
struct readings {
	const char *bdf;
	ssize_t size;
	atomic_int bound;	/* readings so far, and those of what was gone */
	atomic_int gone;
	atomic_bool wrong;
	char last[32];
};

/* A number that is read over and over again, until there is nothing to be read. */
static void read_on(struct readings *r, const char *attr, bool (*right)(ssize_t, ssize_t))
{
	char path[PATH_MAX], text[32];
	ssize_t n, value;
	int fd;

	snprintf(path, sizeof(path), SYS_PCI "/%s/p2pmem/%s", r->bdf, attr);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0) {
		n = pread(fd, text, sizeof(text) - 1, 0);
		if (n <= 0)
			break;
		text[n] = '\0';
		value = atoll(text);
		if (!right(value, r->size)) {
			snprintf(r->last, sizeof(r->last), "%s", text);
			atomic_store(&r->wrong, true);
			break;
		}
		atomic_fetch_add(value ? &r->bound : &r->gone, 1);
	}
	if (fd >= 0)
		close(fd);
}

static bool all_or_nothing(ssize_t value, ssize_t size)
{
	return !value || value == size;
}

static bool at_most(ssize_t value, ssize_t size)
{
	return !(value % page) && value <= size;
}

static bool never(ssize_t value, ssize_t size)
{
	(void)size;
	return !value;
}

static void *read_size(void *arg)
{
	read_on(arg, "size", all_or_nothing);
	return NULL;
}

static void *read_available(void *arg)
{
	read_on(arg, "available", at_most);
	return NULL;
}

static void *read_published(void *arg)
{
	read_on(arg, "published", never);
	return NULL;
}

/*
 * The attributes are there a moment longer than what they tell of: nobody is told
 * of memory that is not there, and nothing was published.
 */
TEST_F(driver, read_while_unbound)
{
	static void *(* const read[])(void *) = {
		read_size, read_available, read_published,
	};
	const struct p2p_provider *p = variant->provider;

	for (size_t i = 0; i < 2 * ARRAY_SIZE(read); i++) {
		struct readings r = { .bdf = p->bdf, .size = p->size };
		pthread_t thread;

		expect_bound(_metadata, self->kmsg, p->bdf);
		ASSERT_EQ(0, pthread_create(&thread, NULL, read[i % ARRAY_SIZE(read)], &r));
		for (int j = 0; j < 500 * p2p_patience() && !atomic_load(&r.bound) &&
		     !atomic_load(&r.gone); j++)
			usleep(10000);
		EXPECT_EQ(0, p2p_driver_write(DRIVER, "unbind", p->bdf));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_LT(0, r.bound + r.gone);
		EXPECT_FALSE(atomic_load(&r.wrong))
			TH_LOG("read %s", r.last);
		ksft_print_msg("%d readings, and %d of nothing\n", r.bound, r.gone);
	}
}

/* What the kernel says between two lines of the module's. */
struct told {
	const char *text;
	bool provider;			/* whether that is named, in brackets */
	int mapping;			/* how often where memory is mapped, */
	int verbosely, least, most;	/* where asked so, and where asked quietly */
};

/*
 * Whoever asks verbosely, or maps memory, is told what is wrong with each client. Whoever
 * asks quietly is told nothing, but for a host bridge that is not in the list, where ACS
 * redirects.
 */
static const struct told told[] = {
	{ "cannot be used for peer-to-peer DMA as it is not a PCI device", false, 0, 1, 0, 0 },
	{ "ACS redirect is set between the client and provider", true, 0, 2, 0, 0 },
	{ "to disable ACS redirect for this path", false, 0, 2, 0, 0 },
	{ "do not share an upstream bridge or whitelisted host bridge", true, 1, 3, 0, 0 },
	{ "Host bridge not in P2PDMA whitelist", false, 0, 2, 1, 2 },
};

static void expect_told(struct __test_metadata *_metadata, int kmsg, const char *bdf)
{
	enum { OTHERS, MAPPING, VERBOSELY, QUIETLY, DONE } part = OTHERS;
	int count[DONE][ARRAY_SIZE(told)] = {};
	bool trusted = false, asked[DONE] = {};
	char text[1024], provider[32];

	snprintf(provider, sizeof(provider), "(%s)", bdf);
	while (kmsg_next(kmsg, text, sizeof(text))) {
		if (strstr(text, "raw: asking by a mapping"))
			part = MAPPING;
		else if (strstr(text, "raw: asking verbosely"))
			part = VERBOSELY;
		else if (strstr(text, "raw: asking quietly"))
			part = QUIETLY;
		else if (strstr(text, "raw: asked"))
			part = OTHERS;
		trusted |= !!strstr(text, "raw: this machine trusts");
		asked[part] = true;
		for (size_t i = 0; i < ARRAY_SIZE(told); i++)
			count[part][i] += strstr(text, told[i].text) &&
				(!told[i].provider || strstr(text, provider));
	}
	if (trusted) {
		ksft_print_msg("every host bridge is trusted here: no refusal to see\n");
		return;
	}
	EXPECT_TRUE(asked[MAPPING] && asked[VERBOSELY] && asked[QUIETLY])
		TH_LOG("%s: nothing is in the log", bdf);
	for (size_t i = 0; i < ARRAY_SIZE(told); i++) {
		EXPECT_EQ(told[i].mapping, count[MAPPING][i])
			TH_LOG("asked by a mapping: %s", told[i].text);
		EXPECT_EQ(told[i].verbosely, count[VERBOSELY][i])
			TH_LOG("asked verbosely: %s", told[i].text);
		EXPECT_LE(told[i].least, count[QUIETLY][i])
			TH_LOG("asked quietly: %s", told[i].text);
		EXPECT_GE(told[i].most, count[QUIETLY][i])
			TH_LOG("asked quietly: %s", told[i].text);
	}
}

#define NOT_SHARED							\
	"ranges of 2 MiB share a page of the memory map: the kernel dies of it, see kernel-issues.rst"

/*
 * What the library refuses before the kernel could: the driver of another module,
 * which calls the kernel itself, is bound if that was as it should be. It has the
 * last two parts of the BAR then, and keeps a page until it is unbound, when it asks
 * for another one.
 */
TEST_F(driver, arguments)
{
	const struct p2p_provider *p = variant->provider;
	const ssize_t part = 2 << 20;
	char text[1024];
	int refused = 0, got = 0;

	if (p2p_range_align() > (uint64_t)part)
		SKIP(return, NOT_SHARED);
	ASSERT_EQ(0, p2p_set_override(p->bdf, RAW));
	kmsg_skip(self->kmsg);
	ASSERT_EQ(0, p2p_driver_write(RAW, "bind", p->bdf))
		TH_LOG("%s: see the kernel log", strerror(errno));
	expect_told(_metadata, self->kmsg, p->bdf);
	EXPECT_EQ(2 * part, p2p_pool_size(p));
	EXPECT_EQ(2 * part - page, p2p_available(p));

	kmsg_skip(self->kmsg);
	EXPECT_EQ(0, p2p_driver_write(RAW, "unbind", p->bdf));
	while (kmsg_next(self->kmsg, text, sizeof(text))) {
		refused += !!strstr(text, "raw: no memory while it goes");
		got += !!strstr(text, "raw: got memory while it goes");
	}
	EXPECT_EQ(1, refused);
	EXPECT_EQ(0, got);
}

/* Providers without a pool: what drivers have that export their BARs by dma-buf. */
TEST_F(driver, without_pool)
{
	const struct p2p_provider *p = variant->provider;
	int dev = h_open();

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, p2p_set_override(p->bdf, BARE));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, p2p_driver_write(BARE, "bind", p->bdf))
			TH_LOG("%s: see the kernel log", strerror(errno));
		EXPECT_FALSE(p2p_is_provider(p->bdf));
		/* a child of the device is called p2pmem: the library takes it for no pool */
		EXPECT_EQ(-ENODEV, h_memory(dev, p->bdf, page, 1));
		EXPECT_EQ(0, p2p_driver_write(BARE, "unbind", p->bdf));
	}
	close(dev);
}

/* An attempt to bind the driver that fails. */
struct attempt {
	const char *bdf;
	int error;
	atomic_bool done;
};

static void *bind_failing(void *arg)
{
	struct attempt *attempt = arg;

	if (p2p_driver_write(FAILING, "bind", attempt->bdf))
		attempt->error = errno;
	atomic_store(&attempt->done, true);
	return NULL;
}

/* A page of memory that is about to be provided, or MAP_FAILED. */
static void *map_at_once(const struct p2p_provider *p)
{
	void *map = MAP_FAILED;

	for (int i = 0; i < 1000 * p2p_patience() && map == MAP_FAILED; i++) {
		int fd = p2p_open_pool(p, O_RDWR);

		if (fd >= 0) {
			map = p2p_map(fd, page);
			close(fd);
		}
		if (map == MAP_FAILED)
			usleep(5000);
	}
	return map;
}

/*
 * What was pinned by the time that probe() fails is released, as when a driver
 * is unbound: it is waited for. And it is only that which goes: what the next
 * driver provides can be kept.
 */
TEST_F(driver, pinned_while_probe_fails)
{
	const struct p2p_provider *p = variant->provider;
	struct attempt attempt = { .bdf = p->bdf };
	struct p2pdma_test_pin pin = {
		.flags = P2PDMA_TEST_PIN_P2PDMA | P2PDMA_TEST_PIN_HOLD,
		.length = page,
	};
	int dev = h_open();
	pthread_t thread;
	char *map, *second;
	int64_t id;

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, p2p_set_override(p->bdf, FAILING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, bind_failing, &attempt));

	map = map_at_once(p);
	pin.addr = h_pointer(map);
	EXPECT_EQ(0, h_pin(dev, &pin));
	EXPECT_EQ(1, pin.ret);
	/* for this it waits */
	second = map_at_once(p);

	for (int i = 0; i < 500 * p2p_patience() &&
	     !atomic_load(&attempt.done); i++)
		usleep(10000);
	EXPECT_TRUE(atomic_load(&attempt.done))
		TH_LOG("the driver waits for what is pinned");
	if (atomic_load(&attempt.done)) {
		EXPECT_EQ(-ENOENT, h_drop(dev, pin.id));
	} else {
		close(dev);
		dev = h_open();
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(EIO, attempt.error);
	EXPECT_EQ(SIGBUS, p2p_try_read(map, NULL));
	munmap(map, page);
	munmap(second, page);
	EXPECT_FALSE(p2p_is_provider(p->bdf));

	ASSERT_EQ(0, bind_provider(p));
	id = h_memory(dev, p->bdf, page, 1);
	EXPECT_LT(0, id);
	close(dev);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "What only a driver can try, by the driver of the module p2pdma_test"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(driver) v = { .provider = p };

		/* of several ranges the driver would make one */
		if (!strcmp(p->driver, PROVIDER) && p->ranges == 1)
			P2P_VARIANT_ADD(driver, v, "%s@%s", p->kind, p->bdf);
	}
	return test_harness_run(argc, argv);
}
