/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions for what C has as macros or inline functions, so that Rust can
 * call it. The prefix is this project's own: rust_helper_ belongs to the
 * kernel's.
 */
#ifndef _P2PDMA_HELPERS_H
#define _P2PDMA_HELPERS_H

#include <linux/blk_types.h>
#include <linux/pci.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>

struct attribute;
struct file;
struct page;
struct range;
struct scatterlist;

bool p2pdma_helper_has_p2pdma(struct pci_dev *pdev);
bool p2pdma_helper_has_host_bridge(struct pci_dev *pdev);
unsigned long p2pdma_helper_resource_flags(struct pci_dev *pdev, int bar);
pci_bus_addr_t p2pdma_helper_bus_address(struct pci_dev *pdev, int bar);
void p2pdma_helper_count_pages(const struct page *page, unsigned long nr, int pin,
			       unsigned long *referenced, unsigned long *pinned);
void p2pdma_helper_cond_resched(void);

void p2pdma_helper_spin_lock_irq(spinlock_t *lock);
bool p2pdma_helper_spin_trylock_irq(spinlock_t *lock);
void p2pdma_helper_spin_unlock_irq(spinlock_t *lock);

bool p2pdma_helper_device_trylock(struct device *dev);
void p2pdma_helper_device_unlock(struct device *dev);
bool p2pdma_helper_device_is_bound(struct device *dev);
int p2pdma_helper_device_node(struct device *dev);
bool p2pdma_helper_device_has_file(struct device *dev, const char *name);
bool p2pdma_helper_device_has_group(struct device *dev, const char *name);
void p2pdma_helper_sysfs_attr_init(struct attribute *attr);
void p2pdma_helper_sysfs_attr_exit(struct attribute *attr);

bool p2pdma_helper_ratelimit(void);

void *p2pdma_helper_sg_virt(struct scatterlist *sg);
void p2pdma_helper_sg_set_p2pmem(struct scatterlist *sg, const void *mem,
				 unsigned int len);
struct page *p2pdma_helper_sg_page(struct scatterlist *sg);
bool p2pdma_helper_sg_is_bus_address(struct scatterlist *sg);
struct p2pdma_listener;
typedef void (*p2pdma_listener_call)(void *data, unsigned long event,
				     struct pci_dev *pdev);
typedef void (*p2pdma_listener_release)(void *data);

struct p2pdma_listener *p2pdma_helper_listen(p2pdma_listener_call call,
					     p2pdma_listener_release release,
					     void *data);
void p2pdma_helper_unlisten(struct p2pdma_listener *listener);

struct p2pdma_last_act;

struct p2pdma_last_act *p2pdma_helper_at_exit(p2pdma_listener_release call,
					      p2pdma_listener_release release,
					      void *data);
void p2pdma_helper_cancel_at_exit(struct p2pdma_last_act *act);
void p2pdma_helper_library_get(void);
void p2pdma_helper_library_put(void);

int p2pdma_helper_map_sgtable(struct device *dev, struct sg_table *table,
			      enum dma_data_direction dir);
void p2pdma_helper_unmap_sgtable(struct device *dev, struct sg_table *table,
				 enum dma_data_direction dir);

struct page *p2pdma_helper_phys_to_page(phys_addr_t phys);
bool p2pdma_helper_is_p2pdma_page(const struct page *page);
int p2pdma_helper_page_ref_count(const struct page *page);
phys_addr_t p2pdma_helper_page_to_phys(const struct page *page);
void p2pdma_helper_page_range(const struct page *page, struct range *range);
bool p2pdma_helper_try_get_page(struct page *page);
void p2pdma_helper_put_page(struct page *page);

struct page *p2pdma_helper_virt_to_page(const void *addr, unsigned int *offset);

struct block_device *p2pdma_helper_block_device(struct file *file);
bool p2pdma_helper_block_writable(struct file *file, struct block_device *bdev);
u64 p2pdma_helper_block_bytes(struct block_device *bdev);

#endif /* _P2PDMA_HELPERS_H */
