// SPDX-License-Identifier: GPL-2.0
/*
 * Redirection by ACS, bit by bit: which of a port's bits count, for ports on the
 * provider's and on the client's side of the path, and which ports the kernel
 * names to whoever asks. The bits are set behind the kernel's back, which looks
 * at them whenever it works out a distance; so this is for virtual machines.
 *
 * The host must be one whose bridges the kernel does not know: a pair whose
 * traffic is redirected is refused then.
 */
#include <fcntl.h>
#include <limits.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define SYS_PCI		"/sys/bus/pci/devices"
#define MAX_PORTS	16
#define MAX_ENTRIES	4

#define EXT_CAPS	0x100
#define EXT_CAP_ACS	0x0d
#define ACS_CTRL	6
#define REDIRECTS	(0x04 | 0x08 | 0x20)

static size_t page;

static const struct {
	const char *name;
	uint16_t bit;
} bits[] = {
	{ "Source Validation", 0x01 },
	{ "Translation Blocking", 0x02 },
	{ "P2P Request Redirect", 0x04 },
	{ "P2P Completion Redirect", 0x08 },
	{ "Upstream Forwarding", 0x10 },
	{ "P2P Egress Control", 0x20 },
	{ "Direct Translated P2P", 0x40 },
};

/**
 * struct port - a port between the two that has ACS
 * @bdf: its address
 * @config: its configuration space
 * @at: where in there the ACS Control register is
 * @old: what it was
 */
struct port {
	char bdf[16];
	int config, at;
	uint16_t old;
};

FIXTURE(acs) {
	int dev, kmsg;
	int64_t id;
	struct port port[MAX_PORTS];
	int ports;
};

FIXTURE_VARIANT(acs) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

static uint16_t acs_read(const struct port *port)
{
	uint16_t value = 0xffff;

	if (pread(port->config, &value, sizeof(value), port->at) !=
	    sizeof(value))
		return 0xffff;
	return value;
}

static bool acs_write(const struct port *port, uint16_t value)
{
	return pwrite(port->config, &value, sizeof(value), port->at) ==
	       sizeof(value);
}

/* Adds a port if it has ACS: in the order in which the kernel looks. */
static void add_port(struct port *port, int *ports, const char *bdf)
{
	struct port *p = &port[*ports];
	char path[PATH_MAX];
	uint32_t header;
	int cap;

	snprintf(path, sizeof(path), SYS_PCI "/%s/config", bdf);
	p->config = open(path, O_RDWR | O_CLOEXEC);
	if (p->config < 0)
		return;
	for (cap = EXT_CAPS; cap; cap = header >> 20) {
		if (pread(p->config, &header, 4, cap) != 4 || !header ||
		    header == ~0U)
			break;
		if ((header & 0xffff) != EXT_CAP_ACS)
			continue;
		snprintf(p->bdf, sizeof(p->bdf), "%s", bdf);
		p->at = cap + ACS_CTRL;
		p->old = acs_read(p);
		(*ports)++;
		return;
	}
	close(p->config);
}

/* The functions above a device, from the top down: their number. */
static int above(const char *bdf, char functions[][16])
{
	char link[PATH_MAX], real[PATH_MAX], *part, *save = NULL;
	unsigned int domain, bus, device, function;
	int n = 0;

	snprintf(link, sizeof(link), SYS_PCI "/%s", bdf);
	if (!realpath(link, real))
		return 0;
	for (part = strtok_r(real, "/", &save); part && n < MAX_PORTS;
	     part = strtok_r(NULL, "/", &save)) {
		if (sscanf(part, "%x:%x:%x.%x", &domain, &bus, &device,
			   &function) == 4 && strlen(part) < 16)
			strcpy(functions[n++], part);
	}
	return n ? n - 1 : 0;
}

/* The ports with ACS from one to the other, below and at what they share. */
static int find_ports(struct port *port, const char *provider,
		      const char *client)
{
	char from[MAX_PORTS][16], to[MAX_PORTS][16];
	int n = above(provider, from), m = above(client, to);
	int common = 0, ports = 0;

	while (common < n && common < m && !strcmp(from[common], to[common]))
		common++;
	if (!common)
		return 0;
	for (int i = n - 1; i >= common - 1; i--)
		add_port(port, &ports, from[i]);
	for (int i = m - 1; i >= common; i--)
		add_port(port, &ports, to[i]);
	return ports;
}

FIXTURE_SETUP(acs)
{
	if (!variant)
		SKIP(return, "no port with ACS is between a provider and a namespace");
	/* so that the teardown restores what there is */
	self->ports = find_ports(self->port, variant->provider->bdf,
				 variant->client->bdf);
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	self->id = h_memory(self->dev, variant->provider->bdf, page, 1);
	ASSERT_LT(0, self->id);
	for (int i = 0; i < self->ports; i++)
		ASSERT_TRUE(acs_write(&self->port[i],
				      self->port[i].old & ~REDIRECTS));
}

static int64_t ask(struct __test_metadata *_metadata, int dev,
		   const char *provider, const char *client,
		   unsigned int flags)
{
	uint64_t function = h_function(client);
	struct p2pdma_test_distance args = {
		.flags = flags,
		.provider = h_function(provider),
		.clients = h_pointer(&function),
		.nr_clients = 1,
	};

	EXPECT_EQ(0, h_distance(dev, &args));
	return args.ret;
}

FIXTURE_TEARDOWN(acs)
{
	if (!variant)
		return;
	for (int i = 0; i < self->ports; i++) {
		EXPECT_TRUE(acs_write(&self->port[i], self->port[i].old));
		close(self->port[i].config);
	}
	/* the kernel keeps what it found last */
	ask(_metadata, self->dev, variant->provider->bdf, variant->client->bdf,
	    0);
	close(self->dev);
	close(self->kmsg);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* What the kernel makes of the pair: its distance, and the way to map for it. */
static void expect_redirected(struct __test_metadata *_metadata, int dev,
			      uint32_t id, const struct p2p_provider *provider,
			      const struct p2p_client *client, bool redirected)
{
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args = {
		.id = id,
		.direction = P2PDMA_TEST_BIDIRECTIONAL,
		.client = h_function(client->bdf),
		.entries = h_pointer(dma),
		.nr_entries = MAX_ENTRIES,
	};
	int64_t dist = ask(_metadata, dev, provider->bdf, client->bdf, 0);

	EXPECT_EQ(redirected, dist == -1)
		TH_LOG("distance %ld", (long)dist);
	ASSERT_EQ(0, h_map(dev, &args));
	EXPECT_EQ(redirected ? -EREMOTEIO : 0, args.ret);
	EXPECT_EQ(redirected ? P2PDMA_TEST_MAP_NONE : P2PDMA_TEST_MAP_BUS_ADDR,
		  (int)args.type);
	/* the path is the same the other way round */
	EXPECT_EQ(dist, ask(_metadata, dev, client->bdf, provider->bdf, 0));
}

/* Each bit of each port alone: three of them redirect. */
TEST_F(acs, each_bit)
{
	int counted = 0;

	expect_redirected(_metadata, self->dev, self->id, variant->provider,
			  variant->client, false);
	for (int i = 0; i < self->ports; i++) {
		const struct port *port = &self->port[i];

		for (size_t j = 0; j < ARRAY_SIZE(bits); j++) {
			ASSERT_TRUE(acs_write(port, bits[j].bit));
			if (acs_read(port) != bits[j].bit) {
				ksft_print_msg("%s: has no %s\n", port->bdf,
					       bits[j].name);
				continue;
			}
			expect_redirected(_metadata, self->dev, self->id,
					  variant->provider, variant->client,
					  bits[j].bit & REDIRECTS);
			if (_metadata->exit_code == KSFT_FAIL)
				TH_LOG("%s: %s", port->bdf, bits[j].name);
			counted += !!(bits[j].bit & REDIRECTS);
		}
		ASSERT_TRUE(acs_write(port, port->old & ~REDIRECTS));
	}
	EXPECT_LE(2 * self->ports, counted);
	expect_redirected(_metadata, self->dev, self->id, variant->provider,
			  variant->client, false);
}

/* The parameter that the kernel says would help, or nothing. */
static void told(int kmsg, const char *client, char *value, size_t len)
{
	static const char key[] = "pci=disable_acs_redir=";
	char text[1024], *start;

	*value = '\0';
	while (kmsg_next(kmsg, text, sizeof(text))) {
		start = strstr(text, key);
		if (start && strstr(text, client))
			snprintf(value, len, "%s", start + strlen(key));
	}
}

/* Whoever asks why is told of each port that redirects, and of no other. */
TEST_F(acs, named)
{
	for (unsigned int set = 0; set < 1U << self->ports; set++) {
		char expected[256] = "", value[512];

		for (int i = 0; i < self->ports; i++) {
			const struct port *port = &self->port[i];
			bool redirects = set & 1U << i;

			ASSERT_TRUE(acs_write(port, redirects ? 0x04 : 0));
			if (redirects)
				snprintf(expected + strlen(expected),
					 sizeof(expected) - strlen(expected),
					 "%s%s", *expected ? ";" : "",
					 port->bdf);
		}
		kmsg_skip(self->kmsg);
		EXPECT_EQ(set ? -1 : 0,
			  ask(_metadata, self->dev, variant->provider->bdf,
			      variant->client->bdf,
			      P2PDMA_TEST_DISTANCE_VERBOSE) < 0 ? -1 : 0);
		told(self->kmsg, variant->client->bdf, value, sizeof(value));
		EXPECT_STREQ(expected, value);
	}
}

/*
 * Traffic that is redirected from now on must not go by bus address, even if
 * nobody has asked for a distance since. The kernel looks at the ports only when
 * somebody does, and keeps what it found for all mappings.
 */
TEST_F(acs, set_between_mappings)
{
	struct p2pdma_test_dma dma[MAX_ENTRIES];
	struct p2pdma_test_map args = {
		.id = self->id,
		.direction = P2PDMA_TEST_BIDIRECTIONAL,
		.client = h_function(variant->client->bdf),
		.entries = h_pointer(dma),
		.nr_entries = MAX_ENTRIES,
	};
	int stale = 0, refused = 0;

	for (int i = 0; i < self->ports; i++) {
		const struct port *port = &self->port[i];

		expect_redirected(_metadata, self->dev, self->id,
				  variant->provider, variant->client, false);
		ASSERT_TRUE(acs_write(port, REDIRECTS));
		ASSERT_NE(0, acs_read(port) & REDIRECTS);
		ASSERT_EQ(0, h_map(self->dev, &args));
		stale += args.type == P2PDMA_TEST_MAP_BUS_ADDR;
		/* once it is asked, it knows */
		expect_redirected(_metadata, self->dev, self->id,
				  variant->provider, variant->client, true);
		/* and the other way round, which does no harm */
		ASSERT_TRUE(acs_write(port, port->old & ~REDIRECTS));
		ASSERT_EQ(0, h_map(self->dev, &args));
		refused += args.type == P2PDMA_TEST_MAP_NONE;
	}
	if (stale || refused)
		P2P_XFAIL("acs-map-type-stale: bus addresses past %d of %d ports, refusals past %d",
			  stale, self->ports, refused);
}

/* ---- ports that redirect from the boot on -------------------------------- */

FIXTURE(list) {
	int dev, kmsg;
};

FIXTURE_VARIANT(list) {
	const struct p2p_provider *provider;
	const struct p2p_client *client;
};

FIXTURE_SETUP(list)
{
	if (!variant)
		SKIP(return, "no port redirects");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
}

FIXTURE_TEARDOWN(list)
{
	if (!variant)
		return;
	close(self->dev);
	close(self->kmsg);
}

/* However many there are, nothing is named that is not there. */
TEST_F(list, whole)
{
	struct port port[MAX_PORTS];
	char value[512], *name, *save = NULL;
	int redirecting = 0, named = 0, wrong = 0;
	int ports = find_ports(port, variant->provider->bdf,
			       variant->client->bdf);

	kmsg_skip(self->kmsg);
	ask(_metadata, self->dev, variant->provider->bdf, variant->client->bdf,
	    P2PDMA_TEST_DISTANCE_VERBOSE);
	told(self->kmsg, variant->client->bdf, value, sizeof(value));
	for (int i = 0; i < ports; i++) {
		redirecting += !!(port[i].old & REDIRECTS);
		close(port[i].config);
	}
	for (name = strtok_r(value, "; ", &save); name && *name != '(';
	     name = strtok_r(NULL, "; ", &save)) {
		bool known = false;

		for (int i = 0; i < ports; i++)
			known |= (port[i].old & REDIRECTS) &&
				 !strcmp(name, port[i].bdf);
		named += known;
		wrong += !known;
	}
	EXPECT_LT(0, named);
	if (wrong)
		P2P_XFAIL("acs-list-cut: %d of %d ports are named, and %d that is not there",
			  named, redirecting, wrong);
	else if (!name)
		/* otherwise it says in brackets that there are more */
		EXPECT_EQ(redirecting, named);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv, "Redirection by ACS, bit by bit"))
		return test_harness_run(argc, argv);
	p2p_discover();
	p2p_require_clients();
	h_require();
	if (!getenv("P2PDMA_TOPOLOGY"))
		ksft_exit_skip("it changes what ports do: set P2PDMA_TOPOLOGY in a VM\n");

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		for (unsigned int j = 0; j < p2p.nr_clients; j++) {
			const struct p2p_provider *p = &p2p.provider[i];
			const struct p2p_client *c = &p2p.client[j];
			struct port port[MAX_PORTS];
			bool redirects = false;
			int ports;

			FIXTURE_VARIANT(acs) v = { p, c };
			FIXTURE_VARIANT(list) list = { p, c };

			if (!strcmp(p->bdf, c->bdf))
				continue;
			ports = find_ports(port, p->bdf, c->bdf);
			for (int k = 0; k < ports; k++) {
				redirects |= port[k].old & REDIRECTS;
				close(port[k].config);
			}
			if (redirects)
				P2P_VARIANT_ADD(list, list, "%s@%s>%s", p->kind,
						p->bdf, c->label);
			if (ports && p2p_expect(p, c).verdict == P2P_BUS_ADDR)
				P2P_VARIANT_ADD(acs, v, "%s@%s>%s", p->kind,
						p->bdf, c->label);
		}
	}
	return test_harness_run(argc, argv);
}
