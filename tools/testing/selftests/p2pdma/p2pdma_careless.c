// SPDX-License-Identifier: GPL-2.0
/*
 * A module that leaks all that the library lets it leak, is removed, and must
 * not be missed: p2pdma_careless has made watches of drivers that go, and
 * mappings of each provider's memory, and has forgotten them. While it is there
 * its watches make, drop and leak others when they are called. And a module
 * whose listener is kept by another one.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define MODULE		"p2pdma_careless"
#define LENDER		"p2pdma_lender"
#define KEEPER		"p2pdma_keeper"

static ssize_t page;

/* How often the kernel's log says this. */
static int said(const char *what)
{
	static char record[8192];
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int count = 0;
	ssize_t n;

	if (fd < 0)
		return -1;
	for (;;) {
		n = read(fd, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			break;
		record[n] = '\0';
		if (strstr(record, what))
			count++;
	}
	close(fd);
	return count;
}

/* How often it says that the module was told. */
static int told(void)
{
	return said("careless: a driver goes");
}

FIXTURE(provider) {
	int unused;
};

FIXTURE_VARIANT(provider) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(provider)
{
	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no device is bound to p2pdma_provider");
}

FIXTURE_TEARDOWN(provider)
{
	if (variant && !p2p_is_provider(variant->provider->bdf))
		EXPECT_EQ(0, p2p_bind(variant->provider));
}

/* While the module is there, and, in the second test, when it is gone. */
TEST_F(provider, loaded)
{
	const struct p2p_provider *p = variant->provider;
	int before = told();

	if (access("/sys/module/" MODULE, F_OK))
		SKIP(return, "the tests of another provider have removed the module");
	ASSERT_LE(0, before);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, p2p_unbind(p));
		EXPECT_FALSE(p2p_is_provider(p->bdf));
		ASSERT_EQ(0, p2p_bind(p));
	}
	EXPECT_EQ(before + 3, told());
	/* what was mapped went with the first unbinding */
	EXPECT_EQ(p->size, p2p_available(p));
}

/* Whichever provider is the first removes the module. */
TEST_F(provider, removed)
{
	const struct p2p_provider *p = variant->provider;
	int before;

	if (syscall(SYS_delete_module, MODULE, O_NONBLOCK))
		ASSERT_EQ(ENOENT, errno);
	before = told();
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, p2p_unbind(p));
		EXPECT_FALSE(p2p_is_provider(p->bdf));
		ASSERT_EQ(0, p2p_bind(p));
	}
	EXPECT_EQ(before, told());
	EXPECT_EQ(p->size, p2p_available(p));
}

/*
 * Whether a device that nobody has told the kernel more of, which does DMA with
 * addresses of 32 bits, reaches all of the provider's BARs.
 */
static bool below_4g(const struct p2p_provider *p)
{
	unsigned long start, last, flags, highest = 0;
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", p->bdf);
	file = fopen(path, "re");
	if (!file)
		return false;
	for (int bar = 0; bar < 6 && fscanf(file, "%lx %lx %lx", &start, &last,
					    &flags) == 3; bar++)
		if (last > highest)
			highest = last;
	fclose(file);
	return highest <= UINT32_MAX;
}

/*
 * The mapping that is still there belongs to no module any more: the one that is
 * loaded here maps anew, and is removed before the driver is unbound.
 */
TEST_F(provider, mapped)
{
	const struct p2p_provider *p = variant->provider;
	const char *path = getenv("P2PDMA_CARELESS_KO");
	int fd;

	if (!path)
		SKIP(return, "P2PDMA_CARELESS_KO does not say where the module is");
	if (!below_4g(p))
		SKIP(return, "the provider does not reach its own memory with 32 bits");
	if (syscall(SYS_delete_module, MODULE, O_NONBLOCK))
		ASSERT_EQ(ENOENT, errno);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, syscall(SYS_finit_module, fd, "", 0));
	close(fd);
	EXPECT_EQ(p->size - page, p2p_available(p));
	ASSERT_EQ(0, syscall(SYS_delete_module, MODULE, O_NONBLOCK));
	EXPECT_EQ(p->size - page, p2p_available(p));
	ASSERT_EQ(0, p2p_unbind(p));
	ASSERT_EQ(0, p2p_bind(p));
	EXPECT_EQ(p->size, p2p_available(p));
}

static int load(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, parameters, 0);
	close(fd);
	return ret;
}

/*
 * A module that fails to load, and leaves a transport of the NVMe target behind.
 * If that is still there, the type is taken when the module is loaded again; and
 * the core looks into memory that is gone.
 */
TEST(transport)
{
	const char *path = getenv("P2PDMA_NVMET_KO");

	if (!path || access("/sys/module/p2pdma_nvmet", F_OK))
		SKIP(return, "the module p2pdma_nvmet is not loaded");
	ASSERT_EQ(0, syscall(SYS_delete_module, "p2pdma_nvmet", O_NONBLOCK));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-1, load(path, "leak=1"));
		EXPECT_EQ(ECANCELED, errno);
		EXPECT_NE(0, access("/sys/module/p2pdma_nvmet", F_OK));
	}
	ASSERT_EQ(0, load(path, "")) {
		TH_LOG("%s", strerror(errno));
	}
}

static const struct p2p_provider *first_provider(void)
{
	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		if (!strcmp(p2p.provider[i].driver, "p2pdma_provider"))
			return &p2p.provider[i];
	return NULL;
}

/*
 * A listener that another module keeps is silent as soon as its own module is
 * gone; and its data are not released by code that is gone, when the one that
 * keeps it is removed.
 */
TEST(kept_by_another)
{
	const struct p2p_provider *p = first_provider();
	int before;

	if (!p)
		SKIP(return, "no device is bound to p2pdma_provider");
	if (access("/sys/module/" LENDER, F_OK) ||
	    access("/sys/module/" KEEPER, F_OK))
		SKIP(return, "modules " LENDER " and " KEEPER " are not loaded");

	before = said("lender: a driver goes");
	ASSERT_EQ(0, p2p_unbind(p));
	ASSERT_EQ(0, p2p_bind(p));
	EXPECT_EQ(before + 1, said("lender: a driver goes"));

	ASSERT_EQ(0, syscall(SYS_delete_module, LENDER, O_NONBLOCK)) {
		TH_LOG("%s", strerror(errno));
	}
	ASSERT_EQ(0, p2p_unbind(p));
	ASSERT_EQ(0, p2p_bind(p));
	EXPECT_EQ(before + 1, said("lender: a driver goes"));

	ASSERT_EQ(0, syscall(SYS_delete_module, KEEPER, O_NONBLOCK)) {
		TH_LOG("%s", strerror(errno));
	}
	EXPECT_EQ(0, said("lender: released"));
	ASSERT_EQ(0, p2p_unbind(p));
	ASSERT_EQ(0, p2p_bind(p));
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv, "A module that leaks what it can, and is removed"))
		return test_harness_run(argc, argv);
	p2p_discover();
	if (access("/sys/module/" MODULE, F_OK))
		ksft_exit_skip("module " MODULE " is not loaded\n");

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(provider) provider = { p };

		if (!strcmp(p->driver, "p2pdma_provider"))
			P2P_VARIANT_ADD(provider, provider, "%s@%s", p->kind,
					p->bdf);
	}
	return test_harness_run(argc, argv);
}
