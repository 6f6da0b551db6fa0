/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the P2PDMA selftests share: finding providers of peer-to-peer memory
 * and NVMe namespaces, what is expected of each pair of them, mappings of a
 * provider's pool, and a pattern that shows which byte landed where.
 *
 * A program includes kselftest_harness.h before this file if it wants the
 * macros at the end.
 */
#ifndef _SELFTESTS_P2PDMA_UTIL_H
#define _SELFTESTS_P2PDMA_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#define P2P_MAX_PROVIDERS	16
#define P2P_MAX_CLIENTS		32

/**
 * struct p2p_provider - a PCI function that offers peer-to-peer memory
 * @bdf: PCI address, as in sysfs
 * @kind: "testdev", "cmb", "ivshmem" or "pci"; the name used in P2PDMA_EXPECT
 * @driver: name of the driver that registered the memory
 * @override: driver_override of the device, which it loses when it is removed;
 *	empty if there is none
 * @serial: serial number where the provider is an NVMe controller, else empty
 * @size: size of the pool in bytes
 * @rest: what of it was available when the program started. A driver may keep
 *	some for itself: nvme has its submission queues in the CMB.
 * @ranges: number of ranges that the pool is made of; an allocation does not
 *	cross from one to the next
 */
struct p2p_provider {
	char bdf[16];
	char kind[16];
	char driver[64];
	char override[64];
	char serial[32];
	ssize_t size, rest;
	int ranges;
};

/**
 * struct p2p_client - an NVMe namespace, whose controller does the DMA
 * @name: disk name, as in /sys/block
 * @path: device node
 * @label: serial number and namespace, stable across boots; for test names
 * @serial: serial number of the controller, with "-vf0" and so on if that is a
 *	virtual function
 * @bdf: PCI address of the controller
 * @nsid: number of the namespace
 * @size: size of the namespace in bytes
 * @lba: logical block size in bytes
 * @scratch: P2PDMA_SCRATCH allows the content to be destroyed, and nobody uses it
 *
 * The name and the path are those of the last time that it was looked for, all
 * else is as it was at the start.
 */
struct p2p_client {
	char name[32];
	char path[64];
	char label[64];
	char serial[32];
	char bdf[16];
	unsigned int nsid;
	uint64_t size;
	size_t lba;
	bool scratch;
};

enum p2p_verdict {
	P2P_UNKNOWN,		/* nothing was said about this pair */
	P2P_BUS_ADDR,
	P2P_HOST_BRIDGE,
	P2P_NOT_SUPPORTED,
};

/**
 * struct p2p_expect - what P2PDMA_EXPECT says about a pair
 * @verdict: the mapping type that the kernel should choose
 * @defect: a known defect that makes the data wrong, or an empty string
 */
struct p2p_expect {
	enum p2p_verdict verdict;
	char defect[64];
};

/**
 * struct p2p_world - all that was found on this machine
 * @provider: the providers, @nr_providers of them
 * @client: the namespaces, @nr_clients of them
 * @seed: drawn anew for every run, or taken from P2PDMA_SEED
 * @corrupt: P2PDMA_TEST_CORRUPT is set: flip a byte after each transfer
 */
struct p2p_world {
	struct p2p_provider provider[P2P_MAX_PROVIDERS];
	struct p2p_client client[P2P_MAX_CLIENTS];
	unsigned int nr_providers;
	unsigned int nr_clients;
	uint32_t seed;
	bool corrupt;
};

extern struct p2p_world p2p;

bool p2p_help(int argc, char **argv, const char *about);
void p2p_discover(void);
void p2p_require_clients(void);
unsigned int p2p_missing(char *why, size_t len);
struct p2p_expect p2p_expect(const struct p2p_provider *provider,
			     const struct p2p_client *client);
const char *p2p_verdict_name(enum p2p_verdict verdict);

/* P2PDMA_TIMEOUT_SCALE: how much slower than usual this machine or kernel is. */
double p2p_timeout_scale(void);

/*
 * The same, times P2PDMA_LOAD: how much longer than usual something may take by
 * the clock, as there are others on this machine.
 */
double p2p_patience(void);

bool p2p_waits_on(struct timespec *since);

/**
 * P2P_WAIT_FOR() - wait until something is so, or have the test fail
 * @condition: what, looked at a thousand times a second
 *
 * For 20 seconds times p2p_patience(), which is shorter than the limit of any
 * test: so it is the condition that is named, and not the test that hangs.
 */
#define P2P_WAIT_FOR(condition) do {					\
	struct timespec __since = {};					\
									\
	while (!(condition)) {						\
		ASSERT_TRUE(p2p_waits_on(&__since))			\
			TH_LOG("waited in vain for: %s", #condition);	\
	}								\
} while (0)

/* sysfs */
bool p2p_has_iommu(const char *bdf);
int p2p_sysfs_write(const char *path, const char *value);
int p2p_limited(const char *what, int (*call)(void *data), void *data);
int p2p_sysfs_write_limited(const char *path, const char *value);
int p2p_driver_write(const char *driver, const char *file, const char *bdf);
int p2p_bind(const struct p2p_provider *provider);
int p2p_unbind(const struct p2p_provider *provider);
const char *p2p_why_not_unbind(const struct p2p_provider *provider);
int p2p_set_override(const char *bdf, const char *driver);

/* What a process gives up before it opens a file. */
enum p2p_without {
	P2P_NOTHING,
	P2P_ROOT,
	P2P_CAP_SYS_ADMIN,	/* but it is still root */
};

/*
 * open() for reading and writing in a process that gave up something: 0, the
 * errno, or -1 if it could not be tried.
 */
int p2p_open_without(enum p2p_without what, const char *path);
int p2p_driver_link(const char *bdf, char *buf, size_t len);
bool p2p_is_provider(const char *bdf);
ssize_t p2p_attr(const char *bdf, const char *attr, char *buf, size_t len);
int64_t p2p_attr_number(const char *bdf, const char *attr);
int p2p_find_again(const struct p2p_provider *provider);
bool p2p_find_client(struct p2p_client *client);
bool p2p_find_clients(const char *bdf);
const char *p2p_why_not_take(const char *bdf);

/* Arrays of disks, without a superblock. */
bool p2p_has_raid1(void);
int p2p_make_array(int number, int level, int disks,
		   const char * const *devices, int nr, char *path, size_t len);
int p2p_stop_array(const char *path);

/* Run a program, by its path, without its output: its exit status, or -1. */
int p2p_run(const char * const argv[]);

/* The kernel's messages, from the call of kmsg_open() or kmsg_skip() on. */
int kmsg_open(void);
void kmsg_skip(int fd);
bool kmsg_next(int fd, char *text, size_t len);

/* the pool */
int p2p_open_pool(const struct p2p_provider *provider, int flags);
void *p2p_map(int fd, size_t len);
void *p2p_map_pieces(int fd, size_t len);

/* a write through a clean PTE that was made writable never returns */
#define P2P_LIVELOCK	"kernfs-mkwrite-livelock"
int p2p_wait_limited(pid_t pid);
bool p2p_has_livelock(const struct p2p_provider *provider);
ssize_t p2p_pool_size(const struct p2p_provider *provider);
uint64_t p2p_range_align(void);
ssize_t p2p_available(const struct p2p_provider *provider);

/*
 * What is available, after direct I/O to or from memory of the pool: a bio tells
 * that it is complete before it releases its pages, where the I/O is
 * asynchronous or takes several bios. What was there when the program started,
 * or @expected, is waited for; if it does not come to that, it is what it is,
 * and the output says so. Without direct I/O nothing is late, and
 * p2p_available() is the stricter test.
 */
ssize_t p2p_settled(const struct p2p_provider *provider);
ssize_t p2p_settled_at(const struct p2p_provider *provider, ssize_t expected);

/**
 * enum p2p_what - whose pattern a word of memory carries
 *
 * Each use has a pattern of its own, so that data left over from another
 * step of the test is never taken for the data expected.
 */
enum p2p_what {
	P2P_DATA = 1,		/* what the transfer moves */
	P2P_PRESET,		/* what the destination held before */
	P2P_AROUND,		/* what lies on both sides of the destination */
};

/*
 * @at is the position that the pattern encodes, in bytes: that of the first
 * byte of @mem on the medium or in the mapping. All are multiples of 8.
 */
void p2p_fill(void *mem, size_t len, enum p2p_what what, uint64_t at);
size_t p2p_check(const void *mem, size_t len, enum p2p_what what, uint64_t at,
		 char *why, size_t whylen);
void p2p_flip(void *mem, size_t at);
void p2p_copy_out(void *ram, const void *mem, size_t len);

/*
 * The frame that is mapped at an address, or 0 if there is none, or if the
 * process has no CAP_SYS_ADMIN.
 */
uint64_t p2p_frame_at(const void *addr);

/* Touch memory that may fault: 0, or the signal that the access raised. */
int p2p_try_read(const void *mem, uint64_t *value);
int p2p_try_write(void *mem, uint64_t value);

#ifdef __KSELFTEST_HARNESS_H

/*
 * Providers and namespaces are known at run time only, so the variants of a
 * fixture are registered by main() instead of by FIXTURE_VARIANT_ADD().
 */
#define P2P_VARIANT_ADD(_fixture, _data, ...) do {			\
	struct __fixture_variant_metadata *__v = calloc(1, sizeof(*__v)); \
	typeof(FIXTURE_VARIANT(_fixture)) *__data = malloc(sizeof(*__data)); \
	char *__name;							\
									\
	if (!__v || !__data || asprintf(&__name, __VA_ARGS__) < 0)	\
		ksft_exit_fail_msg("out of memory\n");			\
	*__data = (_data);						\
	__v->name = __name;						\
	__v->data = __data;						\
	__register_fixture_variant(&_##_fixture##_fixture_object, __v);	\
} while (0)

/*
 * The harness ends each test at a limit of its own, 30 seconds if the test
 * does not say otherwise. They are scaled here; the time limit in settings is
 * up to the runner.
 */
static void __attribute__((constructor(KSELFTEST_PRIO_XFAIL + 1)))
p2p_scale_timeouts(void)
{
	double scale = p2p_patience();
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next) {
		for (t = f->tests; t; t = t->next) {
			double limit = t->timeout * scale;

			/* it is passed to poll(), in milliseconds */
			t->timeout = limit < 1 ? 1 : limit > 86400 ? 86400 : limit;
		}
	}
}

/* Report what is wrong because of a defect that is known by name. */
#define P2P_XFAIL(_fmt, ...) do {					\
	if (_metadata->exit_code == KSFT_PASS) {			\
		snprintf(_metadata->results->reason,			\
			 sizeof(_metadata->results->reason),		\
			 _fmt, ##__VA_ARGS__);				\
		_metadata->exit_code = KSFT_XFAIL;			\
	}								\
} while (0)

/* Report that a defect known by name did not show itself. */
#define P2P_XPASS(_fmt, ...) do {					\
	if (_metadata->exit_code == KSFT_PASS) {			\
		snprintf(_metadata->results->reason,			\
			 sizeof(_metadata->results->reason),		\
			 _fmt, ##__VA_ARGS__);				\
		_metadata->exit_code = KSFT_XPASS;			\
	}								\
} while (0)

/* As EXPECT_EQ() for the result of a system call, naming the error if any. */
#define EXPECT_RET(_expected, _call) do {				\
	long __want = (_expected);					\
	long __got = (long)(_call);					\
	int __errno = errno;						\
									\
	EXPECT_EQ(__want, __got) {					\
		TH_LOG("%s: %s", #_call,				\
		       __got == -1 ? strerror(__errno) : "no error");	\
	}								\
} while (0)

/* The system call must fail, with this very error. */
#define EXPECT_ERRNO(_expected, _call) do {				\
	long __got = (long)(_call);					\
	int __errno = __got == -1 ? errno : 0;				\
	int __want = (_expected);					\
									\
	EXPECT_EQ(__want, __errno) {					\
		TH_LOG("%s: expected '%s', got '%s' (returned %ld)",	\
		       #_call, strerror(__want), strerror(__errno),	\
		       __got);						\
	}								\
} while (0)

#endif /* __KSELFTEST_HARNESS_H */

#endif /* _SELFTESTS_P2PDMA_UTIL_H */
