// SPDX-License-Identifier: GPL-2.0
/*
 * What the Rust library has no call for: flags of pin_user_pages() and its like
 * that contradict each other, of which the kernel warns, once. /dev/p2pdma_gup
 * takes P2PDMA_TEST_IOC_PIN with these, of p2pdma_test_uapi.h, and tells what
 * the kernel's function returned; all else is refused with EINVAL. If pages
 * are taken, they are given back right away.
 */

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "../../p2pdma_test_uapi.h"

/* More than any test asks for. */
#define MAX_GUP_PAGES 64

#define GUP_FLAGS	(P2PDMA_TEST_PIN_WRITE | P2PDMA_TEST_PIN_LONGTERM | \
			 P2PDMA_TEST_PIN_P2PDMA)

static bool gup_pins(unsigned int api)
{
	return api == P2PDMA_TEST_PIN_FAST || api == P2PDMA_TEST_PIN_SLOW ||
	       api == P2PDMA_TEST_PIN_REMOTE;
}

static long gup_call(unsigned int api, unsigned long addr, unsigned long nr,
		     unsigned int flags, struct page **pages)
{
	struct mm_struct *mm = current->mm;
	long ret;

	switch (api) {
	case P2PDMA_TEST_PIN_FAST:
		return pin_user_pages_fast(addr, nr, flags, pages);
	case P2PDMA_TEST_GET_FAST:
		return get_user_pages_fast(addr, nr, flags, pages);
	case P2PDMA_TEST_GET_FAST_ONLY:
		return get_user_pages_fast_only(addr, nr, flags, pages);
	}

	mmap_read_lock(mm);
	switch (api) {
	case P2PDMA_TEST_PIN_SLOW:
		ret = pin_user_pages(addr, nr, flags, pages);
		break;
	case P2PDMA_TEST_PIN_REMOTE:
		ret = pin_user_pages_remote(mm, addr, nr, flags, pages, NULL);
		break;
	default:
		ret = get_user_pages(addr, nr, flags, pages);
	}
	mmap_read_unlock(mm);
	return ret;
}

static long gup_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct p2pdma_test_pin __user *user = (void __user *)arg;
	unsigned int flags = FOLL_LONGTERM;
	struct page *pages[MAX_GUP_PAGES];
	struct p2pdma_test_pin args;
	unsigned long nr;
	long i;

	if (request != P2PDMA_TEST_IOC_PIN)
		return -ENOTTY;
	if (copy_from_user(&args, user, sizeof(args)))
		return -EFAULT;

	nr = args.length >> PAGE_SHIFT;
	if (args.size != sizeof(args) || args.api >= P2PDMA_TEST_NR_APIS ||
	    !nr || nr > MAX_GUP_PAGES || !PAGE_ALIGNED(args.addr) ||
	    !PAGE_ALIGNED(args.length))
		return -EINVAL;
	/* Only what the library has no call for. */
	if ((args.flags & ~GUP_FLAGS) ||
	    !(args.flags & P2PDMA_TEST_PIN_LONGTERM) ||
	    (gup_pins(args.api) && !(args.flags & P2PDMA_TEST_PIN_P2PDMA)))
		return -EINVAL;

	if (args.flags & P2PDMA_TEST_PIN_WRITE)
		flags |= FOLL_WRITE;
	if (args.flags & P2PDMA_TEST_PIN_P2PDMA)
		flags |= FOLL_PCI_P2PDMA;

	args.ret = gup_call(args.api, args.addr, nr, flags, pages);
	for (i = 0; i < args.ret; i++) {
		if (gup_pins(args.api))
			unpin_user_page(pages[i]);
		else
			put_page(pages[i]);
	}
	args.nr_pages = 0;
	args.id = 0;
	return copy_to_user(user, &args, sizeof(args)) ? -EFAULT : 0;
}

/* As for p2pdma_test: whoever may open it can make the kernel warn. */
static int gup_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static const struct file_operations gup_fops = {
	.owner = THIS_MODULE,
	.open = gup_open,
	.unlocked_ioctl = gup_ioctl,
};

static struct miscdevice gup_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "p2pdma_gup",
	.fops = &gup_fops,
	.mode = 0600,
};
module_misc_device(gup_device);

MODULE_DESCRIPTION("PCI peer-to-peer memory: flags that the kernel refuses to pin with");
MODULE_LICENSE("GPL");
