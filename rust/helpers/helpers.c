// SPDX-License-Identifier: GPL-2.0
/*
 * See helpers.h. Each function does what its C namesake does, but for those with
 * a comment; each is exported because generic Rust code of the library is instantiated in
 * the modules that use it.
 */

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/iommu-dma.h>
#include <linux/kernfs.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/rcupdate.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/swiotlb.h>
#include <linux/sysfs.h>

#include "helpers.h"

bool p2pdma_helper_has_p2pdma(struct pci_dev *pdev)
{
	return rcu_access_pointer(pdev->p2pdma);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_has_p2pdma);

/*
 * Whether the host bridge of @pdev is there. When its controller goes, what leads
 * to it stays for who holds a device, but not what the controller's driver has:
 * pci_remove_root_bus() sets this to NULL before.
 */
bool p2pdma_helper_has_host_bridge(struct pci_dev *pdev)
{
	return pci_find_host_bridge(pdev->bus)->bus;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_has_host_bridge);

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

/*
 * Of @nr pages from @page on, those with references, and with @pin references or
 * more. In one call, since a provider may have millions. May sleep.
 */
void p2pdma_helper_count_pages(const struct page *page, unsigned long nr, int pin,
			       unsigned long *referenced, unsigned long *pinned)
{
	*referenced = 0;
	*pinned = 0;
	for (unsigned long i = 0; i < nr; i++) {
		int count = page_ref_count(page + i);

		*referenced += count > 0;
		*pinned += count >= pin;
		if (i % 4096 == 4095)
			cond_resched();
	}
}
EXPORT_SYMBOL_GPL(p2pdma_helper_count_pages);

void p2pdma_helper_cond_resched(void)
{
	cond_resched();
}
EXPORT_SYMBOL_GPL(p2pdma_helper_cond_resched);

/*
 * The three for compat/v7_2.rs; newer kernel crates have such a lock. Several may
 * be held, and be let go in any order: the first disables interrupts, and when
 * the last is let go they are what they were. With PREEMPT_RT such a lock sleeps,
 * and leaves interrupts alone.
 */
static DEFINE_PER_CPU(unsigned int, irq_depth);
static DEFINE_PER_CPU(unsigned long, irq_before);

static void irq_disable(void)
{
	unsigned long flags;

	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return;
	local_irq_save(flags);
	if (!__this_cpu_read(irq_depth))
		__this_cpu_write(irq_before, flags);
	__this_cpu_inc(irq_depth);
}

static void irq_restore(void)
{
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return;
	__this_cpu_dec(irq_depth);
	if (!__this_cpu_read(irq_depth))
		local_irq_restore(__this_cpu_read(irq_before));
}

void p2pdma_helper_spin_lock_irq(spinlock_t *lock)
{
	irq_disable();
	spin_lock(lock);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_spin_lock_irq);

bool p2pdma_helper_spin_trylock_irq(spinlock_t *lock)
{
	irq_disable();
	if (spin_trylock(lock))
		return true;
	irq_restore();
	return false;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_spin_trylock_irq);

void p2pdma_helper_spin_unlock_irq(spinlock_t *lock)
{
	spin_unlock(lock);
	irq_restore();
}
EXPORT_SYMBOL_GPL(p2pdma_helper_spin_unlock_irq);

bool p2pdma_helper_device_trylock(struct device *dev)
{
	return device_trylock(dev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_trylock);

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

int p2pdma_helper_device_node(struct device *dev)
{
	return dev_to_node(dev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_node);

/*
 * Whether @dev has a file or a directory of that name in sysfs. The device has to
 * be in there.
 */
bool p2pdma_helper_device_has_file(struct device *dev, const char *name)
{
	struct kernfs_node *file = sysfs_get_dirent(dev->kobj.sd, name);

	sysfs_put(file);
	return file;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_has_file);

/*
 * The same of a group of attributes: not a directory that is a child of @dev and
 * happens to be called so.
 */
bool p2pdma_helper_device_has_group(struct device *dev, const char *name)
{
	struct kernfs_node *dir = sysfs_get_dirent(dev->kobj.sd, name);
	bool found = dir && kernfs_type(dir) == KERNFS_DIR && dir->priv == &dev->kobj;

	sysfs_put(dir);
	return found;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_device_has_group);

/* Not sysfs_attr_init(), which has a class for each place that it is written in. */
void p2pdma_helper_sysfs_attr_init(struct attribute *attr)
{
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	lockdep_register_key(&attr->skey);
#endif
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sysfs_attr_init);

void p2pdma_helper_sysfs_attr_exit(struct attribute *attr)
{
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	lockdep_unregister_key(&attr->skey);
#endif
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sysfs_attr_exit);

bool p2pdma_helper_ratelimit(void)
{
	static DEFINE_RATELIMIT_STATE(state, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&state);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_ratelimit);

void *p2pdma_helper_sg_virt(struct scatterlist *sg)
{
	return sg_virt(sg);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sg_virt);

/*
 * Not sg_set_buf(): with CONFIG_DEBUG_SG it dies of memory of which
 * virt_addr_valid() does not hold, as of all device memory on arm64.
 */
void p2pdma_helper_sg_set_p2pmem(struct scatterlist *sg, const void *mem,
				 unsigned int len)
{
	sg_set_page(sg, virt_to_page(mem), len, offset_in_page(mem));
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sg_set_p2pmem);

struct page *p2pdma_helper_sg_page(struct scatterlist *sg)
{
	return sg_page(sg);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sg_page);

bool p2pdma_helper_sg_is_bus_address(struct scatterlist *sg)
{
	return sg_dma_is_bus_address(sg);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_sg_is_bus_address);

/*
 * Makes the entries as sg_init_table() leaves them, in so far as a mapping is
 * concerned: __invalidate_sg() adds what it finds in dma_address to offset, also
 * in entries that the mapping which is refused has not come to yet; and nothing
 * clears SG_DMA_SWIOTLB.
 */
static inline void forget_dma(struct sg_table *table)
{
	struct scatterlist *sg = table->sgl;

	for (unsigned int left = table->orig_nents; ; sg = sg_next(sg)) {
		sg_dma_address(sg) = 0;
		sg_dma_len(sg) = 0;
#ifdef CONFIG_NEED_SG_DMA_FLAGS
		sg->dma_flags = 0;
#endif
		if (!--left)
			break;
	}
	table->nents = table->orig_nents;
}

/* What DMA of a device gets at. */
struct dma_reach {
	u64 last;	/* address, as dma_capable() works it out */
	u64 boundary;	/* that no segment crosses, less 1, as 4 GiB */
};

static int dma_reaches(const struct dma_reach *reach, dma_addr_t addr,
		       unsigned int len)
{
	dma_addr_t end = addr + len - 1;

	if (end < addr || end > reach->last)
		return -ERANGE;
	return (addr ^ end) & ~reach->boundary ? -EINVAL : 0;
}

/*
 * What dma_map_sg() does not refuse, though it cannot do it: peer-to-peer memory
 * for DMA operations that do not know it, for DMA that goes through swiotlb (of
 * untrusted devices, or by force), and beyond what the DMA mask covers.
 */
static inline int check_map(struct device *dev, const struct sg_table *table,
			    enum dma_data_direction dir,
			    const struct dma_reach *reach)
{
	unsigned int max = dma_get_max_seg_size(dev);
	struct scatterlist *sg = table->sgl;
	bool direct = !use_dma_iommu(dev);
	int ret;

	if (!dma_pci_p2pdma_supported(dev) || is_swiotlb_force_bounce(dev) ||
	    to_pci_dev(dev)->untrusted)
		return -EOPNOTSUPP;

	for (unsigned int left = table->orig_nents; ; sg = sg_next(sg)) {
		if (sg->length > max)
			return -EINVAL;
		if (direct) {
			/* Pieces smaller than a cache line, where that matters. */
			if (dma_kmalloc_needs_bounce(dev, sg->length, dir))
				return -EOPNOTSUPP;
			ret = dma_reaches(reach, phys_to_dma(dev, sg_phys(sg)),
					  sg->length);
			if (ret)
				return ret;
		}
		if (!--left)
			return 0;
	}
}

/*
 * The same, as far as it can be told of a mapping only when it is there. What is
 * no bus address was looked at before.
 */
static inline int check_mapped(const struct sg_table *table,
			       const struct dma_reach *reach)
{
	struct scatterlist *sg = table->sgl;
	int ret;

	if (sg_dma_is_swiotlb(sg))
		return -EOPNOTSUPP;

	for (unsigned int left = table->nents; ; sg = sg_next(sg)) {
		if (sg_dma_is_bus_address(sg)) {
			ret = dma_reaches(reach, sg_dma_address(sg),
					  sg_dma_len(sg));
			if (ret)
				return ret;
		}
		if (!--left)
			return 0;
	}
}

/*
 * Maps a list, which has entries, of memory of one provider for a PCI device; or
 * leaves nothing in its entries.
 */
int p2pdma_helper_map_sgtable(struct device *dev, struct sg_table *table,
			      enum dma_data_direction dir)
{
	struct dma_reach reach = {
		.last = min_not_zero(*dev->dma_mask, dev->bus_dma_limit),
		.boundary = dma_get_seg_boundary(dev),
	};
	int ret;

	ret = check_map(dev, table, dir, &reach);
	if (ret)
		return ret;

	ret = dma_map_sgtable(dev, table, dir, 0);
	if (!ret) {
		ret = check_mapped(table, &reach);
		if (!ret)
			return 0;
		dma_unmap_sgtable(dev, table, dir, 0);
	}
	forget_dma(table);
	return ret;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_map_sgtable);

/* Ends such a mapping, of which nothing is left in the entries. */
void p2pdma_helper_unmap_sgtable(struct device *dev, struct sg_table *table,
				 enum dma_data_direction dir)
{
	dma_unmap_sgtable(dev, table, dir, 0);
	forget_dma(table);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_unmap_sgtable);

struct page *p2pdma_helper_phys_to_page(phys_addr_t phys)
{
	return phys_to_page(phys);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_phys_to_page);

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

/* The range of the page's dev_pagemap, which has one range only. */
void p2pdma_helper_page_range(const struct page *page, struct range *range)
{
	*range = page_pgmap(page)->range;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_page_range);

/* try_get_page() warns of a count that has overflowed. */
bool p2pdma_helper_try_get_page(struct page *page)
{
	return page_ref_count(compound_head(page)) > 0 && try_get_page(page);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_try_get_page);

void p2pdma_helper_put_page(struct page *page)
{
	put_page(page);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_put_page);

struct page *p2pdma_helper_virt_to_page(const void *addr, unsigned int *offset)
{
	*offset = offset_in_page(addr);
	return virt_to_page(addr);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_virt_to_page);

struct block_device *p2pdma_helper_block_device(struct file *file)
{
	return S_ISBLK(file_inode(file)->i_mode) ? file_bdev(file) : NULL;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_block_device);

bool p2pdma_helper_block_writable(struct file *file, struct block_device *bdev)
{
	return (file->f_mode & FMODE_WRITE) && !bdev_read_only(bdev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_block_writable);

u64 p2pdma_helper_block_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_block_bytes);
