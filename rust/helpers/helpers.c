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
#include <linux/scatterlist.h>
#include <linux/uio.h>

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

void p2pdma_helper_device_lock(struct device *dev)
{
	device_lock(dev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_lock);

void p2pdma_helper_device_unlock(struct device *dev)
{
	device_unlock(dev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_unlock);

bool p2pdma_helper_device_is_bound(struct device *dev)
{
	return device_is_bound(dev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_is_bound);

void *p2pdma_helper_sg_virt(struct scatterlist *sg)
{
	return sg_virt(sg);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sg_virt);

bool p2pdma_helper_sg_is_bus_address(struct scatterlist *sg)
{
	return sg_dma_is_bus_address(sg);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sg_is_bus_address);

bool p2pdma_helper_is_p2pdma_page(const struct page *page)
{
	return is_pci_p2pdma_page(page);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_is_p2pdma_page);

int p2pdma_helper_page_ref_count(const struct page *page)
{
	return page_ref_count(page);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_page_ref_count);

phys_addr_t p2pdma_helper_page_to_phys(const struct page *page)
{
	return page_to_phys(page);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_page_to_phys);

void p2pdma_helper_page_range(const struct page *page, struct range *range)
{
	*range = page_pgmap(page)->range;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_page_range);

void p2pdma_helper_put_page(struct page *page)
{
	put_page(page);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_put_page);

size_t p2pdma_helper_iov_iter_count(const struct iov_iter *i)
{
	return iov_iter_count(i);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_iov_iter_count);
