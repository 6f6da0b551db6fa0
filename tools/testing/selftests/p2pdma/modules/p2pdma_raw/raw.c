// SPDX-License-Identifier: GPL-2.0
/*
 * What pci_p2pdma_add_resource() and others check themselves, and the references
 * that they take and drop. The library looks at its arguments before it calls
 * them, so only a driver in C gets there. It is bound by driver_override, to a
 * device with memory in BAR 2, if all was refused that has to be, and what has to
 * be accepted was; its memory is then the end of that BAR.
 */

#include <linux/device/faux.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#define BAR	2
#define PART	SZ_2M	/* that is provided, and that memory is aligned to */

struct refusal {
	const char *what;
	int bar, error;
	size_t size;
	u64 offset;
};

static int check(struct pci_dev *pdev, const struct refusal *refusal)
{
	int error = pci_p2pdma_add_resource(pdev, refusal->bar, refusal->size,
					    refusal->offset);

	if (error == refusal->error && !rcu_access_pointer(pdev->p2pdma))
		return 0;
	pci_err(pdev, "%s, BAR %d: expected %d, got %d%s\n", refusal->what,
		refusal->bar, refusal->error, error,
		rcu_access_pointer(pdev->p2pdma) ? ", and it left something" : "");
	return -EPROTO;
}

/* Says what is not as it should be, and what is not right in it. */
static int wrong(struct pci_dev *pdev, const char *what, long long got)
{
	pci_err(pdev, "%s: got %lld\n", what, got);
	return -EPROTO;
}

/* What a device that provides nothing is answered. */
static int check_without(struct pci_dev *pdev)
{
	struct device *client = &pdev->dev;
	struct scatterlist *sgl;
	unsigned int nents = 17;
	void *memory;
	char byte;

	if (pci_p2pdma_distance_many(pdev, &client, 0, true) != -1)
		return wrong(pdev, "distance to nobody", 0);
	if (pci_p2pmem_virt_to_bus(pdev, &byte))
		return wrong(pdev, "bus address of what is not there", 0);
	pci_p2pmem_publish(pdev, true);
	memory = pci_alloc_p2pmem(pdev, PAGE_SIZE);
	if (memory)
		return wrong(pdev, "memory of what provides none", 0);
	sgl = pci_p2pmem_alloc_sgl(pdev, &nents, PAGE_SIZE);
	if (sgl || nents != 17)
		return wrong(pdev, "scatterlist of what provides none", nents);
	return 0;
}

/* Of each BAR with memory there is a provider, once somebody asked for them. */
static int check_providers(struct pci_dev *pdev)
{
	struct p2pdma_provider *provider;
	int error = pcim_p2pdma_init(pdev);

	/* the second time, it is there already */
	if (!error)
		error = pcim_p2pdma_init(pdev);
	if (error)
		return wrong(pdev, "pcim_p2pdma_init()", error);
	for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		bool memory = pci_resource_flags(pdev, bar) & IORESOURCE_MEM;

		provider = pcim_p2pdma_provider(pdev, bar);
		if (memory != !!provider)
			return wrong(pdev, "provider of BAR", bar);
		if (!memory)
			continue;
		if (provider->owner != &pdev->dev ||
		    provider->bus_offset != pci_bus_address(pdev, bar) -
					    pci_resource_start(pdev, bar))
			return wrong(pdev, "owner or offset of BAR", bar);
		pdev->non_mappable_bars = 1;
		provider = pcim_p2pdma_provider(pdev, bar);
		pdev->non_mappable_bars = 0;
		if (provider)
			return wrong(pdev, "provider of an unmappable BAR", bar);
	}
	return 0;
}

static int check_show(struct pci_dev *pdev, struct pci_dev *shown, bool use,
		      const char *expected)
{
	char *page = kzalloc(PAGE_SIZE, GFP_KERNEL);
	ssize_t len;
	int error = 0;

	if (!page)
		return -ENOMEM;
	len = pci_p2pdma_enable_show(page, shown, use);
	if (len != strlen(page) || !sysfs_streq(page, expected))
		error = wrong(pdev, expected, len);
	kfree(page);
	return error;
}

static int check_store(struct pci_dev *pdev, const char *value, int expected,
		       bool expect_use, struct pci_dev *expect_dev)
{
	struct pci_dev *dev = NULL;
	bool use = !expect_use;
	int ret = pci_p2pdma_enable_store(value, &dev, &use);

	if (ret != expected)
		return wrong(pdev, value, ret);
	if (ret)
		return 0;
	if (use != expect_use || dev != expect_dev)
		return wrong(pdev, value, use);
	pci_dev_put(dev);
	return 0;
}

/* Values of attributes: devices that are published, and words for yes and no. */
static int check_attributes(struct pci_dev *pdev)
{
	const char *name = pci_name(pdev);
	int error;

	pci_p2pmem_publish(pdev, false);
	error = check_store(pdev, name, -ENODEV, false, NULL);
	pci_p2pmem_publish(pdev, true);
	return error ?:
	       check_store(pdev, name, 0, true, pdev) ?:
	       check_store(pdev, "y\n", 0, true, NULL) ?:
	       check_store(pdev, "off\n", 0, false, NULL) ?:
	       check_store(pdev, "0", 0, false, NULL) ?:
	       check_store(pdev, "1\n", 0, true, NULL) ?:
	       check_store(pdev, "0000:ff:1f.7", -ENODEV, false, NULL) ?:
	       check_store(pdev, "10", -ENODEV, false, NULL) ?:
	       check_store(pdev, "zero", -ENODEV, false, NULL) ?:
	       check_show(pdev, pdev, false, "0") ?:
	       check_show(pdev, NULL, true, "1") ?:
	       check_show(pdev, pdev, true, name);
}

/* Providers that are found, for itself and for what has it as a parent. */
static int check_find(struct pci_dev *pdev, struct device *child,
		      struct device *stranger)
{
	struct device *clients[] = { &pdev->dev, child };
	struct pci_dev *found;
	int dist;

	dist = pci_p2pdma_distance_many(pdev, clients, ARRAY_SIZE(clients), false);
	if (dist)
		return wrong(pdev, "distance to itself and its child", dist);
	dist = pci_p2pdma_distance_many(pdev, &stranger, 1, false);
	if (dist != -1)
		return wrong(pdev, "distance to what is below no PCI device", dist);
	found = pci_p2pmem_find_many(clients, ARRAY_SIZE(clients));
	pci_dev_put(found);
	if (found != pdev)
		return wrong(pdev, "another one was found for itself", 0);
	found = pci_p2pmem_find_many(&stranger, 1);
	pci_dev_put(found);
	if (found)
		return wrong(pdev, "found for what is below no PCI device", 0);
	pci_p2pmem_publish(pdev, false);
	found = pci_p2pmem_find_many(clients, ARRAY_SIZE(clients));
	pci_p2pmem_publish(pdev, true);
	pci_dev_put(found);
	if (found == pdev)
		return wrong(pdev, "found though it is not published", 0);
	return 0;
}

/* Memory with its scatterlist, and what is left of it. */
static int check_memory(struct pci_dev *pdev)
{
	const pci_bus_addr_t start = pci_bus_address(pdev, BAR);
	const u64 len = pci_resource_len(pdev, BAR);
	struct scatterlist *sgl;
	unsigned int nents = 0;
	pci_bus_addr_t bus;

	if (pci_p2pmem_virt_to_bus(pdev, NULL))
		return wrong(pdev, "bus address of nothing", 0);
	sgl = pci_p2pmem_alloc_sgl(pdev, &nents, PART);
	if (!sgl || nents != 1 || sgl->length != PART)
		return wrong(pdev, "scatterlist of a part", nents);
	bus = pci_p2pmem_virt_to_bus(pdev, sg_virt(sgl));
	if (bus != start + len - PART && bus != start + len - 2 * PART)
		return wrong(pdev, "bus address of a part", bus - start);
	pci_p2pmem_free_sgl(pdev, sgl);
	sgl = pci_p2pmem_alloc_sgl(pdev, &nents, 2 * PART + 1);
	if (sgl)
		return wrong(pdev, "scatterlist of more than there is", nents);
	return 0;
}

/* The references to all PCI devices, and to two others. */
static long references(struct device *one, struct device *other)
{
	long sum = kref_read(&one->kobj.kref) + kref_read(&other->kobj.kref);
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev)
		sum += kref_read(&pdev->dev.kobj.kref);
	return sum;
}

/* All of it, again where somebody else took or dropped a reference meanwhile. */
static int check_calls(struct pci_dev *pdev)
{
	struct faux_device *child, *stranger;
	long before, change = 0;
	int error = -ENOMEM;

	child = faux_device_create("p2pdma_raw_child", &pdev->dev, NULL);
	stranger = faux_device_create("p2pdma_raw_stranger", NULL, NULL);
	if (!child || !stranger)
		goto out;
	for (int i = 0; i < 5; i++) {
		before = references(&child->dev, &stranger->dev);
		error = check_attributes(pdev) ?:
			check_find(pdev, &child->dev, &stranger->dev) ?:
			check_memory(pdev);
		change = references(&child->dev, &stranger->dev) - before;
		if (error || !change)
			break;
	}
	if (!error && change)
		error = wrong(pdev, "references that are not balanced", change);
out:
	if (stranger)
		faux_device_destroy(stranger);
	if (child)
		faux_device_destroy(child);
	pci_p2pmem_publish(pdev, false);
	return error;
}

static int raw_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const u64 len = pci_resource_len(pdev, BAR);
	const struct refusal refusals[] = {
		{ "more than there is", BAR, -EINVAL, len + PART, 0 },
		{ "all, from a later start", BAR, -EINVAL, len, PART },
		{ "one byte too many", BAR, -EINVAL, PART + 1, len - PART },
		{ "nothing, at the end", BAR, -EINVAL, 0, len },
		{ "from the end on", BAR, -EINVAL, PART, len },
		{ "past the end", BAR, -EINVAL, PART, len + PART },
	};
	const struct refusal unmappable = {
		"BARs that must not be mapped", BAR, -EOPNOTSUPP, PART, 0,
	};
	int error;

	if (len < 2 * PART)
		return -ENODEV;
	error = pcim_enable_device(pdev);
	if (error)
		return error;
	for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		const struct refusal no_memory = {
			"no memory", bar, -EINVAL, 0, 0,
		};

		if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM))
			error = check(pdev, &no_memory) ?: error;
	}
	for (int i = 0; i < ARRAY_SIZE(refusals); i++)
		error = check(pdev, &refusals[i]) ?: error;
	pdev->non_mappable_bars = 1;
	error = check(pdev, &unmappable) ?: error;
	pdev->non_mappable_bars = 0;
	error = error ?: check_without(pdev) ?: check_providers(pdev);
	if (error)
		return error;

	/* up to the last byte, whether the size is said or not */
	error = pci_p2pdma_add_resource(pdev, BAR, PART, len - 2 * PART);
	if (error)
		return dev_err_probe(&pdev->dev, error, "not the last but one\n");
	error = pci_p2pdma_add_resource(pdev, BAR, 0, len - PART);
	if (error)
		return dev_err_probe(&pdev->dev, error, "not the rest\n");
	return check_calls(pdev);
}

static struct pci_driver raw_driver = {
	.name = "p2pdma_raw",
	.probe = raw_probe,
};
module_pci_driver(raw_driver);

MODULE_DESCRIPTION("Tests what the kernel checks itself, past the library");
MODULE_LICENSE("GPL");
