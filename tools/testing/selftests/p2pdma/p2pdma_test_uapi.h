/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of the p2pdma_test module: what the kernel does with PCI
 * peer-to-peer memory, on behalf of a test program that says exactly what.
 *
 * The device is for CAP_SYS_ADMIN. All that is taken through a file descriptor
 * (pins, memory, mappings) is kept in a table of that descriptor under an id,
 * and released when it is closed; and what is memory of a provider, or pins
 * it, also when the provider's driver is being unbound, or its probe() fails.
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
 * the kernel function under test included, is in the member @ret. One that
 * returns -1 left the objects of the descriptor as they were: none was made,
 * mapped or released. What was written to memory and media by then (FILL, BIO)
 * is there all the same.
 *
 *  EINVAL	a member is out of range, a flag or reserved member is not zero,
 *		or the structure is smaller than its first version
 *  E2BIG	the structure is larger than the kernel's, and not zero there;
 *		or an array has more elements than the command takes; or user
 *		memory has more than %P2PDMA_TEST_MAX_PAGES pages
 *  EFAULT	a pointer does not point to memory of the caller
 *  ENOTTY	no such command
 *  ENOENT	no object has this id (any more)
 *  EBUSY	the object is in use by another call on the same descriptor
 *  EMEDIUMTYPE	the object is of another kind than the command works on
 *  ENODATA	the object's memory went with the client that it was mapped for
 *  ENODEV	no such PCI device, or it has no pool of peer-to-peer memory, or
 *		its driver is being unbound
 *  ESRCH	no such process
 *  EBADF	no such file descriptor, or not open for what is asked
 *  ENOTBLK	the file is not a block device
 *  ENOSPC	the descriptor has as many objects as it can have
 *  ENOMEM	no memory, or not enough in the pool
 *  EINTR	a signal came before a long EXTRACT, FILL, CHECK or POOL was
 *		done
 */
#ifndef _P2PDMA_TEST_UAPI_H
#define _P2PDMA_TEST_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define P2PDMA_TEST_DEVICE	"/dev/p2pdma_test"
#define P2PDMA_TEST_GUP_DEVICE	"/dev/p2pdma_gup"

#define P2PDMA_TEST_TYPE	0xBB

/* Objects of a descriptor: as many as a pool of 512 MiB has pages. */
#define P2PDMA_TEST_MAX_OBJECTS	0x20000

/* Pages of user memory that a command takes: 1 GiB of 4 KiB pages. */
#define P2PDMA_TEST_MAX_PAGES	0x40000

enum p2pdma_test_nr {
	P2PDMA_TEST_NR_PIN,
	P2PDMA_TEST_NR_EXTRACT,
	P2PDMA_TEST_NR_PEEK,
	P2PDMA_TEST_NR_RELEASE,
	P2PDMA_TEST_NR_ALLOC,
	P2PDMA_TEST_NR_FILL,
	P2PDMA_TEST_NR_CHECK,
	P2PDMA_TEST_NR_MAP,
	P2PDMA_TEST_NR_BIO,
	P2PDMA_TEST_NR_POOL,
	P2PDMA_TEST_NR_DISTANCE,
	P2PDMA_TEST_NR_FIND,
	P2PDMA_TEST_NR_ENABLE,
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
 *
 * LONGTERM contradicts P2PDMA, and the GET calls: the kernel warns of it, so the
 * library has no such call, and the command is refused with EINVAL. What the
 * kernel does with it is told by the module p2pdma_gup, whose device takes
 * %P2PDMA_TEST_IOC_PIN with nothing else.
 */
enum p2pdma_test_pin_flags {
	P2PDMA_TEST_PIN_WRITE = 1 << 0,
	P2PDMA_TEST_PIN_LONGTERM = 1 << 1,
	P2PDMA_TEST_PIN_P2PDMA = 1 << 2,
	P2PDMA_TEST_PIN_HOLD = 1 << 3,
	P2PDMA_TEST_PIN_COUNT_BEFORE = 1 << 4,
};

/**
 * struct p2pdma_test_pin - pin, or get, user pages: %P2PDMA_TEST_IOC_PIN
 * @size: size of this structure
 * @flags: P2PDMA_TEST_PIN_*
 * @api: the function under test, an enum p2pdma_test_api
 * @pid: process whose memory it is, with %P2PDMA_TEST_PIN_REMOTE only; 0 is
 *	the caller
 * @addr: first address
 * @length: number of bytes; all pages that they touch are asked for, which are
 *	at most %P2PDMA_TEST_MAX_PAGES
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
 * @nr_segments: number of its elements, 1 to %P2PDMA_TEST_MAX_SEGMENTS; all
 *	together touch at most %P2PDMA_TEST_MAX_PAGES pages, and one that
 *	several touch counts for each
 * @max_pages: most pages that one call of iov_iter_extract_pages() may take, 1
 *	to %P2PDMA_TEST_MAX_PAGES
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

#define P2PDMA_TEST_MAX_ENTRIES	16384

/**
 * struct p2pdma_test_alloc - allocate memory of a provider as a scatterlist:
 *	%P2PDMA_TEST_IOC_ALLOC
 * @size: size of this structure
 * @flags: 0
 * @provider: a PCI function with a pool, published or not
 * @length: size of each entry in bytes, a multiple of 4; it takes whole pages
 *	of the pool
 * @nr_entries: number of entries, 1 to %P2PDMA_TEST_MAX_ENTRIES; each is
 *	allocated on its own
 * @id: set to the id of the memory
 */
struct p2pdma_test_alloc {
	__u32 size;
	__u32 flags;
	__u64 provider;
	__u64 length;
	__u32 nr_entries;
	__u32 id;
};

#define P2PDMA_TEST_IOC_ALLOC	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_ALLOC)

/*
 * The pattern that memory is filled with, a 64-bit word at a time, so that
 * each word tells whose it is and where it belongs. The low 44 bits of @tag
 * are 0; @position is that of the word, in bytes. The functions are the
 * finalizer of splitmix64 and its inverse.
 */
#define P2PDMA_TEST_POSITION_BITS	44

static inline __u64 p2pdma_test_mix(__u64 z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline __u64 p2pdma_test_word(__u64 tag, __u64 position)
{
	return p2pdma_test_mix(tag | (position &
				      ((1ULL << P2PDMA_TEST_POSITION_BITS) - 1)));
}

/**
 * struct p2pdma_test_pattern - fill memory, or compare what it holds, through
 *	the io accessors: %P2PDMA_TEST_IOC_FILL and %P2PDMA_TEST_IOC_CHECK
 * @size: size of this structure
 * @flags: 0
 * @id: memory
 * @reserved: 0
 * @offset: first byte in the memory, a multiple of 8
 * @length: number of bytes, a multiple of 8
 * @tag: whose pattern it is; the low %P2PDMA_TEST_POSITION_BITS bits are 0
 * @position: position that the first byte stands for, a multiple of 8
 * @wrong: set to the number of words that are not as they should be
 * @first: set to the offset in the memory of the first of them
 * @found: set to what is there instead
 */
struct p2pdma_test_pattern {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 reserved;
	__u64 offset;
	__u64 length;
	__u64 tag;
	__u64 position;
	__u64 wrong;
	__u64 first;
	__u64 found;
};

#define P2PDMA_TEST_IOC_FILL	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_FILL)
#define P2PDMA_TEST_IOC_CHECK	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_CHECK)

/**
 * enum p2pdma_test_map_type - how a client reaches memory
 * @P2PDMA_TEST_MAP_NONE: it was not mapped
 * @P2PDMA_TEST_MAP_BUS_ADDR: all entries have bus addresses
 * @P2PDMA_TEST_MAP_HOST_BRIDGE: none has
 * @P2PDMA_TEST_MAP_MIXED: some have, which cannot be
 */
enum p2pdma_test_map_type {
	P2PDMA_TEST_MAP_NONE,
	P2PDMA_TEST_MAP_BUS_ADDR,
	P2PDMA_TEST_MAP_HOST_BRIDGE,
	P2PDMA_TEST_MAP_MIXED,
};

/**
 * struct p2pdma_test_dma - an entry of a mapped scatterlist
 * @dma_address: the address that the client uses
 * @dma_length: number of bytes there
 * @bus_address: the address of the memory on the PCI bus, according to
 *	pci_p2pmem_virt_to_bus(); of the first of the entries that this one is
 *	made of, where an IOMMU made one of several
 * @is_bus_address: sg_dma_is_bus_address()
 * @reserved: 0
 */
struct p2pdma_test_dma {
	__u64 dma_address;
	__u64 dma_length;
	__u64 bus_address;
	__u32 is_bus_address;
	__u32 reserved;
};

enum p2pdma_test_direction {
	P2PDMA_TEST_BIDIRECTIONAL,
	P2PDMA_TEST_TO_DEVICE,
	P2PDMA_TEST_FROM_DEVICE,
	P2PDMA_TEST_NR_DIRECTIONS,
};

/**
 * enum p2pdma_test_map_flags - how long to map
 * @P2PDMA_TEST_MAP_HOLD: keep the mapping, instead of the memory, under the
 *	same id, until it is released or the client's driver is unbound
 */
enum p2pdma_test_map_flags {
	P2PDMA_TEST_MAP_HOLD = 1 << 0,
};

/**
 * struct p2pdma_test_map - map memory for DMA by a client:
 *	%P2PDMA_TEST_IOC_MAP
 * @size: size of this structure
 * @flags: P2PDMA_TEST_MAP_HOLD
 * @id: memory
 * @direction: an enum p2pdma_test_direction
 * @client: a PCI function that is bound to a driver
 * @entries: pointer to an array of struct p2pdma_test_dma, or 0
 * @nr_entries: number of elements of @entries; set to the number filled in
 * @type: set to an enum p2pdma_test_map_type
 * @mapped: set to the number of entries after mapping
 * @ret: 0, or the error of dma_map_sgtable()
 */
struct p2pdma_test_map {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 direction;
	__u64 client;
	__u64 entries;
	__u32 nr_entries;
	__u32 type;
	__u64 mapped;
	__s64 ret;
};

#define P2PDMA_TEST_IOC_MAP	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_MAP)

#define P2PDMA_TEST_MAX_ORDINARY	0x100000

/**
 * struct p2pdma_test_piece - memory for a block I/O
 * @id: memory, or 0 for ordinary memory that is made for the purpose, of at
 *	most %P2PDMA_TEST_MAX_ORDINARY bytes
 * @entry: entry of its scatterlist
 * @offset: first byte in the entry, a multiple of 512
 * @length: number of bytes, a multiple of 512
 *
 * Ordinary memory holds the pattern of @ordinary_tag and its position on the
 * disk when a write starts, and is compared with it when a read is done.
 */
struct p2pdma_test_piece {
	__u32 id;
	__u32 entry;
	__u32 offset;
	__u32 length;
};

enum p2pdma_test_op {
	P2PDMA_TEST_READ,
	P2PDMA_TEST_WRITE,
	P2PDMA_TEST_NR_OPS,
};

/**
 * enum p2pdma_test_bio_flags - how to make bios
 * @P2PDMA_TEST_BIO_SPLIT: what a bio refuses is put into another, as nvmet
 *	does; otherwise the first refusal ends the command, and nothing is
 *	submitted
 * @P2PDMA_TEST_BIO_EACH: a bio for each piece, plugged together
 */
enum p2pdma_test_bio_flags {
	P2PDMA_TEST_BIO_SPLIT = 1 << 0,
	P2PDMA_TEST_BIO_EACH = 1 << 1,
};

#define P2PDMA_TEST_MAX_PIECES	256

/**
 * struct p2pdma_test_bio - block I/O on memory: %P2PDMA_TEST_IOC_BIO
 * @size: size of this structure
 * @flags: P2PDMA_TEST_BIO_*
 * @fd: file descriptor of an open block device
 * @op: an enum p2pdma_test_op
 * @position: first byte on the device
 * @pieces: pointer to an array of struct p2pdma_test_piece
 * @nr_pieces: number of its elements, 1 to %P2PDMA_TEST_MAX_PIECES
 * @reserved: 0
 * @ordinary_tag: pattern of ordinary memory
 * @nr_bios: set to the number of bios
 * @nr_vecs: set to the number of pieces that they refer to after neighbours
 *	were merged
 * @never_merged: set to the number of bios with REQ_NOMERGE
 * @refused: set to the number of the first piece that was refused, or
 *	@nr_pieces
 * @ordinary_wrong: set to the number of words of ordinary memory that are not
 *	as they should be
 * @ret: 0, or an error: EXDEV if a bio refused to mix, EREMOTEIO if the queue
 *	cannot do peer-to-peer DMA, ENOSPC if a bio is full, otherwise what the
 *	block layer completed a bio with
 */
struct p2pdma_test_bio {
	__u32 size;
	__u32 flags;
	__u32 fd;
	__u32 op;
	__u64 position;
	__u64 pieces;
	__u32 nr_pieces;
	__u32 reserved;
	__u64 ordinary_tag;
	__u32 nr_bios;
	__u32 nr_vecs;
	__u32 never_merged;
	__u32 refused;
	__u64 ordinary_wrong;
	__s64 ret;
};

#define P2PDMA_TEST_IOC_BIO	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_BIO)

/**
 * enum p2pdma_test_pool_flags - what to find out
 * @P2PDMA_TEST_POOL_LARGEST: the largest contiguous piece, by allocating
 * @P2PDMA_TEST_POOL_COUNT: the number of free pages, by allocating them all,
 *	one by one
 */
enum p2pdma_test_pool_flags {
	P2PDMA_TEST_POOL_LARGEST = 1 << 0,
	P2PDMA_TEST_POOL_COUNT = 1 << 1,
};

/**
 * struct p2pdma_test_pool - facts about a pool: %P2PDMA_TEST_IOC_POOL
 * @size: size of this structure
 * @flags: P2PDMA_TEST_POOL_*; what is found out that way is 0 otherwise
 * @provider: a PCI function with a pool
 * @largest: set to the size of the largest piece that can be allocated
 * @pages: set to the number of pages that can be allocated one by one
 */
struct p2pdma_test_pool {
	__u32 size;
	__u32 flags;
	__u64 provider;
	__u64 largest;
	__u64 pages;
};

#define P2PDMA_TEST_IOC_POOL	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_POOL)

/**
 * enum p2pdma_test_distance_flags - how to ask
 * @P2PDMA_TEST_DISTANCE_VERBOSE: the kernel says why, in its log
 */
enum p2pdma_test_distance_flags {
	P2PDMA_TEST_DISTANCE_VERBOSE = 1 << 0,
};

/* The test device itself, which is no PCI device and so refused as a client. */
#define P2PDMA_TEST_SELF	0xfffffffffffffffeULL

#define P2PDMA_TEST_MAX_CLIENTS	32

/**
 * struct p2pdma_test_distance - pci_p2pdma_distance_many():
 *	%P2PDMA_TEST_IOC_DISTANCE
 * @size: size of this structure
 * @flags: P2PDMA_TEST_DISTANCE_VERBOSE
 * @provider: a PCI function, whether it provides memory or not
 * @clients: pointer to an array of __u64: PCI functions
 * @nr_clients: number of its elements, 1 to %P2PDMA_TEST_MAX_CLIENTS
 * @reserved: 0
 * @ret: the distance, or -1
 */
struct p2pdma_test_distance {
	__u32 size;
	__u32 flags;
	__u64 provider;
	__u64 clients;
	__u32 nr_clients;
	__u32 reserved;
	__s64 ret;
};

#define P2PDMA_TEST_IOC_DISTANCE	_IO(P2PDMA_TEST_TYPE, \
					    P2PDMA_TEST_NR_DISTANCE)

/**
 * struct p2pdma_test_find - pci_p2pmem_find_many(): %P2PDMA_TEST_IOC_FIND
 * @size: size of this structure
 * @flags: 0
 * @clients: pointer to an array of __u64: PCI functions
 * @nr_clients: number of its elements, 1 to %P2PDMA_TEST_MAX_CLIENTS
 * @reserved: 0
 * @provider: set to what was found, or %P2PDMA_TEST_NO_FUNCTION, also if the
 *	function had no memory to look: it returns NULL for both
 */
struct p2pdma_test_find {
	__u32 size;
	__u32 flags;
	__u64 clients;
	__u32 nr_clients;
	__u32 reserved;
	__u64 provider;
};

#define P2PDMA_TEST_IOC_FIND	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_FIND)

enum p2pdma_test_choice {
	P2PDMA_TEST_OFF,
	P2PDMA_TEST_AUTO,
	P2PDMA_TEST_PROVIDER,
};

/**
 * struct p2pdma_test_enable - pci_p2pdma_enable_store() and
 *	pci_p2pdma_enable_show(): %P2PDMA_TEST_IOC_ENABLE
 * @size: size of this structure
 * @flags: 0
 * @value: what is written to the attribute, with a NUL behind it
 * @choice: set to an enum p2pdma_test_choice
 * @reserved: 0
 * @provider: set to the PCI function that was chosen, or
 *	%P2PDMA_TEST_NO_FUNCTION
 * @shown: set to what the attribute then reads, with a NUL behind it
 * @ret: 0, or the error of pci_p2pdma_enable_store()
 */
struct p2pdma_test_enable {
	__u32 size;
	__u32 flags;
	__u8 value[64];
	__u32 choice;
	__u32 reserved;
	__u64 provider;
	__u8 shown[64];
	__s64 ret;
};

#define P2PDMA_TEST_IOC_ENABLE	_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_ENABLE)

#endif /* _P2PDMA_TEST_UAPI_H */
