// SPDX-License-Identifier: GPL-2.0
/*
 * What users of peer-to-peer memory may rely on, whoever provides it: any device
 * with a p2pmem group, on any machine. Nothing but memory that nobody has is
 * written to, a few pages at a time. Page facts need the module p2pdma_test;
 * a driver is only unbound if that was asked for.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define PAGES		4

static size_t page;
static bool may_unbind;

FIXTURE(conformance) {
	int fd;
	ssize_t rest;
};

FIXTURE_VARIANT(conformance) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(conformance)
{
	self->fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->fd)
		TH_LOG("p2pmem/allocate: %s", strerror(errno));
	/* others may have some of it, and keep that */
	self->rest = p2p_available(variant->provider);
	if (self->rest < (ssize_t)(2 * PAGES * page))
		SKIP(return, "no memory is left in the pool");
}

FIXTURE_TEARDOWN(conformance)
{
	if (self->fd >= 0)
		close(self->fd);
	EXPECT_EQ(self->rest, p2p_available(variant->provider))
		TH_LOG("the pool is not as it was, or others are using it");
}

#define EXPECT_TAKEN(_taken)						\
	EXPECT_EQ(self->rest - (ssize_t)(_taken),			\
		  p2p_available(variant->provider))

static char *map_pages(struct __test_metadata *_metadata, int fd)
{
	char *map = p2p_map(fd, PAGES * page);

	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("mapping %d pages: %s", PAGES, strerror(errno));
	return map;
}

/* The group in sysfs: whole pages, none that are not there, and who may map. */
TEST_F(conformance, attributes)
{
	const struct p2p_provider *p = variant->provider;
	int64_t published = p2p_attr_number(p->bdf, "p2pmem/published");
	char path[PATH_MAX];
	struct stat st;

	EXPECT_LT(0, p->size);
	EXPECT_EQ(0UL, p->size % page);
	EXPECT_EQ(0UL, self->rest % page);
	EXPECT_LE(self->rest, p->size);
	EXPECT_TRUE(published == 0 || published == 1);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem/allocate",
		 p->bdf);
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0U, st.st_uid);
	EXPECT_EQ(0660U, st.st_mode & 07777);
	EXPECT_EQ(EACCES, p2p_open_without(P2P_ROOT, path));
}

/* A mapping takes whole pages for as long as it is there. */
TEST_F(conformance, accounting)
{
	const size_t lengths[] = { 1, page, page + 1, PAGES * page };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		char *map = p2p_map(self->fd, lengths[i]);

		ASSERT_NE(MAP_FAILED, (void *)map)
			TH_LOG("%zu bytes: %s", lengths[i], strerror(errno));
		EXPECT_TAKEN((lengths[i] + page - 1) / page * page);
		EXPECT_EQ(0, munmap(map, lengths[i]));
		EXPECT_TAKEN(0);
	}
}

static const struct {
	const char *what;
	size_t pages;
	int flags;
	off_t offset;
	int error;
} refusals[] = {
	{ "nothing", 0, MAP_SHARED, 0, EINVAL },
	{ "a private mapping", 1, MAP_PRIVATE, 0, EINVAL },
	{ "an offset", 1, MAP_SHARED, 1, EINVAL },
	{ "more than there is", SIZE_MAX, MAP_SHARED, 0, ENOMEM },
};

/* What allocate refuses, which takes nothing. */
TEST_F(conformance, refused)
{
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		size_t len = refusals[i].pages == SIZE_MAX ?
			     variant->provider->size + page :
			     refusals[i].pages * page;
		void *map;

		errno = 0;
		map = mmap(NULL, len, PROT_READ | PROT_WRITE,
			   refusals[i].flags, self->fd,
			   refusals[i].offset * page);
		EXPECT_EQ(MAP_FAILED, map);
		EXPECT_EQ(refusals[i].error, errno)
			TH_LOG("%s: %s", refusals[i].what, strerror(errno));
		EXPECT_TAKEN(0);
	}
}

/* Memory of one's own: what is written to it is read back, and only there. */
TEST_F(conformance, memory)
{
	char *map = map_pages(_metadata, self->fd);
	char *other = map_pages(_metadata, self->fd);
	char why[256];

	EXPECT_TAKEN(2 * PAGES * page);
	p2p_fill(map, PAGES * page, P2P_DATA, 0);
	p2p_fill(other, PAGES * page, P2P_AROUND, 0);
	if (p2p.corrupt)
		p2p_flip(map, page);
	EXPECT_EQ(0UL, p2p_check(map, PAGES * page, P2P_DATA, 0, why,
				 sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_EQ(0UL, p2p_check(other, PAGES * page, P2P_AROUND, 0, why,
				 sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_EQ(0, munmap(map, PAGES * page));
	EXPECT_EQ(0, munmap(other, PAGES * page));
}

/* What is given up is back in the pool, and a fault there is SIGBUS. */
TEST_F(conformance, given_up)
{
	char *map = map_pages(_metadata, self->fd);

	EXPECT_EQ(0, madvise(map + page, page, MADV_DONTNEED));
	EXPECT_TAKEN((PAGES - 1) * page);
	EXPECT_EQ(SIGBUS, p2p_try_read(map + page, NULL));
	EXPECT_EQ(0, p2p_try_read(map, NULL));
	EXPECT_EQ(0, munmap(map, PAGES * page));
}

/* A process that is killed leaves nothing behind. */
TEST_F(conformance, killed)
{
	int ready[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		h_ready(ready[1], p2p_map(self->fd, PAGES * page) !=
				  MAP_FAILED);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TAKEN(PAGES * page);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	close(ready[0]);
}

/*
 * Pages of this provider and no other, in one piece; a mapping has one reference
 * to each, and a pin adds what any pin does and takes it back.
 */
TEST_F(conformance, pages)
{
	struct p2pdma_test_page pages[PAGES];
	struct p2pdma_test_pin pin = {
		.flags = P2PDMA_TEST_PIN_P2PDMA | P2PDMA_TEST_PIN_COUNT_BEFORE,
		.api = P2PDMA_TEST_PIN_SLOW,
		.length = PAGES * page,
		.pages = h_pointer(pages),
		.nr_pages = PAGES,
	};
	int dev = h_open();
	char *map;

	if (dev < 0)
		SKIP(return, "page facts need the module p2pdma_test");
	map = map_pages(_metadata, self->fd);
	pin.addr = h_pointer(map);
	ASSERT_EQ(0, h_pin(dev, &pin));
	EXPECT_EQ(PAGES, pin.ret);
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ((__u32)P2PDMA_TEST_PAGE_P2PDMA, pages[i].flags);
		EXPECT_EQ(h_function(variant->provider->bdf), pages[i].provider);
		EXPECT_EQ(pages[0].phys + i * page, pages[i].phys);
		EXPECT_EQ(1, pages[i].before);
		EXPECT_EQ(1 + P2PDMA_TEST_PIN_BIAS, pages[i].during);
		EXPECT_EQ(1, pages[i].after);
	}
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(dev);
}

/* Who has none: a page that the kernel allocates itself has no reference. */
TEST_F(conformance, kernel_pages)
{
	struct p2pdma_test_page facts = { 0 };
	struct p2pdma_test_peek peek = {
		.pages = h_pointer(&facts),
		.nr_pages = 1,
	};
	int dev = h_open();
	int64_t id;

	if (dev < 0)
		SKIP(return, "page facts need the module p2pdma_test");
	id = h_memory(dev, variant->provider->bdf, page, 1);
	ASSERT_LT(0, id);
	EXPECT_TAKEN(page);
	peek.id = id;
	ASSERT_EQ(0, h_peek(dev, &peek));
	EXPECT_EQ(1U, peek.nr_pages);
	EXPECT_EQ((__u32)P2PDMA_TEST_PAGE_P2PDMA, facts.flags);
	EXPECT_EQ(h_function(variant->provider->bdf), facts.provider);
	EXPECT_EQ(0, facts.during);
	EXPECT_EQ(0, h_drop(dev, id));
	close(dev);
}

/* Its driver goes and comes back while it is mapped: SIGBUS, and a full pool. */
TEST_F(conformance, unbind_mapped)
{
	const struct p2p_provider *p = variant->provider;
	const char *why = p2p_why_not_unbind(p);
	char *map;

	if (!may_unbind)
		SKIP(return, "takes the driver from the device, allow it with --unbind");
	if (why)
		SKIP(return, "%s", why);
	map = map_pages(_metadata, self->fd);
	ASSERT_EQ(0, p2p_unbind(p))
		TH_LOG("%s", strerror(errno));
	EXPECT_FALSE(p2p_is_provider(p->bdf));
	EXPECT_EQ(SIGBUS, p2p_try_read(map, NULL));
	errno = 0;
	EXPECT_EQ(MAP_FAILED, p2p_map(self->fd, page));
	EXPECT_EQ(ENODEV, errno);
	ASSERT_EQ(0, p2p_bind(p));
	P2P_WAIT_FOR(p2p_find_clients(p->bdf));
	EXPECT_EQ(p->size, p2p_pool_size(p));
	EXPECT_EQ(0, munmap(map, PAGES * page));
}

/* Take "--provider BDF" and "--unbind" out of the arguments. */
static const char *take_options(int *argc, char **argv)
{
	const char *bdf = NULL;
	int left = 1;

	for (int i = 1; i < *argc; i++) {
		if (!strcmp(argv[i], "--unbind"))
			may_unbind = true;
		else if (!strcmp(argv[i], "--provider") && i + 1 < *argc)
			bdf = argv[++i];
		else
			argv[left++] = argv[i];
	}
	argv[left] = NULL;
	*argc = left;
	return bdf;
}

int main(int argc, char **argv)
{
	const char *bdf = take_options(&argc, argv);
	bool found = false;

	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "What any provider of peer-to-peer memory must hold to, harmless to data\n"
		     "\n"
		     "  --provider BDF  this one only, as in --provider 0000:03:00.0\n"
		     "  --unbind        its driver may be unbound, and is bound again: p2pdma_provider,\n"
		     "                  or nvme if all its namespaces are in P2PDMA_SCRATCH"))
		return test_harness_run(argc, argv);
	p2p_discover();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(conformance) v = { .provider = p };

		if (bdf && strcmp(bdf, p->bdf))
			continue;
		found = true;
		P2P_VARIANT_ADD(conformance, v, "%s@%s", p->kind, p->bdf);
	}
	if (!found)
		ksft_exit_fail_msg("%s: no provider; addresses are like 0000:03:00.0\n",
				   bdf);
	return test_harness_run(argc, argv);
}
