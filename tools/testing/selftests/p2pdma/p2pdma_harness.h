/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The p2pdma_test module, from the side of a test program: one function per
 * command. Each fills in the size, and returns 0 or a negative errno.
 *
 * To be included after kselftest_harness.h and p2pdma_util.h.
 */
#ifndef _SELFTESTS_P2PDMA_HARNESS_H
#define _SELFTESTS_P2PDMA_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "p2pdma_test_uapi.h"

#define H_COMMAND(_name, _NAME)						\
static inline int h_##_name(int dev, struct p2pdma_test_##_name *args)	\
{									\
	args->size = sizeof(*args);					\
	return ioctl(dev, P2PDMA_TEST_IOC_##_NAME, args) ? -errno : 0;	\
}

H_COMMAND(pin, PIN)
H_COMMAND(extract, EXTRACT)
H_COMMAND(peek, PEEK)
H_COMMAND(release, RELEASE)
H_COMMAND(alloc, ALLOC)
H_COMMAND(map, MAP)
H_COMMAND(bio, BIO)
H_COMMAND(pool, POOL)
H_COMMAND(distance, DISTANCE)
H_COMMAND(find, FIND)
H_COMMAND(enable, ENABLE)

static inline int h_fill(int dev, struct p2pdma_test_pattern *args)
{
	args->size = sizeof(*args);
	return ioctl(dev, P2PDMA_TEST_IOC_FILL, args) ? -errno : 0;
}

static inline int h_check(int dev, struct p2pdma_test_pattern *args)
{
	args->size = sizeof(*args);
	return ioctl(dev, P2PDMA_TEST_IOC_CHECK, args) ? -errno : 0;
}

static inline int h_drop(int dev, uint32_t id)
{
	struct p2pdma_test_release args = { .id = id };

	return h_release(dev, &args);
}

static inline uint64_t h_pointer(const void *p)
{
	return (uintptr_t)p;
}

/* The address of a PCI function, as the commands have it. */
static inline uint64_t h_function(const char *bdf)
{
	unsigned int domain, bus, device, function;

	if (sscanf(bdf, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		ksft_exit_fail_msg("no PCI address: %s\n", bdf);
	return (uint64_t)domain << 16 | bus << 8 | device << 3 | function;
}

/* Memory of a provider: its id, or a negative errno. */
static inline int64_t h_memory(int dev, const char *bdf, size_t length,
			       unsigned int entries)
{
	struct p2pdma_test_alloc args = {
		.provider = h_function(bdf),
		.length = length,
		.nr_entries = entries,
	};
	int ret = h_alloc(dev, &args);

	return ret ? ret : (int64_t)args.id;
}

/* How long each of @entries is: whole pages, but one alone is as it was asked for. */
static inline size_t h_entry_length(size_t length, unsigned int entries)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return entries > 1 ? (length + page - 1) / page * page : length;
}

/*
 * Without the module there is nothing to test; but who names a topology has
 * seen to it that the module is there.
 */
static inline void h_require_device(const char *path, const char *module)
{
	int dev = open(path, O_RDWR | O_CLOEXEC);

	if (dev < 0 && getenv("P2PDMA_TOPOLOGY"))
		ksft_exit_fail_msg("%s: %s\n", path, strerror(errno));
	if (dev < 0)
		ksft_exit_skip("%s: %s: load the module %s\n", path,
			       strerror(errno), module);
	close(dev);
}

static inline int h_open(void)
{
	return open(P2PDMA_TEST_DEVICE, O_RDWR | O_CLOEXEC);
}

static inline void h_require(void)
{
	h_require_device(P2PDMA_TEST_DEVICE, "p2pdma_test");
}

/* In a child that is to be killed: tell that it has all, if so, and wait. */
static inline void h_ready(int fd, bool has_all)
{
	if (!has_all || write(fd, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

#endif /* _SELFTESTS_P2PDMA_HARNESS_H */
