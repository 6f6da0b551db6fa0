// SPDX-License-Identifier: GPL-2.0
/*
 * Removal under load: while hosts keep the NVMe target busy with data in
 * peer-to-peer memory, what they depend on is taken away. Each removal has to
 * come to an end, and so do the hosts' commands: done, or with the status that
 * says why not. Afterwards all memory is in the pool again, nothing of the
 * target is left, and what was taken away works again once it is back.
 *
 * Devices are unbound and removed; NVMe controllers only if P2PDMA_SCRATCH names
 * them. Pulled out of their slots are providers that P2PDMA_SURPRISE names.
 */
#include <limits.h>
#include <signal.h>
#include <time.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_nvmet_target.h"
#include "p2pdma_slot.h"

#define SIZE		KB(16)	/* of a command */
#define DEPTH		32
#define THREADS		FEW_QUEUES	/* each with a queue of its own */
#define PART		MB(2)	/* of the medium, for each thread */
/* Commands, to call it a load: as many as can be under way, and each followed by another. */
#define ENOUGH		(2 * DEPTH)

/* A namespace that exists and is disabled; one that does not exist. */
#define STATUS_DISABLED	(NVME_MORE | 0x300)
#define STATUS_NO_NS	(NVME_DNR | NVME_MORE | 0x00b)

FIXTURE(load) {
	struct target t;
	struct thread thread[THREADS];
};

FIXTURE_VARIANT(load) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
};

static void on_signal(int sig __always_unused)
{
}

/* A signal interrupts the hosts' calls. */
static void catch_signal(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
}

FIXTURE_SETUP(load)
{
	if (!variant)
		SKIP(return, NO_PAIR);
	catch_signal();
	target_open(_metadata, &self->t, variant->provider, variant->disk);
}

FIXTURE_TEARDOWN(load)
{
	target_close(_metadata, &self->t);
}

/* The hosts write, for as long as they are let. */
static void load_start(struct __test_metadata *_metadata, struct target *t,
		       struct thread *thread)
{
	for (int i = 0; i < THREADS; i++) {
		thread[i].t = t;
		thread[i].run = io(t, P2PDMA_NVMET_WRITE, 1 + i, SIZE, DEPTH,
				   t->pos + i * PART, PART, P2P_DATA);
		thread[i].run.count = ~0ULL;
		ASSERT_EQ(0, pthread_create(&thread[i].id, NULL, thread_run,
					    &thread[i]));
	}
}

static void load_join(struct __test_metadata *_metadata, struct thread *thread)
{
	for (int i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(thread[i].id, NULL));
		EXPECT_EQ(0, thread[i].ret)
			TH_LOG("%s", strerror(-thread[i].ret));
		EXPECT_EQ(0ULL, thread[i].run.wrong_pages);
		EXPECT_EQ(0ULL, thread[i].run.no_memory);
	}
}

/* End the load from outside, by a signal to each thread. */
static void load_stop(struct __test_metadata *_metadata, struct thread *thread)
{
	for (int i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_kill(thread[i].id, SIGUSR1));
	load_join(_metadata, thread);
	for (int i = 0; i < THREADS; i++) {
		EXPECT_EQ(0ULL, thread[i].run.errors)
			TH_LOG("status %#x", thread[i].run.error_status);
		EXPECT_EQ(0, thread[i].run.gone);
	}
}

/* How many commands of a kind a queue has done; 0 if it cannot be told. */
static uint64_t commands(const struct target *t, int queue, bool fallback)
{
	struct nvmet_counters c;

	if (nvmet_counters(&t->host, queue, 1, &c) < 0)
		return 0;
	return fallback ? c.fallback_commands : c.p2p_commands;
}

/* Wait until each host has done some commands more, of that kind: all are at it. */
static void load_wait(struct __test_metadata *_metadata,
		      const struct target *t, bool fallback)
{
	uint64_t enough[THREADS];

	for (int i = 0; i < THREADS; i++)
		enough[i] = commands(t, 1 + i, fallback) + ENOUGH;
	for (int i = 0; i < THREADS; i++)
		P2P_WAIT_FOR(commands(t, 1 + i, fallback) >= enough[i]);
}

/* Data that the hosts have written are where they belong. */
static void load_check(struct __test_metadata *_metadata, struct target *t,
		       const struct thread *thread)
{
	for (int i = 0; i < THREADS; i++) {
		const struct p2pdma_nvmet_run *r = &thread[i].run;
		uint64_t done = r->commands * SIZE;

		data_verdict(_metadata, &t->expect,
			     medium_holds(_metadata, t, t->pos + i * PART,
					  done < PART ? done : PART,
					  P2P_DATA));
	}
}

/* The target works, in peer-to-peer memory. */
static void expect_works(struct __test_metadata *_metadata, struct target *t)
{
	struct p2pdma_nvmet_run r;

	r = io(t, P2PDMA_NVMET_WRITE, 1, SIZE, DEPTH, t->pos, MB(1),
	       P2P_PRESET);
	ASSERT_EQ(0, run(t, &r));
	expect_p2p(_metadata, t->provider, &r);
	data_verdict(_metadata, &t->expect,
		     medium_holds(_metadata, t, t->pos, MB(1), P2P_PRESET));
}

static void expect_gone(struct __test_metadata *_metadata, struct target *t,
			const struct thread *thread)
{
	struct p2pdma_nvmet_command cmd = { .qid = 1, .sqe = { 0, 0x40 } };

	for (int i = 0; i < THREADS; i++) {
		EXPECT_EQ(1, thread[i].run.gone);
		EXPECT_EQ(0ULL, thread[i].run.errors)
			TH_LOG("status %#x", thread[i].run.error_status);
	}
	EXPECT_EQ(-ENOTCONN, nvmet_command(&t->host, &cmd));
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider))
		TH_LOG("memory is missing in the pool");
}

/* Another value of the namespace's p2pmem, which takes one that is disabled. */
static void set_p2pmem(struct __test_metadata *_metadata, struct target *t,
		       const char *value)
{
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem", value));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
}

/* Take something away, and say how long that took. */
#define TIMED(_call) ({							\
	struct timespec __start, __end;					\
	int __ret;							\
									\
	clock_gettime(CLOCK_MONOTONIC, &__start);			\
	__ret = (_call);						\
	clock_gettime(CLOCK_MONOTONIC, &__end);				\
	TH_LOG("%.3f s: %s",						\
	       (__end.tv_sec - __start.tv_sec) +			\
	       (__end.tv_nsec - __start.tv_nsec) / 1e9, #_call);	\
	__ret;								\
})

/* ---- what the administrator takes away --------------------------------- */

TEST_F_TIMEOUT(load, disable_namespace, 120)
{
	struct target *t = &self->t;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(nvmet_ns_set(t->nqn, 1, "enable", "0")));
	load_join(_metadata, self->thread);
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider))
		TH_LOG("memory is missing in the pool");
	for (int i = 0; i < THREADS; i++) {
		EXPECT_LE(1ULL, self->thread[i].run.errors);
		EXPECT_EQ(STATUS_DISABLED, self->thread[i].run.error_status);
		EXPECT_EQ(0, self->thread[i].run.gone);
	}
	load_check(_metadata, t, self->thread);

	kmsg_skip(t->kmsg);
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	expect_using(_metadata, t, t->provider->bdf, 1);
	expect_works(_metadata, t);
}

TEST_F_TIMEOUT(load, remove_namespace, 120)
{
	struct target *t = &self->t;

	/* with "1" there is no device that the namespace could keep */
	set_p2pmem(_metadata, t, "1");
	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(nvmet_ns_rmdir(t->nqn, 1)));
	load_join(_metadata, self->thread);
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider))
		TH_LOG("memory is missing in the pool");
	for (int i = 0; i < THREADS; i++) {
		unsigned int status = self->thread[i].run.error_status;

		EXPECT_LE(1ULL, self->thread[i].run.errors);
		EXPECT_TRUE(status == STATUS_DISABLED ||
			    status == STATUS_NO_NS)
			TH_LOG("status %#x", status);
	}
	load_check(_metadata, t, self->thread);

	ASSERT_EQ(0, nvmet_ns_add(t->nqn, 1, t->disk.path));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem", t->provider->bdf));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	expect_works(_metadata, t);
}

/* Disabled and enabled again, many times, while hosts keep trying. */
TEST_F_TIMEOUT(load, toggle_namespace, 300)
{
	struct target *t = &self->t;

	for (int round = 0; round < 8; round++) {
		load_start(_metadata, t, self->thread);
		load_wait(_metadata, t, false);
		ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
		ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
		/* those that did not notice are still at it */
		for (int i = 0; i < THREADS; i++)
			pthread_kill(self->thread[i].id, SIGUSR1);
		load_join(_metadata, self->thread);
		for (int i = 0; i < THREADS; i++) {
			const struct p2pdma_nvmet_run *r =
				&self->thread[i].run;

			if (r->errors)
				EXPECT_EQ(STATUS_DISABLED, r->error_status);
		}
		EXPECT_EQ(t->provider->rest, p2p_available(t->provider));
	}
	load_check(_metadata, t, self->thread);
	expect_works(_metadata, t);
}

TEST_F_TIMEOUT(load, unlink_subsystem, 120)
{
	struct target *t = &self->t;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(nvmet_unlink(NVMET_PORT, t->nqn)));
	load_join(_metadata, self->thread);
	/* the port is released after its last queue */
	ASSERT_EQ(0, TIMED(nvmet_port_remove(NVMET_PORT)));
	expect_gone(_metadata, t, self->thread);
	load_check(_metadata, t, self->thread);

	nvmet_host_close(&t->host);
	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));
	target_connect(_metadata, t, t->fabric);
	expect_works(_metadata, t);
}

/* As above, and nobody waits for the hosts before the port is removed. */
TEST_F_TIMEOUT(load, remove_port, 120)
{
	struct target *t = &self->t;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(nvmet_unlink(NVMET_PORT, t->nqn)));
	ASSERT_EQ(0, TIMED(nvmet_port_remove(NVMET_PORT)));
	/* the removal waited for all that was under way */
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider));
	load_join(_metadata, self->thread);
	expect_gone(_metadata, t, self->thread);
	load_check(_metadata, t, self->thread);
}

/* Hosts that connect all the time, and what they must not see. */
struct connector {
	pthread_t id;
	const struct target *t;
	const bool *removed;
	unsigned int queues, connected;
	int ret;
	bool over;
	const char *wrong;
};

static void *connect_again(void *arg)
{
	struct p2pdma_nvmet_command flush = { .qid = 1, .sqe = { 0, 0x40 } };
	struct connector *c = arg;
	struct nvmet_host host;
	bool removed;

	flush.sqe[4] = 1;
	for (;;) {
		removed = __atomic_load_n(c->removed, __ATOMIC_SEQ_CST);
		c->ret = nvmet_host_connect(&host, NVMET_PORT, c->t->nqn,
					    c->t->fabric, c->queues,
					    QUEUE_SIZE);
		if (c->ret)
			break;
		if (removed)
			c->wrong = "connected with what was removed";
		__atomic_add_fetch(&c->connected, 1, __ATOMIC_RELEASE);
		removed = __atomic_load_n(c->removed, __ATOMIC_SEQ_CST);
		if (!nvmet_command(&host, &flush) && removed)
			c->wrong = "connected when the removal was over";
		nvmet_host_close(&host);
	}
	__atomic_store_n(&c->over, true, __ATOMIC_RELEASE);
	return NULL;
}

static void connectors_start(struct __test_metadata *_metadata,
			     const struct target *t,
			     struct connector *connector, const bool *removed,
			     unsigned int queues)
{
	for (int i = 0; i < THREADS; i++) {
		connector[i] = (struct connector) {
			.t = t, .removed = removed, .queues = queues,
		};
		ASSERT_EQ(0, pthread_create(&connector[i].id, NULL,
					    connect_again, &connector[i]));
	}
}

/* Each host has connected once, or has given up, which the test will tell. */
static void connectors_wait(struct __test_metadata *_metadata,
			    const struct connector *connector)
{
	int waits = 60000 * p2p_patience();

	for (int i = 0; i < THREADS; i++) {
		while (!__atomic_load_n(&connector[i].connected,
					__ATOMIC_ACQUIRE) &&
		       !__atomic_load_n(&connector[i].over, __ATOMIC_ACQUIRE) &&
		       waits-- > 0)
			usleep(1000);
	}
	EXPECT_LT(0, waits)
		TH_LOG("there are hosts that do not get to connect");
}

/*
 * A host of the discovery subsystem is on the port, too, which belongs to no
 * subsystem that could be unlinked: it goes with the port.
 */
TEST_F_TIMEOUT(load, remove_discovery_port, 120)
{
	struct p2pdma_nvmet_command cmd = { .sqe = { 0x18, 0x40 } };
	struct target *t = &self->t;
	struct nvmet_host host;

	ASSERT_EQ(0, nvmet_host_connect(&host, NVMET_PORT,
					"nqn.2014-08.org.nvmexpress.discovery",
					NULL, 0, 0));
	/* Keep Alive */
	EXPECT_EQ(0, nvmet_command(&host, &cmd));
	EXPECT_EQ(0, cmd.status);
	nvmet_host_close(&t->host);

	ASSERT_EQ(0, TIMED(nvmet_unlink(NVMET_PORT, t->nqn)));
	ASSERT_EQ(0, TIMED(nvmet_port_remove(NVMET_PORT)));
	EXPECT_EQ(-ENOTCONN, nvmet_command(&host, &cmd));
	nvmet_host_close(&host);
}

/*
 * Without a provider, as each controller that goes while it is connected would
 * leave memory behind. So it does not matter which one there is, or which disk.
 */
FIXTURE(connecting) {
	struct target t;
};

FIXTURE_VARIANT(connecting) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
};

FIXTURE_SETUP(connecting)
{
	if (!variant)
		SKIP(return, NO_PAIR);
	target_open(_metadata, &self->t, variant->provider, variant->disk);
}

FIXTURE_TEARDOWN(connecting)
{
	target_close(_metadata, &self->t);
}

/*
 * The port goes while hosts connect, from no work of the target's: its release has
 * to wait for them. Each is told that it is gone, or refused.
 */
TEST_F_TIMEOUT(connecting, remove_port, 180)
{
	struct connector connector[THREADS] = {};
	struct target *t = &self->t;
	unsigned int connected = 0;

	nvmet_host_close(&t->host);
	set_p2pmem(_metadata, t, "0");
	for (int round = 0; round < 10; round++) {
		bool removed = false;

		/* many queues, so that it is gone in the midst of it */
		connectors_start(_metadata, t, connector, &removed, 64);
		usleep(20000 * (round + 1) * p2p_patience());
		/* once at least somebody has got that far */
		if (round == 9)
			P2P_WAIT_FOR(__atomic_load_n(&connector[0].connected,
						     __ATOMIC_ACQUIRE) ||
				     __atomic_load_n(&connector[0].over,
						     __ATOMIC_ACQUIRE));
		ASSERT_EQ(0, nvmet_unlink(NVMET_PORT, t->nqn));
		ASSERT_EQ(0, nvmet_port_remove(NVMET_PORT));
		__atomic_store_n(&removed, true, __ATOMIC_SEQ_CST);
		for (int i = 0; i < THREADS; i++) {
			ASSERT_EQ(0, pthread_join(connector[i].id, NULL));
			/* gone before it, meanwhile, or refused */
			EXPECT_TRUE(connector[i].ret == -ENODEV ||
				    connector[i].ret == -ECONNRESET ||
				    connector[i].ret > 0)
				TH_LOG("connecting ended with %d",
				       connector[i].ret);
			connected += connector[i].connected;
			EXPECT_TRUE(!connector[i].wrong)
				TH_LOG("%s", connector[i].wrong);
		}
		ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
		ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));
	}
	/* who never gets to connect is not removed either */
	EXPECT_LT(0U, connected);
	set_p2pmem(_metadata, t, t->provider->bdf);
	target_connect(_metadata, t, t->fabric);
	expect_works(_metadata, t);
}

/* Everything at once, in the order that nvmetcli clear has. */
TEST_F_TIMEOUT(load, remove_all, 120)
{
	struct target *t = &self->t;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(nvmet_cleanup()));
	load_join(_metadata, self->thread);
	expect_gone(_metadata, t, self->thread);
	load_check(_metadata, t, self->thread);
}

/* Another subsystem on the same port is none of the load's business. */
TEST_F_TIMEOUT(load, unlink_other_subsystem, 120)
{
	/* Identify, whatever becomes of it */
	struct p2pdma_nvmet_command cmd = { .sqe = { 0x06, 0x40 } };
	const char *other = NQN_PREFIX "other";
	struct target *t = &self->t;
	int ret;

	ASSERT_EQ(0, nvmet_subsys_add(other));
	for (int round = 0; round < 3; round++) {
		struct nvmet_host host;

		load_start(_metadata, t, self->thread);
		load_wait(_metadata, t, false);
		ASSERT_EQ(0, nvmet_link(NVMET_PORT, other));
		ASSERT_EQ(0, nvmet_host_connect(&host, NVMET_PORT, other,
						t->fabric, 1, QUEUE_SIZE));
		ASSERT_EQ(0, nvmet_unlink(NVMET_PORT, other));
		/* its host is disconnected, in the background */
		P2P_WAIT_FOR((ret = nvmet_command(&host, &cmd)));
		EXPECT_EQ(-ENOTCONN, ret);
		load_wait(_metadata, t, false);
		load_stop(_metadata, self->thread);
		nvmet_host_close(&host);
	}
	load_check(_metadata, t, self->thread);
	expect_works(_metadata, t);
}

/*
 * A host that does not close its descriptor when its controller is gone is in
 * nobody's way: the next controller has its ID, and counts for itself.
 */
TEST_F_TIMEOUT(load, stale_host, 120)
{
	struct target *t = &self->t;
	struct nvmet_counters c;
	struct nvmet_host stale;
	struct p2pdma_nvmet_run r;

	r = io(t, P2PDMA_NVMET_WRITE, 1, SIZE, 1, t->pos, PART, P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	ASSERT_EQ(1, nvmet_counters(&t->host, 1, 1, &c));
	EXPECT_EQ(r.count, c.p2p_commands);
	stale = t->host;
	t->host.fd = -1;
	ASSERT_EQ(0, nvmet_unlink(NVMET_PORT, t->nqn));
	/* the port is released after its last queue */
	ASSERT_EQ(0, nvmet_port_remove(NVMET_PORT));
	EXPECT_EQ(-ENOENT, nvmet_counters(&stale, -1, -1, &c));

	ASSERT_EQ(0, nvmet_port_add(NVMET_PORT));
	ASSERT_EQ(0, nvmet_link(NVMET_PORT, t->nqn));
	target_connect(_metadata, t, t->fabric);
	EXPECT_EQ(stale.connect.cntlid, t->host.connect.cntlid);
	EXPECT_EQ(0, nvmet_counters(&t->host, -1, -1, &c));
	r = io(t, P2PDMA_NVMET_WRITE, 2, SIZE, 1, t->pos, MB(1), P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	for (int closed = 0; closed < 2; closed++) {
		EXPECT_EQ(1, nvmet_counters(&t->host, -1, -1, &c));
		EXPECT_EQ(r.count, c.p2p_commands);
		EXPECT_EQ(r.p2p_bytes, c.p2p_bytes);
		nvmet_host_close(&stale);
	}

	/* and it goes like any other */
	ASSERT_EQ(0, nvmet_unlink(NVMET_PORT, t->nqn));
	ASSERT_EQ(0, nvmet_port_remove(NVMET_PORT));
}

/* ---- the host goes ----------------------------------------------------- */

TEST_F_TIMEOUT(load, disconnect, 120)
{
	struct target *t = &self->t;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(ioctl(t->host.fd, P2PDMA_NVMET_DISCONNECT)));
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider));
	load_join(_metadata, self->thread);
	expect_gone(_metadata, t, self->thread);
	load_check(_metadata, t, self->thread);

	nvmet_host_close(&t->host);
	target_connect(_metadata, t, t->fabric);
	expect_works(_metadata, t);
}

/* The process is killed in the middle of it. */
TEST_F_TIMEOUT(load, kill_host, 120)
{
	struct target *t = &self->t;
	int status;
	pid_t pid;

	/* the child's descriptor is then the only one */
	nvmet_host_close(&t->host);
	for (int round = 0; round < 5; round++) {
		int ready[2];
		char c;

		ASSERT_EQ(0, pipe(ready));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			if (nvmet_host_connect(&t->host, NVMET_PORT, t->nqn,
					       t->fabric, t->queues, QUEUE_SIZE))
				_exit(1);
			load_start(_metadata, t, self->thread);
			load_wait(_metadata, t, false);
			if (write(ready[1], "", 1) != 1)
				_exit(1);
			load_join(_metadata, self->thread);
			_exit(1);
		}
		close(ready[1]);
		EXPECT_EQ(1, read(ready[0], &c, 1));
		close(ready[0]);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(t->provider->rest, p2p_available(t->provider));
	}
	target_connect(_metadata, t, t->fabric);
	expect_works(_metadata, t);
}

/* ---- hardware goes ----------------------------------------------------- */

static int device_write(const char *bdf, const char *file, const char *value)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, file);
	return p2p_sysfs_write_limited(path, value);
}

/* All that this PCI function is for the tests, is there. */
static bool is_back(const char *bdf, const char *driver)
{
	char now[64];

	if (!driver[0])
		return exists(bdf);
	if (p2p_driver_link(bdf, now, sizeof(now)) || strcmp(now, driver))
		return false;
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		if (!strcmp(p->bdf, bdf) &&
		    (!p2p_is_provider(bdf) || p2p_available(p) != p->rest))
			return false;
	}
	return p2p_find_clients(bdf);
}

/*
 * Look for devices again until all three are back, and the pool as it was. Some
 * drivers probe in the background.
 */
static void bring_back(struct __test_metadata *_metadata, struct target *t,
		       const char *fabric_driver)
{
	ASSERT_EQ(0, p2p_sysfs_write("/sys/bus/pci/rescan", "1"));
	P2P_WAIT_FOR(is_back(t->provider->bdf, t->provider->driver));
	P2P_WAIT_FOR(is_back(t->disk.bdf, "nvme"));
	P2P_WAIT_FOR(is_back(t->fabric, fabric_driver));
	ASSERT_TRUE(p2p_find_client(&t->disk));
}

/* Whatever went wrong, the next test needs the devices. */
static void restore(const struct p2p_provider *provider)
{
	p2p_sysfs_write("/sys/bus/pci/rescan", "1");
	if (!p2p_is_provider(provider->bdf))
		p2p_bind(provider);
}

/* Three devices, so that each can go alone. */
FIXTURE(hardware) {
	struct target t;
	struct thread thread[THREADS];
	char driver[64];	/* of the fabric's function */
};

FIXTURE_VARIANT(hardware) {
	const struct p2p_provider *provider;
	const struct p2p_client *disk;
	const char *fabric;
};

FIXTURE_SETUP(hardware)
{
	struct target *t = &self->t;

	if (!variant)
		SKIP(return,
		     "no provider, disk and third function that reach each other and may go, see P2PDMA_SCRATCH");
	restore(variant->provider);
	P2P_WAIT_FOR(p2p_find_clients(NULL));
	catch_signal();
	target_prepare(_metadata, t, variant->provider, variant->disk);
	t->fabric = variant->fabric;
	p2p_driver_link(t->fabric, self->driver, sizeof(self->driver));
	target_start(_metadata, t);
}

FIXTURE_TEARDOWN(hardware)
{
	if (self->t.provider)
		restore(self->t.provider);
	target_close(_metadata, &self->t);
}

/*
 * Without its driver the provider has no memory: memory of the system takes
 * over. With the driver bound again its memory is used again, although nothing
 * was configured anew: the target keeps the device.
 */
TEST_F_TIMEOUT(hardware, unbind_provider, 120)
{
	struct target *t = &self->t;
	const char *bdf = t->provider->bdf;
	uint64_t fallback = 0;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(device_write(bdf, "driver/unbind", bdf)));
	EXPECT_FALSE(p2p_is_provider(bdf));
	load_wait(_metadata, t, true);
	load_stop(_metadata, self->thread);
	for (int i = 0; i < THREADS; i++)
		fallback += self->thread[i].run.fallback_commands;
	EXPECT_LT(0UL, fallback);
	load_check(_metadata, t, self->thread);

	/*
	 * Not under load: the kernel allocates from a pool that is being made,
	 * and dereferences NULL (Documentation/p2pdma/kernel-issues.rst).
	 */
	ASSERT_EQ(0, p2p_bind(t->provider));
	P2P_WAIT_FOR(p2p_is_provider(bdf));

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	load_stop(_metadata, self->thread);
	load_check(_metadata, t, self->thread);

	bring_back(_metadata, t, self->driver);
	expect_works(_metadata, t);
}

/*
 * The provider's device is removed, as by hot-unplug. The target keeps the
 * device that is gone: one that comes back in the same place is used only
 * after it was configured again.
 */
TEST_F_TIMEOUT(hardware, remove_provider, 120)
{
	struct target *t = &self->t;
	const char *bdf = t->provider->bdf;
	struct p2pdma_nvmet_run r;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(device_write(bdf, "remove", "1")));
	EXPECT_FALSE(exists(bdf));
	load_wait(_metadata, t, true);
	load_stop(_metadata, self->thread);
	load_check(_metadata, t, self->thread);

	bring_back(_metadata, t, self->driver);
	r = io(t, P2PDMA_NVMET_WRITE, 1, SIZE, DEPTH, t->pos, MB(1), P2P_DATA);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(r.count, r.fallback_commands);
	EXPECT_EQ(0ULL, r.p2p_commands);

	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "p2pmem", bdf));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	expect_works(_metadata, t);
}

/* The device that does the fabric's DMA: all its hosts' controllers go. */
TEST_F_TIMEOUT(hardware, remove_client, 120)
{
	struct target *t = &self->t;
	const char *client = t->fabric;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	ASSERT_EQ(0, TIMED(device_write(client, "remove", "1")));
	EXPECT_FALSE(exists(client));
	/* the removal waited for the queues to be disconnected */
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider));
	load_join(_metadata, self->thread);
	expect_gone(_metadata, t, self->thread);
	load_check(_metadata, t, self->thread);

	/* nobody can connect with it meanwhile */
	nvmet_host_close(&t->host);
	EXPECT_EQ(-ENODEV, nvmet_host_connect(&t->host, NVMET_PORT, t->nqn,
					      client, t->queues, QUEUE_SIZE));
	bring_back(_metadata, t, self->driver);
	target_connect(_metadata, t, client);
	expect_works(_metadata, t);
}

/* The same while hosts connect: each is told that it is gone, or refused. */
TEST_F_TIMEOUT(hardware, remove_client_connecting, 180)
{
	struct connector connector[THREADS] = {};
	struct target *t = &self->t;

	/* without a provider: each such controller would leave memory behind */
	nvmet_host_close(&t->host);
	set_p2pmem(_metadata, t, "0");
	for (int round = 0; round < 3; round++) {
		bool removed = false;

		connectors_start(_metadata, t, connector, &removed, 1);
		connectors_wait(_metadata, connector);
		ASSERT_EQ(0, TIMED(device_write(t->fabric, "remove", "1")));
		__atomic_store_n(&removed, true, __ATOMIC_SEQ_CST);
		for (int i = 0; i < THREADS; i++) {
			ASSERT_EQ(0, pthread_join(connector[i].id, NULL));
			EXPECT_EQ(-ENODEV, connector[i].ret);
			EXPECT_LT(0U, connector[i].connected);
			EXPECT_TRUE(!connector[i].wrong)
				TH_LOG("%s", connector[i].wrong);
		}
		bring_back(_metadata, t, self->driver);
	}
	set_p2pmem(_metadata, t, t->provider->bdf);
	target_connect(_metadata, t, t->fabric);
	expect_works(_metadata, t);
}

/*
 * The disk, which is the p2pdma client that reads and writes the provider's
 * memory. Commands fail from then on; the namespace has to be configured again
 * when the disk is back.
 */
TEST_F_TIMEOUT(hardware, remove_disk, 120)
{
	struct target *t = &self->t;

	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	close(t->fd);
	t->fd = -1;
	ASSERT_EQ(0, TIMED(device_write(t->disk.bdf, "remove", "1")));
	load_join(_metadata, self->thread);
	for (int i = 0; i < THREADS; i++) {
		EXPECT_LE(1ULL, self->thread[i].run.errors);
		EXPECT_EQ(0, self->thread[i].run.gone);
		EXPECT_NE(0, self->thread[i].run.error_status);
	}
	EXPECT_EQ(t->provider->rest, p2p_available(t->provider))
		TH_LOG("memory of commands that failed is missing in the pool");

	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "0"));
	bring_back(_metadata, t, self->driver);
	t->fd = open(t->disk.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, t->fd);
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "device_path", t->disk.path));
	ASSERT_EQ(0, nvmet_ns_set(t->nqn, 1, "enable", "1"));
	expect_works(_metadata, t);
}

/* ---- hardware is gone -------------------------------------------------- */

FIXTURE(surprise) {
	struct target t;
	struct thread thread[THREADS];
};

FIXTURE_SETUP(surprise)
{
	const struct p2p_provider *provider = NULL;
	const struct p2p_client *disk = NULL;

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		/* without a disk of its own */
		if (p->serial[0] || !may_go(p->bdf, p->kind, "") ||
		    !p2p_is_provider(p->bdf))
			continue;
		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			const struct p2p_client *c = &p2p.client[j];
			enum p2p_verdict v = p2p_expect(p, c).verdict;

			if (!c->scratch || !exists(c->bdf) ||
			    (v != P2P_BUS_ADDR && v != P2P_HOST_BRIDGE))
				continue;
			provider = p;
			disk = c;
		}
	}
	if (!provider)
		SKIP(return,
		     "no provider in a slot that P2PDMA_SURPRISE names, and a disk in P2PDMA_SCRATCH");
	catch_signal();
	target_open(_metadata, &self->t, provider, disk);
}

FIXTURE_TEARDOWN(surprise)
{
	target_close(_metadata, &self->t);
}

/* The controller of a disk reaches the provider, as far as anybody says. */
static bool reaches(const struct p2p_provider *p, const char *bdf)
{
	bool reached = false;

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		enum p2p_verdict v = p2p_expect(p, &p2p.client[i]).verdict;

		reached |= !strcmp(p2p.client[i].bdf, bdf) &&
			   (v == P2P_BUS_ADDR || v == P2P_HOST_BRIDGE);
	}
	return reached;
}

static int pull_out_and_wait(struct __test_metadata *_metadata,
			     const char *bdf)
{
	pull_out(_metadata, bdf);
	P2P_WAIT_FOR(!exists(bdf));
	return 0;
}

/*
 * The provider is pulled out. What was in its memory is lost, and the disk writes
 * what nobody sends; but no command stays, and those that follow get memory of
 * the system.
 */
TEST_F_TIMEOUT(surprise, provider, 120)
{
	struct target *t = &self->t;
	struct p2pdma_nvmet_run r;
	bool another = false;

	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		another |= &p2p.provider[i] != t->provider &&
			   p2p_is_provider(p2p.provider[i].bdf) &&
			   reaches(&p2p.provider[i], t->disk.bdf) &&
			   reaches(&p2p.provider[i], t->fabric);
	load_start(_metadata, t, self->thread);
	load_wait(_metadata, t, false);
	t->lost = true;
	ASSERT_EQ(0, TIMED(pull_out_and_wait(_metadata, t->provider->bdf)));
	/* unless errors have ended it */
	for (int i = 0; i < THREADS; i++)
		pthread_kill(self->thread[i].id, SIGUSR1);
	load_join(_metadata, self->thread);
	for (int i = 0; i < THREADS; i++)
		EXPECT_EQ(0, self->thread[i].run.gone);

	r = io(t, P2PDMA_NVMET_WRITE, 1, SIZE, DEPTH, t->pos, THREADS * PART,
	       P2P_PRESET);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(0ULL, r.errors);
	EXPECT_EQ(r.count, r.fallback_commands);
	EXPECT_EQ(0ULL, r.wrong_pages);
	EXPECT_TRUE(medium_holds(_metadata, t, t->pos, THREADS * PART,
				 P2P_PRESET));

	/* another provider takes its place, if there is one */
	set_p2pmem(_metadata, t, "1");
	r = io(t, P2PDMA_NVMET_READ, 1, SIZE, DEPTH, t->pos, MB(1), P2P_PRESET);
	ASSERT_EQ(0, run(t, &r));
	EXPECT_EQ(r.count, another ? r.p2p_commands : r.ram_commands);
	EXPECT_NE(nvmet_function(t->provider->bdf), r.provider);
	EXPECT_TRUE(good_read(_metadata, &r));
}

static bool connecting_added;

static void add(const struct p2p_provider *p, const struct p2p_client *c)
{
	FIXTURE_VARIANT(connecting) any = { .provider = p, .disk = c };
	FIXTURE_VARIANT(load) load = { .provider = p, .disk = c };
	FIXTURE_VARIANT(hardware) hw = { .provider = p, .disk = c };
	bool all = true;

	if (!c->scratch || p2p_expect(p, c).verdict == P2P_NOT_SUPPORTED)
		return;
	P2P_VARIANT_ADD(load, load, "%s@%s>%s", p->kind, p->bdf, c->label);
	if (!connecting_added)
		P2P_VARIANT_ADD(connecting, any, "%s@%s>%s", p->kind, p->bdf,
				c->label);
	connecting_added = true;

	/* another disk's controller, or a PCI function of another kind */
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *other = &p2p.client[i];
		bool reached = p2p_expect(p, other).verdict !=
			       P2P_NOT_SUPPORTED;

		all &= reached;
		if (reached && !p2p_why_not_take(other->bdf) &&
		    strcmp(other->bdf, c->bdf) &&
		    strcmp(other->bdf, p->bdf))
			hw.fabric = other->bdf;
	}
	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		if (all && !hw.fabric && &p2p.provider[i] != p &&
		    !p2p.provider[i].serial[0] &&
		    !p2p_why_not_unbind(&p2p.provider[i]))
			hw.fabric = p2p.provider[i].bdf;
	if (hw.fabric && !p2p_why_not_unbind(p) && !p2p_why_not_take(c->bdf) &&
	    strcmp(p->bdf, c->bdf))
		P2P_VARIANT_ADD(hardware, hw, "%s@%s>%s", p->kind, p->bdf,
				c->label);
}

int main(int argc, char **argv)
{
	if (p2p_help(argc, argv,
		     "Removal under load of what the NVMe target depends on"))
		return test_harness_run(argc, argv);

	p2p_discover();
	p2p_require_clients();
	nvmet_init(NQN_PREFIX);
	nvmet_require_transport();

	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		for (unsigned int j = 0; j < p2p.nr_clients; j++)
			add(&p2p.provider[i], &p2p.client[j]);
	return test_harness_run(argc, argv);
}
