// SPDX-License-Identifier: GPL-2.0
/*
 * Clients as no virtual machine has them: with DMA operations that do not know
 * peer-to-peer memory, and untrusted. The module p2pdma_odd_client makes devices
 * of p2pdma_provider such clients for a moment.
 */
#include <limits.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

static size_t page;

/* ---- what the library refuses ------------------------------------------ */

#define ODD_CLIENT	"/sys/module/p2pdma_odd_client/parameters/"

FIXTURE(odd_client) {
	int dev;
	char parameter[64];
};

FIXTURE_VARIANT(odd_client) {
	const struct p2p_provider *provider;
	const char *oddity;
};

FIXTURE_SETUP(odd_client)
{
	if (!variant)
		SKIP(return, "no device is bound to p2pdma_provider");
	snprintf(self->parameter, sizeof(self->parameter), ODD_CLIENT "%s",
		 variant->oddity);
	if (access(self->parameter, F_OK))
		SKIP(return, "module p2pdma_odd_client is not loaded");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(odd_client)
{
	if (!variant || self->dev <= 0)
		return;
	p2p_sysfs_write(self->parameter, "\n");
	close(self->dev);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* Maps a page of the provider for itself: 0, or a negative errno. */
static int64_t map_for_itself(struct __test_metadata *_metadata, int dev,
			      const struct p2p_provider *provider)
{
	struct p2pdma_test_dma dma[4];
	struct p2pdma_test_map args = {
		.client = h_function(provider->bdf),
		.entries = h_pointer(dma),
		.nr_entries = ARRAY_SIZE(dma),
	};
	int64_t id = h_memory(dev, provider->bdf, page, 1);

	EXPECT_LT(0, id);
	args.id = id;
	EXPECT_EQ(0, h_map(dev, &args));
	EXPECT_EQ(0, h_drop(dev, id));
	return args.ret;
}

/*
 * What DMA operations that are not the kernel's own would map as any other
 * memory, and bounce buffers be filled with by the CPU.
 */
TEST_F(odd_client, map)
{
	const struct p2p_provider *p = variant->provider;
	int64_t before = map_for_itself(_metadata, self->dev, p);
	int ret = p2p_sysfs_write(self->parameter, p->bdf);

	if (ret && errno == EOPNOTSUPP)
		SKIP(return, "needs CONFIG_ARCH_HAS_DMA_OPS=y");
	ASSERT_EQ(0, ret)
		TH_LOG("%s", strerror(errno));
	EXPECT_EQ(-EOPNOTSUPP, map_for_itself(_metadata, self->dev, p));
	EXPECT_EQ(0, p2p_sysfs_write(self->parameter, "\n"));
	EXPECT_EQ(before, map_for_itself(_metadata, self->dev, p));
}

/* ---- what the kernel makes of them, past the library -------------------- */

#define ODD_CLIENT_MAP	ODD_CLIENT "map"

/* What came of a mapping, without the library. */
struct outcome {
	int ret, marked, spoiled;
};

FIXTURE(untrusted) {
	struct outcome trusted;
};

FIXTURE_VARIANT(untrusted) {
	const struct p2p_provider *provider;
	const struct p2p_provider *client;
};

static void set_untrusted(struct __test_metadata *_metadata, const char *bdf)
{
	EXPECT_EQ(0, p2p_sysfs_write(ODD_CLIENT "untrusted", bdf))
		TH_LOG("%s", strerror(errno));
}

static struct outcome map_in_c(struct __test_metadata *_metadata,
			       const struct p2p_provider *provider,
			       const struct p2p_provider *client)
{
	struct outcome outcome = { .ret = 1 };
	char text[64];
	FILE *file;

	snprintf(text, sizeof(text), "%s %s", provider->bdf, client->bdf);
	EXPECT_EQ(0, p2p_sysfs_write(ODD_CLIENT_MAP, text))
		TH_LOG("%s", strerror(errno));
	file = fopen(ODD_CLIENT_MAP, "re");
	if (file) {
		EXPECT_EQ(3, fscanf(file, "%d %d %d", &outcome.ret,
				    &outcome.marked, &outcome.spoiled));
		fclose(file);
	}
	return outcome;
}

FIXTURE_SETUP(untrusted)
{
	if (!variant)
		SKIP(return, "needs two providers, one of them bound to p2pdma_provider");
	if (access(ODD_CLIENT_MAP, F_OK))
		SKIP(return, "module p2pdma_odd_client is not loaded");
	/* an earlier setup may have failed after it */
	set_untrusted(_metadata, "\n");
	self->trusted = map_in_c(_metadata, variant->provider, variant->client);
	EXPECT_TRUE(!self->trusted.ret || self->trusted.ret == -EREMOTEIO)
		TH_LOG("%d", self->trusted.ret);
	EXPECT_FALSE(self->trusted.marked);
	set_untrusted(_metadata, variant->client->bdf);
}

FIXTURE_TEARDOWN(untrusted)
{
	if (!variant || access(ODD_CLIENT_MAP, F_OK))
		return;
	set_untrusted(_metadata, "\n");
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

/* Who does not reach the provider, does not because it is less trusted. */
TEST_F(untrusted, refused)
{
	struct outcome outcome = map_in_c(_metadata, variant->provider,
					  variant->client);

	EXPECT_TRUE(!outcome.ret || outcome.ret == -EREMOTEIO)
		TH_LOG("%d", outcome.ret);
	if (self->trusted.ret && !outcome.ret)
		P2P_XFAIL("dma-iommu-untrusted: mapped, and refused when it is trusted");
}

/* Nothing of a mapping is left in the list when it was unmapped. */
TEST_F(untrusted, mark)
{
	struct outcome outcome = map_in_c(_metadata, variant->provider,
					  variant->client);

	EXPECT_TRUE(!outcome.marked || !outcome.ret);
	if (outcome.marked)
		P2P_XFAIL("dma-iommu-swiotlb-mark: the list is still marked as bounced");
}

/* A mapping that is refused, after another one, leaves the list as it is. */
TEST_F(untrusted, refused_when_trusted)
{
	EXPECT_TRUE(!self->trusted.spoiled || self->trusted.ret);
	if (self->trusted.spoiled)
		P2P_XFAIL("dma-iommu-invalidate: the list has another offset, or another length");
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "Clients with DMA operations of their own, and untrusted ones"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *client = &p2p.provider[i];

		FIXTURE_VARIANT(odd_client) foreign = { client, "foreign" };
		FIXTURE_VARIANT(odd_client) untrusted = { client, "untrusted" };

		/* an NVMe driver does DMA of its own meanwhile */
		if (strcmp(client->driver, "p2pdma_provider"))
			continue;
		P2P_VARIANT_ADD(odd_client, foreign, "foreign.%s@%s",
				client->kind, client->bdf);
		P2P_VARIANT_ADD(odd_client, untrusted, "untrusted.%s@%s",
				client->kind, client->bdf);

		for (unsigned int j = 0; j < p2p.nr_providers; j++) {
			const struct p2p_provider *p = &p2p.provider[j];

			FIXTURE_VARIANT(untrusted) pair = { p, client };

			if (p != client)
				P2P_VARIANT_ADD(untrusted, pair, "%s@%s>%s",
						p->kind, p->bdf, client->bdf);
		}
	}
	return test_harness_run(argc, argv);
}
