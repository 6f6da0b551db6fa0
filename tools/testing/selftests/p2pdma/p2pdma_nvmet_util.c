// SPDX-License-Identifier: GPL-2.0
/*
 * What the selftests of the NVMe target share. See p2pdma_nvmet_util.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "kselftest.h"
#include "p2pdma_nvmet_util.h"

#define SUBSYSTEMS	NVMET_CONFIG "/subsystems"
#define PORTS		NVMET_CONFIG "/ports"

static char prefix[64];

/* ---- configfs ---------------------------------------------------------- */

static char *path_of(char *path, const char *fmt, ...) __printf(2, 3);

static char *path_of(char *path, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(path, PATH_MAX, fmt, args);
	va_end(args);
	if (n < 0 || n >= PATH_MAX)
		ksft_exit_fail_msg("path too long: %s\n", path);
	return path;
}

/* As what was done returned: 0, or the error. */
static int result(int ret)
{
	return ret < 0 ? -errno : 0;
}

/* A file without the white space at its end: its length, or an error. */
static int read_attr(const char *path, char *buf, size_t len)
{
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	while (n > 0 && isspace((unsigned char)buf[n - 1]))
		n--;
	buf[n] = '\0';
	return n;
}

int nvmet_subsys_add(const char *nqn)
{
	char path[PATH_MAX];
	int ret;

	ret = result(mkdir(path_of(path, SUBSYSTEMS "/%s", nqn), 0755));
	if (ret)
		return ret;
	return result(p2p_sysfs_write(path_of(path,
					      SUBSYSTEMS "/%s/attr_allow_any_host",
					      nqn), "1"));
}

int nvmet_subsys_remove(const char *nqn)
{
	char path[PATH_MAX];

	return result(rmdir(path_of(path, SUBSYSTEMS "/%s", nqn)));
}

int nvmet_ns_set(const char *nqn, unsigned int nsid, const char *attr,
		 const char *value)
{
	char path[PATH_MAX];

	path_of(path, SUBSYSTEMS "/%s/namespaces/%u/%s", nqn, nsid, attr);
	return result(p2p_sysfs_write(path, value));
}

int nvmet_ns_get(const char *nqn, unsigned int nsid, const char *attr,
		 char *buf, size_t len)
{
	char path[PATH_MAX];

	path_of(path, SUBSYSTEMS "/%s/namespaces/%u/%s", nqn, nsid, attr);
	return read_attr(path, buf, len);
}

int nvmet_ns_add(const char *nqn, unsigned int nsid, const char *device)
{
	char path[PATH_MAX];
	int ret;

	path_of(path, SUBSYSTEMS "/%s/namespaces/%u", nqn, nsid);
	ret = result(mkdir(path, 0755));
	if (ret)
		return ret;
	return nvmet_ns_set(nqn, nsid, "device_path", device);
}

/*
 * In the administrator's order: a namespace that goes while p2pmem names a device
 * keeps that (nvmet-p2p-dev-leak).
 */
int nvmet_ns_remove(const char *nqn, unsigned int nsid)
{
	return nvmet_ns_set(nqn, nsid, "enable", "0") ?:
	       nvmet_ns_set(nqn, nsid, "p2pmem", "0") ?:
	       nvmet_ns_rmdir(nqn, nsid);
}

/* Remove a namespace as it is. */
int nvmet_ns_rmdir(const char *nqn, unsigned int nsid)
{
	char path[PATH_MAX];

	path_of(path, SUBSYSTEMS "/%s/namespaces/%u", nqn, nsid);
	return result(rmdir(path));
}

int nvmet_port_set(unsigned int port, const char *attr, const char *value)
{
	char path[PATH_MAX];

	path_of(path, PORTS "/%u/%s", port, attr);
	return result(p2p_sysfs_write(path, value));
}

int nvmet_port_add(unsigned int port)
{
	char path[PATH_MAX];
	int ret;

	ret = result(mkdir(path_of(path, PORTS "/%u", port), 0755));
	if (ret)
		return ret;
	return nvmet_port_set(port, "addr_trtype", "loop");
}

int nvmet_port_remove(unsigned int port)
{
	char path[PATH_MAX];

	return result(rmdir(path_of(path, PORTS "/%u", port)));
}

int nvmet_link(unsigned int port, const char *nqn)
{
	char target[PATH_MAX], path[PATH_MAX];

	path_of(target, SUBSYSTEMS "/%s", nqn);
	path_of(path, PORTS "/%u/subsystems/%s", port, nqn);
	return result(symlink(target, path));
}

int nvmet_unlink(unsigned int port, const char *nqn)
{
	char path[PATH_MAX];

	return result(unlink(path_of(path, PORTS "/%u/subsystems/%s", port,
				     nqn)));
}

/* Call @fn for each entry of a directory, which it may remove. */
static int each_entry(const char *dir, int (*fn)(const char *name, void *arg),
		      void *arg)
{
	struct dirent **entry;
	int n, i, ret = 0;

	n = scandir(dir, &entry, NULL, alphasort);
	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	for (i = 0; i < n; i++) {
		if (entry[i]->d_name[0] != '.' && !ret)
			ret = fn(entry[i]->d_name, arg);
		free(entry[i]);
	}
	free(entry);
	return ret;
}

static bool is_ours(const char *nqn)
{
	return !strncmp(nqn, prefix, strlen(prefix));
}

static int clean_link(const char *nqn, void *arg)
{
	const char *port = arg;

	return is_ours(nqn) ? nvmet_unlink(atoi(port), nqn) : 0;
}

static int clean_port(const char *port, void *arg __maybe_unused)
{
	char path[PATH_MAX];
	int ret;

	ret = each_entry(path_of(path, PORTS "/%s/subsystems", port),
			 clean_link, (void *)port);
	if (ret || atoi(port) != NVMET_PORT)
		return ret;
	return nvmet_port_remove(atoi(port));
}

static int clean_ns(const char *nsid, void *nqn)
{
	return nvmet_ns_remove(nqn, atoi(nsid));
}

static int clean_subsys(const char *nqn, void *arg __maybe_unused)
{
	char path[PATH_MAX];
	int ret;

	if (!is_ours(nqn))
		return 0;
	ret = each_entry(path_of(path, SUBSYSTEMS "/%s/namespaces", nqn),
			 clean_ns, (void *)nqn);
	return ret ?: nvmet_subsys_remove(nqn);
}

/* Remove all that was configured, also by a run that was interrupted. */
int nvmet_cleanup(void)
{
	return each_entry(PORTS, clean_port, NULL) ?:
	       each_entry(SUBSYSTEMS, clean_subsys, NULL);
}

/**
 * nvmet_init - find the target, or end the program
 * @nqn_prefix: what the names of this program's subsystems start with
 */
void nvmet_init(const char *nqn_prefix)
{
	int ret;

	snprintf(prefix, sizeof(prefix), "%s", nqn_prefix);
	if (access("/sys/kernel/config/nvmet", F_OK) &&
	    mount("configfs", "/sys/kernel/config", "configfs", 0, NULL) &&
	    errno != EBUSY)
		ksft_exit_skip("configfs cannot be mounted: %s\n",
			       strerror(errno));
	if (access(NVMET_CONFIG, F_OK))
		ksft_exit_skip("no NVMe target: load nvmet\n");
	if (access("/sys/kernel/debug/pci", F_OK) &&
	    access("/sys/kernel/debug/bdi", F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);

	ret = nvmet_cleanup();
	if (ret)
		ksft_exit_fail_msg("cannot remove what an earlier run left in %s: %s\n",
				   NVMET_CONFIG, strerror(-ret));
}

/* For tests that connect: without the transport there is nothing to test. */
void nvmet_require_transport(void)
{
	if (!access(P2PDMA_NVMET_DEVICE, R_OK | W_OK))
		return;
	if (access(NVMET_MODULE, F_OK))
		ksft_exit_skip("no %s: load p2pdma_nvmet\n",
			       P2PDMA_NVMET_DEVICE);
	ksft_exit_fail_msg("%s: %s\n", P2PDMA_NVMET_DEVICE, strerror(errno));
}

/* ---- the kernel's messages --------------------------------------------- */

/*
 * True if there is a message, from where the last search ended on, that reads
 * exactly so. Otherwise @line has the messages that there were.
 */
bool kmsg_find(int fd, char *line, size_t len, const char *fmt, ...)
{
	char want[1024], text[8192];
	size_t used = 0;
	va_list args;
	int n;

	va_start(args, fmt);
	vsnprintf(want, sizeof(want), fmt, args);
	va_end(args);

	line[0] = '\0';
	while (kmsg_next(fd, text, sizeof(text))) {
		if (!strcmp(text, want))
			return true;
		n = snprintf(line + used, len - used, "%s'%s'",
			     used ? ", " : "", text);
		used += n > 0 && (size_t)n < len - used ? (size_t)n : 0;
	}
	return false;
}

/* ---- hosts ------------------------------------------------------------- */

uint64_t nvmet_function(const char *bdf)
{
	unsigned int domain, bus, device, function;

	if (sscanf(bdf, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		ksft_exit_fail_msg("no PCI address: %s\n", bdf);
	return (uint64_t)domain << 16 | bus << 8 | device << 3 | function;
}

void nvmet_function_name(uint64_t function, char *buf, size_t len)
{
	if (function == P2PDMA_NVMET_NO_FUNCTION)
		snprintf(buf, len, "none");
	else
		snprintf(buf, len, "%04x:%02x:%02x.%x",
			 (unsigned int)(function >> 16),
			 (unsigned int)(function >> 8) & 0xff,
			 (unsigned int)(function >> 3) & 0x1f,
			 (unsigned int)function & 7);
}

/*
 * Connect a host: 0, an error as a negative number, or the status with which
 * the target refused it.
 */
int nvmet_host_connect(struct nvmet_host *host, unsigned int port,
		       const char *nqn, const char *client,
		       unsigned int queues, unsigned int queue_size)
{
	struct p2pdma_nvmet_connect *c = &host->connect;
	int ret;

	memset(c, 0, sizeof(*c));
	c->port = port;
	c->queues = queues;
	c->queue_size = queue_size;
	c->client = client ? nvmet_function(client) : P2PDMA_NVMET_NO_FUNCTION;
	snprintf((char *)c->subsysnqn, sizeof(c->subsysnqn), "%s", nqn);
	snprintf((char *)c->hostnqn, sizeof(c->hostnqn),
		 "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001");

	host->fd = open(P2PDMA_NVMET_DEVICE, O_RDWR | O_CLOEXEC);
	if (host->fd < 0)
		return -errno;
	ret = result(ioctl(host->fd, P2PDMA_NVMET_CONNECT, c)) ?: c->status;
	if (ret)
		nvmet_host_close(host);
	return ret;
}

void nvmet_host_close(struct nvmet_host *host)
{
	if (host->fd >= 0)
		close(host->fd);
	host->fd = -1;
}

/* Send a command: 0, or an error; the completion is in @cmd. */
int nvmet_command(struct nvmet_host *host, struct p2pdma_nvmet_command *cmd)
{
	return result(ioctl(host->fd, P2PDMA_NVMET_COMMAND, cmd));
}

/* What p2p_fill() has for position 0, before it mixes the bits. */
uint64_t nvmet_pattern(enum p2p_what what)
{
	return (uint64_t)p2p.seed << 48 | (uint64_t)what << 44;
}

/*
 * Add up what a controller counted in debugfs, for one queue and one namespace,
 * or for all of them if negative: the number of lines, or an error.
 */
int nvmet_counters(const struct nvmet_host *host, int queue, int nsid,
		   struct nvmet_counters *sum)
{
	char path[PATH_MAX], line[256];
	struct nvmet_counters c;
	unsigned int qid, ns;
	int lines = 0;
	FILE *f;

	memset(sum, 0, sizeof(*sum));
	f = fopen(path_of(path, NVMET_DEBUG "/%u", host->connect.cntlid), "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%u %u %lu %lu %lu %lu %lu %lu %lu", &qid, &ns,
			   &c.p2p_commands, &c.p2p_bytes,
			   &c.fallback_commands, &c.fallback_bytes,
			   &c.ram_commands, &c.ram_bytes, &c.no_memory) != 9)
			continue;	/* the headline */
		if ((queue >= 0 && qid != (unsigned int)queue) ||
		    (nsid >= 0 && ns != (unsigned int)nsid))
			continue;
		sum->p2p_commands += c.p2p_commands;
		sum->p2p_bytes += c.p2p_bytes;
		sum->fallback_commands += c.fallback_commands;
		sum->fallback_bytes += c.fallback_bytes;
		sum->ram_commands += c.ram_commands;
		sum->ram_bytes += c.ram_bytes;
		sum->no_memory += c.no_memory;
		lines++;
	}
	fclose(f);
	return lines;
}
