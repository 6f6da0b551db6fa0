// SPDX-License-Identifier: GPL-2.0
/*
 * The user's tool: what p2pdma list, bind, unbind, publish, unpublish, bench,
 * verify and topo do to a real kernel, and what they refuse.
 *
 * The program p2pdma has to be beside this one. Loading the driver again needs
 * its file: P2PDMA_PROVIDER_KO. Whether p2pdma bench writes, and leaves alone
 * what it should, is tried on the namespaces in P2PDMA_SCRATCH.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

static char tool[PATH_MAX];
static char module_option[PATH_MAX + 16];

/* Run p2pdma: its exit status, and all that it says. */
static int run(char *said, size_t len, const char * const *args)
{
	char *argv[32] = { tool };
	size_t used = 0;
	int status, fds[2];
	ssize_t got;
	pid_t pid;

	for (size_t i = 0; args[i] && i < ARRAY_SIZE(argv) - 2; i++)
		argv[i + 1] = (char *)args[i];
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		execv(tool, argv);
		_exit(127);
	}
	close(fds[1]);
	while ((got = read(fds[0], said + used, len - 1 - used)) > 0)
		used += got;
	said[used] = '\0';
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

#define RUN(...) run(self->said, sizeof(self->said),			\
		     (const char * const[]){ __VA_ARGS__, NULL })

/* Whether a text is in what the tool said; shows what is there instead. */
static bool has_said(const char *said, const char *text)
{
	if (strstr(said, text))
		return true;
	printf("# '%s' is not in: %s\n", text, said);
	return false;
}

static bool has_driver(const char *bdf, const char *driver)
{
	char link[64];

	return !p2p_driver_link(bdf, link, sizeof(link)) && !strcmp(link, driver);
}

static const struct p2p_provider *of_driver(const char *driver)
{
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		if (!strcmp(p2p.provider[i].driver, driver))
			return &p2p.provider[i];
	}
	return NULL;
}

FIXTURE(tool) {
	char said[65536];
};

/*
 * Whether the nvme driver has a controller again, and its namespaces are there,
 * which is a moment later. Where the tool was ended half way, it is bound by hand.
 */
static bool is_given_back(const char *bdf, char *said, size_t len)
{
	char driver[64], override[64] = "";

	if (!has_driver(bdf, "nvme")) {
		run(said, len, (const char *[]){ "unbind", bdf, NULL });
		if (p2p_driver_link(bdf, driver, sizeof(driver)) &&
		    !p2p_set_override(bdf, "\n"))
			p2p_driver_write("nvme", "bind", bdf);
	}
	if (!has_driver(bdf, "nvme"))
		return false;
	p2p_attr(bdf, "driver_override", override, sizeof(override));
	if (!strcmp(override, "p2pdma_provider"))
		p2p_set_override(bdf, "\n");
	return p2p_find_clients(bdf);
}

static void restore(struct __test_metadata *_metadata, char *said, size_t len)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		if (!p2p_why_not_take(p2p.client[i].bdf))
			P2P_WAIT_FOR(is_given_back(p2p.client[i].bdf, said, len));
	}
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		if (has_driver(p->bdf, p->driver) &&
		    p2p_pool_size(p) == p->size)
			continue;
		run(said, len, (const char *[]){ "unbind", p->bdf, NULL });
		if (!strcmp(p->driver, "p2pdma_provider"))
			EXPECT_EQ(0, run(said, len, (const char *[]){
					"bind", p->bdf,
					*module_option ? module_option : NULL,
					NULL }))
				TH_LOG("%s", said);
	}
}

/* Also after a test that was ended by its limit, which has no teardown. */
FIXTURE_SETUP(tool)
{
	restore(_metadata, self->said, sizeof(self->said));
}

/* Whatever went wrong: the next test, and the next program, need all providers. */
FIXTURE_TEARDOWN(tool)
{
	restore(_metadata, self->said, sizeof(self->said));
}

TEST_F(tool, list)
{
	ASSERT_EQ(0, RUN("list", "--json"))
		TH_LOG("%s", self->said);
	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		EXPECT_TRUE(has_said(self->said, p2p.provider[i].bdf));
}

/* The memory of a controller changes hands, and comes back. */
TEST_F(tool, bind_and_unbind)
{
	const struct p2p_provider *cmb = of_driver("nvme");
	char node[64] = "";
	void *map;
	int fd;

	if (!cmb)
		SKIP(return, "no NVMe controller provides memory here");
	if (p2p_why_not_unbind(cmb))
		SKIP(return, "%s", p2p_why_not_unbind(cmb));
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		if (!strcmp(p2p.client[i].bdf, cmb->bdf))
			snprintf(node, sizeof(node), "%s", p2p.client[i].path);
	}
	if (!*node)
		SKIP(return, "the controller that provides memory has no disk");

	/* who has the disk open keeps it */
	fd = open(node, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, RUN("bind", cmb->bdf));
	EXPECT_TRUE(has_said(self->said, "is open in process"));
	EXPECT_TRUE(has_driver(cmb->bdf, "nvme"));
	close(fd);

	EXPECT_EQ(0, RUN("bind", cmb->bdf, "--dry-run"));
	EXPECT_TRUE(has_said(self->said, "driver_override"));
	EXPECT_TRUE(has_driver(cmb->bdf, "nvme"));

	ASSERT_EQ(0, RUN("bind", cmb->bdf))
		TH_LOG("%s", self->said);
	EXPECT_TRUE(has_said(self->said, "bound: "));
	EXPECT_TRUE(has_driver(cmb->bdf, "p2pdma_provider"));
	EXPECT_EQ(0, RUN("bind", cmb->bdf));
	EXPECT_TRUE(has_said(self->said, "bound already"));

	EXPECT_EQ(0, RUN("unpublish", cmb->bdf));
	EXPECT_EQ(0, p2p_attr_number(cmb->bdf, "p2pmem/published"));
	EXPECT_EQ(0, RUN("publish", cmb->bdf));
	EXPECT_EQ(1, p2p_attr_number(cmb->bdf, "p2pmem/published"));

	/* who has memory keeps the provider */
	fd = p2p_open_pool(cmb, O_RDWR);
	map = fd < 0 ? MAP_FAILED : p2p_map(fd, 65536);
	EXPECT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, RUN("list"));
	EXPECT_TRUE(has_said(self->said, "has mapped 64 KiB"));
	EXPECT_EQ(1, RUN("unbind", cmb->bdf));
	EXPECT_TRUE(has_said(self->said, "has mapped 64 KiB"));
	EXPECT_TRUE(has_driver(cmb->bdf, "p2pdma_provider"));
	if (map != MAP_FAILED)
		munmap(map, 65536);
	close(fd);

	EXPECT_EQ(0, RUN("unbind", cmb->bdf))
		TH_LOG("%s", self->said);
	EXPECT_TRUE(has_driver(cmb->bdf, "nvme"));
	EXPECT_EQ(2, RUN("unbind", cmb->bdf));
	EXPECT_TRUE(has_said(self->said, "nothing to undo"));
}

/* A controller without such memory is refused by the driver, and goes back. */
TEST_F(tool, refused_by_the_driver)
{
	const struct p2p_client *client = NULL;

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		if (!p2p_is_provider(p2p.client[i].bdf) &&
		    !p2p_why_not_take(p2p.client[i].bdf))
			client = &p2p.client[i];
	}
	if (!client)
		SKIP(return,
		     "no NVMe controller without such memory may be unbound, see P2PDMA_SCRATCH");
	EXPECT_EQ(1, RUN("bind", client->bdf));
	EXPECT_TRUE(has_said(self->said, "no memory buffer"));
	EXPECT_TRUE(has_said(self->said, "nvme has it again"));
	EXPECT_TRUE(has_driver(client->bdf, "nvme"));
}

/* Parameters take a module that is loaded for them. */
TEST_F(tool, parameters)
{
	const struct p2p_provider *own = of_driver("p2pdma_provider");

	/* without its driver, a controller would be the nvme driver's */
	if (!own || !strcmp(own->kind, "cmb"))
		SKIP(return, "p2pdma_provider has no device here");
	if (!*module_option)
		SKIP(return, "P2PDMA_PROVIDER_KO does not name the module's file");
	EXPECT_EQ(1, RUN("bind", own->bdf, "--size", "2M"));
	EXPECT_TRUE(has_said(self->said, "bound to p2pdma_provider already"));

	ASSERT_EQ(0, RUN("unbind", own->bdf))
		TH_LOG("%s", self->said);
	if (p2p_range_align() > 2 << 20) {
		EXPECT_EQ(1, RUN("bind", own->bdf, "--offset", "2M", "--size", "2M",
				 module_option));
		EXPECT_TRUE(has_said(self->said, "was refused by p2pdma_provider"));
		ASSERT_EQ(0, RUN("bind", own->bdf, "--publish", "no", module_option))
			TH_LOG("%s", self->said);
		EXPECT_EQ(own->size, p2p_pool_size(own));
	} else {
		ASSERT_EQ(0, RUN("bind", own->bdf, "--offset", "2M", "--size", "2M", "--publish",
				 "no", module_option))
			TH_LOG("%s", self->said);
		EXPECT_EQ(2 << 20, p2p_pool_size(own));
	}
	EXPECT_EQ(0, p2p_attr_number(own->bdf, "p2pmem/published"));

	EXPECT_EQ(0, RUN("unbind", own->bdf));
	ASSERT_EQ(0, RUN("bind", own->bdf, module_option))
		TH_LOG("%s", self->said);
	EXPECT_EQ(own->size, p2p_pool_size(own));
	EXPECT_EQ(1, p2p_attr_number(own->bdf, "p2pmem/published"));
}

/* Sectors that were written to a disk, as its queue counts them. */
static unsigned long long sectors_written(const struct p2p_client *client)
{
	unsigned long long sectors = 0;
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/block/%s/stat", client->name);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
		ksft_exit_fail_msg("%s: cannot be read\n", path);
	fclose(file);
	return sectors;
}

#define NO_PAIRS "P2PDMA_EXPECT says of no pair what is to be expected"

#define FEW "--ios=16", "--rounds=2", "--depth=4", "--span=4M", "--size=4K", "--size=64K"

/* A provider and a disk, and whether the kernel refuses them. */
struct pair {
	unsigned int next;
	const struct p2p_provider *provider;
	const struct p2p_client *client;
	struct p2p_expect expect;
	bool refused;
	unsigned long long written;
};

/* The next of which that is known, and which no defect spoils. */
static bool next_pair(struct pair *pair)
{
	while (pair->next < p2p.nr_providers * p2p.nr_clients) {
		pair->provider = &p2p.provider[pair->next / p2p.nr_clients];
		pair->client = &p2p.client[pair->next++ % p2p.nr_clients];
		pair->expect = p2p_expect(pair->provider, pair->client);
		if (pair->expect.verdict == P2P_UNKNOWN || *pair->expect.defect)
			continue;
		pair->refused = pair->expect.verdict == P2P_NOT_SUPPORTED;
		pair->written = sectors_written(pair->client);
		return true;
	}
	return false;
}

/* Whether the kernel tells which addresses it hands to a device: events/dma. */
static bool has_tracing(void)
{
	FILE *file = fopen("/proc/filesystems", "re");
	bool found = false;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		found |= !strcmp(line, "nodev\ttracefs\n");
	if (file)
		fclose(file);
	return found;
}

/*
 * Every pair that is there: measured with the path that is expected, or refused.
 * A kernel without tracing has no evidence of the path, and that is said.
 */
TEST_F(tool, bench_reads)
{
	unsigned int pairs = 0;

	for (struct pair pair = {}; next_pair(&pair); pairs++) {
		int status;

		printf("# %s with %s\n", pair.client->name, pair.provider->bdf);
		status = RUN("bench", "--json", "--provider", pair.provider->bdf,
			     "--client", pair.client->path, FEW);
		EXPECT_EQ(pair.refused ? 1 : 0, status)
			TH_LOG("%s", self->said);
		EXPECT_EQ(pair.written, sectors_written(pair.client));
		EXPECT_TRUE(has_said(self->said, "\"took\": \"host-memory\""));
		if (pair.refused) {
			EXPECT_TRUE(has_said(self->said, "\"outcome\": \"refused\""));
			EXPECT_EQ(NULL, strstr(self->said, "\"took\": \"bus-address\""));
			EXPECT_EQ(NULL, strstr(self->said, "\"took\": \"host-bridge\""));
			continue;
		}
		/* all four cases say so, and none anything else */
		EXPECT_TRUE(has_said(self->said, !has_tracing() ?
				     "\"took\": \"unknown\"" :
				     pair.expect.verdict == P2P_BUS_ADDR ?
				     "\"took\": \"bus-address\"" :
				     "\"took\": \"host-bridge\""));
		if (has_tracing())
			EXPECT_EQ(NULL, strstr(self->said, "\"took\": \"unknown\""));
		EXPECT_EQ(NULL, strstr(self->said, "\"outcome\": \"failed\""));
		EXPECT_EQ(NULL, strstr(self->said, "\"verified\": 0,"));
	}
	if (!pairs)
		SKIP(return, NO_PAIRS);
	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		EXPECT_EQ(p2p.provider[i].rest, p2p_settled(&p2p.provider[i]));
}

static const struct p2p_client *scratch_disk(void)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		if (p2p.client[i].scratch && !p2p_is_provider(p2p.client[i].bdf))
			return &p2p.client[i];
	}
	return NULL;
}

#define ROOM (8 << 20)

/* Memory for direct I/O. */
static char *room(void)
{
	static char *map;

	if (!map)
		map = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	return map;
}

/* Whether 4 KiB of a disk are all the same; not what the page cache remembers. */
static bool holds(const struct p2p_client *client, off_t pos, char byte)
{
	int fd = open(client->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : pread(fd, room(), 4096, pos);

	close(fd);
	for (ssize_t i = 0; i < got; i++) {
		if (room()[i] != byte)
			return false;
	}
	return got == 4096;
}

static bool put(const struct p2p_client *client, char byte)
{
	int fd = open(client->path, O_WRONLY | O_DIRECT | O_EXCL | O_CLOEXEC);
	ssize_t put = -1;

	memset(room(), byte, ROOM);
	if (fd >= 0)
		put = pwrite(fd, room(), ROOM, 0);
	if (put != ROOM)
		printf("# %s: %s\n", client->path,
		       put < 0 ? strerror(errno) : "a short write");
	close(fd);
	return put == ROOM;
}

/* Only a disk that is named is written to, only there, and only if it is free. */
TEST_F(tool, bench_writes)
{
	const struct p2p_client *disk = scratch_disk();
	const off_t mib = 1 << 20;
	char magic[1024] = "";
	int fd;

	if (!disk)
		SKIP(return, "writes to a disk, allow it with P2PDMA_SCRATCH");
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		if (p2p_expect(&p2p.provider[i], disk).verdict == P2P_NOT_SUPPORTED)
			SKIP(return, "the disk does not reach all providers");
	}
	EXPECT_EQ(2, RUN("bench", "--op=write", "--client", disk->path, FEW));
	EXPECT_TRUE(has_said(self->said, "--scratch DEV"));

	ASSERT_TRUE(put(disk, 0x5a));
	fd = open(disk->path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(2, RUN("bench", "--scratch", disk->path, FEW));
	EXPECT_TRUE(has_said(self->said, "is open in process"));
	close(fd);

	/* s_magic of ext2, as mke2fs puts it there */
	magic[0x38] = 0x53;
	magic[0x39] = (char)0xef;
	fd = open(disk->path, O_WRONLY | O_EXCL | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1024, pwrite(fd, magic, sizeof(magic), 1024));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	EXPECT_EQ(2, RUN("bench", "--scratch", disk->path, FEW));
	EXPECT_TRUE(has_said(self->said, "file system (ext2"));
	EXPECT_TRUE(holds(disk, mib, 0x5a));

	ASSERT_TRUE(put(disk, 0x5a));
	EXPECT_EQ(0, RUN("bench", "--client", disk->path, "--scratch", disk->path, FEW))
		TH_LOG("%s", self->said);
	EXPECT_TRUE(has_said(self->said, "all is well"));
	EXPECT_TRUE(has_said(self->said, "write, one at a time"));
	EXPECT_TRUE(holds(disk, mib - 4096, 0x5a));
	EXPECT_FALSE(holds(disk, mib, 0x5a));
	EXPECT_FALSE(holds(disk, 5 * mib - 4096, 0x5a));
	EXPECT_TRUE(holds(disk, 5 * mib, 0x5a));

	if (p2p.nr_clients > 1)
		EXPECT_EQ(0, RUN("bench", "--op=copy", "--scratch", disk->path, FEW))
			TH_LOG("%s", self->said);
}

/* A wrong bit is found, in each direction. */
TEST_F(tool, bench_finds_wrong_data)
{
	const struct p2p_client *disk = scratch_disk();

	if (!disk)
		SKIP(return, "writes to a disk, allow it with P2PDMA_SCRATCH");
	ASSERT_TRUE(put(disk, 0));
	EXPECT_EQ(1, RUN("bench", "--op=read", "--path=host", "--client", disk->path,
			 "--test-corrupt", FEW));
	EXPECT_TRUE(has_said(self->said, "DATA WRONG"));
	EXPECT_EQ(1, RUN("bench", "--op=write", "--path=host", "--scratch", disk->path,
			 "--test-corrupt", FEW));
	EXPECT_TRUE(has_said(self->said, "DATA WRONG"));
	EXPECT_EQ(NULL, strstr(self->said, "verified, all is well"));
}

/*
 * Both directions of the bus, without a word on the medium: in one the
 * controller compares. A wrong bit is found in each.
 */
TEST_F(tool, verify_writes_nothing)
{
	unsigned int verified = 0, pairs = 0;

	for (struct pair pair = {}; next_pair(&pair); pairs++) {
		/* --expect= and --scratch=: not what is in the environment */
		EXPECT_EQ(pair.refused ? 1 : 0,
			  RUN("verify", "--json", "--expect=", "--scratch=",
			      "--provider", pair.provider->bdf, "--client", pair.client->path,
			      "--size=4K", "--size=256K"))
			TH_LOG("%s", self->said);
		EXPECT_TRUE(has_said(self->said, "\"by\": \"compare\""));
		EXPECT_TRUE(has_said(self->said, "\"bus\": \"peer-read\""));
		EXPECT_TRUE(has_said(self->said, pair.refused ? "\"verdict\": \"refused\"" :
							   "\"verdict\": \"ok\""));
		EXPECT_EQ(pair.written, sectors_written(pair.client));
		if (pair.refused)
			continue;
		verified++;
		EXPECT_EQ(1, RUN("verify", "--only=write", "--expect=", "--scratch=",
				 "--provider", pair.provider->bdf, "--client", pair.client->path,
				 "--size=4K", "--test-corrupt"));
		EXPECT_TRUE(has_said(self->said, "DATA WRONG"));
	}
	if (!pairs)
		SKIP(return, NO_PAIRS);
	if (!verified)
		ksft_print_msg("all pairs are refused here\n");
}

/* What is predicted, and what the kernel says of a pair, are in one cell. */
TEST_F(tool, topo_asks_the_kernel)
{
	EXPECT_EQ(0, RUN("topo", "--ask"))
		TH_LOG("%s", self->said);
	EXPECT_TRUE(has_said(self->said, "= the kernel says the same"));
	EXPECT_EQ(0, RUN("topo", "--ask", "--json"));
	EXPECT_TRUE(has_said(self->said, "\"asked\": {"));
	EXPECT_EQ(2, RUN("topo", "--ask", "--from", "/"));
}

TEST_F(tool, nonsense)
{
	EXPECT_EQ(2, RUN("bind", "ff:1f.7"));
	EXPECT_TRUE(has_said(self->said, "there is no PCI function"));
	EXPECT_EQ(2, RUN("publish", "00:00.0"));
	EXPECT_TRUE(has_said(self->said, "no driver"));
}

int main(int argc, char **argv)
{
	const char *module = getenv("P2PDMA_PROVIDER_KO");
	char own[PATH_MAX] = "";

	if (p2p_help(argc, argv,
		     "Runs p2pdma list, bind, unbind, publish, unpublish, bench, verify and topo, and\n"
		     "looks at what the kernel made of it. The program p2pdma is looked for beside this one;\n"
		     "P2PDMA_PROVIDER_KO names the file of the driver's module."))
		return test_harness_run(argc, argv);
	if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
		ksft_exit_fail_msg("/proc/self/exe: %s\n", strerror(errno));
	if ((size_t)snprintf(tool, sizeof(tool), "%s/p2pdma", dirname(own)) >= sizeof(tool))
		ksft_exit_fail_msg("the path is too long\n");
	if (access(tool, X_OK))
		ksft_exit_skip("%s: the program p2pdma is not there\n", tool);
	if (module)
		snprintf(module_option, sizeof(module_option), "--module=%s", module);
	p2p_discover();
	return test_harness_run(argc, argv);
}
