// SPDX-License-Identifier: GPL-2.0
/*
 * See helpers.h. Each function does what its C namesake does, nothing more;
 * each is exported because generic Rust code of the library is instantiated in
 * the modules that use it.
 */

#include <linux/export.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/rcupdate.h>

#include "helpers.h"

bool p2pdma_helper_has_p2pdma(struct pci_dev *pdev)
{
	return rcu_access_pointer(pdev->p2pdma);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_has_p2pdma);

unsigned long p2pdma_helper_resource_flags(struct pci_dev *pdev, int bar)
{
	return pci_resource_flags(pdev, bar);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_resource_flags);

pci_bus_addr_t p2pdma_helper_bus_address(struct pci_dev *pdev, int bar)
{
	return pci_bus_address(pdev, bar);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_bus_address);

struct page *p2pdma_helper_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_virt_to_page);
