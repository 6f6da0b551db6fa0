// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a provider: its driver unbound and bound again, its device
 * removed and found again, with nobody using the memory, with mappings, and
 * with I/O in flight. Each time the p2pmem group must go and come back with a
 * full pool, whoever still has a mapping must get SIGBUS instead of memory,
 * and the unbinding must come to an end.
 *
 * Devices of p2pdma_provider are there to be unbound. An NVMe controller loses
 * its namespaces with its driver, so it is left alone unless P2PDMA_SCRATCH
 * names it.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define CYCLES		8	/* each is compared with what was before */
#define IN_FLIGHT	5	/* what happens to be in flight differs */
#define PAGES		8
#define CHILDREN	3

static ssize_t page;

/**
 * struct target - the provider under test
 * @provider: as it was found
 * @device: directory of the device
 * @published: what p2pmem/published said
 */
struct target {
	const struct p2p_provider *provider;
	char device[PATH_MAX];
	int published;
};

static int is_published(const struct p2p_provider *provider)
{
	char path[PATH_MAX], value = '?';
	int fd;

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/p2pmem/published", provider->bdf);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &value, 1) != 1)
		value = '?';
	if (fd >= 0)
		close(fd);
	return value;
}

/*
 * A device that is found again is probed in the background by some drivers,
 * and nvme looks for namespaces later still.
 */
static bool is_back(const struct target *t)
{
	return p2p_is_provider(t->provider->bdf) &&
	       p2p_find_clients(t->provider->bdf);
}

/* The provider is gone, and so is all that it showed. */
static void expect_gone(struct __test_metadata *_metadata,
			const struct p2p_provider *provider)
{
	char path[PATH_MAX], driver[64];

	EXPECT_EQ(-1, p2p_driver_link(provider->bdf, driver, sizeof(driver)))
		TH_LOG("still bound to %s", driver);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/p2pmem",
		 provider->bdf);
	EXPECT_ERRNO(ENOENT, access(path, F_OK));
	EXPECT_ERRNO(ENOENT, p2p_open_pool(provider, O_RDWR));
}

/* It is back, as it was, with all its memory. */
static void expect_back(struct __test_metadata *_metadata,
			const struct target *t)
{
	const struct p2p_provider *p = t->provider;
	char driver[64];

	ASSERT_TRUE(p2p_is_provider(p->bdf));
	EXPECT_EQ(0, p2p_driver_link(p->bdf, driver, sizeof(driver)));
	EXPECT_STREQ(p->driver, driver);
	EXPECT_EQ(p->size, p2p_pool_size(p));
	EXPECT_EQ(p->rest, p2p_available(p));
	EXPECT_EQ(t->published, is_published(p));
}

/* Its memory can be had, written and read. */
static void expect_usable(struct __test_metadata *_metadata,
			  const struct p2p_provider *provider)
{
	int fd = p2p_open_pool(provider, O_RDWR);
	char why[256], *map;

	ASSERT_LE(0, fd);
	map = p2p_map(fd, page);
	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("%s", strerror(errno));
	p2p_fill(map, page, P2P_DATA, 0);
	EXPECT_EQ(0UL, p2p_check(map, page, P2P_DATA, 0, why, sizeof(why)))
		TH_LOG("%s", why);
	EXPECT_EQ(0, munmap(map, page));
	close(fd);
	EXPECT_EQ(provider->rest, p2p_available(provider));
}

FIXTURE(bind) {
	struct target t;
};

FIXTURE_VARIANT(bind) {
	const struct p2p_provider *provider;
	const char *why_not;
};

/*
 * Whatever went wrong before, the next test needs the provider. It does not come
 * back where its driver did not go: then nobody waits for it.
 */
static bool bring_back(const struct target *t)
{
	if (access(t->device, F_OK))
		p2p_find_again(t->provider);
	else if (!p2p_is_provider(t->provider->bdf) && p2p_bind(t->provider))
		return errno != ETIMEDOUT;
	return true;
}

FIXTURE_SETUP(bind)
{
	const struct p2p_provider *p = variant->provider;
	struct target *t = &self->t;

	if (variant->why_not)
		SKIP(return, "%s", variant->why_not);

	t->provider = p;
	snprintf(t->device, sizeof(t->device), "/sys/bus/pci/devices/%s",
		 p->bdf);
	ASSERT_TRUE(bring_back(t));
	P2P_WAIT_FOR(p2p_is_provider(p->bdf));
	t->published = is_published(p);
	ASSERT_EQ(p->rest, p2p_settled(p))
		TH_LOG("the pool is not as it was, an earlier test or another user holds memory");
}

FIXTURE_TEARDOWN(bind)
{
	struct target *t = &self->t;

	ASSERT_TRUE(bring_back(t));
	P2P_WAIT_FOR(is_back(t));
	EXPECT_EQ(t->provider->rest, p2p_settled(t->provider));
}

TEST_F(bind, cycles)
{
	for (int i = 0; i < CYCLES; i++) {
		ASSERT_EQ(0, p2p_unbind(self->t.provider))
			TH_LOG("cycle %d: %s", i, strerror(errno));
		expect_gone(_metadata, variant->provider);
		ASSERT_EQ(0, p2p_bind(self->t.provider))
			TH_LOG("cycle %d: %s", i, strerror(errno));
		expect_back(_metadata, &self->t);
	}
	expect_usable(_metadata, variant->provider);
}

/* Requests that make no sense are refused and change nothing. */
TEST_F(bind, wrong_requests)
{
	EXPECT_ERRNO(EBUSY, p2p_bind(self->t.provider));
	EXPECT_ERRNO(ENODEV, p2p_driver_write(variant->provider->driver, "bind",
					      "0000:ff:1f.7"));
	EXPECT_ERRNO(ENODEV, p2p_driver_write(variant->provider->driver, "unbind",
					      "0000:ff:1f.7"));
	expect_back(_metadata, &self->t);

	ASSERT_EQ(0, p2p_unbind(self->t.provider));
	EXPECT_ERRNO(ENODEV, p2p_unbind(self->t.provider));
	expect_gone(_metadata, variant->provider);
	ASSERT_EQ(0, p2p_bind(self->t.provider));
	expect_back(_metadata, &self->t);
}

/* An open file does not hold the driver back, and is of no use afterwards. */
TEST_F(bind, open_file)
{
	int fd = p2p_open_pool(variant->provider, O_RDWR);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, p2p_unbind(self->t.provider));
	EXPECT_EQ(MAP_FAILED, p2p_map(fd, page));
	EXPECT_EQ(ENODEV, errno);

	ASSERT_EQ(0, p2p_bind(self->t.provider));
	expect_back(_metadata, &self->t);
	/* it stays the file of the provider that was there before */
	EXPECT_EQ(MAP_FAILED, p2p_map(fd, page));
	EXPECT_EQ(ENODEV, errno);
	close(fd);
	expect_usable(_metadata, variant->provider);
}

/* A mapping loses its pages: SIGBUS, also after the driver is back. */
TEST_F(bind, mapped)
{
	int fd = p2p_open_pool(variant->provider, O_RDWR);
	uint64_t value;
	char *map;

	ASSERT_LE(0, fd);
	map = p2p_map(fd, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	p2p_fill(map, PAGES * page, P2P_DATA, 0);

	ASSERT_EQ(0, p2p_unbind(self->t.provider));
	expect_gone(_metadata, variant->provider);
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(SIGBUS, p2p_try_read(map + i * page, &value));
		EXPECT_EQ(SIGBUS, p2p_try_write(map + i * page, 0));
	}

	ASSERT_EQ(0, p2p_bind(self->t.provider));
	expect_back(_metadata, &self->t);
	EXPECT_EQ(SIGBUS, p2p_try_read(map, &value));
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(fd);
	expect_back(_metadata, &self->t);
	expect_usable(_metadata, variant->provider);
}

/* The descriptor is closed: only the mapping itself is left. */
TEST_F(bind, mapped_and_closed)
{
	int fd = p2p_open_pool(variant->provider, O_RDWR);
	uint64_t value;
	char *map;

	ASSERT_LE(0, fd);
	map = p2p_map(fd, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	close(fd);

	ASSERT_EQ(0, p2p_unbind(self->t.provider));
	EXPECT_EQ(SIGBUS, p2p_try_read(map, &value));
	ASSERT_EQ(0, p2p_bind(self->t.provider));
	expect_back(_metadata, &self->t);
	EXPECT_EQ(SIGBUS, p2p_try_read(map, &value));
	EXPECT_EQ(0, munmap(map, PAGES * page));
}

/* Touch the mapping until it is gone: 0 if that was by SIGBUS. */
static int touch_until_gone(char *map, int ready)
{
	char byte = 0;
	int sig = 0;

	for (long i = 0; !sig; i++) {
		if (i == 1 && write(ready, &byte, 1) != 1)
			return 1;
		sig = p2p_try_read(map + i % PAGES * page, NULL);
	}
	return sig == SIGBUS ? 0 : 2;
}

/* The driver goes, else those who wait for that have to. */
static void expect_unbound(struct __test_metadata *_metadata,
			   const struct p2p_provider *provider,
			   const pid_t *pid, int nr)
{
	int ret = p2p_unbind(provider);

	EXPECT_EQ(0, ret)
		TH_LOG("%s", strerror(errno));
	for (int i = 0; ret && i < nr; i++)
		kill(pid[i], SIGKILL);
}

/* Several processes are at it while the driver goes. */
TEST_F(bind, touched_by_many)
{
	int ready[2], status, fd;
	pid_t pid[CHILDREN];
	char byte, *map;

	fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, fd);
	map = p2p_map(fd, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);

	for (int i = 0; i < CHILDREN; i++) {
		ASSERT_EQ(0, pipe(ready));
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			_exit(touch_until_gone(map, ready[1]));
		close(ready[1]);
		EXPECT_EQ(1, read(ready[0], &byte, 1))
			TH_LOG("child %d ended early", i);
		close(ready[0]);
	}

	expect_unbound(_metadata, variant->provider, pid, CHILDREN);
	for (int i = 0; i < CHILDREN; i++) {
		ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	ASSERT_EQ(0, p2p_bind(self->t.provider));
	expect_back(_metadata, &self->t);
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(fd);
}

/* A namespace that the kernel lets reach the provider, on another device. */
static const struct p2p_client *other_client(const struct p2p_provider *p)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *client = &p2p.client[i];

		if (strcmp(client->bdf, p->bdf) &&
		    p2p_expect(p, client).verdict != P2P_NOT_SUPPORTED)
			return client;
	}
	return NULL;
}

/* Read from the medium into the mapping until that fails: 0 if by EFAULT. */
static int read_until_gone(const struct p2p_client *client, char *map,
			   int ready)
{
	int fd = open(client->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	char byte = 0;
	ssize_t n;

	if (fd < 0)
		return errno;
	for (long i = 0; ; i++) {
		n = pread(fd, map, PAGES * page, i % 64 * page);
		if (!i && write(ready, n > 0 ? &byte : "x", 1) != 1)
			return 255;
		if (n < 0)
			return errno == EFAULT ? 0 : errno;
	}
}

/*
 * The driver goes while a controller is moving data into the memory: pages
 * that are pinned for it are waited for, and no new ones can be had.
 */
TEST_F(bind, io_in_flight)
{
	const struct p2p_client *other = other_client(variant->provider);
	int ready[2], status, fd;
	char byte, *map;
	pid_t pid;

	if (!other)
		SKIP(return, "no namespace of another device can reach this provider");
	/* who had it open when its driver went may have it come back by another name */
	P2P_WAIT_FOR(p2p_find_clients(other->bdf));

	for (int i = 0; i < IN_FLIGHT; i++) {
		ASSERT_EQ(0, pipe(ready));
		fd = p2p_open_pool(variant->provider, O_RDWR);
		ASSERT_LE(0, fd);
		map = p2p_map(fd, PAGES * page);
		ASSERT_NE(MAP_FAILED, (void *)map);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(read_until_gone(other, map, ready[1]));
		close(ready[1]);
		byte = '\0';
		EXPECT_EQ(1, read(ready[0], &byte, 1))
			TH_LOG("%s cannot be opened", other->path);
		close(ready[0]);

		expect_unbound(_metadata, variant->provider, &pid, 1);
		expect_gone(_metadata, variant->provider);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFEXITED(status));
		if (byte == 'x' && WEXITSTATUS(status) == EINVAL)
			SKIP(return, "kernel refuses this pair (EINVAL)");
		EXPECT_EQ(0, WEXITSTATUS(status))
			TH_LOG("reading ended with: %s",
			       strerror(WEXITSTATUS(status)));
		EXPECT_EQ(0, munmap(map, PAGES * page));
		close(fd);
		ASSERT_EQ(0, p2p_bind(self->t.provider));
		expect_back(_metadata, &self->t);
	}
	expect_usable(_metadata, variant->provider);
}

/* The device itself is removed, as if it had been unplugged in order. */
TEST_F(bind, remove_device)
{
	char path[PATH_MAX + 16];
	uint64_t value;
	char *map;
	int fd;

	fd = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, fd);
	map = p2p_map(fd, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);

	snprintf(path, sizeof(path), "%s/remove", self->t.device);
	ASSERT_EQ(0, p2p_sysfs_write_limited(path, "1"))
		TH_LOG("%s: %s", path, strerror(errno));
	EXPECT_ERRNO(ENOENT, access(self->t.device, F_OK));
	EXPECT_EQ(SIGBUS, p2p_try_read(map, &value));
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(fd);

	ASSERT_EQ(0, p2p_find_again(variant->provider))
		TH_LOG("%s", strerror(errno));
	P2P_WAIT_FOR(is_back(&self->t));
	expect_back(_metadata, &self->t);
	expect_usable(_metadata, variant->provider);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Drivers that provide peer-to-peer memory, unbound and bound again"))
		return test_harness_run(argc, argv);
	p2p_discover();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(bind) v = {
			.provider = p,
			.why_not = p2p_why_not_unbind(p),
		};

		P2P_VARIANT_ADD(bind, v, "%s@%s", p->kind, p->bdf);
	}
	return test_harness_run(argc, argv);
}
