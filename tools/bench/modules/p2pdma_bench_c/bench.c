// SPDX-License-Identifier: GPL-2.0
/*
 * The C twin of p2pdma_bench_rust, for comparison only: a driver that does the
 * same calls in the same order, in plain C. See Documentation/p2pdma/bench.rst.
 *
 * Each attribute of the group p2pdma_bench_c, when it is read, does its calls
 * ITERATIONS times and shows how many nanoseconds that took: under -icount,
 * that is how many instructions. pin and extract do theirs PAGE_ITERATIONS
 * times, on memory of the process that reads: what it wrote to range, address
 * and length. Bios are for the disk whose descriptor it wrote to disk.
 */

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uio.h>

#define ITERATIONS 200
#define PAGE_ITERATIONS 20
#define BENCH_BAR 2
#define NUM_CLIENTS 4
#define SEGMENTS 16

static noinline int bench_alloc(struct pci_dev *pdev)
{
	void *addr;

	addr = pci_alloc_p2pmem(pdev, SZ_64K);
	if (!addr)
		return -ENOMEM;
	pci_free_p2pmem(pdev, addr, SZ_64K);
	return 0;
}

static noinline int bench_alloc_sgl(struct pci_dev *pdev)
{
	struct scatterlist *sgl;
	unsigned int nents;

	sgl = pci_p2pmem_alloc_sgl(pdev, &nents, SZ_64K);
	if (!sgl)
		return -ENOMEM;
	pci_p2pmem_free_sgl(pdev, sgl);
	return 0;
}

static noinline int bench_distance(struct pci_dev *pdev)
{
	return pci_p2pdma_distance(pdev, &pdev->dev, false) < 0 ? -EREMOTEIO : 0;
}

static noinline int bench_distance_many(struct pci_dev *pdev)
{
	struct device *clients[NUM_CLIENTS];
	int i;

	for (i = 0; i < NUM_CLIENTS; i++)
		clients[i] = &pdev->dev;
	if (pci_p2pdma_distance_many(pdev, clients, NUM_CLIENTS, false) < 0)
		return -EREMOTEIO;
	return 0;
}

/* Inlined, so that nothing is called through a pointer. */
static __always_inline ssize_t bench_run(struct device *dev, char *buf,
					 int (*f)(struct pci_dev *pdev))
{
	struct pci_dev *pdev = to_pci_dev(dev);
	ktime_t start = ktime_get();
	int i, ret;

	for (i = 0; i < ITERATIONS; i++) {
		ret = f(pdev);
		if (ret)
			return ret;
	}
	return sysfs_emit(buf, "%lld\n", ktime_to_ns(ktime_sub(ktime_get(), start)));
}

static ssize_t alloc_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	return bench_run(dev, buf, bench_alloc);
}
static DEVICE_ATTR_RO(alloc);

static ssize_t alloc_sgl_show(struct device *dev, struct device_attribute *attr,
			      char *buf)
{
	return bench_run(dev, buf, bench_alloc_sgl);
}
static DEVICE_ATTR_RO(alloc_sgl);

static ssize_t distance_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	return bench_run(dev, buf, bench_distance);
}
static DEVICE_ATTR_RO(distance);

static ssize_t distance_many_show(struct device *dev,
				  struct device_attribute *attr, char *buf)
{
	return bench_run(dev, buf, bench_distance_many);
}
static DEVICE_ATTR_RO(distance_many);

/* One device is bound at a time. */
static unsigned long user_addr, user_len;
static unsigned int user_disk;

/* Maps a list for its own provider, and unmaps it. */
static ssize_t map_show(struct device *dev, struct device_attribute *attr,
			char *buf)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	struct sg_table table;
	ktime_t start;
	int i, ret;
	s64 time;

	table.sgl = pci_p2pmem_alloc_sgl(pdev, &table.orig_nents, SZ_64K);
	if (!table.sgl)
		return -ENOMEM;

	start = ktime_get();
	for (i = 0; i < ITERATIONS; i++) {
		ret = dma_map_sgtable(dev, &table, DMA_BIDIRECTIONAL, 0);
		if (ret)
			break;
		dma_unmap_sgtable(dev, &table, DMA_BIDIRECTIONAL, 0);
	}
	time = ktime_to_ns(ktime_sub(ktime_get(), start));

	pci_p2pmem_free_sgl(pdev, table.sgl);
	return ret ?: sysfs_emit(buf, "%lld\n", time);
}
static DEVICE_ATTR_RO(map);

/* A bio of one segment. */
static noinline int bench_make_bio(struct block_device *bdev, u64 pos,
				   struct page *page, unsigned int len)
{
	struct bio *bio;
	int ret;

	/* The block layer leaves these to whoever makes bios. */
	if (pos & (bdev_logical_block_size(bdev) - 1))
		return -EINVAL;
	if (!blk_queue_pci_p2pdma(bdev_get_queue(bdev)))
		return -EREMOTEIO;

	bio = bio_kmalloc(1, GFP_KERNEL);
	if (!bio)
		return -ENOMEM;
	bio_init_inline(bio, bdev, 1, REQ_OP_READ);
	bio->bi_iter.bi_sector = pos >> SECTOR_SHIFT;
	ret = bio_add_page(bio, page, len, 0) ? 0 : -ENOSPC;

	bio_uninit(bio);
	kfree(bio);
	return ret;
}

/**
 * struct bench_bio - what bios are made of
 * @file: the disk that the process which reads has open
 * @bdev: its block device
 * @sgl: memory of the provider
 */
struct bench_bio {
	struct file *file;
	struct block_device *bdev;
	struct scatterlist *sgl;
};

static int bench_bio_get(struct bench_bio *bio, struct pci_dev *pdev, size_t size)
{
	unsigned int nents;

	bio->file = fget(user_disk);
	if (!bio->file)
		return -EBADF;
	if (!S_ISBLK(file_inode(bio->file)->i_mode)) {
		fput(bio->file);
		return -ENOTBLK;
	}
	bio->bdev = file_bdev(bio->file);
	bio->sgl = pci_p2pmem_alloc_sgl(pdev, &nents, size);
	if (!bio->sgl) {
		fput(bio->file);
		return -ENOMEM;
	}
	return 0;
}

static void bench_bio_put(struct bench_bio *bio, struct pci_dev *pdev)
{
	pci_p2pmem_free_sgl(pdev, bio->sgl);
	fput(bio->file);
}

static ssize_t bench_bio(struct device *dev, char *buf, unsigned short pages)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	struct bench_bio bio;
	struct page *page;
	ktime_t start;
	int i, ret;
	s64 time;

	ret = bench_bio_get(&bio, pdev, SZ_64K);
	if (ret)
		return ret;

	page = sg_page(bio.sgl);
	start = ktime_get();
	for (i = 0; i < ITERATIONS && !ret; i++)
		ret = bench_make_bio(bio.bdev, i * PAGE_SIZE, page,
				     pages * PAGE_SIZE);
	time = ktime_to_ns(ktime_sub(ktime_get(), start));

	bench_bio_put(&bio, pdev);
	return ret ?: sysfs_emit(buf, "%lld\n", time);
}

static ssize_t bio_1_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	return bench_bio(dev, buf, 1);
}
static DEVICE_ATTR_RO(bio_1);

static ssize_t bio_16_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	return bench_bio(dev, buf, 16);
}
static DEVICE_ATTR_RO(bio_16);

/* A bio of several segments. */
static noinline int bench_make_bio_of_segments(struct block_device *bdev, u64 pos,
					       const struct bio_vec *segments,
					       unsigned short nr)
{
	struct bio *bio;
	int i, ret = 0;

	if (pos & (bdev_logical_block_size(bdev) - 1))
		return -EINVAL;
	if (!blk_queue_pci_p2pdma(bdev_get_queue(bdev)))
		return -EREMOTEIO;

	bio = bio_kmalloc(nr, GFP_KERNEL);
	if (!bio)
		return -ENOMEM;
	bio_init_inline(bio, bdev, nr, REQ_OP_READ);
	bio->bi_iter.bi_sector = pos >> SECTOR_SHIFT;
	for (i = 0; i < nr && !ret; i++)
		ret = bio_add_page(bio, segments[i].bv_page, segments[i].bv_len,
				   segments[i].bv_offset) ? 0 : -ENOSPC;

	bio_uninit(bio);
	kfree(bio);
	return ret;
}

/* Every other page of the memory, so that none are merged. */
static ssize_t bio_segments_show(struct device *dev, struct device_attribute *attr,
				 char *buf)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	struct bio_vec segments[SEGMENTS];
	struct bench_bio bio;
	ktime_t start;
	int i, ret;
	s64 time;

	ret = bench_bio_get(&bio, pdev, 2 * SEGMENTS * PAGE_SIZE);
	if (ret)
		return ret;

	for (i = 0; i < SEGMENTS; i++)
		bvec_set_page(&segments[i], sg_page(bio.sgl) + 2 * i, PAGE_SIZE, 0);
	start = ktime_get();
	for (i = 0; i < ITERATIONS && !ret; i++)
		ret = bench_make_bio_of_segments(bio.bdev, i * PAGE_SIZE, segments,
						 SEGMENTS);
	time = ktime_to_ns(ktime_sub(ktime_get(), start));

	bench_bio_put(&bio, pdev);
	return ret ?: sysfs_emit(buf, "%lld\n", time);
}
static DEVICE_ATTR_RO(bio_segments);

static ssize_t disk_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%u\n", user_disk);
}

static ssize_t disk_store(struct device *dev, struct device_attribute *attr,
			  const char *buf, size_t count)
{
	int ret = kstrtouint(buf, 10, &user_disk);

	return ret ?: count;
}
static DEVICE_ATTR_RW(disk);

/**
 * struct bench_memory - memory of the process that reads an attribute, and room
 *	for its pages
 * @addr: its address
 * @len: its length in bytes
 * @pages: the room
 * @max_pages: how many pages that is for
 */
struct bench_memory {
	unsigned long addr, len;
	struct page **pages;
	unsigned long max_pages;
};

static int bench_pin(struct bench_memory *mem)
{
	unsigned long last, nr_pages;
	int ret;

	/* The range is the user's word. */
	if (!mem->len || check_add_overflow(mem->addr, mem->len - 1, &last))
		return -EINVAL;
	nr_pages = (last >> PAGE_SHIFT) - (mem->addr >> PAGE_SHIFT) + 1;
	if (nr_pages > mem->max_pages)
		return -E2BIG;

	ret = pin_user_pages_fast(mem->addr, nr_pages,
				  FOLL_WRITE | FOLL_PCI_P2PDMA, mem->pages);
	if (ret < 0)
		return ret;
	unpin_user_pages_dirty_lock(mem->pages, ret, true);
	return ret == nr_pages ? 0 : -EFAULT;
}

static int bench_extract(struct bench_memory *mem)
{
	struct page **pages = mem->pages;
	struct iov_iter iter;
	size_t offset;
	ssize_t ret;

	iov_iter_ubuf(&iter, ITER_DEST, (void __user *)mem->addr, mem->len);
	ret = iov_iter_extract_pages(&iter, &pages, SIZE_MAX, mem->max_pages,
				     ITER_ALLOW_P2PDMA, &offset);
	if (ret <= 0)
		return ret ?: -EFAULT;
	unpin_user_pages_dirty_lock(mem->pages,
				    DIV_ROUND_UP(offset + ret, PAGE_SIZE),
				    true);
	return ret == mem->len ? 0 : -EFAULT;
}

static ssize_t bench_run_pages(char *buf, int (*f)(struct bench_memory *mem))
{
	struct bench_memory mem = {
		.addr = user_addr,
		.len = user_len,
		.max_pages = user_len / PAGE_SIZE,
	};
	ktime_t start;
	int i, ret = 0;
	s64 time;

	mem.pages = kvmalloc_array(mem.max_pages, sizeof(*mem.pages),
				   GFP_KERNEL);
	if (!mem.pages)
		return -ENOMEM;

	start = ktime_get();
	for (i = 0; i < PAGE_ITERATIONS && !ret; i++)
		ret = f(&mem);
	time = ktime_to_ns(ktime_sub(ktime_get(), start));

	kvfree(mem.pages);
	return ret ?: sysfs_emit(buf, "%lld\n", time);
}

static ssize_t pin_show(struct device *dev, struct device_attribute *attr,
			char *buf)
{
	return bench_run_pages(buf, bench_pin);
}
static DEVICE_ATTR_RO(pin);

static ssize_t extract_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	return bench_run_pages(buf, bench_extract);
}
static DEVICE_ATTR_RO(extract);

static ssize_t range_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%lu %lu\n", user_addr, user_len);
}

static ssize_t range_store(struct device *dev, struct device_attribute *attr,
			   const char *buf, size_t count)
{
	if (sscanf(buf, "%lu %lu", &user_addr, &user_len) != 2)
		return -EINVAL;
	return count;
}
static DEVICE_ATTR_RW(range);

static struct attribute *bench_attrs[] = {
	&dev_attr_alloc.attr,
	&dev_attr_alloc_sgl.attr,
	&dev_attr_distance.attr,
	&dev_attr_distance_many.attr,
	&dev_attr_map.attr,
	&dev_attr_bio_1.attr,
	&dev_attr_bio_16.attr,
	&dev_attr_bio_segments.attr,
	&dev_attr_disk.attr,
	&dev_attr_pin.attr,
	&dev_attr_extract.attr,
	&dev_attr_range.attr,
	NULL,
};

static const struct attribute_group bench_group = {
	.name = "p2pdma_bench_c",
	.attrs = bench_attrs,
};

static int bench_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;

	ret = pci_p2pdma_add_resource(pdev, BENCH_BAR, 0, 0);
	if (ret)
		return ret;
	pci_p2pmem_publish(pdev, true);

	return sysfs_create_group(&pdev->dev.kobj, &bench_group);
}

static void bench_remove(struct pci_dev *pdev)
{
	sysfs_remove_group(&pdev->dev.kobj, &bench_group);
	pci_p2pmem_publish(pdev, false);
}

/* Devices are bound through driver_override. */
static struct pci_driver bench_driver = {
	.name = "p2pdma_bench_c",
	.probe = bench_probe,
	.remove = bench_remove,
};
module_pci_driver(bench_driver);

MODULE_DESCRIPTION("PCI peer-to-peer memory: calls to measure, in C");
MODULE_LICENSE("GPL");
