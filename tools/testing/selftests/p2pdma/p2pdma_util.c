// SPDX-License-Identifier: GPL-2.0
/*
 * What the P2PDMA selftests share. See p2pdma_util.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/io.h>
#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>

#include "kselftest.h"
#include "p2pdma_util.h"

#define SYS_PCI		"/sys/bus/pci/devices"

struct p2p_world p2p;

/* A driver did not let go of its device: shared by all tests of the program. */
static bool *p2p_stuck;

/* ---- sysfs ------------------------------------------------------------- */

static bool vpath(char *path, const char *fmt, va_list args)
{
	int n = vsnprintf(path, PATH_MAX, fmt, args);

	return n > 0 && n < PATH_MAX;
}

static ssize_t attr_read(char *buf, size_t len, const char *fmt, ...)
	__printf(3, 4);

/* The attribute without the white space around it; -1 if it is not there. */
static ssize_t attr_read(char *buf, size_t len, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list args;
	ssize_t n;
	bool ok;
	int fd;

	va_start(args, fmt);
	ok = vpath(path, fmt, args);
	va_end(args);
	if (!ok)
		return -1;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, len - 1);
	close(fd);
	if (n < 0)
		return -1;

	while (n > 0 && isspace((unsigned char)buf[n - 1]))
		n--;
	buf[n] = '\0';
	return n;
}

static int64_t attr_number(const char *bdf, const char *attr)
{
	char buf[32], *end;
	long long value;

	if (attr_read(buf, sizeof(buf), SYS_PCI "/%s/%s", bdf, attr) <= 0)
		return -1;
	errno = 0;
	value = strtoll(buf, &end, 0);
	return errno || *end ? -1 : value;
}

/* An attribute of a PCI function, as attr_read(). */
ssize_t p2p_attr(const char *bdf, const char *attr, char *buf, size_t len)
{
	return attr_read(buf, len, SYS_PCI "/%s/%s", bdf, attr);
}

/* An attribute of a PCI function that is a number; -1 if it is none. */
int64_t p2p_attr_number(const char *bdf, const char *attr)
{
	return attr_number(bdf, attr);
}

/* Name of the driver bound to a PCI function, empty if none: 0, or -1. */
int p2p_driver_link(const char *bdf, char *buf, size_t len)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *base;
	ssize_t n;

	buf[0] = '\0';
	snprintf(path, sizeof(path), SYS_PCI "/%s/driver", bdf);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	target[n] = '\0';
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	return snprintf(buf, len, "%s", base) < (int)len ? 0 : -1;
}

bool p2p_is_provider(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/p2pmem/allocate", bdf);
	return !access(path, F_OK);
}

static double factor(const char *name)
{
	const char *text = getenv(name);
	double scale;
	char *end;

	if (!text || !*text)
		return 1;
	scale = strtod(text, &end);
	if (*end || !(scale >= 0.1 && scale <= 1000))
		ksft_exit_fail_msg("%s=%s: not a number from 0.1 to 1000\n",
				   name, text);
	return scale;
}

double p2p_timeout_scale(void)
{
	return factor("P2PDMA_TIMEOUT_SCALE");
}

double p2p_patience(void)
{
	return p2p_timeout_scale() * factor("P2PDMA_LOAD");
}

/* Whether an IOMMU may translate for a device. */
bool p2p_has_iommu(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/iommu_group", bdf);
	return !access(path, F_OK);
}

/* Write a value to a sysfs file: 0, or -1 with errno set. */
int p2p_sysfs_write(const char *path, const char *value)
{
	size_t len = strlen(value);
	int fd, saved;
	ssize_t n;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = write(fd, value, len);
	saved = errno;
	close(fd);
	errno = saved;
	return n == (ssize_t)len ? 0 : -1;
}

/*
 * How long a driver may take to be bound or unbound, and whatever else is waited
 * for, times p2p_patience(): shorter than the harness's limit for a test.
 */
#define DRIVER_S	20

static double since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - start->tv_sec + (now.tv_nsec - start->tv_nsec) / 1e9;
}

/*
 * A moment of a wait that began at @start, which is zero before the first one:
 * whether it may go on.
 */
bool p2p_waits_on(struct timespec *start)
{
	if (!start->tv_sec && !start->tv_nsec)
		clock_gettime(CLOCK_MONOTONIC, start);
	if (since(start) >= DRIVER_S * p2p_patience())
		return false;
	usleep(1000);
	return true;
}

struct limited {
	int (*call)(void *data);
	void *data;
	int error;
};

static int limited_call(void *arg)
{
	struct limited *l = arg;

	if (l->call(l->data))
		l->error = errno;
	return 0;
}

/*
 * Call what may wait for ever, and cannot be killed then: for a driver to let go
 * of its device. It is a task of its own that waits, so that whoever asked can
 * go on, with ETIMEDOUT. The task shares the memory, as a mapping of the pool
 * would count twice otherwise. Afterwards nobody waits for a driver any more.
 * Otherwise as the call: 0, or -1 and errno.
 */
int p2p_limited(const char *what, int (*call)(void *data), void *data)
{
	const struct timespec pause = { .tv_nsec = 500000 };
	const double limit = DRIVER_S * p2p_patience();
	const size_t size = 64 << 10;
	struct timespec start;
	struct limited *l;
	int status = 0;
	char *stack;
	pid_t pid;

	if (p2p_stuck && __atomic_load_n(p2p_stuck, __ATOMIC_RELAXED)) {
		errno = ETIMEDOUT;
		return -1;
	}
	l = malloc(sizeof(*l));
	stack = malloc(size);
	if (!l || !stack)
		ksft_exit_fail_msg("out of memory\n");
	*l = (struct limited){ .call = call, .data = data };
	pid = clone(limited_call, stack + size, CLONE_VM | CLONE_FILES | SIGCHLD,
		    l);
	if (pid < 0)
		ksft_exit_fail_perror("clone");
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!waitpid(pid, &status, WNOHANG)) {
		if (since(&start) >= limit) {
			ksft_print_msg("%s: no end of it after %.0f s\n",
				       what, limit);
			if (p2p_stuck)
				__atomic_store_n(p2p_stuck, true,
						 __ATOMIC_RELAXED);
			/* the task still needs its memory */
			errno = ETIMEDOUT;
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	errno = status ? EINTR : l->error;
	free(stack);
	free(l);
	return errno ? -1 : 0;
}

struct attribute {
	char path[PATH_MAX], value[64];
};

static int write_attribute(void *data)
{
	struct attribute *a = data;

	return p2p_sysfs_write(a->path, a->value);
}

/* p2p_sysfs_write() by p2p_limited(). */
int p2p_sysfs_write_limited(const char *path, const char *value)
{
	struct attribute *a = malloc(sizeof(*a));
	char what[PATH_MAX + 128];
	int ret, saved;

	if (!a)
		ksft_exit_fail_msg("out of memory\n");
	if (strlen(path) >= sizeof(a->path) || strlen(value) >= sizeof(a->value))
		ksft_exit_fail_msg("%s: too long a path, or value\n", path);
	snprintf(a->path, sizeof(a->path), "%s", path);
	snprintf(a->value, sizeof(a->value), "%s", value);
	snprintf(what, sizeof(what), "%s to %s", value, path);
	ret = p2p_limited(what, write_attribute, a);
	saved = errno;
	/* who waits on still needs it */
	if (!ret || saved != ETIMEDOUT)
		free(a);
	errno = saved;
	return ret;
}

/* ---- discovery --------------------------------------------------------- */

/* A whole PCI address, such as 0000:03:00.0 */
static bool is_bdf(const char *s)
{
	unsigned int domain, bus, slot, function;
	int n = 0;

	return sscanf(s, "%x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function,
		      &n) == 4 && !s[n];
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void copy_name(char *dst, size_t len, const char *src)
{
	if (snprintf(dst, len, "%s", src) >= (int)len)
		ksft_exit_fail_msg("name too long: %s\n", src);
}

static const char *kind_of(const char *bdf)
{
	int64_t vendor = attr_number(bdf, "vendor");
	int64_t device = attr_number(bdf, "device");
	int64_t class = attr_number(bdf, "class");

	if (vendor == 0x1b36 && device == 0x0005)
		return "testdev";
	if (vendor == 0x1af4 && device == 0x1110)
		return "ivshmem";
	if (class >> 8 == 0x0108)
		return "cmb";
	return "pci";
}

static void controller_serial(const char *bdf, char *buf, size_t len)
{
	struct dirent **entry;
	char path[PATH_MAX];
	int n, i;

	buf[0] = '\0';
	snprintf(path, sizeof(path), SYS_PCI "/%s/nvme", bdf);
	n = scandir(path, &entry, NULL, by_name);
	if (n < 0)
		return;
	for (i = 0; i < n; i++) {
		if (!strncmp(entry[i]->d_name, "nvme", 4))
			attr_read(buf, len, "%s/%s/serial", path,
				  entry[i]->d_name);
		free(entry[i]);
	}
	free(entry);
}

static void find_providers(void)
{
	struct p2p_provider *p;
	struct dirent **entry;
	int n, i;

	n = scandir(SYS_PCI, &entry, NULL, by_name);
	if (n < 0)
		ksft_exit_skip("no PCI bus: %s: %s\n", SYS_PCI,
			       strerror(errno));

	for (i = 0; i < n; i++) {
		const char *bdf = entry[i]->d_name;

		if (!is_bdf(bdf) || !p2p_is_provider(bdf)) {
			free(entry[i]);
			continue;
		}
		if (p2p.nr_providers == P2P_MAX_PROVIDERS)
			ksft_exit_fail_msg("more than %d providers\n",
					   P2P_MAX_PROVIDERS);

		p = &p2p.provider[p2p.nr_providers++];
		copy_name(p->bdf, sizeof(p->bdf), bdf);
		copy_name(p->kind, sizeof(p->kind), kind_of(bdf));
		p2p_driver_link(bdf, p->driver, sizeof(p->driver));
		attr_read(p->override, sizeof(p->override),
			  SYS_PCI "/%s/driver_override", bdf);
		if (!strcmp(p->override, "(null)"))
			p->override[0] = '\0';
		controller_serial(bdf, p->serial, sizeof(p->serial));
		p->size = p2p_pool_size(p);
		p->rest = p2p_available(p);
		/* the kernel does not tell, p2pdma_provider does */
		p->ranges = attr_number(bdf, "p2pdma_provider/ranges");
		if (p->ranges < 1)
			p->ranges = 1;
		if (p->size <= 0 || p->rest < 0)
			ksft_exit_fail_msg("%s: no size in p2pmem/\n", bdf);
		free(entry[i]);
	}
	free(entry);
}

/* Write to a file of a PCI driver, "bind" or "unbind": 0, or -1 and errno. */
int p2p_driver_write(const char *driver, const char *file, const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver,
		 file);
	return p2p_sysfs_write_limited(path, bdf);
}

/* Bind a provider to the driver that it had: 0, or -1 and errno. */
int p2p_bind(const struct p2p_provider *provider)
{
	return p2p_driver_write(provider->driver, "bind", provider->bdf);
}

/* Unbind a provider from its driver: 0, or -1 and errno. */
int p2p_unbind(const struct p2p_provider *provider)
{
	return p2p_driver_write(provider->driver, "unbind", provider->bdf);
}

/* Set, or with "\n" clear, driver_override of a device: 0, or -1 and errno. */
int p2p_set_override(const char *bdf, const char *driver)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/driver_override", bdf);
	return p2p_sysfs_write(path, driver);
}

/*
 * Have a device that was removed found again, with the driver_override that it
 * had: 0, or -1 with errno set. Its driver may be bound to it later only.
 */
int p2p_find_again(const struct p2p_provider *provider)
{
	if (p2p_sysfs_write("/sys/bus/pci/rescan", "1"))
		return -1;
	if (!provider->override[0])
		return 0;
	if (p2p_set_override(provider->bdf, provider->override))
		return -1;
	return p2p_sysfs_write("/sys/bus/pci/drivers_probe", provider->bdf);
}

static bool scratch_allowed(const struct p2p_client *client)
{
	const char *list = getenv("P2PDMA_SCRATCH");
	char *copy, *word, *save = NULL;
	bool found = false;

	if (!list)
		return false;
	copy = strdup(list);
	if (!copy)
		ksft_exit_fail_msg("out of memory\n");
	for (word = strtok_r(copy, " \t\n", &save); word && !found;
	     word = strtok_r(NULL, " \t\n", &save))
		found = !strcmp(word, client->serial) ||
			!strcmp(word, client->path);
	free(copy);
	return found;
}

/* .../0000:04:00.0/nvme/nvme1: the last part that is an address, or NULL. */
static const char *last_bdf(char *path)
{
	char *slash;

	while ((slash = strrchr(path, '/'))) {
		if (is_bdf(slash + 1))
			return slash + 1;
		*slash = '\0';
	}
	return NULL;
}

/*
 * The PCI function behind a disk. /sys/block/<disk>/device is the controller,
 * or with native multipath the subsystem, which has links to its controllers;
 * that of the wanted function is taken, or the first of them, as any of them may
 * carry the I/O.
 */
static bool client_bdf(struct p2p_client *client, const char *wanted)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct dirent **entry;
	const char *bdf;
	int n, i;

	snprintf(path, sizeof(path), "/sys/block/%s/device", client->name);
	if (!realpath(path, real))
		return false;
	if (!strstr(real, "/nvme-subsystem/")) {
		bdf = last_bdf(real);
		if (bdf)
			copy_name(client->bdf, sizeof(client->bdf), bdf);
		return bdf;
	}

	copy_name(path, sizeof(path), real);
	n = scandir(path, &entry, NULL, by_name);
	for (i = 0; i < n; i++) {
		char link[PATH_MAX];
		unsigned int nr;
		int end = 0;

		if (sscanf(entry[i]->d_name, "nvme%u%n", &nr, &end) == 1 &&
		    !entry[i]->d_name[end] &&
		    snprintf(link, sizeof(link), "%s/%s", path,
			     entry[i]->d_name) < (int)sizeof(link) &&
		    realpath(link, real)) {
			bdf = last_bdf(real);
			if (bdf && (!client->bdf[0] ||
				    (wanted && !strcmp(bdf, wanted))))
				copy_name(client->bdf, sizeof(client->bdf), bdf);
		}
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return client->bdf[0];
}

/* Whether a PCI function has virtual ones, which it takes with it. */
static bool has_virtual(const char *bdf)
{
	return attr_number(bdf, "sriov_numvfs") > 0;
}

static bool is_virtual(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/physfn", bdf);
	return !access(path, F_OK);
}

/*
 * A virtual function has the serial number of its physical one: "-vf0" is added
 * to that of the first one, as sysfs calls it virtfn0.
 */
static void number_function(struct p2p_client *client)
{
	char path[PATH_MAX], real[PATH_MAX], serial[sizeof(client->serial)];
	const char *slash;

	if (!is_virtual(client->bdf))
		return;
	for (unsigned int i = 0;; i++) {
		snprintf(path, sizeof(path), SYS_PCI "/%s/physfn/virtfn%u",
			 client->bdf, i);
		if (!realpath(path, real))
			ksft_exit_fail_msg("%s: its physical function does not have it\n",
					   client->bdf);
		slash = strrchr(real, '/');
		if (slash && strcmp(slash + 1, client->bdf))
			continue;
		copy_name(serial, sizeof(serial), client->serial);
		if (snprintf(client->serial, sizeof(client->serial), "%s-vf%u",
			     serial, i) >= (int)sizeof(client->serial))
			ksft_exit_fail_msg("name too long: %s\n", serial);
		return;
	}
}

/* A name for tests, without what has a meaning in KTAP or splits words. */
static void make_label(struct p2p_client *client)
{
	char *c;

	snprintf(client->label, sizeof(client->label), "%s",
		 client->serial[0] ? client->serial : client->name);
	if (client->serial[0] && client->nsid != 1)
		snprintf(client->label, sizeof(client->label), "%s-n%u",
			 client->serial, client->nsid);
	for (c = client->label; *c; c++)
		if (isspace((unsigned char)*c) || *c == '#')
			*c = '_';
}

/* With native multipath: a path to a disk, not the disk. */
static bool is_hidden(const char *name)
{
	char hidden[8] = "0";

	attr_read(hidden, sizeof(hidden), "/sys/block/%s/hidden", name);
	return strcmp(hidden, "0");
}

/* What is mounted, or otherwise in use, is not written to, whoever names it. */
static bool is_free(const struct p2p_client *client)
{
	int fd = open(client->path, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		return !close(fd);
	if (errno != EBUSY)
		return true;
	/* where the environment has seen to it that it is free, nobody skips it */
	if (getenv("P2PDMA_TOPOLOGY"))
		ksft_exit_fail_msg("%s: in use, and P2PDMA_SCRATCH names it\n",
				   client->path);
	ksft_print_msg("%s: in use, is left as it is although P2PDMA_SCRATCH names it\n",
		       client->path);
	return false;
}

/*
 * Which namespace a disk is, of the wanted PCI function if there are several:
 * false if it is none of a PCI function.
 */
static bool identify(struct p2p_client *client, const char *name,
		     const char *wanted)
{
	char nsid[16];

	memset(client, 0, sizeof(*client));
	if (strncmp(name, "nvme", 4) || is_hidden(name))
		return false;
	copy_name(client->name, sizeof(client->name), name);
	snprintf(client->path, sizeof(client->path), "/dev/%s", client->name);
	if (attr_read(nsid, sizeof(nsid), "/sys/block/%s/nsid", name) <= 0)
		return false;
	client->nsid = strtoul(nsid, NULL, 10);
	return client_bdf(client, wanted);
}

static bool describe_client(struct p2p_client *client, const char *name)
{
	char buf[64];

	if (is_hidden(name))
		return false;
	if (!identify(client, name, NULL)) {
		ksft_print_msg("%s: not of a PCI function, left out\n", name);
		return false;
	}
	attr_read(client->serial, sizeof(client->serial),
		  "/sys/block/%s/device/serial", name);
	number_function(client);
	if (attr_read(buf, sizeof(buf), "/sys/block/%s/size", name) > 0)
		client->size = strtoull(buf, NULL, 10) * 512;
	if (attr_read(buf, sizeof(buf),
		      "/sys/block/%s/queue/logical_block_size", name) > 0)
		client->lba = strtoul(buf, NULL, 10);
	if (!client->size || !client->lba) {
		ksft_print_msg("%s: no capacity, left out\n", name);
		return false;
	}
	make_label(client);
	client->scratch = scratch_allowed(client) && is_free(client);
	return true;
}

static int by_label(const void *a, const void *b)
{
	const struct p2p_client *x = a, *y = b;

	return strcmp(x->label, y->label);
}

static void find_clients(void)
{
	struct p2p_client client;
	struct dirent **entry;
	int n, i;

	n = scandir("/sys/block", &entry, NULL, by_name);
	for (i = 0; i < n; i++) {
		if (!strncmp(entry[i]->d_name, "nvme", 4) &&
		    describe_client(&client, entry[i]->d_name)) {
			if (p2p.nr_clients == P2P_MAX_CLIENTS)
				ksft_exit_fail_msg("more than %d namespaces\n",
						   P2P_MAX_CLIENTS);
			p2p.client[p2p.nr_clients++] = client;
		}
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);

	/* the kernel numbers controllers as they answer; serials stay */
	qsort(p2p.client, p2p.nr_clients, sizeof(p2p.client[0]), by_label);
}

/*
 * Find a namespace again by what stays, the PCI function and the number: a
 * controller whose driver was bound again has another name if somebody still has
 * the old disk open. False if it is not there, or cannot be opened yet, which
 * comes a moment after it has its name.
 */
bool p2p_find_client(struct p2p_client *client)
{
	struct dirent **entry;
	struct p2p_client now;
	bool found = false;
	int n, i, fd;

	n = scandir("/sys/block", &entry, NULL, by_name);
	for (i = 0; i < n; i++) {
		found = found || (identify(&now, entry[i]->d_name, client->bdf) &&
				  !strcmp(now.bdf, client->bdf) &&
				  now.nsid == client->nsid);
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	fd = found ? open(now.path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return false;
	close(fd);
	copy_name(client->name, sizeof(client->name), now.name);
	copy_name(client->path, sizeof(client->path), now.path);
	return true;
}

/*
 * Find again the namespaces of a PCI function, or all whose controllers may be
 * taken: false if one is not there, which may come if it is waited for.
 */
bool p2p_find_clients(const char *bdf)
{
	bool all = true;

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		struct p2p_client *c = &p2p.client[i];

		if (bdf ? !strcmp(c->bdf, bdf) : !p2p_why_not_take(c->bdf))
			all = p2p_find_client(c) && all;
	}
	return all;
}

/*
 * Why the nvme driver must not be unbound from a controller, or NULL: all its
 * namespaces have to be in P2PDMA_SCRATCH, and it must have no virtual functions.
 */
const char *p2p_why_not_take(const char *bdf)
{
	unsigned int namespaces = 0, scratch = 0;

	if (has_virtual(bdf))
		return "has virtual functions, which would go with it";

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		if (!strcmp(p2p.client[i].bdf, bdf)) {
			namespaces++;
			scratch += p2p.client[i].scratch;
		}
	}
	if (scratch < namespaces || !namespaces)
		return "would take the namespaces away, allow it with P2PDMA_SCRATCH";
	return NULL;
}

/* ---- expectations ------------------------------------------------------ */

/* PROVIDER>CLIENT=VERDICT[!DEFECT], taken apart in place */
struct rule {
	char *provider, *client, *verdict, *defect;
	enum p2p_verdict value;
};

static bool parse_rule(char *word, struct rule *rule)
{
	static const struct {
		const char *name;
		enum p2p_verdict value;
	} verdicts[] = {
		{ "bus-addr", P2P_BUS_ADDR },
		{ "host-bridge", P2P_HOST_BRIDGE },
		{ "not-supported", P2P_NOT_SUPPORTED },
	};
	size_t i;

	rule->provider = word;
	rule->client = strchr(word, '>');
	if (!rule->client)
		return false;
	*rule->client++ = '\0';
	rule->verdict = strrchr(rule->client, '=');
	if (!rule->verdict)
		return false;
	*rule->verdict++ = '\0';
	rule->defect = strchr(rule->verdict, '!');
	if (rule->defect) {
		*rule->defect++ = '\0';
		if (!*rule->defect)
			return false;
	}
	if (!*rule->provider || !*rule->client)
		return false;
	for (i = 0; i < ARRAY_SIZE(verdicts); i++) {
		if (!strcmp(rule->verdict, verdicts[i].name)) {
			rule->value = verdicts[i].value;
			return true;
		}
	}
	return false;
}

/* Call @fn for each rule until it returns true. */
static void each_rule(bool (*fn)(const struct rule *rule, void *data),
		      void *data)
{
	const char *list = getenv("P2PDMA_EXPECT");
	char *copy, *word, *save = NULL;
	struct rule rule;

	if (!list)
		return;
	copy = strdup(list);
	if (!copy)
		ksft_exit_fail_msg("out of memory\n");
	for (word = strtok_r(copy, " \t\n", &save); word;
	     word = strtok_r(NULL, " \t\n", &save)) {
		char shown[128];

		snprintf(shown, sizeof(shown), "%s", word);
		if (!parse_rule(word, &rule))
			ksft_exit_fail_msg("P2PDMA_EXPECT: cannot read '%s', see --help\n",
					   shown);
		if (fn(&rule, data))
			break;
	}
	free(copy);
}

struct lookup {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
	struct p2p_expect result;
};

static bool names(const char *pattern, const char *name)
{
	return !strcmp(pattern, "*") || !strcmp(pattern, name);
}

static bool match_rule(const struct rule *rule, void *data)
{
	struct lookup *l = data;

	if (!names(rule->provider, l->provider->kind) ||
	    !names(rule->client, l->client->serial))
		return false;
	l->result.verdict = rule->value;
	if (rule->defect)
		snprintf(l->result.defect, sizeof(l->result.defect), "%s",
			 rule->defect);
	return true;
}

/* What P2PDMA_EXPECT says about a pair; the first rule that fits counts. */
struct p2p_expect p2p_expect(const struct p2p_provider *provider,
			     const struct p2p_client *client)
{
	struct lookup l = { .provider = provider, .client = client };

	each_rule(match_rule, &l);
	return l.result;
}

const char *p2p_verdict_name(enum p2p_verdict verdict)
{
	switch (verdict) {
	case P2P_BUS_ADDR:
		return "bus-addr";
	case P2P_HOST_BRIDGE:
		return "host-bridge";
	case P2P_NOT_SUPPORTED:
		return "not-supported";
	case P2P_UNKNOWN:
		break;
	}
	return "unknown";
}

struct missing {
	unsigned int count;
	char *why;
	size_t len;
};

static void add_missing(struct missing *m, const char *what, const char *name)
{
	size_t used = strlen(m->why);

	m->count++;
	snprintf(m->why + used, m->len - used, "%s%s '%s'", used ? ", " : "",
		 what, name);
}

static bool rule_present(const struct rule *rule, void *data)
{
	struct missing *m = data;
	bool found;
	unsigned int i;

	found = !strcmp(rule->provider, "*");
	for (i = 0; i < p2p.nr_providers; i++)
		found |= !strcmp(rule->provider, p2p.provider[i].kind);
	if (!found)
		add_missing(m, "provider", rule->provider);

	found = !strcmp(rule->client, "*");
	for (i = 0; i < p2p.nr_clients; i++)
		found |= !strcmp(rule->client, p2p.client[i].serial);
	if (!found)
		add_missing(m, "client", rule->client);
	return false;
}

static bool is_client(const char *bdf)
{
	unsigned int i;

	for (i = 0; i < p2p.nr_clients; i++)
		if (!strcmp(p2p.client[i].bdf, bdf))
			return true;
	return false;
}

/* Devices that are there for this, and that no driver made use of. */
static void idle_devices(struct missing *m)
{
	struct dirent **entry;
	char driver[64];
	int n, i;

	n = scandir(SYS_PCI, &entry, NULL, by_name);
	for (i = 0; i < n; i++) {
		const char *bdf = entry[i]->d_name;

		if (!strcmp(kind_of(bdf), "testdev") && !p2p_is_provider(bdf))
			add_missing(m, "memory of", bdf);
		/*
		 * A controller can also have been given to a provider driver,
		 * and virtual ones are offline until they are given queues.
		 */
		p2p_driver_link(bdf, driver, sizeof(driver));
		if (!strcmp(kind_of(bdf), "cmb") && !is_client(bdf) &&
		    !is_virtual(bdf) && strcmp(driver, "p2pdma_provider"))
			add_missing(m, "namespace of", bdf);
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
}

/*
 * Count what P2PDMA_EXPECT names or means by "*" and the machine does not
 * have, so that a driver that failed to bind is a failure and not a test less.
 * Where nothing is expected, nothing is missing.
 */
unsigned int p2p_missing(char *why, size_t len)
{
	struct missing m = { .why = why, .len = len };
	const char *list = getenv("P2PDMA_EXPECT");

	why[0] = '\0';
	if (!list || !*list)
		return 0;
	each_rule(rule_present, &m);
	idle_devices(&m);
	return m.count;
}

/* True if help is wanted: the harness then prints its options. */
bool p2p_help(int argc, char **argv, const char *about)
{
	if (argc < 2 || (strcmp(argv[1], "-h") && strcmp(argv[1], "--help")))
		return false;
	argv[1] = "-h";
	fprintf(stderr,
		"%s\n"
		"\n"
		"Environment:\n"
		"  P2PDMA_SCRATCH       serial numbers or device nodes of NVMe namespaces whose\n"
		"                       content may be destroyed; all others are only read\n"
		"  P2PDMA_EXPECT        what is expected of each pair: PROVIDER>CLIENT=VERDICT[!DEFECT]\n"
		"                       PROVIDER  testdev, cmb, ivshmem, pci or *\n"
		"                       CLIENT    serial number of an NVMe controller, or *\n"
		"                       VERDICT   bus-addr, host-bridge or not-supported\n"
		"                       DEFECT    name of what is known to make the data wrong\n"
		"  P2PDMA_TOPOLOGY      a name for this machine, if it is a virtual one: tests may\n"
		"                       change what its ports do\n"
		"  P2PDMA_SEED          repeat the run that named this seed\n"
		"  P2PDMA_TEST_CORRUPT  set to 1 to flip a bit after each transfer: every test that\n"
		"                       compares data must then fail\n"
		"  P2PDMA_TIMEOUT_SCALE  how much longer than usual tests may take\n"
		"  P2PDMA_LOAD          the same, for a machine that has other things to do\n"
		"\n"
		"Example:\n"
		"  P2PDMA_SCRATCH=/dev/nvme1n1 P2PDMA_EXPECT='*>*=bus-addr' %s\n"
		"\n",
		about, argv[0]);
	return true;
}

/**
 * p2p_discover - fill in &p2p, or end the program
 *
 * Without a provider there is nothing to test: SKIP, unless P2PDMA_EXPECT
 * says that there should be one.
 */
void p2p_discover(void)
{
	const char *seed = getenv("P2PDMA_SEED");
	const char *corrupt = getenv("P2PDMA_TEST_CORRUPT");
	char why[512];

	/* the header comes first, also when all is skipped; and only once */
	ksft_print_header();
	setenv("KSFT_TAP_LEVEL", "1", 0);

	if (seed)
		p2p.seed = strtoul(seed, NULL, 0);
	else if (getrandom(&p2p.seed, sizeof(p2p.seed), 0) < 0)
		ksft_exit_fail_perror("getrandom");
	p2p.seed &= 0xffff;
	p2p.corrupt = corrupt && strcmp(corrupt, "0");

	p2p_stuck = mmap(NULL, sizeof(*p2p_stuck), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p2p_stuck == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	find_providers();
	find_clients();

	if (!p2p.nr_providers) {
		if (p2p_missing(why, sizeof(why)))
			ksft_exit_fail_msg("expected and not there: %s\n",
					   why);
		ksft_exit_skip("no PCI device provides peer-to-peer memory\n");
	}
	if (geteuid())
		ksft_exit_skip("needs root, p2pmem/allocate has mode 0660\n");
}

/* For tests that transfer: without a namespace there is nothing to test. */
void p2p_require_clients(void)
{
	char why[512];

	if (p2p.nr_clients)
		return;
	if (p2p_missing(why, sizeof(why)))
		ksft_exit_fail_msg("expected and not there: %s\n",
				   why);
	ksft_exit_skip("no NVMe namespace on a PCI controller\n");
}

/* ---- the kernel's messages --------------------------------------------- */

/* Messages from now on: a descriptor, or -1. */
int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		kmsg_skip(fd);
	return fd;
}

void kmsg_skip(int fd)
{
	lseek(fd, 0, SEEK_END);
}

/*
 * The next message, without its properties; longer ones are cut off. False if
 * there is none yet.
 */
bool kmsg_next(int fd, char *text, size_t len)
{
	char record[8192], *start;
	ssize_t n;

	for (;;) {
		n = read(fd, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue;	/* overwritten: go on with the next */
		if (n < 0)
			return false;
		record[n] = '\0';
		/* level,sequence,time,flags;text, then lines of properties */
		start = strchr(record, ';');
		if (!start)
			continue;
		start++;
		snprintf(text, len, "%.*s", (int)strcspn(start, "\n"), start);
		return true;
	}
}

/* ---- the pool ---------------------------------------------------------- */

ssize_t p2p_pool_size(const struct p2p_provider *provider)
{
	return attr_number(provider->bdf, "p2pmem/size");
}

/*
 * What the library wants start and size of a range to be multiples of: 2 MiB, or
 * the memory whose struct pages, of 64 bytes, fill a page, if that is more.
 */
uint64_t p2p_range_align(void)
{
	const uint64_t page = sysconf(_SC_PAGESIZE), span = page / 64 * page;

	return span > 2 << 20 ? span : 2 << 20;
}

ssize_t p2p_available(const struct p2p_provider *provider)
{
	return attr_number(provider->bdf, "p2pmem/available");
}

/*
 * How long a pool may take to fill, times p2p_patience(): shorter than the
 * harness's limit for a test, so that it is the comparison that fails.
 */
#define SETTLE_S	15

ssize_t p2p_settled_at(const struct p2p_provider *provider, ssize_t expected)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	const double limit = SETTLE_S * p2p_patience();
	struct timespec start;
	ssize_t available;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		double waited = since(&start);

		available = p2p_available(provider);
		if (available == expected)
			return available;
		if (waited >= limit)
			break;
		nanosleep(&pause, NULL);
	}
	ksft_print_msg("%s: %zd bytes available, not %zd: waited %.0f s for bios to let go\n",
		       provider->bdf, available, expected, limit);
	return available;
}

ssize_t p2p_settled(const struct p2p_provider *provider)
{
	return p2p_settled_at(provider, provider->rest);
}

int p2p_open_pool(const struct p2p_provider *provider, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/p2pmem/allocate",
		 provider->bdf);
	return open(path, flags | O_CLOEXEC);
}

/* Allocate from the pool: the mapping, or MAP_FAILED with errno set. */
void *p2p_map(int fd, size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/*
 * The same in as many pieces as it takes, one behind the other, for a pool
 * whose memory is not in one.
 */
void *p2p_map_pieces(int fd, size_t len)
{
	size_t page = sysconf(_SC_PAGESIZE), at = 0, piece = len;
	char *map = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);

	while (map != MAP_FAILED && at < len) {
		if (piece > len - at)
			piece = len - at;
		if (mmap(map + at, piece, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED) {
			at += piece;
		} else if (errno == ENOMEM && piece > page) {
			piece = (piece / 2 + page - 1) / page * page;
		} else {
			int error = errno;

			munmap(map, len);
			errno = error;
			map = MAP_FAILED;
		}
	}
	return map;
}

/* ---- a known defect ---------------------------------------------------- */

/*
 * How many page faults a child may have that is expected never to return: some
 * twenty times what one has that does return, a moment for one that does not.
 */
#define FAULTS_MAX	2000

/*
 * The page faults that a process had, fields 10 and 12 of proc_pid_stat(5). Memory
 * must not be allocated for it: the child may hold the mmap_lock of its parent.
 */
static unsigned long faults_of(pid_t pid)
{
	unsigned long minor = 0, major = 0;
	const char *name_end = NULL;
	char line[512];

	if (attr_read(line, sizeof(line), "/proc/%d/stat", pid) > 0)
		name_end = strrchr(line, ')');
	if (name_end)
		sscanf(name_end, ") %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu",
		       &minor, &major);
	return minor + major;
}

/*
 * Wait for a child that may be caught in a loop in the kernel, which takes one
 * page fault after the other: the status that it ended with, or -1. It is the
 * faults that count, as what a time would say depends on the machine. A timer of
 * the child's own is no use: it expires on the way to user space.
 */
int p2p_wait_limited(pid_t pid)
{
	struct timespec since = {};
	int status;

	if (pid < 0)
		return -1;
	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		if (ended)
			return ended == pid ? status : -1;
		if (faults_of(pid) >= FAULTS_MAX)
			kill(pid, SIGKILL);
		if (!p2p_waits_on(&since)) {
			unsigned long faults = faults_of(pid);

			kill(pid, SIGKILL);
			ksft_print_msg("a child does not end, after %lu page faults\n",
				       faults);
			return -1;
		}
	}
}

/*
 * Write to memory that was made writable: with the defect, the process has to be
 * ended. A kernel without it does not want to be told of writes to
 * p2pmem/allocate, and then refuses some things for another reason.
 */
bool p2p_has_livelock(const struct p2p_provider *provider)
{
	size_t page = sysconf(_SC_PAGESIZE);
	int pool = p2p_open_pool(provider, O_RDWR), status;
	char *map;
	pid_t pid;

	if (pool < 0)
		ksft_exit_fail_msg("%s: p2pmem/allocate: %s\n", provider->bdf,
				   strerror(errno));
	pid = fork();
	if (!pid) {
		map = mmap(NULL, page, PROT_READ, MAP_SHARED, pool, 0);
		if (map == MAP_FAILED ||
		    mprotect(map, page, PROT_READ | PROT_WRITE))
			_exit(1);
		_exit(p2p_try_write(map, 1) ? 1 : 0);
	}
	status = p2p_wait_limited(pid);
	close(pool);
	if (status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		ksft_exit_fail_msg("probing for " P2P_LIVELOCK ": status %#x\n",
				   status);
	ksft_print_msg(P2P_LIVELOCK ": %s\n",
		       status ? "this kernel has it" : "fixed");
	return status;
}

/* ---- pattern ----------------------------------------------------------- */

/*
 * Each 64-bit word says where it belongs: the seed of the run, whose pattern
 * it is, and its position, put through a bijection (the finalizer of
 * splitmix64) so that every bit changes from word to word. A word found in
 * the wrong place is turned back into what it was, for the message.
 */
#define AT_BITS		44

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint64_t unmix(uint64_t z)
{
	z = (z ^ (z >> 31) ^ (z >> 62)) * 0x319642b2d24d8ec3ULL;
	z = (z ^ (z >> 27) ^ (z >> 54)) * 0x96de1b173f119089ULL;
	return z ^ (z >> 30) ^ (z >> 60);
}

static uint64_t plain_word(enum p2p_what what, uint64_t at)
{
	return (uint64_t)p2p.seed << 48 | (uint64_t)what << AT_BITS |
	       (at & ((1ULL << AT_BITS) - 1));
}

/* Tell what a word is that should have been another. */
static void explain(char *why, size_t len, enum p2p_what what, uint64_t at,
		    uint64_t base, uint64_t found)
{
	static const char * const names[] = {
		[P2P_DATA] = "the data",
		[P2P_PRESET] = "the preset content",
		[P2P_AROUND] = "the content around",
	};
	uint64_t word = unmix(found);
	unsigned int was = (word >> AT_BITS) & 0xf;
	uint64_t pos = word & ((1ULL << AT_BITS) - 1);
	char shift[64] = "";

	if (word >> 48 != p2p.seed || was < P2P_DATA || was > P2P_AROUND ||
	    pos % 8) {
		snprintf(why, len, "byte %lu: expected %s (%#lx), found %#lx",
			 at - base, names[what], mix(plain_word(what, at)),
			 found);
		return;
	}
	if (was == what)
		snprintf(shift, sizeof(shift), ", shifted by %ld bytes",
			 (int64_t)(at - pos));
	snprintf(why, len,
		 "byte %lu: expected %s for %#lx, found %s for %#lx%s",
		 at - base, names[what], at, names[was], pos, shift);
}

/*
 * Fill memory, which may be a device's, with the pattern of @what. The word
 * written last is read back, so that posted writes have arrived before a
 * device is told to fetch them.
 */
void p2p_fill(void *mem, size_t len, enum p2p_what what, uint64_t at)
{
	size_t i;

	for (i = 0; i < len; i += 8)
		writeq(mix(plain_word(what, at + i)), mem + i);
	if (len)
		readq(mem + len - 8);
}

/*
 * Compare memory, which may be a device's, with the pattern of @what: the
 * number of words that differ. The first of them is explained in @why.
 */
size_t p2p_check(const void *mem, size_t len, enum p2p_what what, uint64_t at,
		 char *why, size_t whylen)
{
	size_t i, bad = 0;

	for (i = 0; i < len; i += 8) {
		uint64_t found = readq(mem + i);

		if (found == mix(plain_word(what, at + i)))
			continue;
		if (!bad++)
			explain(why, whylen, what, at + i, at, found);
	}
	return bad;
}

/* Flip one bit of one byte. */
void p2p_flip(void *mem, size_t at)
{
	writeb(readb(mem + at) ^ 1, mem + at);
}

/* Copy out of device memory, a word at a time. */
void p2p_copy_out(void *ram, const void *mem, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 8)
		*(uint64_t *)(ram + i) = readq(mem + i);
}

/* ---- programs ---------------------------------------------------------- */

/* Run a program without its output: its exit status, or -1. */
int p2p_run(const char * const argv[])
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* ---- privileges -------------------------------------------------------- */

#define NOBODY	65534

static int give_up_root(void)
{
	return setgroups(0, NULL) ?: setresgid(NOBODY, NOBODY, NOBODY) ?:
	       setresuid(NOBODY, NOBODY, NOBODY);
}

static int give_up_capability(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -1;
	data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective &=
		~CAP_TO_MASK(CAP_SYS_ADMIN);
	return syscall(SYS_capset, &header, data);
}

int p2p_open_without(enum p2p_without what, const char *path)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		if ((what == P2P_ROOT && give_up_root()) ||
		    (what == P2P_CAP_SYS_ADMIN && give_up_capability()))
			abort();
		_exit(open(path, O_RDWR | O_CLOEXEC) < 0 ? errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* ---- arrays ------------------------------------------------------------ */

/* Whether the kernel knows RAID1, as a module or built in. */
bool p2p_has_raid1(void)
{
	char line[256] = "";
	FILE *f = fopen("/proc/mdstat", "re");

	/* the first line has the levels */
	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	return strstr(line, "[raid1]");
}

/*
 * An array that nothing on its members tells of: @nr of the @disks that it is
 * made for. Its path is returned in @path; -1 if it cannot be made.
 */
int p2p_make_array(int number, int level, int disks,
		   const char * const *devices, int nr, char *path, size_t len)
{
	mdu_array_info_t info = {
		.level = level,
		.nr_disks = nr,
		.raid_disks = disks,
		.not_persistent = 1,
		.state = 1 << MD_SB_CLEAN,
		.active_disks = nr,
		.working_disks = nr,
		.chunk_size = 65536,
	};
	struct stat st;
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "md%d", number);
	snprintf(path, len, "/dev/%s", name);
	if (access(path, F_OK) &&
	    p2p_sysfs_write("/sys/module/md_mod/parameters/new_array", name))
		return -1;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (ioctl(fd, SET_ARRAY_INFO, &info))
		goto failed;
	for (int i = 0; i < nr; i++) {
		mdu_disk_info_t disk = {
			.number = i,
			.raid_disk = i,
			.state = 1 << MD_DISK_ACTIVE | 1 << MD_DISK_SYNC,
		};

		if (stat(devices[i], &st))
			goto failed;
		disk.major = major(st.st_rdev);
		disk.minor = minor(st.st_rdev);
		if (ioctl(fd, ADD_NEW_DISK, &disk))
			goto failed;
	}
	if (ioctl(fd, RUN_ARRAY, NULL))
		goto failed;
	close(fd);
	return 0;
failed:
	close(fd);
	return -1;
}

/* As the system calls: 0, or -1. */
int p2p_stop_array(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct timespec since = {};
	int ret, saved;

	if (fd < 0)
		return -1;
	/* udev looks at each array that appears, and whoever looks keeps it busy */
	do {
		ret = ioctl(fd, STOP_ARRAY, NULL);
	} while (ret && errno == EBUSY && p2p_waits_on(&since));
	saved = errno;
	close(fd);
	errno = saved;
	return ret;
}

/* Why the driver must not be taken from a provider, or NULL. */
const char *p2p_why_not_unbind(const struct p2p_provider *provider)
{
	if (!strcmp(provider->driver, "p2pdma_provider"))
		return NULL;
	if (strcmp(provider->driver, "nvme"))
		return "bound to a driver that this test does not know";
	return p2p_why_not_take(provider->bdf);
}

/* ---- page tables ------------------------------------------------------- */

uint64_t p2p_frame_at(const void *addr)
{
	const long page = sysconf(_SC_PAGESIZE);
	uint64_t entry = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)addr / page * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	/* bit 63: present; bits 0 to 54: the frame */
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* ---- memory that may fault --------------------------------------------- */

static sigjmp_buf fault_env;

static void on_fault(int sig)
{
	siglongjmp(fault_env, sig);
}

static int try_access(void *mem, uint64_t *value, bool write)
{
	struct sigaction action = { .sa_handler = on_fault };
	struct sigaction old_bus, old_segv;
	int sig;

	sigaction(SIGBUS, &action, &old_bus);
	sigaction(SIGSEGV, &action, &old_segv);
	sig = sigsetjmp(fault_env, 1);
	if (!sig) {
		if (write)
			writeq(*value, mem);
		else
			*value = readq(mem);
	}
	sigaction(SIGBUS, &old_bus, NULL);
	sigaction(SIGSEGV, &old_segv, NULL);
	return sig;
}

int p2p_try_read(const void *mem, uint64_t *value)
{
	uint64_t ignored;

	return try_access((void *)mem, value ? value : &ignored, false);
}

int p2p_try_write(void *mem, uint64_t value)
{
	return try_access(mem, &value, true);
}
