// SPDX-License-Identifier: GPL-2.0
/*
 * What the program p2pdma predicts, against what the kernel says: for every pair
 * of PCI functions, providers or not; how memory is mapped, for every provider
 * and namespace; and whether what it prints as a remedy for ACS is one.
 *
 * The program works all of it out from sysfs, and never asks the kernel.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define SYS_PCI		"/sys/bus/pci/devices"
#define TOOL		"p2pdma"
#define OUTPUT		0x100000
#define MAX_ENTRIES	4
#define MAX_PORTS	16

static size_t page;

/* What the program prints, in one line after the other; its exit status, or -1. */
static int run(char *output, const char * const argv[])
{
	size_t len = 0;
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	*output = '\0';
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fds[1], 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(fds[1]);
	while (len < OUTPUT - 1) {
		n = read(fds[0], output + len, OUTPUT - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	output[len] = '\0';
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Whether the program says that the pair can, and why: its exit status. */
static int check(char *output, const char *provider, const char *client)
{
	const char * const argv[] = { TOOL, "check", provider, client, NULL };

	return run(output, argv);
}

static int64_t ask(struct __test_metadata *_metadata, int dev,
		   const char *provider, const char *client)
{
	uint64_t function = h_function(client);
	struct p2pdma_test_distance args = {
		.provider = h_function(provider),
		.clients = h_pointer(&function),
		.nr_clients = 1,
	};

	EXPECT_EQ(0, h_distance(dev, &args))
		TH_LOG("%s - %s", provider, client);
	return args.ret;
}

/* ---- all pairs ----------------------------------------------------------- */

FIXTURE(machine) {
	int dev;
	char *output;
};

FIXTURE_SETUP(machine)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->output = malloc(OUTPUT);
	ASSERT_NE(NULL, self->output);
}

FIXTURE_TEARDOWN(machine)
{
	free(self->output);
	close(self->dev);
}

/* Any function can be the provider of any other. */
TEST_F(machine, every_pair)
{
	static const char * const argv[] = {
		TOOL, "topo", "--all", "--list", NULL
	};
	int pairs = 0, refused = 0, wrong = 0;
	char *line, *save = NULL;

	/* 1: the log holds what the kernel said before ACS was changed */
	ASSERT_LE(0, run(self->output, argv));
	for (line = strtok_r(self->output, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char provider[16], client[16], verdict[16];
		long long distance, expected;
		int fields;
		int64_t ret;

		fields = sscanf(line, "%15s %15s %15s %lld", provider, client,
				verdict, &distance);
		ASSERT_EQ(4, fields)
			TH_LOG("%s", line);
		expected = strcmp(verdict, "not-supported") ? distance : -1;
		ret = ask(_metadata, self->dev, provider, client);
		pairs++;
		refused += ret == -1;
		/* root knows all, so that nothing may be left open */
		if (ret != expected || !strcmp(verdict, "unknown") ||
		    !strcmp(verdict, "either")) {
			wrong++;
			TH_LOG("predicted: %s; the kernel: %lld", line,
			       (long long)ret);
		}
	}
	EXPECT_EQ(0, wrong);
	EXPECT_LT(0, pairs);
	ksft_print_msg("%d pairs, %d of them refused\n", pairs, refused);
}

/* ---- providers and namespaces -------------------------------------------- */

FIXTURE(pair) {
	int dev;
	int64_t id;
	char *output;
};

FIXTURE_VARIANT(pair) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(pair)
{
	if (!variant)
		SKIP(return, "there is no provider, or no namespace");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->output = malloc(OUTPUT);
	ASSERT_NE(NULL, self->output);
	self->id = h_memory(self->dev, variant->provider->bdf, page, 1);
	ASSERT_LT(0, self->id);
}

FIXTURE_TEARDOWN(pair)
{
	if (!variant)
		return;
	free(self->output);
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

static const char *map_name(unsigned int type)
{
	switch (type) {
	case P2PDMA_TEST_MAP_BUS_ADDR:
		return "supported, with bus addresses";
	case P2PDMA_TEST_MAP_HOST_BRIDGE:
		return "supported, through the host bridge";
	default:
		return "not supported";
	}
}

/* How memory is mapped is what was predicted, and a refusal has a cause. */
TEST_F(pair, mapping)
{
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args = {
		.id = self->id,
		.direction = P2PDMA_TEST_BIDIRECTIONAL,
		.client = h_function(variant->client->bdf),
		.entries = h_pointer(dma),
		.nr_entries = MAX_ENTRIES,
	};
	const char *end;
	int status;

	status = check(self->output, variant->provider->bdf,
		       variant->client->bdf);
	ASSERT_EQ(0, h_map(self->dev, &args));
	/* memory beyond the client's mask is told as such */
	if (args.ret == -ERANGE) {
		EXPECT_EQ(1, status);
		EXPECT_NE(NULL, strstr(self->output, "FAIL    dma-mask"));
	} else {
		EXPECT_EQ(args.type == P2PDMA_TEST_MAP_NONE, status);
		end = strstr(self->output, map_name(args.type));
		EXPECT_NE(NULL, end);
		if (args.type == P2PDMA_TEST_MAP_NONE)
			EXPECT_TRUE(strstr(self->output, "FAIL    acs") ||
				    strstr(self->output, "FAIL    host-bridge"));
	}
	if (_metadata->exit_code == KSFT_FAIL)
		TH_LOG("%s, error %lld:\n%s", map_name(args.type),
		       (long long)args.ret, self->output);
}

/* ---- remedies -------------------------------------------------------------- */

FIXTURE(remedy) {
	int dev;
	char *output;
	struct port {
		char bdf[16];
		uint16_t old;
	} port[MAX_PORTS];
	int ports;
};

FIXTURE_VARIANT(remedy) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(remedy)
{
	if (!variant) {
		/* where a remedy is expected, there is something to mend */
		ASSERT_EQ(NULL, getenv("P2PDMA_REMEDY"));
		SKIP(return, "ACS keeps no pair of p2pdma_provider from a bridge");
	}
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->output = malloc(OUTPUT);
	ASSERT_NE(NULL, self->output);
}

/* The ACS Control register, as setpci finds ECAP_ACS+6: changed under a mask. */
static bool set_acs(const char *bdf, uint16_t value, uint16_t mask,
		    uint16_t *old)
{
	char path[PATH_MAX];
	uint32_t header;
	bool done = false;
	int config, cap;

	snprintf(path, sizeof(path), SYS_PCI "/%s/config", bdf);
	config = open(path, O_RDWR | O_CLOEXEC);
	if (config < 0)
		return false;
	for (cap = 0x100; cap; cap = header >> 20) {
		if (pread(config, &header, 4, cap) != 4 || !header ||
		    header == ~0U)
			break;
		if ((header & 0xffff) != 0x0d)
			continue;
		if (pread(config, old, 2, cap + 6) != 2)
			break;
		value |= *old & ~mask;
		done = pwrite(config, &value, 2, cap + 6) == 2;
		break;
	}
	close(config);
	return done;
}

static void bind_again(struct __test_metadata *_metadata,
		       const struct p2p_provider *provider)
{
	EXPECT_EQ(0, p2p_unbind(provider));
	EXPECT_EQ(0, p2p_bind(provider));
}

FIXTURE_TEARDOWN(remedy)
{
	uint16_t old;

	if (!variant)
		return;
	for (int i = 0; i < self->ports; i++)
		EXPECT_TRUE(set_acs(self->port[i].bdf, self->port[i].old,
				    0xffff, &old));
	bind_again(_metadata, variant->provider);
	free(self->output);
	close(self->dev);
}

/* How the kernel maps a page of the provider for the client. */
static unsigned int map_type(struct __test_metadata *_metadata, int dev,
			     const char *provider, const char *client)
{
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args = {
		.direction = P2PDMA_TEST_BIDIRECTIONAL,
		.client = h_function(client),
		.entries = h_pointer(dma),
		.nr_entries = MAX_ENTRIES,
	};
	int64_t id;

	/* an error is no number of memory, but args.id has no sign */
	id = h_memory(dev, provider, page, 1);
	ASSERT_LT(0, id);
	args.id = id;
	ASSERT_EQ(0, h_map(dev, &args));
	ASSERT_EQ(0, h_drop(dev, args.id));
	return args.type;
}

/*
 * The commands that it prints, in the same boot: before that the pair is refused,
 * or goes through the host bridge, and after it does not. Nothing else is done
 * than what it says.
 */
TEST_F(remedy, setpci)
{
	const char *provider = variant->provider->bdf;
	const char *client = variant->client->bdf;
	bool refused = p2p_expect(variant->provider, variant->client).verdict ==
		       P2P_NOT_SUPPORTED;
	unsigned int before = refused ? P2PDMA_TEST_MAP_NONE :
					P2PDMA_TEST_MAP_HOST_BRIDGE;
	unsigned int after = P2PDMA_TEST_MAP_BUS_ADDR;
	unsigned int value, mask;
	char *at, bdf[16];

	EXPECT_EQ(refused, ask(_metadata, self->dev, provider, client) == -1);
	EXPECT_EQ(before, map_type(_metadata, self->dev, provider, client));
	EXPECT_EQ(refused, check(self->output, provider, client));
	EXPECT_NE(NULL, strstr(self->output, "\"pci=disable_acs_redir="));
	for (at = strstr(self->output, "setpci -s "); at;
	     at = strstr(at + 1, "setpci -s ")) {
		struct port *port = &self->port[self->ports];
		int fields = sscanf(at, "setpci -s %15s ECAP_ACS+6.w=%x:%x",
				    bdf, &value, &mask);

		ASSERT_EQ(3, fields);
		ASSERT_GT(MAX_PORTS, self->ports);
		ASSERT_TRUE(set_acs(bdf, value, mask, &port->old));
		strcpy(port->bdf, bdf);
		self->ports++;
	}
	ASSERT_LT(0, self->ports);
	bind_again(_metadata, variant->provider);
	EXPECT_LT(0, ask(_metadata, self->dev, provider, client));
	EXPECT_EQ(0, check(self->output, provider, client));
	EXPECT_EQ(after, map_type(_metadata, self->dev, provider, client));
}

/*
 * What is printed for the next boot: P2PDMA_REMEDY are the parameters with each
 * of which another topology, the same but for it, is booted. There the pairs are
 * allowed. What is printed is one of these, and each of these is printed.
 */
TEST_F(remedy, command_line)
{
	const char *booted = getenv("P2PDMA_REMEDY");
	int printed = 0, expected = 0;
	char *at, *end, *words, *save = NULL;

	if (!booted)
		SKIP(return, "no topology is booted with the remedy of this one");
	EXPECT_EQ(1, check(self->output, variant->provider->bdf,
			   variant->client->bdf));
	words = strdup(booted);
	ASSERT_NE(NULL, words);
	for (at = strtok_r(words, " ", &save); at;
	     at = strtok_r(NULL, " ", &save)) {
		char quoted[1024];

		snprintf(quoted, sizeof(quoted), "\"%s\"", at);
		EXPECT_NE(NULL, strstr(self->output, quoted))
			TH_LOG("%s is not in:\n%s", quoted, self->output);
		expected++;
	}
	free(words);
	for (at = self->output; (at = strstr(at, "\"pci=")); at = end + 1) {
		end = strchr(at + 1, '"');
		ASSERT_NE(NULL, end);
		TH_LOG("printed: %.*s", (int)(end - at - 1), at + 1);
		printed++;
	}
	EXPECT_EQ(expected, printed);
}

int main(int argc, char **argv)
{
	static const char * const version[] = { TOOL, "--version", NULL };
	char *output = malloc(OUTPUT);

	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv, "Predictions of p2pdma, against the kernel"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();
	if (!output)
		ksft_exit_fail_msg("out of memory\n");
	if (run(output, version)) {
		if (getenv("P2PDMA_TOPOLOGY"))
			ksft_exit_fail_msg("%s does not run\n", TOOL);
		ksft_exit_skip("the program %s is not in the PATH\n", TOOL);
	}
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			const struct p2p_provider *p = &p2p.provider[i];
			const struct p2p_client *c = &p2p.client[j];

			FIXTURE_VARIANT(pair) pair = { p, c };
			FIXTURE_VARIANT(remedy) remedy = { p, c };

			P2P_VARIANT_ADD(pair, pair, "%s@%s>%s", p->kind, p->bdf,
					c->label);
			/* ports are set in virtual machines only, and disks stay */
			if (!getenv("P2PDMA_TOPOLOGY") ||
			    strcmp(p->driver, "p2pdma_provider") ||
			    p2p_expect(p, c).verdict == P2P_BUS_ADDR ||
			    check(output, p->bdf, c->bdf) < 0 ||
			    !(strstr(output, "FAIL    acs") ||
			      strstr(output, "note    acs")))
				continue;
			P2P_VARIANT_ADD(remedy, remedy, "%s@%s>%s", p->kind,
					p->bdf, c->label);
		}
	}
	free(output);
	return test_harness_run(argc, argv);
}
