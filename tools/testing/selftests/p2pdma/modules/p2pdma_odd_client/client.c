// SPDX-License-Identifier: GPL-2.0
/*
 * Clients as no virtual machine has them: with DMA operations of their own, which
 * do not know peer-to-peer memory, as some architectures and Xen set them; and
 * untrusted, as what is plugged into a Thunderbolt port. A PCI function becomes
 * one while its address is in a parameter of this module:
 *
 *	echo 0000:05:00.0 >/sys/module/p2pdma_odd_client/parameters/foreign
 *	echo >/sys/module/p2pdma_odd_client/parameters/foreign
 *
 * Its driver must not do DMA meanwhile. What the kernel makes of such a client, past
 * the library, is asked for with a third one, the provider first:
 *
 *	echo 0000:03:00.0 0000:05:00.0 >/sys/module/p2pdma_odd_client/parameters/map
 *
 * and read from it: what dma_map_sgtable() returned for a page of the provider;
 * whether SG_DMA_SWIOTLB was still set when that was unmapped; and whether the list,
 * which was mapped for the provider itself before, is another than it was.
 */

#include <linux/cleanup.h>
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>

/* What becomes of a client, and which one it is. */
struct oddity {
	const char *name;
	int (*set)(struct pci_dev *pdev);
	void (*clear)(struct pci_dev *pdev);
	struct pci_dev *client;
};

static DEFINE_MUTEX(lock);

#ifdef CONFIG_ARCH_HAS_DMA_OPS
static int refuse_sg(struct device *dev, struct scatterlist *sgl, int nents,
		     enum dma_data_direction dir, unsigned long attrs)
{
	dev_err(dev, "odd client: asked to map what it does not know\n");
	return -EIO;
}

static const struct dma_map_ops foreign_ops = { .map_sg = refuse_sg };

static int set_foreign(struct pci_dev *pdev)
{
	if (pdev->dev.dma_ops)
		return -EBUSY;
	set_dma_ops(&pdev->dev, &foreign_ops);
	return 0;
}

static void clear_foreign(struct pci_dev *pdev)
{
	set_dma_ops(&pdev->dev, NULL);
}
#else
static int set_foreign(struct pci_dev *pdev)
{
	return -EOPNOTSUPP;
}

static void clear_foreign(struct pci_dev *pdev)
{
}
#endif

static int set_untrusted(struct pci_dev *pdev)
{
	if (pdev->untrusted)
		return -EBUSY;
	pdev->untrusted = true;
	return 0;
}

static void clear_untrusted(struct pci_dev *pdev)
{
	pdev->untrusted = false;
}

static struct oddity foreign = { "foreign", set_foreign, clear_foreign };
static struct oddity untrusted = { "untrusted", set_untrusted, clear_untrusted };

static void end(struct oddity *oddity)
{
	if (!oddity->client)
		return;
	oddity->clear(oddity->client);
	pci_dev_put(oddity->client);
	oddity->client = NULL;
}

/* The function at an address, which has to be put, or an error. */
static struct pci_dev *find(const char *address)
{
	unsigned int domain, bus, slot, function;
	struct pci_dev *pdev;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4 ||
	    bus > 0xff || slot > 0x1f || function > 7)
		return ERR_PTR(-EINVAL);
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
	return pdev ?: ERR_PTR(-ENODEV);
}

static int set_client(const char *value, const struct kernel_param *kp)
{
	struct oddity *oddity = kp->arg;
	struct pci_dev *pdev;
	int error;

	guard(mutex)(&lock);
	if (sysfs_streq(value, "")) {
		end(oddity);
		return 0;
	}
	if (oddity->client)
		return -EBUSY;
	pdev = find(value);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	error = oddity->set(pdev);
	if (error) {
		pci_dev_put(pdev);
		return error;
	}
	oddity->client = pdev;
	return 0;
}

static int get_client(char *buffer, const struct kernel_param *kp)
{
	struct oddity *oddity = kp->arg;

	guard(mutex)(&lock);
	return sysfs_emit(buffer, "%s\n",
			  oddity->client ? pci_name(oddity->client) : "");
}

static const struct kernel_param_ops client_ops = {
	.set = set_client,
	.get = get_client,
};

module_param_cb(foreign, &client_ops, &foreign, 0600);
MODULE_PARM_DESC(foreign, "PCI function with DMA operations of its own");
module_param_cb(untrusted, &client_ops, &untrusted, 0600);
MODULE_PARM_DESC(untrusted, "PCI function that is not trusted");

/* What came of the last mapping. */
static int mapped;
static bool marked, spoiled;

static int map_page(struct pci_dev *provider, struct pci_dev *client)
{
	struct sg_table table;
	unsigned int offset, length;

	/* neither is unbound meanwhile, and the provider has a pool */
	guard(device)(&client->dev);
	if (!device_is_bound(&client->dev))
		return -ENODEV;
	table.sgl = pci_p2pmem_alloc_sgl(provider, &table.orig_nents, PAGE_SIZE);
	if (!table.sgl)
		return -ENOMEM;
	table.nents = table.orig_nents;
	offset = table.sgl->offset;
	length = table.sgl->length;
	if (!dma_map_sgtable(&provider->dev, &table, DMA_BIDIRECTIONAL, 0))
		dma_unmap_sgtable(&provider->dev, &table, DMA_BIDIRECTIONAL, 0);
	mapped = dma_map_sgtable(&client->dev, &table, DMA_BIDIRECTIONAL, 0);
	if (!mapped)
		dma_unmap_sgtable(&client->dev, &table, DMA_BIDIRECTIONAL, 0);
	marked = sg_dma_is_swiotlb(table.sgl);
	spoiled = table.sgl->offset != offset || table.sgl->length != length;
	/* what pci_p2pmem_free_sgl() would give back otherwise is not the page */
	table.sgl->offset = offset;
	table.sgl->length = length;
	pci_p2pmem_free_sgl(provider, table.sgl);
	return 0;
}

static int set_map(const char *value, const struct kernel_param *kp)
{
	struct pci_dev *provider, *client;
	const char *second = strchr(value, ' ');
	int error;

	guard(mutex)(&lock);
	if (!second)
		return -EINVAL;
	provider = find(value);
	if (IS_ERR(provider))
		return PTR_ERR(provider);
	client = find(second + 1);
	if (IS_ERR(client)) {
		pci_dev_put(provider);
		return PTR_ERR(client);
	}
	if (provider == client)
		error = -EINVAL;
	else
		scoped_guard(device, &provider->dev)
			error = rcu_access_pointer(provider->p2pdma) ?
				map_page(provider, client) : -ENODEV;
	pci_dev_put(client);
	pci_dev_put(provider);
	return error;
}

static int get_map(char *buffer, const struct kernel_param *kp)
{
	guard(mutex)(&lock);
	return sysfs_emit(buffer, "%d %d %d\n", mapped, marked, spoiled);
}

static const struct kernel_param_ops map_ops = {
	.set = set_map,
	.get = get_map,
};

module_param_cb(map, &map_ops, NULL, 0600);
MODULE_PARM_DESC(map, "provider and client of a mapping, and what came of it");

static int __init odd_client_init(void)
{
	return 0;
}
module_init(odd_client_init);

static void __exit odd_client_exit(void)
{
	end(&foreign);
	end(&untrusted);
}
module_exit(odd_client_exit);

MODULE_DESCRIPTION("Test clients of peer-to-peer memory that no virtual machine has");
MODULE_LICENSE("GPL");
