// SPDX-License-Identifier: GPL-2.0
/*
 * What pci_p2pdma_add_resource() and others check themselves, and the references
 * that they take and drop. The library looks at its arguments before it calls
 * them, so only a driver in C gets there. It is bound by driver_override, to a
 * device with memory in BAR 2, if all was refused that has to be, and what has to
 * be accepted was; its memory is then the end of that BAR.
 */

#include <linux/delay.h>
#include <linux/device/faux.h>
#include <linux/dma-mapping.h>
#include <linux/memremap.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>

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

/* Maps a page for a device, and takes it back. */
static int map_for(struct pci_dev *pdev, struct device *client)
{
	struct sg_table table = {};
	int error;

	table.sgl = pci_p2pmem_alloc_sgl(pdev, &table.nents, PAGE_SIZE);
	if (!table.sgl)
		return -ENOMEM;
	table.orig_nents = table.nents;
	error = dma_map_sgtable(client, &table, DMA_BIDIRECTIONAL, 0);
	if (!error)
		dma_unmap_sgtable(client, &table, DMA_BIDIRECTIONAL, 0);
	pci_p2pmem_free_sgl(pdev, table.sgl);
	return error;
}

/* Memory is mapped for PCI devices, and for no others. */
static int check_map(struct pci_dev *pdev)
{
	struct platform_device *client;
	int error;

	client = platform_device_register_simple("p2pdma_raw", PLATFORM_DEVID_NONE,
						 NULL, 0);
	if (IS_ERR(client))
		return PTR_ERR(client);
	error = dma_coerce_mask_and_coherent(&client->dev, DMA_BIT_MASK(64)) ?:
		map_for(pdev, &client->dev);
	platform_device_unregister(client);
	return error == -EREMOTEIO ? 0 :
	       wrong(pdev, "mapping for what is no PCI device", error);
}

/* Whether every host bridge of this machine is trusted: so is each with Zen. */
static bool trusts_all(void)
{
#ifdef CONFIG_X86
	return boot_cpu_data.x86_vendor == X86_VENDOR_AMD && boot_cpu_data.x86 >= 0x17;
#else
	return false;
#endif
}

/*
 * A port has an ACS Control register with every bit that there is: no port of
 * QEMU's has egress control. The device itself is the port, whose Interrupt Line
 * register stands for it: its bits can all be set, and mean nothing to a machine.
 */
#define CTRL	PCI_INTERRUPT_LINE

static u16 fake_port(struct pci_dev *pdev, u8 bits)
{
	u16 old = pdev->acs_cap;

	pci_write_config_byte(pdev, CTRL, bits);
	pdev->acs_cap = CTRL - PCI_ACS_CTRL;
	return old;
}

/* The distance to itself, by way of a port that redirects. */
static int redirected(struct pci_dev *pdev, u8 bits)
{
	struct device *client = &pdev->dev;
	u16 old = fake_port(pdev, bits);
	int dist = pci_p2pdma_distance_many(pdev, &client, 1, false);

	pdev->acs_cap = old;
	return dist;
}

/* Each bit of ACS by itself: three of them redirect. */
static int check_acs(struct pci_dev *pdev)
{
	for (int bit = 0; bit < 8; bit++) {
		bool redirects = BIT(bit) & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC);
		int dist = redirected(pdev, BIT(bit));

		if (dist != (redirects ? -1 : 0))
			return wrong(pdev, "distance with a bit of ACS", BIT(bit));
	}
	return 0;
}

/* What is redirected is trusted to host bridges that the kernel has a list of. */
static int check_list(struct pci_dev *pdev, struct pci_dev *root)
{
	static const struct {
		u16 vendor, device;
		bool trusted;
	} bridges[] = {
		{ PCI_VENDOR_ID_INTEL, 0x3c00, true },
		{ PCI_VENDOR_ID_INTEL, 0x2f01, true },
		{ PCI_VENDOR_ID_INTEL, 0x2033, true },
		{ PCI_VENDOR_ID_INTEL, 0x2034, false },
		{ PCI_VENDOR_ID_GOOGLE, 0x0001, true },
		{ PCI_VENDOR_ID_GOOGLE, 0x2033, true },
		{ PCI_VENDOR_ID_REDHAT, 0x2033, false },
	};
	const u16 vendor = root->vendor, device = root->device;

	for (int i = 0; i < ARRAY_SIZE(bridges); i++) {
		int dist;

		root->vendor = bridges[i].vendor;
		root->device = bridges[i].device;
		dist = redirected(pdev, PCI_ACS_RR);
		root->vendor = vendor;
		root->device = device;
		if (dist != (bridges[i].trusted ? 0 : -1))
			return wrong(pdev, "host bridge of the list, by its place", i);
	}
	return 0;
}

/*
 * Asks for whom there is no path, in the three ways that there are. What the kernel
 * says of it is between two lines in its log, for who has bound the device to compare.
 */
static void ask(struct pci_dev *pdev, struct pci_dev *root, struct device *stranger,
		bool verbose)
{
	struct device *itself[] = { &pdev->dev, &pdev->dev };
	struct device *other = &root->dev;
	u16 old;

	pci_info(pdev, "raw: asking %s\n", verbose ? "verbosely" : "quietly");
	pci_p2pdma_distance_many(pdev, &stranger, 1, verbose);
	old = fake_port(pdev, PCI_ACS_RR);
	pci_p2pdma_distance_many(pdev, itself, ARRAY_SIZE(itself), verbose);
	pdev->acs_cap = old;
	pci_p2pdma_distance_many(pdev, &other, 1, verbose);
	if (!verbose)
		pci_dev_put(pci_p2pmem_find_many(&stranger, 1));
	pci_info(pdev, "raw: asked\n");
}

/* All that depends on ports that redirect, and host bridges. */
static int check_paths(struct pci_dev *pdev, struct device *stranger)
{
	struct pci_bus *bus = pci_find_host_bridge(pdev->bus)->bus;
	struct pci_dev *root = list_first_entry(&bus->devices, struct pci_dev, bus_list);
	int error;
	u8 line;

	if (trusts_all()) {
		pci_info(pdev, "raw: this machine trusts every host bridge\n");
		return 0;
	}
	/* nobody has asked for a distance to that one yet */
	pci_info(pdev, "raw: asking by a mapping\n");
	error = map_for(pdev, &root->dev);
	pci_info(pdev, "raw: asked\n");
	if (error != -EREMOTEIO)
		return wrong(pdev, "mapping for what it cannot reach", error);

	pci_read_config_byte(pdev, CTRL, &line);
	error = check_acs(pdev) ?: check_list(pdev, root);
	ask(pdev, root, stranger, true);
	ask(pdev, root, stranger, false);
	pci_write_config_byte(pdev, CTRL, line);
	return error;
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
	error = error ?: check_map(pdev) ?: check_paths(pdev, &stranger->dev);
out:
	if (stranger)
		faux_device_destroy(stranger);
	if (child)
		faux_device_destroy(child);
	pci_p2pmem_publish(pdev, false);
	return error;
}

/**
 * struct going - a piece of memory that is kept until its provider goes
 * @pdev: the provider
 * @memory: a page of it
 * @work: what waits until then
 */
struct going {
	struct pci_dev *pdev;
	void *memory;
	struct work_struct work;
};

/* The kernel waits for what is kept now: it must not hand out any more of it. */
static void going_work(struct work_struct *work)
{
	struct going *going = container_of(work, struct going, work);
	struct percpu_ref *ref = &page_pgmap(virt_to_page(going->memory))->ref;
	void *memory;

	for (int i = 0; i < 1500 && !percpu_ref_is_dying(ref); i++)
		msleep(20);
	if (percpu_ref_is_dying(ref)) {
		memory = pci_alloc_p2pmem(going->pdev, PAGE_SIZE);
		pci_info(going->pdev, "raw: %s memory while it goes\n",
			 memory ? "got" : "no");
	}
	pci_free_p2pmem(going->pdev, going->memory, PAGE_SIZE);
}

static void going_start(void *data)
{
	struct going *going = data;

	schedule_work(&going->work);
}

static void going_end(void *data)
{
	struct going *going = data;

	flush_work(&going->work);
}

static struct going *going_new(struct pci_dev *pdev)
{
	struct going *going = devm_kzalloc(&pdev->dev, sizeof(*going), GFP_KERNEL);

	if (!going)
		return NULL;
	going->pdev = pdev;
	INIT_WORK(&going->work, going_work);
	/* the module must not go before it has ended */
	return devm_add_action_or_reset(&pdev->dev, going_end, going) ? NULL : going;
}

/* Keeps a page of the last range, which is the first one to go. */
static int going_keep(struct going *going)
{
	const struct range *range;

	going->memory = pci_alloc_p2pmem(going->pdev, PAGE_SIZE);
	if (!going->memory)
		return wrong(going->pdev, "no page", 0);
	range = &page_pgmap(virt_to_page(going->memory))->range;
	if (range->end == pci_resource_end(going->pdev, BAR))
		return devm_add_action_or_reset(&going->pdev->dev, going_start, going);
	pci_free_p2pmem(going->pdev, going->memory, PAGE_SIZE);
	return wrong(going->pdev, "a page of another range", range->end);
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
	struct going *going;
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

	going = going_new(pdev);
	if (!going)
		return -ENOMEM;
	/* up to the last byte, whether the size is said or not */
	error = pci_p2pdma_add_resource(pdev, BAR, PART, len - 2 * PART);
	if (error)
		return dev_err_probe(&pdev->dev, error, "not the last but one\n");
	error = pci_p2pdma_add_resource(pdev, BAR, 0, len - PART);
	if (error)
		return dev_err_probe(&pdev->dev, error, "not the rest\n");
	return check_calls(pdev) ?: going_keep(going);
}

static struct pci_driver raw_driver = {
	.name = "p2pdma_raw",
	.probe = raw_probe,
};

/*
 * Another, which has providers, but no pool: as drivers that export their BARs have.
 * A child of the device is called as the group is that says that there is one.
 */
static int raw_bare_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct faux_device *child;
	int error;

	/* the kernel warns: nobody has asked for them yet */
	if (pcim_p2pdma_provider(pdev, BAR))
		return wrong(pdev, "provider of BAR", BAR);
	error = pcim_p2pdma_init(pdev);
	if (error)
		return error;
	if (!pcim_p2pdma_provider(pdev, BAR))
		return wrong(pdev, "no provider of BAR", BAR);
	child = faux_device_create("p2pmem", &pdev->dev, NULL);
	if (!child)
		return -ENODEV;
	pci_set_drvdata(pdev, child);
	return 0;
}

static void raw_bare_remove(struct pci_dev *pdev)
{
	faux_device_destroy(pci_get_drvdata(pdev));
}

static struct pci_driver raw_bare_driver = {
	.name = "p2pdma_raw_bare",
	.probe = raw_bare_probe,
	.remove = raw_bare_remove,
};

static int __init raw_init(void)
{
	int error = pci_register_driver(&raw_driver);

	if (error)
		return error;
	error = pci_register_driver(&raw_bare_driver);
	if (error)
		pci_unregister_driver(&raw_driver);
	return error;
}
module_init(raw_init);

static void __exit raw_exit(void)
{
	pci_unregister_driver(&raw_bare_driver);
	pci_unregister_driver(&raw_driver);
}
module_exit(raw_exit);

MODULE_DESCRIPTION("Tests what the kernel checks itself, past the library");
MODULE_LICENSE("GPL");
