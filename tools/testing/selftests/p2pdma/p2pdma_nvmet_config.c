// SPDX-License-Identifier: GPL-2.0
/*
 * A namespace's p2pmem in the configuration of the NVMe target: what can be
 * stored, what is shown, when enabling is refused, and what the kernel says.
 *
 * Errors are compared exactly, and messages word by word: they are all that an
 * administrator gets to know. Each test leaves the target as it was.
 *
 * What the environment can say: p2pdma_nvmet_config --help
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_nvmet_util.h"

#define NQN	NQN_PREFIX "config"

static int kmsg;
static char others[4096];

#define EXPECT_KMSG(...) expect_kmsg(_metadata, __VA_ARGS__)

static void expect_kmsg(struct __test_metadata *_metadata, const char *fmt, ...)
	__printf(2, 3);

/* The kernel has said this, word by word. */
static void expect_kmsg(struct __test_metadata *_metadata, const char *fmt, ...)
{
	char want[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(want, sizeof(want), fmt, args);
	va_end(args);
	EXPECT_TRUE(kmsg_find(kmsg, others, sizeof(others), "%s", want))
		TH_LOG("expected '%s', the kernel says: %s", want, others);
}

/* Messages that do not fit where they are expected. */
#define KMSG_NOT_REACHED						\
	"nvme %s: cannot be used for peer-to-peer DMA as the client and provider (%s) do not share an upstream bridge or whitelisted host bridge"
#define KMSG_ACS_REDIRECT						\
	"nvme %s: ACS redirect is set between the client and provider (%s)"
#define KMSG_ACS_PARAMETER						\
	"nvme %s: to disable ACS redirect for this path, add the kernel parameter: pci=disable_acs_redir=%s"
#define KMSG_NO_BLOCK_DEVICE						\
	"nvmet: peer-to-peer DMA is not supported by non-block device namespaces"
#define KMSG_PORT_IN_USE						\
	"nvmet: Disable port '%u' before changing attribute in nvmet_param_pi_enable_store"

#define EXPECT_SHOWN(_value) do {					\
	char __shown[64] = "";						\
									\
	EXPECT_LE(0, nvmet_ns_get(NQN, 1, "p2pmem", __shown,		\
				  sizeof(__shown)));			\
	EXPECT_STREQ(_value, __shown);					\
} while (0)

static int store(const char *value)
{
	kmsg_skip(kmsg);
	return nvmet_ns_set(NQN, 1, "p2pmem", value);
}

static int enable(const char *value)
{
	kmsg_skip(kmsg);
	return nvmet_ns_set(NQN, 1, "enable", value);
}

/* ---- values ------------------------------------------------------------ */

FIXTURE(store) {
	const char *bdf;
};

FIXTURE_SETUP(store)
{
	self->bdf = p2p.provider[0].bdf;
	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, "/dev/null"));
}

FIXTURE_TEARDOWN(store)
{
	EXPECT_EQ(0, nvmet_cleanup());
}

TEST_F(store, off_at_first)
{
	EXPECT_SHOWN("0");
}

/* What kstrtobool() takes for true or false, but digits only alone. */
TEST_F(store, booleans)
{
	static const struct {
		const char *value, *shown;
	} values[] = {
		{ "1", "1" }, { "0", "0" }, { "1\n", "1" }, { "0\n", "0" },
		{ "y", "1" }, { "n", "0" }, { "yes\n", "1" }, { "no", "0" },
		{ "on", "1" }, { "off", "0" }, { "true", "1" }, { "false", "0" },
		{ "enable", "1" }, { "disable", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(0, store(values[i].value))
			TH_LOG("'%s'", values[i].value);
		EXPECT_SHOWN(values[i].shown);
	}
}

TEST_F(store, provider)
{
	char line[32];

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		EXPECT_EQ(0, store(p2p.provider[i].bdf));
		EXPECT_SHOWN(p2p.provider[i].bdf);
		/* as `echo` writes it */
		snprintf(line, sizeof(line), "%s\n", p2p.provider[i].bdf);
		EXPECT_EQ(0, store(line));
		EXPECT_SHOWN(p2p.provider[i].bdf);
	}
	/* replaced by "automatic", which does not remember it */
	EXPECT_EQ(0, store("1"));
	EXPECT_SHOWN("1");
}

/* None of them is a device or a boolean, and what was stored before stays. */
TEST_F(store, garbage)
{
	static const char * const values[] = {
		"garbage", "2", "-1", "10", "0x1", "/dev/nvme0n1", "0000:00:00",
		"00:1f.2", "1 ", " 1", "0000:ff:1f.7", "0000:ff:1f.7\n",
	};
	char shorter[32], longer[64];

	ASSERT_EQ(0, store(self->bdf));
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(-ENODEV, store(values[i]))
			TH_LOG("'%s'", values[i]);
		EXPECT_KMSG("pci-p2pdma: No such PCI device: %.*s",
			    (int)strcspn(values[i], "\n"), values[i]);
	}

	/* the provider's address, nearly */
	snprintf(shorter, sizeof(shorter), "%.*s", (int)strlen(self->bdf) - 1,
		 self->bdf);
	EXPECT_EQ(-ENODEV, store(shorter));
	EXPECT_KMSG("pci-p2pdma: No such PCI device: %s", shorter);
	snprintf(longer, sizeof(longer), "%s0", self->bdf);
	EXPECT_EQ(-ENODEV, store(longer));
	EXPECT_KMSG("pci-p2pdma: No such PCI device: %s", longer);
	/* only what is on the first line is shown */
	snprintf(longer, sizeof(longer), "%s\n%s\n", shorter, self->bdf);
	EXPECT_EQ(-ENODEV, store(longer));
	EXPECT_KMSG("pci-p2pdma: No such PCI device: %s", shorter);

	/* configfs does not even ask */
	EXPECT_EQ(-EFAULT, store(""));
	EXPECT_SHOWN(self->bdf);
}

/*
 * What starts like a boolean is no boolean, for example the address of a device
 * that is not there, in a domain whose number starts with an f.
 */
TEST_F(store, nearly_boolean)
{
	static const char * const values[] = {
		"nvme0", "ffff:ff:1f.7", "f2a3:00:00.0", "d000:00:00.0", "e000",
		"none", "thirteen", "office",
	};
	char shown[32] = "";
	bool taken = false;
	int ret;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		ASSERT_EQ(0, store(self->bdf));
		ret = store(values[i]);
		EXPECT_LE(0, nvmet_ns_get(NQN, 1, "p2pmem", shown,
					  sizeof(shown)));
		if (!ret && (!strcmp(shown, "0") || !strcmp(shown, "1"))) {
			TH_LOG("'%s' was taken for %s", values[i], shown);
			taken = true;
			continue;
		}
		EXPECT_EQ(-ENODEV, ret)
			TH_LOG("'%s'", values[i]);
		EXPECT_STREQ(self->bdf, shown);
	}
	if (taken)
		P2P_XFAIL("p2pmem-any-word");
	else
		P2P_XPASS("p2pmem-any-word did not show itself");
}

/* The last PCI function that offers no memory: true if there is one. */
static bool find_no_provider(char *bdf, size_t len)
{
	struct dirent **entry;
	bool found = false;
	int n;

	n = scandir("/sys/bus/pci/devices", &entry, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		const char *name = entry[i]->d_name;

		if (name[0] != '.' && strlen(name) < len &&
		    !p2p_is_provider(name)) {
			memcpy(bdf, name, strlen(name) + 1);
			found = true;
		}
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return found;
}

TEST_F(store, no_provider)
{
	char bdf[16], driver[64];

	if (!find_no_provider(bdf, sizeof(bdf)))
		SKIP(return, "all PCI functions are providers");
	if (p2p_driver_link(bdf, driver, sizeof(driver)))
		snprintf(driver, sizeof(driver), "pci");

	ASSERT_EQ(0, store(self->bdf));
	EXPECT_EQ(-ENODEV, store(bdf));
	EXPECT_KMSG("%s %s: PCI device has no peer-to-peer memory: %s", driver,
		    bdf, bdf);
	EXPECT_SHOWN(self->bdf);
}

/* The switch with which a provider's driver publishes, or NULL. */
static const struct p2p_provider *find_publisher(char *path, size_t len)
{
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		snprintf(path, len,
			 "/sys/bus/pci/devices/%s/p2pdma_provider/publish",
			 p2p.provider[i].bdf);
		if (!access(path, W_OK))
			return &p2p.provider[i];
	}
	return NULL;
}

/* Memory that was not published is not there for the target. */
TEST_F(store, unpublished)
{
	const struct p2p_provider *p;
	char path[PATH_MAX];

	p = find_publisher(path, sizeof(path));
	if (!p)
		SKIP(return, "no provider whose driver can withdraw its memory");

	ASSERT_EQ(0, p2p_sysfs_write(path, "0"));
	EXPECT_EQ(-ENODEV, store(p->bdf));
	EXPECT_KMSG("p2pdma_provider %s: PCI device has no peer-to-peer memory: %s",
		    p->bdf, p->bdf);
	EXPECT_SHOWN("0");

	EXPECT_EQ(0, p2p_sysfs_write(path, "1"));
	EXPECT_EQ(0, store(p->bdf));
	EXPECT_SHOWN(p->bdf);
}

/*
 * The target keeps the device that p2pmem names, and has to let go of it with
 * the namespace: then a device that is removed is freed.
 */
static bool device_freed(struct __test_metadata *_metadata,
			 const struct p2p_provider *p)
{
	char path[PATH_MAX], want[64];
	bool freed;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", p->bdf);
	snprintf(want, sizeof(want), "kobject: '%s' (", p->bdf);
	kmsg_skip(kmsg);
	ASSERT_EQ(0, p2p_sysfs_write_limited(path, "1"));
	kmsg_find(kmsg, others, sizeof(others), "%s", "");
	freed = strstr(others, want) && strstr(others, "kobject_cleanup");
	ASSERT_EQ(0, p2p_find_again(p))
		TH_LOG("%s", strerror(errno));
	P2P_WAIT_FOR(p2p_is_provider(p->bdf));
	return freed;
}

TEST_F(store, device_freed)
{
	static const char control[] = "/proc/dynamic_debug/control";
	const struct p2p_provider *p;
	bool before, after;
	char path[PATH_MAX];

	p = find_publisher(path, sizeof(path));
	if (!p)
		SKIP(return, "no provider that can be removed without a disk");
	if (p2p_sysfs_write(control, "func kobject_cleanup +p"))
		SKIP(return, "%s: %s (CONFIG_DYNAMIC_DEBUG)", control,
		     strerror(errno));

	/* a device that no earlier test has used */
	device_freed(_metadata, p);
	before = device_freed(_metadata, p);

	ASSERT_EQ(0, store(p->bdf));
	ASSERT_EQ(0, nvmet_ns_rmdir(NQN, 1));
	ASSERT_EQ(0, nvmet_cleanup());
	after = device_freed(_metadata, p);
	p2p_sysfs_write(control, "func kobject_cleanup -p");

	ASSERT_TRUE(before)
		TH_LOG("the device is not freed in the first place");
	if (after)
		P2P_XPASS("nvmet-p2p-dev-leak did not show itself");
	else
		P2P_XFAIL("nvmet-p2p-dev-leak");
}

/* ---- enabling ---------------------------------------------------------- */

FIXTURE(enable) {
	struct p2p_client disk;
};

FIXTURE_VARIANT(enable) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
};

FIXTURE_SETUP(enable)
{
	self->disk = *variant->disk;
	ASSERT_TRUE(p2p_find_client(&self->disk));
	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, self->disk.path));
}

FIXTURE_TEARDOWN(enable)
{
	EXPECT_EQ(0, nvmet_cleanup());
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* The directory of a PCI function's parent in sysfs. */
static char *parent_of(const char *bdf, char *path)
{
	char link[PATH_MAX];

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/..", bdf);
	return realpath(link, path);
}

/*
 * The kernel says that ACS is in the way where nothing else can be: below one
 * port.
 */
static void expect_acs(struct __test_metadata *_metadata, const char *client,
		       const char *provider)
{
	char a[PATH_MAX], b[PATH_MAX];

	ASSERT_TRUE(parent_of(client, a) && parent_of(provider, b));
	/* the root bus is no port */
	if (strcmp(a, b) || !strchr(strrchr(a, '/'), '.'))
		return;
	EXPECT_KMSG(KMSG_ACS_REDIRECT, client, provider);
	EXPECT_KMSG(KMSG_ACS_PARAMETER, client, strrchr(a, '/') + 1);
}

/* A provider that the disk reaches, or does not: the kernel says why not. */
TEST_F(enable, provider)
{
	enum p2p_verdict verdict = p2p_expect(variant->provider,
					      variant->disk).verdict;
	const char *bdf = variant->provider->bdf;
	char shown[8] = "";
	int ret;

	ASSERT_EQ(0, store(bdf));
	ret = enable("1");
	if (verdict == P2P_UNKNOWN)
		verdict = ret ? P2P_NOT_SUPPORTED : P2P_BUS_ADDR;

	if (verdict == P2P_NOT_SUPPORTED) {
		EXPECT_EQ(-EINVAL, ret);
		expect_acs(_metadata, variant->disk->bdf, bdf);
		EXPECT_KMSG(KMSG_NOT_REACHED, variant->disk->bdf, bdf);
		EXPECT_LE(0, nvmet_ns_get(NQN, 1, "enable", shown,
					  sizeof(shown)));
		EXPECT_STREQ("0", shown);
		/* nothing holds it back from being enabled without */
		EXPECT_EQ(0, store("0"));
		EXPECT_EQ(0, enable("1"));
		return;
	}
	EXPECT_EQ(0, ret);
	EXPECT_LE(0, nvmet_ns_get(NQN, 1, "enable", shown, sizeof(shown)));
	EXPECT_STREQ("1", shown);
}

/* What is in use cannot be changed. */
TEST_F(enable, changed_while_enabled)
{
	const char *bdf = variant->provider->bdf;

	ASSERT_EQ(0, store(bdf));
	if (enable("1")) {
		/* not reached: without the provider, then */
		bdf = "0";
		ASSERT_EQ(0, store(bdf));
		ASSERT_EQ(0, enable("1"));
	}
	EXPECT_EQ(-EBUSY, store("0"));
	EXPECT_EQ(-EBUSY, store("1"));
	EXPECT_EQ(-EBUSY, store(variant->provider->bdf));
	EXPECT_EQ(-EBUSY, store("garbage"));
	EXPECT_EQ(-EBUSY, nvmet_ns_set(NQN, 1, "device_path", "/dev/null"));
	EXPECT_SHOWN(bdf);

	EXPECT_EQ(0, enable("0"));
	EXPECT_EQ(0, store("0"));
	EXPECT_SHOWN("0");
	/* twice is no error, and changes nothing */
	EXPECT_EQ(0, enable("1"));
	EXPECT_EQ(0, enable("1"));
	EXPECT_EQ(0, enable("0"));
	EXPECT_EQ(0, enable("0"));
}

/* Any provider that the disk reaches will do. */
TEST_F(enable, automatic)
{
	bool reached = false, known = true;
	int ret;

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		enum p2p_verdict v = p2p_expect(&p2p.provider[i],
						variant->disk).verdict;

		known &= v != P2P_UNKNOWN;
		reached |= v != P2P_NOT_SUPPORTED;
	}
	ASSERT_EQ(0, store("1"));
	ret = enable("1");
	if (!known)
		SKIP(return, "P2PDMA_EXPECT does not say what the disk reaches");
	EXPECT_EQ(reached ? 0 : -EINVAL, ret);
	if (!reached)
		EXPECT_KMSG("nvmet: no peer-to-peer memory is available for %s",
			    self->disk.path);
}

/* ---- what is no NVMe disk ---------------------------------------------- */

FIXTURE(backend) {
	char file[64], array[32];
};

FIXTURE_SETUP(backend)
{
	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	snprintf(self->file, sizeof(self->file), "/tmp/p2pdma-nvmet-XXXXXX");
}

FIXTURE_TEARDOWN(backend)
{
	EXPECT_EQ(0, nvmet_cleanup());
	unlink(self->file);
	if (self->array[0])
		EXPECT_EQ(0, p2p_stop_array(self->array))
			TH_LOG("%s: %s", self->array, strerror(errno));
}

TEST_F(backend, file)
{
	int fd = mkstemp(self->file);

	ASSERT_LE(0, fd)
		TH_LOG("%s: %s", self->file, strerror(errno));
	ASSERT_EQ(0, ftruncate(fd, 1 << 20));
	close(fd);
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, self->file));
	/* not all file systems take O_DIRECT */
	ASSERT_EQ(0, nvmet_ns_set(NQN, 1, "buffered_io", "1"));

	for (int automatic = 0; automatic < 2; automatic++) {
		ASSERT_EQ(0, store(automatic ? "1" : p2p.provider[0].bdf));
		EXPECT_EQ(-EINVAL, enable("1"));
		EXPECT_KMSG(KMSG_NO_BLOCK_DEVICE);
	}
	ASSERT_EQ(0, store("0"));
	EXPECT_EQ(0, enable("1"));
}

/* A disk that is used as a file, through the page cache. */
TEST_F(backend, buffered_disk)
{
	if (!p2p.nr_clients)
		SKIP(return, "no NVMe namespace on a PCI controller");
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, p2p.client[0].path));
	ASSERT_EQ(0, nvmet_ns_set(NQN, 1, "buffered_io", "1"));
	ASSERT_EQ(0, store(p2p.provider[0].bdf));
	EXPECT_EQ(-EINVAL, enable("1"));
	EXPECT_KMSG(KMSG_NO_BLOCK_DEVICE);
}

/* A block device whose driver does not take peer-to-peer memory. */
TEST_F(backend, unable_disk)
{
	static const char * const candidates[] = {
		"/dev/nullb0", "/dev/ram0", "/dev/vda", "/dev/sda",
	};
	const char *disk = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++)
		if (!disk && !access(candidates[i], F_OK))
			disk = candidates[i];
	if (!disk)
		SKIP(return, "no block device without the feature: load null_blk");

	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, disk));
	for (int automatic = 0; automatic < 2; automatic++) {
		ASSERT_EQ(0, store(automatic ? "1" : p2p.provider[0].bdf));
		EXPECT_EQ(-EINVAL, enable("1"));
		EXPECT_KMSG("nvmet: peer-to-peer DMA is not supported by the driver of %s",
			    disk);
	}
	ASSERT_EQ(0, store("0"));
	EXPECT_EQ(0, enable("1"));
}

/*
 * An array of NVMe disks takes peer-to-peer memory, but is no PCI device, and the
 * target looks no further.
 */
TEST_F(backend, md_disk)
{
	const char *member = NULL;
	char name[32] = "";

	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		if (p2p.client[i].scratch)
			member = p2p.client[i].path;
	if (!member)
		SKIP(return,
		     "makes an array of a disk, allow it with P2PDMA_SCRATCH=<disk>");
	if (!p2p_has_raid1())
		SKIP(return, "no arrays: load raid1");
	ASSERT_EQ(0, p2p_make_array(130, 1, 2, &member, 1, name, sizeof(name)))
		TH_LOG("%s: %s", name, strerror(errno));
	memcpy(self->array, name, sizeof(name));

	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, name));
	ASSERT_EQ(0, store(p2p.provider[0].bdf));
	EXPECT_EQ(-EINVAL, enable("1"));
	EXPECT_KMSG("block %s: cannot be used for peer-to-peer DMA as it is not a PCI device",
		    strrchr(name, '/') + 1);
	ASSERT_EQ(0, store("1"));
	EXPECT_EQ(-EINVAL, enable("1"));
	EXPECT_KMSG("nvmet: no peer-to-peer memory is available for %s", name);
	ASSERT_EQ(0, store("0"));
	EXPECT_EQ(0, enable("1"));
}

TEST_F(backend, missing_disk)
{
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, "/dev/p2pdma-no-such-disk"));
	ASSERT_EQ(0, store(p2p.provider[0].bdf));
	EXPECT_EQ(-ENOENT, enable("1"));
	EXPECT_KMSG("nvmet: failed to open block device /dev/p2pdma-no-such-disk: (-2)");
	EXPECT_SHOWN(p2p.provider[0].bdf);
}

/* ---- a provider that changes afterwards -------------------------------- */

FIXTURE(later) {
	const struct p2p_provider *provider;
	struct p2p_client disk;
	struct nvmet_host host;
	char publish[PATH_MAX];
};

FIXTURE_SETUP(later)
{
	const struct p2p_client *disk = NULL;
	const struct p2p_provider *p;

	self->host.fd = -1;
	p = find_publisher(self->publish, sizeof(self->publish));
	if (!p)
		SKIP(return, "no provider whose driver can withdraw its memory");
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		enum p2p_verdict v = p2p_expect(p, &p2p.client[i]).verdict;

		if (v == P2P_BUS_ADDR || v == P2P_HOST_BRIDGE)
			disk = &p2p.client[i];
	}
	if (!disk)
		SKIP(return, "P2PDMA_EXPECT names no disk that reaches %s",
		     p->bdf);
	self->disk = *disk;
	ASSERT_TRUE(p2p_find_client(&self->disk));
	self->provider = p;
	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, self->disk.path));
	ASSERT_EQ(0, store(p->bdf));
}

FIXTURE_TEARDOWN(later)
{
	const struct p2p_provider *p = self->provider;

	if (!p)
		return;
	nvmet_host_close(&self->host);
	EXPECT_EQ(0, nvmet_cleanup());
	if (!p2p_is_provider(p->bdf))
		EXPECT_EQ(0, p2p_bind(p));
	EXPECT_EQ(0, p2p_sysfs_write(self->publish, "1"));
	EXPECT_EQ(p->rest, p2p_available(p));
}

/*
 * Link to a port, connect, and read a little: where the data were, in terms of
 * p2pdma_nvmet_run.
 */
static void use(struct __test_metadata *_metadata,
		struct p2pdma_nvmet_run *run, struct nvmet_host *host,
		const struct p2p_client *disk, const char *fabric)
{
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, NQN));
	kmsg_skip(kmsg);
	ASSERT_EQ(0, nvmet_host_connect(host, NVMET_PORT, NQN, fabric, 1, 32));
	*run = (struct p2pdma_nvmet_run) {
		.op = P2PDMA_NVMET_READ,
		.flags = P2PDMA_NVMET_NO_DATA,
		.qid = 1,
		.nsid = 1,
		.block_size = disk->lba,
		.blocks = 4096 / disk->lba,
		.depth = 4,
		.span = 65536 / disk->lba,
		.count = 16,
		.pattern = nvmet_pattern(P2P_DATA),
	};
	ASSERT_EQ(0, ioctl(host->fd, P2PDMA_NVMET_RUN, run));
	EXPECT_EQ(run->count, run->commands);
}

#define NO_TRANSPORT	"no " P2PDMA_NVMET_DEVICE ": load p2pdma_nvmet"

static bool has_transport(void)
{
	return !access(P2PDMA_NVMET_DEVICE, F_OK);
}

/* Whether it is published matters when it is stored, not when it is used. */
TEST_F(later, withdrawn)
{
	struct p2pdma_nvmet_run run;

	ASSERT_EQ(0, p2p_sysfs_write(self->publish, "0"));
	EXPECT_EQ(0, enable("1"));
	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	use(_metadata, &run, &self->host, &self->disk, self->disk.bdf);
	EXPECT_KMSG("nvmet: using p2pmem on %s for nsid 1",
		    self->provider->bdf);
	EXPECT_EQ(run.count, run.p2p_commands);
	EXPECT_EQ(0ULL, run.wrong_pages);

	/* under a live namespace it is withdrawn, and given again */
	ASSERT_EQ(0, p2p_sysfs_write(self->publish, "1"));
	ASSERT_EQ(0, p2p_sysfs_write(self->publish, "0"));
	ASSERT_EQ(0, ioctl(self->host.fd, P2PDMA_NVMET_RUN, &run));
	EXPECT_EQ(run.count, run.p2p_commands);
}

/*
 * A provider without its driver has no memory, and the target does not notice:
 * it says that it uses it, and takes memory of the system without a word.
 */
TEST_F(later, unbound)
{
	struct p2pdma_nvmet_run run;

	ASSERT_EQ(0, p2p_unbind(self->provider));
	EXPECT_EQ(0, enable("1"));
	EXPECT_SHOWN(self->provider->bdf);
	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	use(_metadata, &run, &self->host, &self->disk, self->disk.bdf);
	EXPECT_KMSG("nvmet: using p2pmem on %s for nsid 1",
		    self->provider->bdf);
	EXPECT_EQ(0ULL, run.p2p_commands);
	EXPECT_EQ(run.count, run.fallback_commands);

	/* bound again it is used again, with nothing configured anew */
	ASSERT_EQ(0, p2p_bind(self->provider));
	ASSERT_EQ(0, ioctl(self->host.fd, P2PDMA_NVMET_RUN, &run));
	EXPECT_EQ(run.count, run.p2p_commands);
}

/* The same without a provider in particular: then it is noticed. */
TEST_F(later, unbound_automatic)
{
	const struct p2p_provider *other = NULL;
	struct p2pdma_nvmet_run run;
	int ret;

	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		if (&p2p.provider[i] != self->provider &&
		    p2p_expect(&p2p.provider[i], &self->disk).verdict !=
		    P2P_NOT_SUPPORTED)
			other = &p2p.provider[i];

	ASSERT_EQ(0, store("1"));
	ASSERT_EQ(0, p2p_unbind(self->provider));
	ret = enable("1");
	if (!other) {
		EXPECT_EQ(-EINVAL, ret);
		EXPECT_KMSG("nvmet: no peer-to-peer memory is available for %s",
			    self->disk.path);
		return;
	}
	EXPECT_EQ(0, ret);
	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	use(_metadata, &run, &self->host, &self->disk, self->disk.bdf);
	EXPECT_EQ(run.count, run.p2p_commands);
	EXPECT_NE(nvmet_function(self->provider->bdf), run.provider);
}

/* ---- an adapter that does not reach the provider ----------------------- */

FIXTURE(adapter) {
	const struct p2p_provider *provider;
	struct p2p_client disk;
	const char *fabric;
	struct nvmet_host host;
};

FIXTURE_SETUP(adapter)
{
	self->host.fd = -1;
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];
		const struct p2p_client *disk = NULL, *fabric = NULL;

		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			enum p2p_verdict v = p2p_expect(p,
							&p2p.client[j]).verdict;

			if (v == P2P_NOT_SUPPORTED)
				fabric = &p2p.client[j];
			else if (v != P2P_UNKNOWN)
				disk = &p2p.client[j];
		}
		if (!disk || !fabric)
			continue;
		self->provider = p;
		self->disk = *disk;
		self->fabric = fabric->bdf;
	}
	if (!self->provider)
		SKIP(return,
		     "P2PDMA_EXPECT names no provider that reaches one controller and not another");
	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_TRUE(p2p_find_client(&self->disk));
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_ns_add(NQN, 1, self->disk.path));
}

FIXTURE_TEARDOWN(adapter)
{
	nvmet_host_close(&self->host);
	EXPECT_EQ(0, nvmet_cleanup());
}

/* The disk reaches it, so that enabling says nothing; connecting does. */
TEST_F(adapter, not_reached)
{
	const char *bdf = self->provider->bdf;
	struct p2pdma_nvmet_run run;

	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	ASSERT_EQ(0, store(bdf));
	ASSERT_EQ(0, enable("1"));
	EXPECT_FALSE(kmsg_find(kmsg, others, sizeof(others),
			       KMSG_NOT_REACHED, self->fabric, bdf));
	use(_metadata, &run, &self->host, &self->disk, self->fabric);
	expect_acs(_metadata, self->fabric, bdf);
	EXPECT_KMSG(KMSG_NOT_REACHED, self->fabric, bdf);
	EXPECT_FALSE(kmsg_find(kmsg, others, sizeof(others),
			       "nvmet: using p2pmem on %s for nsid 1", bdf))
		TH_LOG("the target says that it uses %s", bdf);
	EXPECT_EQ(run.count, run.ram_commands);
	EXPECT_EQ(0ULL, run.p2p_commands);
	EXPECT_EQ(0ULL, run.fallback_commands);
	EXPECT_EQ(0ULL, run.wrong_pages);
}

/* ---- what the transport does not do ------------------------------------ */

TEST(metadata_refused)
{
	int ret;

	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	ASSERT_EQ(0, nvmet_cleanup());
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ret = nvmet_port_set(NVMET_PORT, "param_pi_enable", "1");
	if (ret == -ENOENT) {
		EXPECT_EQ(0, nvmet_cleanup());
		SKIP(return, "kernel without CONFIG_BLK_DEV_INTEGRITY");
	}
	EXPECT_EQ(0, ret);
	kmsg_skip(kmsg);
	EXPECT_EQ(-EINVAL, nvmet_link(NVMET_PORT, NQN));
	EXPECT_KMSG("nvmet: T10-PI is not supported by transport type 254");
	EXPECT_EQ(0, nvmet_port_set(NVMET_PORT, "param_pi_enable", "0"));
	EXPECT_EQ(0, nvmet_link(NVMET_PORT, NQN));
	/* what a port in use says to it */
	kmsg_skip(kmsg);
	EXPECT_EQ(-EACCES, nvmet_port_set(NVMET_PORT, "param_pi_enable", "1"));
	EXPECT_KMSG(KMSG_PORT_IN_USE, NVMET_PORT);
	EXPECT_EQ(0, nvmet_cleanup());
}

/* ---- who may ----------------------------------------------------------- */

TEST(privileges)
{
	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	EXPECT_EQ(0, p2p_open_without(P2P_NOTHING, P2PDMA_NVMET_DEVICE));
	EXPECT_EQ(EACCES, p2p_open_without(P2P_ROOT, P2PDMA_NVMET_DEVICE));
	EXPECT_EQ(EPERM, p2p_open_without(P2P_CAP_SYS_ADMIN,
					  P2PDMA_NVMET_DEVICE));
}

/* ---- connecting -------------------------------------------------------- */

TEST(connect_refused)
{
	struct p2pdma_nvmet_connect *c;
	struct nvmet_host host;
	char path[PATH_MAX];

	if (!has_transport())
		SKIP(return, NO_TRANSPORT);
	ASSERT_EQ(0, nvmet_cleanup());

	/* no such port */
	EXPECT_EQ(-ENODEV, nvmet_host_connect(&host, NVMET_PORT, NQN, NULL, 1,
					      32));
	ASSERT_EQ(0, nvmet_subsys_add(NQN));
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	/* a port that no subsystem is linked to is not enabled */
	EXPECT_EQ(-ENODEV, nvmet_host_connect(&host, NVMET_PORT, NQN, NULL, 1,
					      32));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, NQN));

	kmsg_skip(kmsg);
	EXPECT_EQ(NVME_DNR | 0x182,
		  nvmet_host_connect(&host, NVMET_PORT, "no-such-subsystem",
				     NULL, 1, 32));
	EXPECT_KMSG("nvmet: connect request for invalid subsystem no-such-subsystem!");

	/* more entries than the target has, more queues than it has */
	kmsg_skip(kmsg);
	EXPECT_EQ(NVME_DNR | 0x182,
		  nvmet_host_connect(&host, NVMET_PORT, NQN, NULL, 1, 1026));
	EXPECT_EQ(1, host.connect.qid);
	EXPECT_KMSG("nvmet: sqsize 1025 is larger than MQES supported 1023 cntlid 1");
	EXPECT_EQ(NVME_DNR | 0x182,
		  nvmet_host_connect(&host, NVMET_PORT, NQN, NULL, 129, 32));
	EXPECT_EQ(129, host.connect.qid);

	/* a host that is not allowed */
	snprintf(path, sizeof(path),
		 NVMET_CONFIG "/subsystems/%s/attr_allow_any_host", NQN);
	ASSERT_EQ(0, p2p_sysfs_write(path, "0"));
	EXPECT_EQ(NVME_DNR | 0x184,
		  nvmet_host_connect(&host, NVMET_PORT, NQN, NULL, 1, 32));
	ASSERT_EQ(0, p2p_sysfs_write(path, "1"));

	/* a client that there is not */
	EXPECT_EQ(-ENODEV, nvmet_host_connect(&host, NVMET_PORT, NQN,
					      "ffff:ff:1f.7", 1, 32));

	/* what makes no sense is refused by the transport */
	host.fd = open(P2PDMA_NVMET_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, host.fd);
	c = &host.connect;
	c->client = P2PDMA_NVMET_NO_FUNCTION;
	c->queue_size = 1;
	EXPECT_ERRNO(EINVAL, ioctl(host.fd, P2PDMA_NVMET_CONNECT, c));
	c->queue_size = 32;
	c->reserved = 1;
	EXPECT_ERRNO(EINVAL, ioctl(host.fd, P2PDMA_NVMET_CONNECT, c));
	c->reserved = 0;
	memset(c->subsysnqn, 'x', sizeof(c->subsysnqn));
	EXPECT_ERRNO(EINVAL, ioctl(host.fd, P2PDMA_NVMET_CONNECT, c));
	EXPECT_ERRNO(ENOTCONN, ioctl(host.fd, P2PDMA_NVMET_DISCONNECT));
	nvmet_host_close(&host);

	/* all of that left nothing behind */
	ASSERT_EQ(0, nvmet_host_connect(&host, NVMET_PORT, NQN, NULL, 128, 32));
	EXPECT_EQ(1, host.connect.cntlid);
	nvmet_host_close(&host);
	EXPECT_EQ(0, nvmet_cleanup());
}

static void add(const struct p2p_provider *p, const struct p2p_client *c)
{
	FIXTURE_VARIANT(enable) v = { .provider = p, .disk = c };

	P2P_VARIANT_ADD(enable, v, "%s@%s>%s", p->kind, p->bdf, c->label);
}

int main(int argc, char **argv)
{
	if (p2p_help(argc, argv,
		     "p2pmem in the configuration of the NVMe target"))
		return test_harness_run(argc, argv);

	p2p_discover();
	p2p_require_clients();
	nvmet_init(NQN_PREFIX);
	kmsg = kmsg_open();
	if (kmsg < 0)
		ksft_exit_skip("/dev/kmsg: %s\n", strerror(errno));

	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		for (unsigned int j = 0; j < p2p.nr_clients; j++)
			add(&p2p.provider[i], &p2p.client[j]);
	return test_harness_run(argc, argv);
}
