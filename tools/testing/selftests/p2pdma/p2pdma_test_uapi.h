/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of the p2pdma_test module: what the kernel does with PCI
 * peer-to-peer memory, on behalf of a test program that says exactly what.
 *
 * The device is for CAP_SYS_ADMIN. All that is taken through a file descriptor
 * (pins, memory, mappings) is kept in a table of that descriptor under an id,
 * and released when it is closed; and what is memory of a provider, or pins
 * it, also when the provider's driver is being unbound.
 *
 * Each command takes a pointer to a structure whose first member is its size
 * as the caller knows it. Members are added at the end only, so that
 *
 *  - a caller that knows less than the kernel leaves the rest out, and has it
 *    taken as zero;
 *  - a caller that knows more gets -E2BIG unless the rest is zero.
 *
 * What is reserved, or a flag that has no name here, has to be zero: -EINVAL.
 *
 * An ioctl that returns 0 did what it was told. What came of it, an error of
 * the kernel function under test included, is in the member @ret. An ioctl
 * that returns -1 did nothing:
 *
 *  EINVAL	a member is out of range, a flag or reserved member is not zero,
 *		or the structure is smaller than its first version
 *  E2BIG	the structure is larger than the kernel's, and not zero there;
 *		or an array has more elements than the command takes
 *  EFAULT	a pointer does not point to memory of the caller
 *  ENOTTY	no such command
 *  ENOENT	no object has this id (any more)
 *  EBUSY	the object is in use by another call on the same descriptor
 *  EMEDIUMTYPE	the object is of another kind than the command works on
 *  ENODEV	no such PCI device, or it has no pool of peer-to-peer memory, or
 *		its driver is being unbound
 *  ESRCH	no such process
 *  EBADF	no such file descriptor, or not open for what is asked
 *  ENOTBLK	the file is not a block device
 *  ENOSPC	the descriptor has as many objects as it can have
 *  ENOMEM	no memory, or not enough in the pool
 */
#ifndef _P2PDMA_TEST_UAPI_H
#define _P2PDMA_TEST_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define P2PDMA_TEST_DEVICE	"/dev/p2pdma_test"

#define P2PDMA_TEST_TYPE	0xBB

enum p2pdma_test_nr {
	P2PDMA_TEST_NR_PIN,
	P2PDMA_TEST_NR_EXTRACT,
	P2PDMA_TEST_NR_PEEK,
	P2PDMA_TEST_NR_RELEASE,
};

/*
 * A PCI function in 64 bits: domain << 16 | bus << 8 | device << 3 | function.
 */
#define P2PDMA_TEST_NO_FUNCTION	(~0ULL)

/**
 * struct p2pdma_test_page - facts about a page
 * @provider: the PCI function that provides it, or %P2PDMA_TEST_NO_FUNCTION
 * @phys: its CPU physical address
 * @offset: its offset in the range that was registered with it; 0 if it is no
 *	peer-to-peer memory
 * @before: reference count before the call under test, or
 *	%P2PDMA_TEST_UNKNOWN if no page was mapped there or nobody asked
 * @during: reference count while the page is held
 * @after: reference count after it was released, or %P2PDMA_TEST_UNKNOWN if it
 *	is still held
 * @flags: P2PDMA_TEST_PAGE_*
 */
struct p2pdma_test_page {
	__u64 provider;
	__u64 phys;
	__u64 offset;
	__s32 before;
	__s32 during;
	__s32 after;
	__u32 flags;
};

#define P2PDMA_TEST_UNKNOWN	(-1)

/**
 * enum p2pdma_test_page_flags - what there is to say about a page
 * @P2PDMA_TEST_PAGE_P2PDMA: is_pci_p2pdma_page()
 */
enum p2pdma_test_page_flags {
	P2PDMA_TEST_PAGE_P2PDMA = 1 << 0,
};

/* What a pin adds to the reference count of a page. */
#define P2PDMA_TEST_PIN_BIAS	1024

enum p2pdma_test_api {
	P2PDMA_TEST_PIN_FAST,		/* pin_user_pages_fast() */
	P2PDMA_TEST_PIN_SLOW,		/* pin_user_pages() */
	P2PDMA_TEST_PIN_REMOTE,		/* pin_user_pages_remote() */
	P2PDMA_TEST_GET_FAST,		/* get_user_pages_fast() */
	P2PDMA_TEST_GET_FAST_ONLY,	/* get_user_pages_fast_only() */
	P2PDMA_TEST_GET_SLOW,		/* get_user_pages() */
	P2PDMA_TEST_NR_APIS,
};

/**
 * enum p2pdma_test_pin_flags - how to pin
 * @P2PDMA_TEST_PIN_WRITE: FOLL_WRITE
 * @P2PDMA_TEST_PIN_LONGTERM: FOLL_LONGTERM
 * @P2PDMA_TEST_PIN_P2PDMA: FOLL_PCI_P2PDMA
 * @P2PDMA_TEST_PIN_HOLD: keep the pages until %P2PDMA_TEST_IOC_RELEASE or
 *	close()
 * @P2PDMA_TEST_PIN_COUNT_BEFORE: look at the pages before the call under test,
 *	with get_user_pages() for reading, which maps what is not mapped yet
 * @P2PDMA_TEST_PIN_MAY_WARN: the kernel warns, once, of flags that contradict
 *	each other: LONGTERM with P2PDMA, and LONGTERM with one of the GET
 *	calls. Without this, they are refused with EINVAL before they get there
 */
enum p2pdma_test_pin_flags {
	P2PDMA_TEST_PIN_WRITE = 1 << 0,
	P2PDMA_TEST_PIN_LONGTERM = 1 << 1,
	P2PDMA_TEST_PIN_P2PDMA = 1 << 2,
	P2PDMA_TEST_PIN_HOLD = 1 << 3,
	P2PDMA_TEST_PIN_COUNT_BEFORE = 1 << 4,
	P2PDMA_TEST_PIN_MAY_WARN = 1 << 5,
};

/**
 * struct p2pdma_test_pin - pin, or get, user pages: %P2PDMA_TEST_IOC_PIN
 * @size: size of this structure
 * @flags: P2PDMA_TEST_PIN_*
 * @api: the function under test, an enum p2pdma_test_api
 * @pid: process whose memory it is, with %P2PDMA_TEST_PIN_REMOTE only; 0 is
 *	the caller
 * @addr: first address
 * @length: number of bytes; all pages that they touch are asked for
 * @pages: pointer to an array of struct p2pdma_test_page, or 0
 * @nr_pages: number of elements of @pages; set to the number filled in
 * @id: set to the id of the pages, if held
 * @ret: what the function returned: a number of pages, or a negative errno
 */
struct p2pdma_test_pin {
	__u32 size;
	__u32 flags;
	__u32 api;
	__s32 pid;
	__u64 addr;
	__u64 length;
	__u64 pages;
	__u32 nr_pages;
	__u32 id;
	__s64 ret;
};

#define P2PDMA_TEST_IOC_PIN	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_PIN)

/**
 * struct p2pdma_test_segment - a piece of user memory
 * @addr: its first address
 * @length: number of bytes
 */
struct p2pdma_test_segment {
	__u64 addr;
	__u64 length;
};

/**
 * struct p2pdma_test_extraction - what one call of iov_iter_extract_pages() did
 * @ret: what it returned: a number of bytes, or a negative errno
 * @offset: offset of the first byte in the first page
 * @nr_pages: number of pages that it pinned
 */
struct p2pdma_test_extraction {
	__s64 ret;
	__u32 offset;
	__u32 nr_pages;
};

/**
 * enum p2pdma_test_extract_flags - how to extract
 * @P2PDMA_TEST_EXTRACT_WRITE: the I/O writes to the memory, as a read() does:
 *	ITER_DEST
 * @P2PDMA_TEST_EXTRACT_P2PDMA: ITER_ALLOW_P2PDMA
 * @P2PDMA_TEST_EXTRACT_HOLD: keep the pages until %P2PDMA_TEST_IOC_RELEASE or
 *	close()
 */
enum p2pdma_test_extract_flags {
	P2PDMA_TEST_EXTRACT_WRITE = 1 << 0,
	P2PDMA_TEST_EXTRACT_P2PDMA = 1 << 1,
	P2PDMA_TEST_EXTRACT_HOLD = 1 << 2,
};

#define P2PDMA_TEST_MAX_SEGMENTS	1024

/**
 * struct p2pdma_test_extract - extract the pages of an iov_iter:
 *	%P2PDMA_TEST_IOC_EXTRACT
 * @size: size of this structure
 * @flags: P2PDMA_TEST_EXTRACT_*
 * @segments: pointer to an array of struct p2pdma_test_segment
 * @nr_segments: number of its elements, 1 to %P2PDMA_TEST_MAX_SEGMENTS
 * @max_pages: most pages that one call of iov_iter_extract_pages() may take
 * @calls: pointer to an array of struct p2pdma_test_extraction, or 0
 * @pages: pointer to an array of struct p2pdma_test_page, or 0
 * @nr_calls: number of elements of @calls; set to the number filled in
 * @nr_pages: number of elements of @pages; set to the number filled in
 * @id: set to the id of the pages, if held
 * @reserved: 0
 * @ret: number of bytes that were extracted, or the error of the first call
 * @left: number of bytes that are left in the iov_iter
 *
 * iov_iter_extract_pages() is called until the iov_iter is empty, or the call
 * fails or takes nothing.
 */
struct p2pdma_test_extract {
	__u32 size;
	__u32 flags;
	__u64 segments;
	__u32 nr_segments;
	__u32 max_pages;
	__u64 calls;
	__u64 pages;
	__u32 nr_calls;
	__u32 nr_pages;
	__u32 id;
	__u32 reserved;
	__s64 ret;
	__u64 left;
};

#define P2PDMA_TEST_IOC_EXTRACT	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_EXTRACT)

/**
 * struct p2pdma_test_peek - facts about the pages of an object:
 *	%P2PDMA_TEST_IOC_PEEK
 * @size: size of this structure
 * @flags: 0
 * @id: an object
 * @nr_pages: number of elements of @pages; set to the number filled in
 * @pages: pointer to an array of struct p2pdma_test_page
 * @total: set to the number of pages of the object
 */
struct p2pdma_test_peek {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 nr_pages;
	__u64 pages;
	__u64 total;
};

#define P2PDMA_TEST_IOC_PEEK	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_PEEK)

/**
 * struct p2pdma_test_release - release an object: %P2PDMA_TEST_IOC_RELEASE
 * @size: size of this structure
 * @flags: 0
 * @id: the object
 * @reserved: 0
 */
struct p2pdma_test_release {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 reserved;
};

#define P2PDMA_TEST_IOC_RELEASE	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_RELEASE)

#endif /* _P2PDMA_TEST_UAPI_H */
