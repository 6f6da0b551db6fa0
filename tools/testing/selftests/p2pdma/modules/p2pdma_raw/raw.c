// SPDX-License-Identifier: GPL-2.0
/*
 * What pci_p2pdma_add_resource() itself checks. The library looks at its
 * arguments before it calls it, so only a driver in C gets there. It is bound by
 * driver_override, to a device with memory in BAR 2, if all was refused that has
 * to be, and what has to be accepted was; its memory is then the end of that BAR.
 */

#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/sizes.h>

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
	if (error)
		return error;

	/* up to the last byte, whether the size is said or not */
	error = pci_p2pdma_add_resource(pdev, BAR, PART, len - 2 * PART);
	if (error)
		return dev_err_probe(&pdev->dev, error, "not the last but one\n");
	error = pci_p2pdma_add_resource(pdev, BAR, 0, len - PART);
	if (error)
		return dev_err_probe(&pdev->dev, error, "not the rest\n");
	return 0;
}

static struct pci_driver raw_driver = {
	.name = "p2pdma_raw",
	.probe = raw_probe,
};
module_pci_driver(raw_driver);

MODULE_DESCRIPTION("Tests what pci_p2pdma_add_resource() refuses");
MODULE_LICENSE("GPL");
