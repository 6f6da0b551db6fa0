// SPDX-License-Identifier: GPL-2.0
/*
 * Peer-to-peer memory of a provider, mapped, as the buffer of what programs
 * do: direct I/O to a disk, to file systems on it, and to an array, by each
 * way there is to ask for it, which works; what the kernel refuses, with the
 * error that it should give; and what copies with the CPU, which works again.
 *
 * The content of the namespaces in P2PDMA_SCRATCH is lost: they are divided
 * into partitions, without a table, and file systems and arrays are made
 * there.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/blkpg.h>
#include <linux/dm-ioctl.h>
#include <linux/futex.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/nvme_ioctl.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define KB(_n)		((size_t)(_n) << 10)
#define MB(_n)		((size_t)(_n) << 20)

#define LENGTH		KB(128)	/* a chunk of 64 KiB for each of two disks */

static size_t page;

/* ---- ways to ask for I/O ----------------------------------------------- */

/* Each: the number of bytes, or a negative errno. */

static ssize_t by_call(int fd, char *buf, size_t len, off_t at, bool write)
{
	ssize_t ret = write ? pwrite(fd, buf, len, at) :
			      pread(fd, buf, len, at);

	return ret < 0 ? -errno : ret;
}

static ssize_t by_vector(int fd, char *buf, size_t len, off_t at, bool write)
{
	struct iovec iov[4];
	ssize_t ret;

	for (int i = 0; i < 4; i++) {
		iov[i].iov_base = buf + i * (len / 4);
		iov[i].iov_len = len / 4;
	}
	ret = write ? pwritev2(fd, iov, 4, at, RWF_DSYNC) :
		      preadv2(fd, iov, 4, at, 0);
	return ret < 0 ? -errno : ret;
}

static ssize_t by_aio(int fd, char *buf, size_t len, off_t at, bool write)
{
	struct iocb cb = {
		.aio_fildes = fd,
		.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_buf = (uintptr_t)buf,
		.aio_nbytes = len,
		.aio_offset = at,
	}, *cbs = &cb;
	struct io_event event = { 0 };
	aio_context_t context = 0;
	ssize_t ret;

	if (syscall(SYS_io_setup, 1, &context))
		return -errno;
	if (syscall(SYS_io_submit, context, 1, &cbs) != 1)
		ret = -errno;
	else if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
		ret = -errno;
	else
		ret = event.res;
	syscall(SYS_io_destroy, context);
	return ret;
}

/**
 * struct ring - an io_uring for one request at a time
 * @fd: its descriptor
 * @map: queues, @len bytes
 * @params: as the kernel filled them in
 * @sqe: the entries
 */
struct ring {
	int fd;
	char *map;
	size_t len;
	struct io_uring_params params;
	struct io_uring_sqe *sqe;
};

static int ring_open(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = syscall(SYS_io_uring_setup, 1, &r->params);
	if (r->fd < 0)
		return -errno;
	r->len = r->params.cq_off.cqes +
		 r->params.cq_entries * sizeof(struct io_uring_cqe);
	if (r->len < r->params.sq_off.array + r->params.sq_entries * 4)
		r->len = r->params.sq_off.array + r->params.sq_entries * 4;
	r->map = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		      IORING_OFF_SQ_RING);
	r->sqe = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		      IORING_OFF_SQES);
	return r->map == MAP_FAILED || (void *)r->sqe == MAP_FAILED ? -ENOMEM :
	       0;
}

static void ring_close(struct ring *r)
{
	munmap(r->map, r->len);
	munmap(r->sqe, page);
	close(r->fd);
}

static uint32_t *ring_at(struct ring *r, uint32_t offset)
{
	return (uint32_t *)(r->map + offset);
}

static int ring_run(struct ring *r, const struct io_uring_sqe *sqe)
{
	uint32_t head = *ring_at(r, r->params.cq_off.head);
	struct io_uring_cqe *cqe;
	int ret;

	r->sqe[0] = *sqe;
	*ring_at(r, r->params.sq_off.array) = 0;
	__atomic_add_fetch(ring_at(r, r->params.sq_off.tail), 1,
			   __ATOMIC_RELEASE);
	ret = syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS,
		      NULL, 0);
	if (ret != 1)
		return ret < 0 ? -errno : -EIO;

	cqe = (void *)(r->map + r->params.cq_off.cqes);
	ret = cqe[head & *ring_at(r, r->params.cq_off.ring_mask)].res;
	__atomic_add_fetch(ring_at(r, r->params.cq_off.head), 1,
			   __ATOMIC_RELEASE);
	return ret;
}

static ssize_t by_uring(int fd, char *buf, size_t len, off_t at, bool write)
{
	struct io_uring_sqe sqe = {
		.opcode = write ? IORING_OP_WRITE : IORING_OP_READ,
		.fd = fd,
		.off = at,
		.addr = (uintptr_t)buf,
		.len = len,
	};
	struct ring ring;
	int ret;

	ret = ring_open(&ring);
	if (ret)
		return ret;
	ret = ring_run(&ring, &sqe);
	ring_close(&ring);
	return ret;
}

static const struct way {
	const char *name;
	ssize_t (*run)(int fd, char *buf, size_t len, off_t at, bool write);
} ways[] = {
	{ "read_write", by_call },
	{ "preadv2_pwritev2", by_vector },
	{ "aio", by_aio },
	{ "io_uring", by_uring },
};

/* ---- what I/O is done to ----------------------------------------------- */

enum kind { DISK, EXT4, XFS, RAID1, MIRROR, RAID0, LOOP, DM, NULL_BLK,
	    NR_KINDS };

static const char * const kind_names[] = {
	[DISK] = "disk",
	[EXT4] = "ext4",
	[XFS] = "xfs",
	[RAID1] = "raid1",
	[MIRROR] = "mirror",
	[RAID0] = "raid0",
	[LOOP] = "loop",
	[DM] = "dm",
	[NULL_BLK] = "null_blk",
};

/* Queues without BLK_FEAT_PCI_P2PDMA. */
static bool refuses(enum kind kind)
{
	return kind == LOOP || kind == DM || kind == NULL_BLK;
}

/**
 * struct target - a file or device for I/O
 * @kind: what it is
 * @client: the namespaces that carry it, @clients of them
 * @path: where it is
 * @mounted: where the file system is mounted, or an empty string
 */
static struct target {
	enum kind kind;
	const struct p2p_client *client[2];
	int clients;
	char path[128];
	char mounted[96];
} targets[P2P_MAX_CLIENTS * 4 + 8];

static unsigned int nr_targets;

/* Partitions of a scratch namespace, in MiB; their numbers start at 1. */
static const struct {
	unsigned int start, length;
} partitions[] = {
	{ 1, 4 }, { 5, 16 }, { 21, 32 }, { 53, 2 }, { 55, 2 }, { 57, 2 },
	{ 59, 2 },
};

enum { P_DISK = 1, P_EXT4, P_XFS, P_RAID1, P_MIRROR, P_RAID0,
	P_DM };

static void partition_path(const struct p2p_client *c, int number, char *path,
			   size_t len)
{
	snprintf(path, len, "/dev/%sp%d", c->name, number);
}

static int partition(const struct p2p_client *c, int number, int op)
{
	struct blkpg_partition part = {
		.start = (long long)partitions[number - 1].start << 20,
		.length = (long long)partitions[number - 1].length << 20,
		.pno = number,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};
	int fd = open(c->path, O_RDWR | O_CLOEXEC), ret;

	ret = fd < 0 ? -1 : ioctl(fd, BLKPG, &arg);
	if (fd >= 0)
		close(fd);
	return ret;
}

/*
 * Until this program ends, nobody else is to look at the disk. udev does when one
 * is closed that could be written to, and the partitions that it finds no table
 * of are gone. It keeps its hands off disks that are locked.
 */
static void lock_disk(const struct p2p_client *c)
{
	int fd = open(c->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX))
		ksft_exit_fail_msg("%s: cannot be locked: %s\n", c->path,
				   strerror(errno));
}

/*
 * What cannot be made is left out, with the reason; where the environment has
 * seen to it that all is there, it is a failure.
 */
static void __printf(1, 2) left_out(const char *fmt, ...)
{
	char why[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	if (getenv("P2PDMA_TOPOLOGY"))
		ksft_exit_fail_msg("%s\n", why);
	ksft_print_msg("left out: %s\n", why);
}

static struct target *add_target(enum kind kind, const struct p2p_client *c,
				 const char *path)
{
	struct target *t = &targets[nr_targets++];

	t->kind = kind;
	t->client[0] = c;
	t->clients = c ? 1 : 0;
	snprintf(t->path, sizeof(t->path), "%s", path);
	return t;
}

static bool fill_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && !fallocate(fd, 0, 0, MB(1)) && !fsync(fd);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void make_file_system(enum kind kind, const struct p2p_client *c,
			     int number)
{
	char device[64], where[96], path[128], name[16];
	static const char * const places[] = { "/sbin", "/usr/sbin", "/bin" };
	const char *extra = kind == XFS ? "--unsupported" : "-F";
	char mkfs[64];
	int ret = 127;

	partition_path(c, number, device, sizeof(device));
	snprintf(name, sizeof(name), "%s", kind_names[kind]);
	for (size_t i = 0; ret == 127 && i < ARRAY_SIZE(places); i++) {
		const char * const argv[] = { mkfs, "-q", extra, device, NULL };

		snprintf(mkfs, sizeof(mkfs), "%s/mkfs.%s", places[i], name);
		ret = p2p_run(argv);
	}
	if (ret) {
		left_out("mkfs.%s %s: %s", name, device,
			 ret == 127 ? "no such program" : "it failed");
		return;
	}
	snprintf(where, sizeof(where), "/tmp/p2pdma.%s.%s", name, c->name);
	if ((mkdir("/tmp", 0700) && errno != EEXIST) ||
	    (mkdir(where, 0700) && errno != EEXIST) ||
	    mount(device, where, name, 0, NULL)) {
		left_out("mount %s as %s: %s", device, name, strerror(errno));
		return;
	}
	snprintf(path, sizeof(path), "%s/file", where);
	if (!fill_file(path)) {
		left_out("%s: %s", path, strerror(errno));
		umount(where);
		return;
	}
	strcpy(add_target(kind, c, path)->mounted, where);
}

static void add_array(enum kind kind, int number, int level, int disks,
		      const struct p2p_client *const *members, int nr,
		      int part)
{
	char devices[2][64];
	const char *names[2];
	struct target *t;
	char path[32];

	for (int i = 0; i < nr; i++) {
		partition_path(members[i], part, devices[i],
			       sizeof(devices[i]));
		names[i] = devices[i];
	}
	if (p2p_make_array(number, level, disks, names, nr, path,
			   sizeof(path))) {
		left_out("%s: %s", kind_names[kind], strerror(errno));
		return;
	}
	t = add_target(kind, members[0], path);
	t->client[1] = nr > 1 ? members[1] : NULL;
	t->clients = nr;
}

static void add_loop(void)
{
	int control, number, loop, file;
	char path[32];

	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	loop = open(path, O_RDWR | O_CLOEXEC);
	file = memfd_create("loop", MFD_CLOEXEC);
	if (number < 0 || loop < 0 || ftruncate(file, MB(2)) ||
	    ioctl(loop, LOOP_SET_FD, file)) {
		left_out("%s: %s", path, strerror(errno));
		return;
	}
	add_target(LOOP, NULL, path);
	close(file);
	close(loop);
	close(control);
}

/* A linear mapping of a partition, which has all that it takes. */
static void add_dm(const struct p2p_client *c)
{
	struct {
		struct dm_ioctl head;
		struct dm_target_spec spec;
		char args[64];
	} io;
	unsigned long requests[] = { DM_DEV_CREATE, DM_TABLE_LOAD,
				     DM_DEV_SUSPEND };
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	char path[32];
	int ret = fd < 0 ? -1 : 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(requests); i++) {
		char device[48];

		memset(&io, 0, sizeof(io));
		io.head.version[0] = DM_VERSION_MAJOR;
		io.head.data_size = sizeof(io);
		snprintf(io.head.name, sizeof(io.head.name), "p2pdma");
		if (requests[i] == DM_TABLE_LOAD) {
			partition_path(c, P_DM, device, sizeof(device));
			io.head.target_count = 1;
			io.head.data_start = offsetof(typeof(io), spec);
			io.spec.length = MB(2) >> 9;
			strcpy(io.spec.target_type, "linear");
			snprintf(io.args, sizeof(io.args), "%s 0", device);
		}
		ret = ioctl(fd, requests[i], &io);
	}
	if (ret) {
		left_out("device mapper: %s", strerror(errno));
		return;
	}
	snprintf(path, sizeof(path), "/dev/dm-%u", minor(io.head.dev));
	add_target(DM, NULL, path);
	close(fd);
}

static void remove_dm(void)
{
	struct dm_ioctl io = {
		.version = { DM_VERSION_MAJOR },
		.data_size = sizeof(io),
		.name = "p2pdma",
	};
	int ret, fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	struct timespec since = {};

	/* as an array, it is looked at by others */
	do {
		ret = ioctl(fd, DM_DEV_REMOVE, &io);
	} while (ret && errno == EBUSY && p2p_waits_on(&since));
	if (ret)
		ksft_print_msg("device mapper: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static pid_t maker;

/* All of it goes again, in the process that made it. */
static void remove_targets(void)
{
	int fd;

	if (getpid() != maker)
		return;
	while (nr_targets--) {
		struct target *t = &targets[nr_targets];

		if (t->mounted[0] && umount(t->mounted))
			ksft_print_msg("umount %s: %s\n", t->mounted,
				       strerror(errno));
		if (t->kind == DM)
			remove_dm();
		if (t->kind != RAID1 && t->kind != MIRROR && t->kind != RAID0 &&
		    t->kind != LOOP)
			continue;
		if (t->kind != LOOP) {
			if (p2p_stop_array(t->path))
				ksft_print_msg("%s: %s\n", t->path,
					       strerror(errno));
			continue;
		}
		fd = open(t->path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, LOOP_CLR_FD, NULL))
			ksft_print_msg("%s: %s\n", t->path, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		for (size_t n = 1; n <= ARRAY_SIZE(partitions); n++)
			if (p2p.client[i].scratch)
				partition(&p2p.client[i], n,
					  BLKPG_DEL_PARTITION);
}

static void make_targets(void)
{
	const struct p2p_client *scratch[P2P_MAX_CLIENTS];
	int nr = 0;

	maker = getpid();
	atexit(remove_targets);
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *c = &p2p.client[i];
		char path[64];

		if (!c->scratch)
			continue;
		if (c->size < MB(62))
			ksft_exit_fail_msg("%s: needs 62 MiB\n", c->path);
		lock_disk(c);
		for (size_t n = 1; n <= ARRAY_SIZE(partitions); n++)
			if (partition(c, n, BLKPG_ADD_PARTITION))
				ksft_exit_fail_msg("%s: partition %zu: %s\n",
						   c->path, n,
						   strerror(errno));
		partition_path(c, P_DISK, path, sizeof(path));
		add_target(DISK, c, path);
		make_file_system(EXT4, c, P_EXT4);
		make_file_system(XFS, c, P_XFS);
		add_array(RAID1, 100 + nr, 1, 2, &c, 1, P_RAID1);
		scratch[nr++] = c;
	}
	if (!nr)
		ksft_exit_skip("overwrites namespaces: set P2PDMA_SCRATCH, see --help\n");
	if (nr > 1) {
		add_array(MIRROR, 120, 1, 2, scratch, 2, P_MIRROR);
		add_array(RAID0, 121, 0, 2, scratch, 2, P_RAID0);
	}
	add_dm(scratch[0]);
	add_loop();
	if (access("/dev/nullb0", F_OK))
		left_out("/dev/nullb0: load the module null_blk");
	else
		add_target(NULL_BLK, NULL, "/dev/nullb0");
}

/* ---- direct I/O -------------------------------------------------------- */

FIXTURE(direct) {
	int pool, fd;
	char *map, *ram;
	struct p2p_expect expect;
};

FIXTURE_VARIANT(direct) {
	const struct p2p_provider *provider;
	const struct target *target;
	const struct way *way;
};

FIXTURE_SETUP(direct)
{
	const struct target *t = variant->target;

	self->expect.verdict = P2P_BUS_ADDR;
	for (int i = 0; i < t->clients; i++) {
		struct p2p_expect e = p2p_expect(variant->provider,
						 t->client[i]);

		/* one member out of reach is enough */
		if (!i || e.verdict == P2P_NOT_SUPPORTED ||
		    (e.defect[0] && !self->expect.defect[0]))
			self->expect = e;
	}
	ASSERT_EQ(variant->provider->rest, p2p_settled(variant->provider));
	self->fd = open(t->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, self->fd)
		TH_LOG("%s: %s", t->path, strerror(errno));
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->map = p2p_map(self->pool, LENGTH);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	self->ram = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->ram);
}

FIXTURE_TEARDOWN(direct)
{
	close(self->fd);
	munmap(self->map, LENGTH);
	munmap(self->ram, LENGTH);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_settled(variant->provider));
}

static bool holds(struct __test_metadata *_metadata, const char *what,
		  char *mem, enum p2p_what pattern)
{
	char why[256];
	size_t bad;

	if (p2p.corrupt)
		p2p_flip(mem, LENGTH / 2);
	bad = p2p_check(mem, LENGTH, pattern, 0, why, sizeof(why));
	if (bad)
		TH_LOG("%s: %zu words are wrong: %s", what, bad, why);
	return !bad;
}

static void put_plain(struct __test_metadata *_metadata, int fd, char *ram,
		      enum p2p_what what)
{
	p2p_fill(ram, LENGTH, what, 0);
	ASSERT_EQ((ssize_t)LENGTH, pwrite(fd, ram, LENGTH, 0));
}

/* An array that can lose a member by what is a mistake of the caller. */
static bool is_raid1(enum kind kind)
{
	return kind == RAID1 || kind == MIRROR;
}

/* Right, or wrong because of the defect that this pair is known for. */
static void verdict(struct __test_metadata *_metadata,
		    const struct p2p_expect *expect, bool right)
{
	if (!expect->defect[0]) {
		EXPECT_TRUE(right);
		return;
	}
	if (right)
		P2P_XPASS("data are right in spite of %s", expect->defect);
	else
		P2P_XFAIL("%s: data are wrong", expect->defect);
}

/* One of the disks of a mirror may be without the defect of the other. */
static void verdict_of_mirror(struct __test_metadata *_metadata,
			      const struct p2p_expect *expect, bool right)
{
	if (!right)
		verdict(_metadata, expect, right);
}

/*
 * How many bytes the I/O moved, which is all or none; what is expected of a
 * pair that is out of reach, or a queue that cannot, is the error.
 */
static bool moved(struct __test_metadata *_metadata,
		  const struct target *target, const struct p2p_expect *expect,
		  ssize_t ret)
{
	ssize_t want = LENGTH;

	if (refuses(target->kind))
		want = -EREMOTEIO;
	else if (expect->verdict == P2P_NOT_SUPPORTED ||
		 (expect->verdict == P2P_UNKNOWN && ret < 0))
		want = -EINVAL;
	EXPECT_EQ(want, ret) {
		TH_LOG("%s", ret < 0 ? strerror(-ret) : "no error");
	}
	return ret == (ssize_t)LENGTH;
}

TEST_F(direct, write)
{
	const struct target *t = variant->target;
	bool data = t->kind != NULL_BLK;
	ssize_t ret;

	put_plain(_metadata, self->fd, self->ram, P2P_AROUND);
	p2p_fill(self->map, LENGTH, P2P_DATA, 0);
	ret = variant->way->run(self->fd, self->map, LENGTH, 0, true);

	/*
	 * raid1_end_write_request() takes BLK_STS_INVAL for success: the
	 * caller is told that all was written.
	 */
	if (is_raid1(t->kind) && ret == (ssize_t)LENGTH &&
	    self->expect.verdict == P2P_NOT_SUPPORTED) {
		EXPECT_EQ(ret, pread(self->fd, self->ram, LENGTH, 0));
		/* a mirror may have it on the disk that is in reach */
		if (t->kind == RAID1)
			EXPECT_TRUE(holds(_metadata, "medium", self->ram,
					  P2P_AROUND));
		P2P_XFAIL("md-raid1-inval: a write that was not done succeeds");
		return;
	}
	if (is_raid1(t->kind) && ret == -EINVAL &&
	    self->expect.verdict == P2P_NOT_SUPPORTED)
		P2P_XPASS("md-raid1-inval did not show itself");
	if (!moved(_metadata, t, &self->expect, ret)) {
		if (!data)
			return;
		EXPECT_EQ((ssize_t)LENGTH, pread(self->fd, self->ram, LENGTH,
						 0));
		/* of several disks, some may be in reach */
		if (t->clients < 2)
			EXPECT_TRUE(holds(_metadata, "medium", self->ram,
					  P2P_AROUND));
		return;
	}
	memset(self->ram, 0, LENGTH);
	EXPECT_EQ((ssize_t)LENGTH, pread(self->fd, self->ram, LENGTH, 0));
	if (t->kind == MIRROR)
		verdict_of_mirror(_metadata, &self->expect,
				  holds(_metadata, "medium", self->ram,
					P2P_DATA));
	else
		verdict(_metadata, &self->expect,
			holds(_metadata, "medium", self->ram, P2P_DATA));
}

TEST_F(direct, read)
{
	const struct target *t = variant->target;
	ssize_t ret;

	put_plain(_metadata, self->fd, self->ram, P2P_DATA);
	p2p_fill(self->map, LENGTH, P2P_PRESET, 0);
	ret = variant->way->run(self->fd, self->map, LENGTH, 0, false);

	/* call_bio_endio() makes BLK_STS_IOERR of BLK_STS_INVAL */
	if (is_raid1(t->kind) && ret == -EIO &&
	    self->expect.verdict == P2P_NOT_SUPPORTED) {
		P2P_XFAIL("md-raid1-inval: EIO for EINVAL");
		return;
	}
	/* the read goes to one of the disks, maybe one that is in reach */
	if (t->kind == MIRROR && ret == (ssize_t)LENGTH) {
		verdict_of_mirror(_metadata, &self->expect,
				  holds(_metadata, "mapping", self->map,
					P2P_DATA));
		return;
	}
	if (is_raid1(t->kind) && ret == -EINVAL &&
	    self->expect.verdict == P2P_NOT_SUPPORTED)
		P2P_XPASS("md-raid1-inval did not show itself");
	if (!moved(_metadata, t, &self->expect, ret)) {
		if (t->clients < 2)
			EXPECT_TRUE(holds(_metadata, "mapping", self->map,
					  P2P_PRESET));
		return;
	}
	verdict(_metadata, &self->expect,
		holds(_metadata, "mapping", self->map, P2P_DATA));
}

/* ---- buffered I/O ------------------------------------------------------ */

/*
 * The page cache is in between: the processor copies, with what user memory is
 * copied with, and no device sees peer-to-peer memory. It works for all pairs.
 */
FIXTURE(buffered) {
	int pool, fd, direct;
	char *map, *ram;
};

FIXTURE_VARIANT(buffered) {
	const struct p2p_provider *provider;
	const struct target *target;
};

FIXTURE_SETUP(buffered)
{
	ASSERT_EQ(variant->provider->rest, p2p_settled(variant->provider));
	self->fd = open(variant->target->path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd)
		TH_LOG("%s: %s", variant->target->path, strerror(errno));
	self->direct = open(variant->target->path,
			    O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, self->direct);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->map = p2p_map(self->pool, LENGTH);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	self->ram = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->ram);
}

FIXTURE_TEARDOWN(buffered)
{
	close(self->direct);
	close(self->fd);
	munmap(self->map, LENGTH);
	munmap(self->ram, LENGTH);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_settled(variant->provider));
}

TEST_F(buffered, write)
{
	put_plain(_metadata, self->direct, self->ram, P2P_AROUND);
	p2p_fill(self->map, LENGTH, P2P_DATA, 0);
	EXPECT_RET((long)LENGTH, pwrite(self->fd, self->map, LENGTH, 0));
	EXPECT_RET(0, fsync(self->fd));
	EXPECT_RET((long)LENGTH, pread(self->direct, self->ram, LENGTH, 0));
	EXPECT_TRUE(holds(_metadata, "medium", self->ram, P2P_DATA));
}

TEST_F(buffered, read)
{
	put_plain(_metadata, self->direct, self->ram, P2P_DATA);
	/* once from the medium, and once from the page cache */
	for (int i = 0; i < 2; i++) {
		p2p_fill(self->map, LENGTH, P2P_PRESET, 0);
		EXPECT_RET((long)LENGTH, pread(self->fd, self->map, LENGTH, 0));
		EXPECT_TRUE(holds(_metadata, "mapping", self->map, P2P_DATA));
	}
}

/* ---- what is refused, and what copies ---------------------------------- */

FIXTURE(user) {
	int pool;
	char *map, *ram;
};

FIXTURE_VARIANT(user) {
	const struct p2p_provider *provider;
};

FIXTURE_SETUP(user)
{
	ASSERT_EQ(variant->provider->rest, p2p_settled(variant->provider));
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->map = p2p_map(self->pool, LENGTH);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	self->ram = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->ram);
	p2p_fill(self->map, LENGTH, P2P_DATA, 0);
}

FIXTURE_TEARDOWN(user)
{
	munmap(self->map, LENGTH);
	munmap(self->ram, LENGTH);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_settled(variant->provider));
}

/*
 * What FOLL_LONGTERM with FOLL_WRITE is refused with: kernfs wants to be told of
 * writes, see writable_file_mapping_allowed(); without that, because it is
 * peer-to-peer memory.
 */
static int longterm_error;

/* Fixed buffers are pinned for as long as the ring likes: FOLL_LONGTERM. */
TEST_F(user, io_uring_fixed_buffer)
{
	struct iovec iov = { self->map, LENGTH };
	struct ring ring;

	ASSERT_EQ(0, ring_open(&ring));
	EXPECT_ERRNO(longterm_error,
		     syscall(SYS_io_uring_register, ring.fd,
			     IORING_REGISTER_BUFFERS, &iov, 1));
	iov.iov_base = self->ram;
	EXPECT_RET(0, syscall(SYS_io_uring_register, ring.fd,
			      IORING_REGISTER_BUFFERS, &iov, 1));
	ring_close(&ring);
}

/* A page in a pipe stays as long as nobody reads it. */
TEST_F(user, vmsplice)
{
	struct iovec iov = { self->map, page };
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	EXPECT_ERRNO(EREMOTEIO, vmsplice(ends[1], &iov, 1, 0));
	EXPECT_ERRNO(EREMOTEIO, vmsplice(ends[1], &iov, 1, SPLICE_F_GIFT));
	iov.iov_base = self->ram;
	EXPECT_RET((long)page, vmsplice(ends[1], &iov, 1, 0));
	close(ends[0]);
	close(ends[1]);
}

/* As what is copied to or from; as the caller's own memory it is fine. */
TEST_F(user, process_vm)
{
	struct iovec p2p_mem = { self->map, LENGTH };
	struct iovec ordinary = { self->ram, LENGTH };

	EXPECT_ERRNO(EFAULT, process_vm_readv(getpid(), &ordinary, 1, &p2p_mem,
					      1, 0));
	EXPECT_ERRNO(EFAULT, process_vm_writev(getpid(), &ordinary, 1, &p2p_mem,
					       1, 0));
	EXPECT_TRUE(holds(_metadata, "mapping", self->map, P2P_DATA));

	p2p_fill(self->ram, LENGTH, P2P_PRESET, 0);
	EXPECT_RET((long)LENGTH, process_vm_readv(getpid(), &p2p_mem, 1,
						  &ordinary, 1, 0));
	EXPECT_TRUE(holds(_metadata, "mapping", self->map, P2P_PRESET));
}

/* Two connected sockets over the loopback interface, in a network alone. */
static void connected(struct __test_metadata *_metadata, int ends[2])
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(at);
	struct ifreq up = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int server;

	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	server = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_LE(0, server);
	ASSERT_EQ(0, ioctl(server, SIOCSIFFLAGS, &up));
	ASSERT_EQ(0, bind(server, (struct sockaddr *)&at, len));
	ASSERT_EQ(0, getsockname(server, (struct sockaddr *)&at, &len));
	ASSERT_EQ(0, listen(server, 1));
	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_EQ(0, connect(ends[0], (struct sockaddr *)&at, len));
	ends[1] = accept(server, NULL, NULL);
	ASSERT_LE(0, ends[1]);
	close(server);
}

TEST_F(user, msg_zerocopy)
{
	int ends[2], one = 1;

	connected(_metadata, ends);
	ASSERT_EQ(0, setsockopt(ends[0], SOL_SOCKET, SO_ZEROCOPY, &one,
				sizeof(one)));
	EXPECT_ERRNO(EFAULT, send(ends[0], self->map, page, MSG_ZEROCOPY));
	EXPECT_RET((long)page, send(ends[0], self->ram, page, MSG_ZEROCOPY));
	close(ends[0]);
	close(ends[1]);
}

TEST_F(user, socket)
{
	int ends[2];

	connected(_metadata, ends);
	EXPECT_RET((long)page, send(ends[0], self->map, page, 0));
	EXPECT_RET((long)page, recv(ends[1], self->map + page, page,
				    MSG_WAITALL));
	p2p_copy_out(self->ram, self->map, 2 * page);
	EXPECT_EQ(0, memcmp(self->ram, self->ram + page, page));
	close(ends[0]);
	close(ends[1]);
}

/* Receive and fill rings of AF_XDP: memory that is registered for good. */
TEST_F(user, xdp_umem)
{
	struct xdp_umem_reg reg = {
		.addr = (uintptr_t)self->map,
		.len = LENGTH,
		.chunk_size = page,
	};
	int fd = socket(AF_XDP, SOCK_RAW, 0);

	if (fd < 0)
		SKIP(return, "no AF_XDP: %s", strerror(errno));
	EXPECT_ERRNO(longterm_error, setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg,
						sizeof(reg)));
	reg.addr = (uintptr_t)self->ram;
	EXPECT_RET(0, setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg,
				 sizeof(reg)));
	close(fd);
}

/* The key of a futex that processes share is the page. */
TEST_F(user, shared_futex)
{
	EXPECT_ERRNO(EREMOTEIO, syscall(SYS_futex, self->map, FUTEX_WAKE, 1,
					NULL, NULL, 0));
	EXPECT_RET(0, syscall(SYS_futex, self->map, FUTEX_WAKE_PRIVATE, 1,
			      NULL, NULL, 0));
}

/* Buffered I/O to a file that is nowhere but in memory. */
TEST_F(user, buffered)
{
	int file = memfd_create("p2pdma", MFD_CLOEXEC);

	ASSERT_LE(0, file);
	EXPECT_RET((long)LENGTH, pwrite(file, self->map, LENGTH, 0));
	EXPECT_RET((long)LENGTH, pread(file, self->ram, LENGTH, 0));
	EXPECT_TRUE(holds(_metadata, "file", self->ram, P2P_DATA));

	p2p_fill(self->ram, LENGTH, P2P_PRESET, 0);
	EXPECT_RET((long)LENGTH, pwrite(file, self->ram, LENGTH, 0));
	EXPECT_RET((long)LENGTH, pread(file, self->map, LENGTH, 0));
	EXPECT_TRUE(holds(_metadata, "mapping", self->map, P2P_PRESET));
	close(file);
}

TEST_F(user, pipe)
{
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	EXPECT_RET((long)page, write(ends[1], self->map, page));
	EXPECT_RET((long)page, read(ends[0], self->map + page, page));
	p2p_copy_out(self->ram, self->map, 2 * page);
	EXPECT_EQ(0, memcmp(self->ram, self->ram + page, page));
	close(ends[0]);
	close(ends[1]);
}

/* ---- commands past the block layer ------------------------------------- */

FIXTURE(passthrough) {
	int pool, fd;
	char *map, *ram;
};

FIXTURE_VARIANT(passthrough) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(passthrough)
{
	self->fd = open(variant->client->path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	self->map = p2p_map(self->pool, page);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	self->ram = mmap(NULL, page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->ram);
}

FIXTURE_TEARDOWN(passthrough)
{
	close(self->fd);
	munmap(self->map, page);
	munmap(self->ram, page);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_settled(variant->provider));
}

enum { OP_WRITE = 1, OP_READ = 2 };

static void command(struct nvme_passthru_cmd *cmd, int opcode, int nsid,
		    void *buf, size_t lba)
{
	*cmd = (struct nvme_passthru_cmd){
		.opcode = opcode,
		.nsid = nsid,
		.addr = (uintptr_t)buf,
		.data_len = page,
		.cdw12 = page / lba - 1,
	};
}

/*
 * A command to a namespace is mapped by bio_iov_iter_get_pages(), as direct
 * I/O is, which asks the queue of the disk.
 */
TEST_F(passthrough, read)
{
	struct p2p_expect expect = p2p_expect(variant->provider,
					      variant->client);
	int nsid = ioctl(self->fd, NVME_IOCTL_ID), ret;
	struct nvme_passthru_cmd cmd;
	bool right = true;

	ASSERT_LT(0, nsid);
	command(&cmd, OP_READ, nsid, self->ram, variant->client->lba);
	EXPECT_RET(0, ioctl(self->fd, NVME_IOCTL_IO_CMD, &cmd));

	p2p_fill(self->map, page, P2P_PRESET, 0);
	command(&cmd, OP_READ, nsid, self->map, variant->client->lba);
	ret = ioctl(self->fd, NVME_IOCTL_IO_CMD, &cmd) ? -errno : 0;
	if (expect.verdict == P2P_NOT_SUPPORTED ||
	    (expect.verdict == P2P_UNKNOWN && ret)) {
		EXPECT_EQ(-EINVAL, ret);
		return;
	}
	EXPECT_EQ(0, ret);
	if (p2p.corrupt)
		p2p_flip(self->map, 0);
	for (size_t at = 0; at < page; at += 8) {
		uint64_t word;

		EXPECT_EQ(0, p2p_try_read(self->map + at, &word));
		right &= word == *(uint64_t *)(self->ram + at);
	}
	verdict(_metadata, &expect, right);
}

/* The same from peer-to-peer memory to the disk. */
TEST_F(passthrough, write)
{
	struct p2p_expect expect = p2p_expect(variant->provider,
					      variant->client);
	size_t lba = variant->client->lba;
	int nsid = ioctl(self->fd, NVME_IOCTL_ID), ret;
	struct nvme_passthru_cmd cmd;
	char why[256];
	size_t bad;

	if (!variant->client->scratch)
		SKIP(return, "writes to the medium, allow it with P2PDMA_SCRATCH=%s",
		     variant->client->path);
	ASSERT_LT(0, nsid);
	p2p_fill(self->ram, page, P2P_AROUND, 0);
	command(&cmd, OP_WRITE, nsid, self->ram, lba);
	ASSERT_EQ(0, ioctl(self->fd, NVME_IOCTL_IO_CMD, &cmd));

	p2p_fill(self->map, page, P2P_DATA, 0);
	command(&cmd, OP_WRITE, nsid, self->map, lba);
	ret = ioctl(self->fd, NVME_IOCTL_IO_CMD, &cmd) ? -errno : 0;
	EXPECT_EQ(expect.verdict == P2P_NOT_SUPPORTED ||
		  (expect.verdict == P2P_UNKNOWN && ret) ? -EINVAL : 0, ret);

	memset(self->ram, 0, page);
	command(&cmd, OP_READ, nsid, self->ram, lba);
	ASSERT_EQ(0, ioctl(self->fd, NVME_IOCTL_IO_CMD, &cmd));
	if (p2p.corrupt)
		p2p_flip(self->ram, 0);
	bad = p2p_check(self->ram, page, ret ? P2P_AROUND : P2P_DATA, 0, why,
			sizeof(why));
	if (bad)
		TH_LOG("%zu words are wrong: %s", bad, why);
	if (!ret)
		verdict(_metadata, &expect, !bad);
	EXPECT_TRUE(!ret || !bad);
}

/*
 * The admin queue belongs to no disk, so nobody says that it can; EREMOTEIO
 * then means something else to blk_rq_map_user_iov().
 */
TEST_F(passthrough, identify)
{
	struct nvme_passthru_cmd cmd = {
		.opcode = 6,	/* Identify */
		.data_len = page,
		.cdw10 = 1,	/* the controller */
		.addr = (uintptr_t)self->map,
	};

	if (page != 4096)
		SKIP(return, "the data structure has 4096 bytes");
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, NVME_IOCTL_ADMIN_CMD, &cmd));
	cmd.addr = (uintptr_t)self->ram;
	EXPECT_RET(0, ioctl(self->fd, NVME_IOCTL_ADMIN_CMD, &cmd));
}

static void add_target_variants(const struct p2p_provider *p,
				const struct target *t)
{
	FIXTURE_VARIANT(buffered) b = { p, t };

	if (t->kind == DISK || t->kind == EXT4)
		P2P_VARIANT_ADD(buffered, b, "%s@%s>%s@%s", p->kind, p->bdf,
				kind_names[t->kind], t->client[0]->label);
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		FIXTURE_VARIANT(direct) v = { p, t, &ways[w] };

		P2P_VARIANT_ADD(direct, v, "%s@%s>%s%s%s/%s", p->kind, p->bdf,
				kind_names[t->kind],
				t->clients == 1 ? "@" : "",
				t->clients == 1 ? t->client[0]->label : "",
				ways[w].name);
	}
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "What programs do with peer-to-peer memory"))
		return test_harness_run(argc, argv);
	p2p_discover();
	p2p_require_clients();
	longterm_error = p2p_has_livelock(&p2p.provider[0]) ? EFAULT : EREMOTEIO;
	make_targets();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		FIXTURE_VARIANT(user) user = { p };

		P2P_VARIANT_ADD(user, user, "%s@%s", p->kind, p->bdf);
		for (unsigned int t = 0; t < nr_targets; t++)
			add_target_variants(p, &targets[t]);
		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			FIXTURE_VARIANT(passthrough) v = {
				p, &p2p.client[j],
			};

			P2P_VARIANT_ADD(passthrough, v, "%s@%s>%s", p->kind,
					p->bdf, p2p.client[j].label);
		}
	}
	return test_harness_run(argc, argv);
}
