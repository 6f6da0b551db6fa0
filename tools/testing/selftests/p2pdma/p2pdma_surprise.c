// SPDX-License-Identifier: GPL-2.0
/*
 * Surprise removal: devices that provide peer-to-peer memory, or transfer from
 * and to it, are gone from one moment to the next, and the kernel learns of it
 * afterwards. Nobody may wait for ever, nothing may be lost that belongs to
 * others, and whoever held memory of the device is told.
 *
 * A device is pulled out by switching the power of its slot off and on behind
 * the back of the kernel, in the Slot Control register of the port above. QEMU
 * then unplugs the device, and reports that no card is present any more. It does
 * not come back, so each test takes one of its own.
 */
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"
#include "p2pdma_slot.h"

#define DRIVER		"p2pdma_provider"
#define SYS_PCI		"/sys/bus/pci/devices"
#define PAGES		8
#define THREADS		3
#define TAG		(7ULL << P2PDMA_TEST_POSITION_BITS)

static ssize_t page;

/* ---- which devices ----------------------------------------------------- */

/*
 * Providers of a kind that are still there and may go: the number @nth of them,
 * or, if negative, counted from the last.
 */
static const struct p2p_provider *removable(const char *kind, int nth)
{
	const struct p2p_provider *found[P2P_MAX_PROVIDERS];
	int n = 0;

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		if (!strcmp(p->kind, kind) && exists(p->bdf) &&
		    may_go(p->bdf, p->kind, p->serial))
			found[n++] = p;
	}
	if (nth < 0)
		nth += n;
	return nth >= 0 && nth < n ? found[nth] : NULL;
}

static bool is_provider(const char *bdf)
{
	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		if (!strcmp(p2p.provider[i].bdf, bdf))
			return true;
	return false;
}

static bool reaches(const struct p2p_provider *p, const struct p2p_client *c)
{
	enum p2p_verdict verdict = p2p_expect(p, c).verdict;

	return verdict == P2P_BUS_ADDR || verdict == P2P_HOST_BRIDGE;
}

/* A namespace that is there, may go or has to stay, and reaches a provider. */
static const struct p2p_client *client(const struct p2p_provider *p, bool going)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *c = &p2p.client[i];

		if (exists(c->bdf) && reaches(p, c) && !is_provider(c->bdf) &&
		    may_go(c->bdf, "", c->serial) == going)
			return c;
	}
	return NULL;
}

/* Who says what there is has to have enough of it; others may lack some. */
static bool lacks(struct __test_metadata *_metadata, const char *what,
		  bool found)
{
	if (getenv("P2PDMA_TOPOLOGY")) {
		ASSERT_TRUE(found)
			TH_LOG("no %s", what);
	}
	if (!found)
		SKIP(return true, "no %s", what);
	return false;
}

#define PROVIDER	"provider in a slot that P2PDMA_SURPRISE names"
#define SURVIVOR	"provider that can stay"
#define CLIENT		"namespace that reaches the provider, in a slot that P2PDMA_SURPRISE names"
#define STAYING		"namespace that reaches the provider, and can stay"
#define CONTROLLER	"NVMe controller with memory, in a slot that P2PDMA_SURPRISE names"

/* ---- what users of the memory do --------------------------------------- */

/**
 * struct toucher - a process that reads a mapping until that is gone
 * @pid: the process
 * @shared: what it has seen: number of reads, and how many found nobody there
 */
struct toucher {
	pid_t pid;
	struct seen {
		uint64_t reads, nobody;
	} *shared;
};

/*
 * What reads give when nobody answers: all ones on a PC's bus, and zeroes from
 * QEMU's.
 */
static bool is_nobody(uint64_t value)
{
	return !value || !~value;
}

/* As long as it is there it holds what was written. */
static int touch_until_gone(const char *map, struct seen *seen)
{
	uint64_t first[PAGES], value;
	int sig = 0;

	for (int i = 0; i < PAGES; i++)
		if (p2p_try_read(map + i * page, &first[i]))
			return 1;
	for (long i = 0; ; i++) {
		sig = p2p_try_read(map + i % PAGES * page, &value);
		if (sig)
			return sig == SIGBUS ? 0 : 2;
		if (is_nobody(value))
			seen->nobody++;
		else if (value != first[i % PAGES] || seen->nobody)
			return 3;
		__atomic_add_fetch(&seen->reads, 1, __ATOMIC_RELEASE);
	}
}

static void touch_start(struct __test_metadata *_metadata, struct toucher *t,
			const char *map)
{
	t->shared = mmap(NULL, page, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)t->shared);
	t->pid = fork();
	ASSERT_LE(0, t->pid);
	if (!t->pid)
		_exit(touch_until_gone(map, t->shared));
	P2P_WAIT_FOR(__atomic_load_n(&t->shared->reads, __ATOMIC_ACQUIRE));
}

static void touch_end(struct __test_metadata *_metadata, struct toucher *t)
{
	int status;

	ASSERT_EQ(t->pid, waitpid(t->pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status))
		TH_LOG("1: no memory at first, 2: another signal than SIGBUS, 3: wrong data");
	ksft_print_msg("%lu reads, %lu of them of nobody, then SIGBUS\n",
		       t->shared->reads, t->shared->nobody);
}

/**
 * struct mover - a thread that moves data between a namespace and memory
 * @client: the namespace
 * @mem: the memory, PAGES long
 * @write: it writes to the namespace
 * @done: number of transfers; to be looked at while it runs
 * @failed: number of transfers that failed with EIO
 * @error: what the last one ended with
 */
struct mover {
	const struct p2p_client *client;
	char *mem;
	bool write;
	pthread_t id;
	int done, failed, error;
};

/*
 * Until there is another error than EIO, with which a transfer fails that was
 * under way, or until EIO is all there is. A namespace that is gone has the
 * size 0 first: reads find its end, and writes no space.
 */
static void *move_until_gone(void *arg)
{
	struct mover *m = arg;
	int fd = open(m->client->path, (m->write ? O_RDWR : O_RDONLY) |
				       O_DIRECT | O_CLOEXEC);
	const ssize_t len = PAGES * page;
	off_t pos = 0;
	ssize_t n = 0;

	m->error = fd < 0 ? errno : 0;
	while (fd >= 0 && m->failed < 100) {
		n = m->write ? pwrite(fd, m->mem, len, pos) :
			       pread(fd, m->mem, len, pos);
		/* a part, if pages went while they were pinned */
		if (n > 0) {
			__atomic_add_fetch(&m->done, 1, __ATOMIC_RELEASE);
			continue;
		}
		m->error = n < 0 ? errno : ENOSPC;
		if (m->error != EIO)
			break;
		m->failed++;
	}
	/* let nobody wait for more */
	__atomic_store_n(&m->done, INT_MAX, __ATOMIC_RELEASE);
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void movers_start(struct __test_metadata *_metadata, struct mover *m,
			 const struct p2p_client *c, int pool, bool write)
{
	for (int i = 0; i < THREADS; i++) {
		m[i] = (struct mover) {
			.client = c,
			.mem = p2p_map(pool, PAGES * page),
			.write = write && i,
		};
		ASSERT_NE(MAP_FAILED, (void *)m[i].mem)
			TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, pthread_create(&m[i].id, NULL, move_until_gone,
					    &m[i]));
	}
	for (int i = 0; i < THREADS; i++) {
		P2P_WAIT_FOR(__atomic_load_n(&m[i].done, __ATOMIC_ACQUIRE));
		ASSERT_NE(INT_MAX, m[i].done)
			TH_LOG("%s: %s", c->path, strerror(m[i].error));
	}
}

static void movers_join(struct __test_metadata *_metadata, struct mover *m)
{
	for (int i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(m[i].id, NULL));
		ksft_print_msg("%s: %d transfers failed with EIO, then: %s\n",
			       m[i].write ? "writing" : "reading",
			       m[i].failed, strerror(m[i].error));
		EXPECT_EQ(0, munmap(m[i].mem, PAGES * page));
	}
}

/* A namespace and a provider that were left alone still work together. */
static void expect_works(struct __test_metadata *_metadata,
			 const struct p2p_provider *p,
			 const struct p2p_client *c)
{
	int pool = p2p_open_pool(p, O_RDWR), fd;
	char why[256], *map, *ram;

	ASSERT_LE(0, pool);
	map = p2p_map(pool, page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	ram = mmap(NULL, page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)ram);
	fd = open(c->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);

	p2p_fill(ram, page, P2P_DATA, 0);
	EXPECT_RET(page, pwrite(fd, ram, page, 0));
	p2p_fill(map, page, P2P_PRESET, 0);
	EXPECT_RET(page, pread(fd, map, page, 0));
	if (p2p.corrupt)
		p2p_flip(map, page / 2);
	EXPECT_EQ(0UL, p2p_check(map, page, P2P_DATA, 0, why, sizeof(why)))
		TH_LOG("%s (P2PDMA_SEED=%#x)", why, p2p.seed);

	close(fd);
	EXPECT_EQ(0, munmap(ram, page));
	EXPECT_EQ(0, munmap(map, page));
	close(pool);
	EXPECT_EQ(p->rest, p2p_settled(p));
}

/* ---- what the kernel says ---------------------------------------------- */

FIXTURE(surprise) {
	int kmsg, dev;
};

FIXTURE_SETUP(surprise)
{
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(surprise)
{
	close(self->kmsg);
	close(self->dev);
}

/*
 * All that was said since the device was pulled out: the slot found it absent,
 * and the provider driver had this to say, if anything.
 */
static void log_of(struct __test_metadata *_metadata, int kmsg,
		   const char *bdf, char *lines, size_t len)
{
	char prefix[64], text[1024];
	bool surprised = false;
	size_t used = 0;

	lines[0] = '\0';
	snprintf(prefix, sizeof(prefix), DRIVER " %s: ", bdf);
	while (kmsg_next(kmsg, text, sizeof(text))) {
		if (strstr(text, "pciehp: Slot(") &&
		    strstr(text, "Card not present"))
			surprised = true;
		if (strncmp(text, prefix, strlen(prefix)) || used >= len)
			continue;
		used += snprintf(lines + used, len - used, "%s%s",
				 used ? "\n" : "", text + strlen(prefix));
	}
	EXPECT_TRUE(surprised)
		TH_LOG("the kernel does not say that a card is not present: it was no surprise");
}

static void expect_log(struct __test_metadata *_metadata, int kmsg,
		       const char *bdf, const char *expected)
{
	char lines[1024];

	log_of(_metadata, kmsg, bdf, lines, sizeof(lines));
	EXPECT_STREQ(expected, lines);
}

static const char *in_use(ssize_t size, size_t mapped)
{
	static char line[256];

	snprintf(line, sizeof(line),
		 "%zu of %zd bytes in use: mapped by user space %zu (pinned for I/O 0), allocated in the kernel 0",
		 mapped, size, mapped);
	return line;
}

/* An open file and a mapping of what is gone are of no use. */
static void expect_no_use(struct __test_metadata *_metadata, int pool,
			  char *map)
{
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(SIGBUS, p2p_try_read(map + i * page, NULL));
		EXPECT_EQ(SIGBUS, p2p_try_write(map + i * page, 0));
	}
	EXPECT_EQ(MAP_FAILED, p2p_map(pool, page));
	EXPECT_EQ(ENODEV, errno);
}

/* ---- a provider goes --------------------------------------------------- */

TEST_F_TIMEOUT(surprise, idle, 60)
{
	const struct p2p_provider *p = removable("testdev", 0);

	if (lacks(_metadata, PROVIDER, p))
		return;
	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	expect_log(_metadata, self->kmsg, p->bdf, "");
	EXPECT_ERRNO(ENOENT, p2p_open_pool(p, O_RDWR));
}

/* Nobody answers from the moment the device is gone; then there is SIGBUS. */
TEST_F_TIMEOUT(surprise, mapped, 60)
{
	const struct p2p_provider *p = removable("testdev", 0);
	struct toucher toucher;
	char *map;
	int pool;

	if (lacks(_metadata, PROVIDER, p))
		return;
	pool = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, pool);
	map = p2p_map(pool, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	p2p_fill(map, PAGES * page, P2P_DATA, 0);
	touch_start(_metadata, &toucher, map);

	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	touch_end(_metadata, &toucher);
	expect_log(_metadata, self->kmsg, p->bdf,
		   in_use(p->size, PAGES * page));
	expect_no_use(_metadata, pool, map);
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(pool);
}

/*
 * A controller that stays writes into memory that is not there any more. What
 * becomes of transfers under way is for the hardware to say; no other can be
 * started.
 */
TEST_F_TIMEOUT(surprise, io_in_flight, 120)
{
	const struct p2p_provider *p = removable("testdev", 0);
	const struct p2p_provider *survivor = removable("testdev", -1);
	const struct p2p_client *c = p ? client(p, false) : NULL;
	struct mover mover[THREADS];
	size_t total = 0, mapped = 0, pinned = 0;
	char lines[1024];
	int pool, found;

	if (lacks(_metadata, PROVIDER, p))
		return;
	if (lacks(_metadata, STAYING, c))
		return;
	if (lacks(_metadata, SURVIVOR, p != survivor))
		return;
	pool = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, pool);
	movers_start(_metadata, mover, c, pool, c->scratch);
	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	movers_join(_metadata, mover);
	for (int i = 0; i < THREADS; i++)
		EXPECT_EQ(EFAULT, mover[i].error);
	close(pool);

	/* how much was under way when the driver looked is not known */
	log_of(_metadata, self->kmsg, p->bdf, lines, sizeof(lines));
	found = sscanf(lines,
		       "%zu of %*u bytes in use: mapped by user space %zu (pinned for I/O %zu), allocated in the kernel 0",
		       &total, &mapped, &pinned);
	EXPECT_EQ(3, found)
		TH_LOG("%s", lines);
	EXPECT_EQ((size_t)(THREADS * PAGES * page), mapped);
	EXPECT_EQ(total, mapped);
	EXPECT_GE(mapped, pinned);
	EXPECT_EQ(0UL, pinned % page);
	expect_works(_metadata, survivor, c);
}

/*
 * The test module lets go of its pins before the provider's driver looks. It is
 * told of a removal as of an unbinding.
 */
TEST_F_TIMEOUT(surprise, pinned, 60)
{
	const struct p2p_provider *p = removable("testdev", 0);
	struct p2pdma_test_pin pin = {
		.flags = P2PDMA_TEST_PIN_WRITE | P2PDMA_TEST_PIN_P2PDMA |
			 P2PDMA_TEST_PIN_HOLD,
		.api = P2PDMA_TEST_PIN_FAST,
		.length = PAGES * page,
	};
	char *map;
	int pool;

	if (lacks(_metadata, PROVIDER, p))
		return;
	pool = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, pool);
	map = p2p_map(pool, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	pin.addr = h_pointer(map);
	ASSERT_EQ(0, h_pin(self->dev, &pin));
	ASSERT_EQ(PAGES, pin.ret);

	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	expect_log(_metadata, self->kmsg, p->bdf,
		   in_use(p->size, PAGES * page));
	expect_no_use(_metadata, pool, map);
	EXPECT_EQ(-ENOENT, h_drop(self->dev, pin.id));
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(pool);
}

/**
 * struct filler - a thread that writes to allocated memory through the kernel
 * @dev: the test module
 * @id: the memory
 * @done: how often; INT_MAX when it is over; to be looked at while it runs
 * @ret: what the last one ended with
 */
struct filler {
	int dev;
	uint32_t id;
	pthread_t thread;
	int done, ret;
};

static void *fill_until_gone(void *arg)
{
	struct filler *f = arg;

	do {
		struct p2pdma_test_pattern pattern = {
			.id = f->id, .length = PAGES * page, .tag = TAG,
		};

		f->ret = h_fill(f->dev, &pattern);
		if (!f->ret)
			__atomic_add_fetch(&f->done, 1, __ATOMIC_RELEASE);
	} while (!f->ret);
	/* let nobody wait for more */
	__atomic_store_n(&f->done, INT_MAX, __ATOMIC_RELEASE);
	return NULL;
}

/* Memory that the kernel allocated, and is writing to. */
TEST_F_TIMEOUT(surprise, allocated, 60)
{
	const struct p2p_provider *p = removable("testdev", 0);
	struct filler filler = { .dev = self->dev };
	struct p2pdma_test_pattern pattern = { .length = page, .tag = TAG };
	char lines[1024], waiting[256];
	int64_t idle, busy;

	if (lacks(_metadata, PROVIDER, p))
		return;
	idle = h_memory(self->dev, p->bdf, page, 3);
	ASSERT_LT(0, idle);
	busy = h_memory(self->dev, p->bdf, PAGES * page, 1);
	ASSERT_LT(0, busy);
	filler.id = busy;
	ASSERT_EQ(0, pthread_create(&filler.thread, NULL, fill_until_gone,
				    &filler));
	P2P_WAIT_FOR(__atomic_load_n(&filler.done, __ATOMIC_ACQUIRE));
	ASSERT_NE(INT_MAX, __atomic_load_n(&filler.done, __ATOMIC_ACQUIRE))
		TH_LOG("%s", strerror(-filler.ret));

	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	ASSERT_EQ(0, pthread_join(filler.thread, NULL));
	EXPECT_EQ(-ENOENT, filler.ret);

	/* a call that was under way is waited for */
	log_of(_metadata, self->kmsg, p->bdf, lines, sizeof(lines));
	snprintf(waiting, sizeof(waiting),
		 "%zu of %zd bytes in use: mapped by user space 0 (pinned for I/O 0), allocated in the kernel %zu",
		 PAGES * page, p->size, PAGES * page);
	if (*lines)
		EXPECT_STREQ(waiting, lines);
	pattern.id = idle;
	EXPECT_EQ(-ENOENT, h_check(self->dev, &pattern));
	EXPECT_EQ(-ENODEV, h_memory(self->dev, p->bdf, page, 1));
}

/* ---- a client goes ----------------------------------------------------- */

/* With it goes what it was transferring, and the memory is free again. */
TEST_F_TIMEOUT(surprise, client_in_flight, 120)
{
	const struct p2p_provider *p = removable("testdev", -1);
	const struct p2p_client *c = p ? client(p, true) : NULL;
	const struct p2p_client *other = p ? client(p, false) : NULL;
	struct mover mover[THREADS];
	int pool;

	if (lacks(_metadata, SURVIVOR, p))
		return;
	if (lacks(_metadata, CLIENT, c))
		return;
	if (lacks(_metadata, STAYING, other))
		return;
	pool = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, pool);
	movers_start(_metadata, mover, c, pool, c->scratch);
	kmsg_skip(self->kmsg);
	pull_out(_metadata, c->bdf);
	P2P_WAIT_FOR(!exists(c->bdf));
	movers_join(_metadata, mover);
	for (int i = 0; i < THREADS; i++)
		EXPECT_TRUE(mover[i].error == EIO || mover[i].error == ENOSPC);
	expect_log(_metadata, self->kmsg, c->bdf, "");
	close(pool);
	EXPECT_EQ(p->rest, p2p_settled(p))
		TH_LOG("memory is missing in the pool");
	EXPECT_ERRNO(ENOENT, access(c->path, F_OK));
	expect_works(_metadata, p, other);
}

/* Memory that is mapped for it: the mapping ends, and with it the memory. */
TEST_F_TIMEOUT(surprise, client_mapped, 60)
{
	const struct p2p_provider *p = removable("testdev", -1);
	const struct p2p_client *c = p ? client(p, true) : NULL;
	struct p2pdma_test_pattern pattern = { .length = page, .tag = TAG };
	struct p2pdma_test_map map = { .flags = P2PDMA_TEST_MAP_HOLD };
	int64_t id;

	if (lacks(_metadata, SURVIVOR, p))
		return;
	if (lacks(_metadata, CLIENT, c))
		return;
	id = h_memory(self->dev, p->bdf, page, 4);
	ASSERT_LT(0, id);
	map.id = id;
	map.client = h_function(c->bdf);
	ASSERT_EQ(0, h_map(self->dev, &map));
	ASSERT_EQ(0, map.ret);
	EXPECT_EQ(p->rest - 4 * page, p2p_available(p));

	pull_out(_metadata, c->bdf);
	P2P_WAIT_FOR(!exists(c->bdf));
	pattern.id = id;
	EXPECT_EQ(-ENODATA, h_check(self->dev, &pattern));
	EXPECT_EQ(p->rest, p2p_available(p));
	EXPECT_EQ(0, h_drop(self->dev, id));
}

/* ---- a controller with memory goes ------------------------------------- */

static bool is_bound(const char *bdf, const char *driver)
{
	char name[64];

	return !p2p_driver_link(bdf, name, sizeof(name)) &&
	       !strcmp(name, driver);
}

/*
 * No processor may be on its way to a controller's memory in the moment when it
 * goes: QEMU frees it and uses it after that, and may crash (qemu-cmb-unplug).
 * So there are no transfers of the controller itself either: its driver writes
 * commands to the memory.
 *
 * Under its own driver, in use by another.
 */
TEST_F_TIMEOUT(surprise, controller, 120)
{
	const struct p2p_provider *p = removable("cmb", 0);
	const struct p2p_provider *survivor = removable("testdev", -1);
	const struct p2p_client *other = p ? client(p, false) : NULL;
	struct mover to_other[THREADS];
	char *map;
	int pool;

	if (lacks(_metadata, CONTROLLER, p && is_bound(p->bdf, "nvme")))
		return;
	if (lacks(_metadata, STAYING, other))
		return;
	if (lacks(_metadata, SURVIVOR, survivor))
		return;

	pool = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, pool);
	map = p2p_map(pool, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	p2p_fill(map, PAGES * page, P2P_DATA, 0);
	movers_start(_metadata, to_other, other, pool, other->scratch);

	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	movers_join(_metadata, to_other);
	for (int i = 0; i < THREADS; i++)
		EXPECT_EQ(EFAULT, to_other[i].error);
	expect_log(_metadata, self->kmsg, p->bdf, "");
	expect_no_use(_metadata, pool, map);
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(pool);
	expect_works(_metadata, survivor, other);
}

/* Take a controller from the nvme driver. */
static void take(struct __test_metadata *_metadata, const char *bdf)
{
	if (is_bound(bdf, "nvme"))
		ASSERT_EQ(0, p2p_driver_write("nvme", "unbind", bdf));
	ASSERT_EQ(0, p2p_set_override(bdf, DRIVER));
}

/* What the first register of a controller, CAP, reads as. */
static bool read_cap(const char *bdf, uint64_t *cap)
{
	char path[PATH_MAX];
	uint32_t *registers;
	int fd;

	snprintf(path, sizeof(path), SYS_PCI "/%s/resource0", bdf);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		return false;
	registers = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (registers == MAP_FAILED)
		return false;
	*cap = readl(registers) | (uint64_t)readl(registers + 1) << 32;
	munmap(registers, page);
	return true;
}

/*
 * Nobody answers for the registers, as when the device went a moment ago: here
 * because the port above does not pass on what is sent to its memory.
 */
TEST_F_TIMEOUT(surprise, registers_gone, 60)
{
	const struct p2p_provider *p = removable("cmb", -1);
	char text[1024], prefix[128], said[1024] = "", enable[PATH_MAX];
	uint64_t before = 0, cap = 1;
	int port, ret, error;
	uint16_t command;

	if (lacks(_metadata, CONTROLLER, p))
		return;
	take(_metadata, p->bdf);
	if (is_bound(p->bdf, DRIVER))
		ASSERT_EQ(0, p2p_driver_write(DRIVER, "unbind", p->bdf));
	snprintf(enable, sizeof(enable), SYS_PCI "/%s/enable", p->bdf);
	ASSERT_EQ(0, p2p_sysfs_write(enable, "1"));
	ASSERT_TRUE(read_cap(p->bdf, &before))
		TH_LOG("%s: %s", p->bdf, strerror(errno));
	EXPECT_FALSE(is_nobody(before));
	port = port_open(p->bdf);
	ASSERT_LE(0, port);
	ASSERT_TRUE(port_read(port, PCI_COMMAND, &command));

	EXPECT_TRUE(port_write(port, PCI_COMMAND,
			       command & ~PCI_COMMAND_MEMORY));
	EXPECT_TRUE(read_cap(p->bdf, &cap));
	kmsg_skip(self->kmsg);
	ret = p2p_driver_write(DRIVER, "bind", p->bdf);
	error = errno;
	EXPECT_TRUE(port_write(port, PCI_COMMAND, command));
	close(port);

	EXPECT_EQ(-1, ret);
	EXPECT_TRUE(is_nobody(cap))
		TH_LOG("CAP reads as %#lx", cap);
	EXPECT_EQ(cap ? EIO : ENODEV, error)
		TH_LOG("%s", strerror(error));
	snprintf(prefix, sizeof(prefix), DRIVER " %s: cannot provide peer-to-peer memory: ",
		 p->bdf);
	while (kmsg_next(self->kmsg, text, sizeof(text)))
		if (!strncmp(text, prefix, strlen(prefix)))
			snprintf(said, sizeof(said), "%s",
				 text + strlen(prefix));
	EXPECT_STREQ(cap ? "the controller's registers read all ones" :
			   "the controller has no memory buffer (CMBSZ is 0)",
		     said);

	/* it is the port that was in the way */
	EXPECT_TRUE(read_cap(p->bdf, &cap));
	EXPECT_EQ(before, cap);
	EXPECT_RET(0, p2p_sysfs_write(enable, "0"));
	EXPECT_RET(0, p2p_driver_write(DRIVER, "bind", p->bdf));
	EXPECT_TRUE(p2p_is_provider(p->bdf));
}

/* Under the provider driver, which disables the memory when it is unbound. */
TEST_F_TIMEOUT(surprise, taken_over, 60)
{
	const struct p2p_provider *p = removable("cmb", -1);
	ssize_t size;
	char *map;
	int pool;

	if (lacks(_metadata, CONTROLLER, p))
		return;
	take(_metadata, p->bdf);
	if (!is_bound(p->bdf, DRIVER))
		ASSERT_EQ(0, p2p_driver_write(DRIVER, "bind", p->bdf));
	size = p2p_pool_size(p);
	pool = p2p_open_pool(p, O_RDWR);
	ASSERT_LE(0, pool);
	map = p2p_map(pool, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	p2p_fill(map, PAGES * page, P2P_DATA, 0);

	kmsg_skip(self->kmsg);
	pull_out(_metadata, p->bdf);
	P2P_WAIT_FOR(!exists(p->bdf));
	expect_log(_metadata, self->kmsg, p->bdf,
		   in_use(size, PAGES * page));
	expect_no_use(_metadata, pool, map);
	EXPECT_EQ(0, munmap(map, PAGES * page));
	close(pool);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Surprise removal of providers of peer-to-peer memory, and of clients\n"
		     "\n"
		     "  P2PDMA_SURPRISE      what may be pulled out, for good: serial numbers of NVMe\n"
		     "                       controllers, PCI addresses, or kinds of provider"))
		return test_harness_run(argc, argv);
	p2p_discover();
	p2p_require_clients();
	h_require();
	if (!getenv("P2PDMA_SURPRISE"))
		ksft_exit_skip("pulls devices out for good, allow it with P2PDMA_SURPRISE\n");
	return test_harness_run(argc, argv);
}
