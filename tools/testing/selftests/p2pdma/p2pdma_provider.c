// SPDX-License-Identifier: GPL-2.0
/*
 * The driver p2pdma_provider: what it refuses, with which error and which line
 * in the kernel log, and what it makes of its parameters; NVMe controllers
 * that it takes over from the nvme driver and hands back; and what it says
 * when it is unbound with memory in use.
 *
 * The module is loaded again and again, each time with other parameters, so
 * its file is needed: P2PDMA_PROVIDER_KO. What it provided before has to be
 * provided after each test, and an NVMe controller has to be back with its
 * driver, with its namespaces and what is on them. Controllers are left alone
 * unless P2PDMA_SCRATCH names all their namespaces.
 *
 * What the tests try are the tables refusals[], accepted[], no_parameters[]
 * and publications[]; to try more is to add a row. P2PDMA_PROVIDER_WHERE names
 * the only kind of device that is tried, as where_names[] has it.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/io.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define DRIVER		"p2pdma_provider"
#define CYCLES		40
#define PAGES		8
#define READERS		4
#define DUELS		2000
#define UNBINDINGS	20

#define SYS_PCI		"/sys/bus/pci/devices"
#define KB(n)		((uint64_t)(n) << 10)
#define MB(n)		((uint64_t)(n) << 20)

static ssize_t page;
static const char *module_file;

/* ---- what is expected -------------------------------------------------- */

/**
 * enum where - which devices a row is for
 * @ON_BAR: QEMU's pci-testdev, which has memory in BAR 2
 * @ON_CMB: an NVMe controller with a Controller Memory Buffer
 * @ON_NO_CMB: an NVMe controller without one
 * @ON_SMALL: any device that no driver is bound to, without a memory BAR that
 *	could be provided
 * @ON_HUGE: a memory BAR with more pages than this machine has memory to
 *	describe, of a device that no driver is bound to
 * @ON_IVSHMEM: QEMU's ivshmem that no driver is bound to
 * @ON_UNASSIGNED: the same, whose memory BAR has no address
 */
enum where {
	ON_BAR,
	ON_CMB,
	ON_NO_CMB,
	ON_SMALL,
	ON_HUGE,
	ON_IVSHMEM,
	ON_UNASSIGNED,
};

static const char * const where_names[] = {
	[ON_BAR] = "bar",
	[ON_CMB] = "cmb",
	[ON_NO_CMB] = "no_cmb",
	[ON_SMALL] = "small",
	[ON_HUGE] = "huge",
	[ON_IVSHMEM] = "ivshmem",
	[ON_UNASSIGNED] = "unassigned",
};

#define CANNOT		"cannot provide peer-to-peer memory: "
#define MISALIGNED(_start, _size)					\
	CANNOT "start " _start " and size " _size " must be multiples of {align}"

/**
 * struct refusal - parameters, or a device, that cannot be
 * @name: what it is about
 * @where: on which devices
 * @parameters: of the module
 * @error: what binding fails with
 * @line: what the driver says. As in @parameters, "{start}" stands for the
 *	address of the device's memory, "{len}" for its length, "{pages}" for
 *	that of its struct pages; "+" adds a number; ":d" makes it decimal;
 *	"{start0}" and "{len0}" are those of BAR 0; "{align}" is what start and
 *	size are multiples of; "{quarter}" is what is wrong with 4 MiB in four
 *	ranges: the size of each, or already that of the whole
 */
static const struct refusal {
	const char *name;
	enum where where;
	const char *parameters;
	int error;
	const char *line;
} refusals[] = {
	/* the BAR */
	{ "io_ports", ON_BAR, "bar=1", EINVAL,
	  CANNOT "BAR 1 decodes I/O ports, not memory" },
	{ "upper_half", ON_BAR, "bar=3", EINVAL,
	  CANNOT "BAR 3 is not implemented by the device, or there was no room for it" },
	{ "absent", ON_BAR, "bar=4", EINVAL,
	  CANNOT "BAR 4 is not implemented by the device, or there was no room for it" },
	{ "registers", ON_BAR, "bar=0", EINVAL,
	  MISALIGNED("{start0}", "{len0}") },
	/* the range */
	{ "past_end", ON_BAR, "bar=2 size={len+0x200000}", EINVAL,
	  CANNOT "range up to {len+0x200000} ends past BAR 2 ({len} bytes)" },
	{ "past_end_by_offset", ON_BAR, "offset=0x200000 size={len}", EINVAL,
	  CANNOT "range up to {len+0x200000} ends past BAR 2 ({len} bytes)" },
	{ "past_end_by_one", ON_BAR, "size={len+1}", EINVAL,
	  CANNOT "range up to {len+1} ends past BAR 2 ({len} bytes)" },
	{ "starts_at_end", ON_BAR, "offset={len}", EINVAL,
	  CANNOT "range up to {len} ends past BAR 2 ({len} bytes)" },
	{ "starts_behind", ON_BAR, "offset={len+0x200000}", EINVAL,
	  CANNOT "range up to {len+0x200000} ends past BAR 2 ({len} bytes)" },
	{ "wraps", ON_BAR, "offset=0x200000 size=0xfffffffffff00000", EINVAL,
	  CANNOT "offset 0x200000 plus size 0xfffffffffff00000 wraps around" },
	{ "wraps_to_0", ON_BAR, "offset=0x200000 size=0xffffffffffe00000",
	  EINVAL,
	  CANNOT "offset 0x200000 plus size 0xffffffffffe00000 wraps around" },
	{ "just_no_wrap", ON_BAR, "offset=0x200000 size=0xffffffffffdfffff",
	  EINVAL,
	  CANNOT "range up to 0xffffffffffffffff ends past BAR 2 ({len} bytes)" },
	{ "misaligned_start", ON_BAR, "offset=0x1000 size=0x200000", EINVAL,
	  MISALIGNED("{start+0x1000}", "0x200000") },
	{ "misaligned_size", ON_BAR, "size=0x300000", EINVAL,
	  MISALIGNED("{start}", "0x300000") },
	{ "one_byte", ON_BAR, "size=1", EINVAL, MISALIGNED("{start}", "0x1") },
	{ "misaligned_parts", ON_BAR, "size=0x400000 split=4", EINVAL,
	  MISALIGNED("{start}", "{quarter}") },
	{ "no_memory_bar", ON_SMALL, "", ENODEV,
	  CANNOT "no prefetchable memory BAR of at least {align} bytes" },
	{ "too_much", ON_HUGE, "", ENOMEM,
	  "not enough memory: the pages of the range need {pages:d} bytes of system memory" },
	/* the kernel forgets a BAR that it has no room for: reset_resource() */
	{ "no_address", ON_UNASSIGNED, "", ENODEV,
	  CANNOT "no prefetchable memory BAR of at least {align} bytes" },
	/* the parameters themselves */
	{ "bar_6", ON_BAR, "bar=6", EINVAL,
	  "parameter bar=6: BARs are 0 to 5" },
	{ "bar_negative", ON_BAR, "bar=-2", EINVAL,
	  "parameter bar=-2: BARs are 0 to 5" },
	{ "bar_256", ON_BAR, "bar=256", EINVAL,
	  "parameter bar=256: BARs are 0 to 5" },
	{ "split_0", ON_BAR, "split=0", EINVAL,
	  "parameter split=0: use 1 to 64" },
	{ "split_65", ON_BAR, "split=65", EINVAL,
	  "parameter split=65: use 1 to 64" },
	{ "split_3", ON_BAR, "split=3", EINVAL,
	  CANNOT "{len:d} bytes do not divide into 3 equal ranges" },
	{ "publish_2", ON_BAR, "publish=2", EINVAL,
	  "parameter publish=2: use 0 or 1" },
	{ "publish_negative", ON_BAR, "publish=-2", EINVAL,
	  "parameter publish=-2: use 0 or 1" },
	/* NVMe */
	{ "nothing", ON_NO_CMB, "", ENODEV,
	  CANNOT "the controller has no memory buffer (CMBSZ is 0)" },
	{ "past_end", ON_CMB, "size={len+0x200000}", EINVAL,
	  CANNOT "range up to {len+0x200000} ends past the memory buffer ({len} bytes)" },
	{ "starts_at_end", ON_CMB, "offset={len}", EINVAL,
	  CANNOT "range up to {len} ends past the memory buffer ({len} bytes)" },
	{ "wraps", ON_CMB, "offset=0x200000 size=0xfffffffffff00000", EINVAL,
	  CANNOT "offset 0x200000 plus size 0xfffffffffff00000 wraps around" },
	{ "misaligned", ON_CMB, "offset=0x1000 size=0x200000", EINVAL,
	  MISALIGNED("{start+0x1000}", "0x200000") },
	{ "split_3", ON_CMB, "split=3", EINVAL,
	  CANNOT "{len:d} bytes do not divide into 3 equal ranges" },
	{ "registers", ON_CMB, "bar=0", EINVAL,
	  MISALIGNED("{start0}", "{len0}") },
	{ "named", ON_CMB, "bar=2", EINVAL,
	  "parameter bar=2: that BAR holds the controller's memory buffer; leave out bar= to provide it",
	},
};

/**
 * struct accepted - parameters that are fine, and what comes of them
 * @name: what it is about
 * @where: on which devices
 * @parameters: of the module
 * @offset: first byte of the memory
 * @size: number of bytes; 0 is all from @offset
 * @ranges: how many ranges there are
 * @published: what is published
 */
static const struct accepted {
	const char *name;
	enum where where;
	const char *parameters;
	uint64_t offset, size;
	unsigned int ranges;
	bool published;
} accepted[] = {
	{ "default", ON_BAR, "", 0, 0, 1, true },
	{ "automatic", ON_BAR,
	  "bar=-1 offset=0 size=0 split=1 publish=-1", 0, 0, 1, true },
	{ "named", ON_BAR, "bar=2", 0, 0, 1, true },
	{ "decimal", ON_BAR, "bar=2 offset=2097152 size=4194304", MB(2), MB(4),
	  1, true },
	{ "part", ON_BAR, "bar=2 offset=0x400000 size=0x1000000", MB(4), MB(16),
	  1, true },
	{ "rest", ON_BAR, "offset=0x600000", MB(6), 0, 1, true },
	{ "smallest", ON_BAR, "size=0x200000", 0, MB(2), 1, true },
	{ "last", ON_BAR, "offset={len-0x200000} size=0x200000", -MB(2), MB(2),
	  1, true },
	{ "split_4", ON_BAR, "split=4", 0, 0, 4, true },
	{ "split_part", ON_BAR, "split=3 offset=0x800000 size=0x600000", MB(8),
	  MB(6), 3, true },
	{ "unpublished", ON_BAR, "publish=0", 0, 0, 1, false },
	{ "published", ON_BAR, "publish=1", 0, 0, 1, true },
	{ "default", ON_CMB, "", 0, 0, 1, true },
	{ "part", ON_CMB, "offset=0x400000 size=0x1000000", MB(4), MB(16), 1,
	  true },
	{ "split_4", ON_CMB, "split=4", 0, 0, 4, true },
	{ "unpublished", ON_CMB, "publish=0", 0, 0, 1, false },
	{ "default", ON_IVSHMEM, "", 0, 0, 1, true },
	{ "split_2", ON_IVSHMEM, "split=2", 0, 0, 2, true },
};

/* Parameters that the module is not even loaded with. */
static const struct no_parameter {
	const char *name, *parameters;
} no_parameters[] = {
	{ "word", "bar=two" },
	{ "empty", "bar=" },
	{ "no_value", "split" },
	{ "negative", "offset=-1" },
	{ "negative_split", "split=-1" },
	{ "unit", "size=2M" },
	{ "no_digits", "size=0x" },
	{ "too_large", "size=0x10000000000000000" },
	{ "beyond_32_bits", "split=4294967297" },
	{ "bool", "publish=yes" },
	{ "two_values", "bar=2,3" },
};

/* What is written to the attribute "publish": published afterwards, or -1. */
static const struct publication {
	const char *value;
	size_t len;
	int published;
} publications[] = {
#define V(_value, _published)	{ _value, sizeof(_value) - 1, _published }
	V("0", 0), V("1", 1), V("0\n", 0), V("1\n", 1), V("n", 0), V("y", 1),
	V("N", 0), V("Y\n", 1), V("off", 0), V("on", 1), V("off\n", 0),
	/* white space around it does not matter */
	V(" 0\n", 0), V("1\t", 1), V("1", 1),
	V("2", -1), V("\n", -1), V("-1", -1), V("o", -1),
	V("maybe", -1), V("\xff", -1), V("\0", -1),
	V("0", 0), V("0", 0),
	V("2", -1), V("\n", -1), V("x", -1),
#undef V
};

/* ---- the devices ------------------------------------------------------- */

/**
 * struct subject - a device that is bound and unbound
 * @bdf: PCI address, as in sysfs
 * @where: which rows are for it
 * @driver: the driver that it had, or an empty string
 * @client: a namespace of an NVMe controller, or NULL
 * @rest: available peer-to-peer memory while it has that driver, or -1
 * @bar: the BAR with the memory
 * @offset: of the memory in the BAR
 * @start: its address
 * @len: its length
 * @start0: address of BAR 0
 * @len0: its length
 * @why_not: why it must be left alone, or NULL
 */
struct subject {
	char bdf[16];
	enum where where;
	char driver[64];
	const struct p2p_client *client;
	ssize_t rest;
	int bar;
	uint64_t offset, start, len, start0, len0;
	const char *why_not;
};

static struct subject subjects[64];
static unsigned int nr_subjects;

#define BAR_MEMORY	0x200UL		/* IORESOURCE_MEM */

/* A BAR, or another resource: false if it is not there. */
static bool read_bar(const char *bdf, int bar, uint64_t *start, uint64_t *len,
		     unsigned long *flags)
{
	char path[PATH_MAX];
	uint64_t last = 0;
	bool found;
	FILE *file;

	*start = 0;
	*len = 0;
	*flags = 0;
	snprintf(path, sizeof(path), SYS_PCI "/%s/resource", bdf);
	file = fopen(path, "re");
	if (!file)
		return false;
	do {
		found = fscanf(file, "%lx %lx %lx", start,
			       &last, flags) == 3;
	} while (found && bar--);
	fclose(file);
	if (found && last)
		*len = last - *start + 1;
	return found && last;
}

/* Find the memory of an NVMe controller: false if it has none. */
static bool read_cmb(struct subject *s)
{
	unsigned int cmbloc, cmbsz;
	char path[PATH_MAX], dir[PATH_MAX];
	unsigned long flags;
	uint64_t unit, bar;
	struct dirent *entry;
	bool found = false;
	FILE *file;
	DIR *list;

	snprintf(dir, sizeof(dir), SYS_PCI "/%s/nvme", s->bdf);
	list = opendir(dir);
	if (!list)
		return false;
	while (!found && (entry = readdir(list))) {
		if (strncmp(entry->d_name, "nvme", 4) ||
		    snprintf(path, sizeof(path), "%s/%s/cmb", dir,
			     entry->d_name) >= (int)sizeof(path))
			continue;
		file = fopen(path, "re");
		if (!file)
			continue;
		found = fscanf(file, "cmbloc : %x cmbsz : %x", &cmbloc,
			       &cmbsz) == 2 && cmbsz;
		fclose(file);
	}
	closedir(list);
	if (!found)
		return false;

	unit = KB(4) << 4 * (cmbsz >> 8 & 0xf);
	s->bar = cmbloc & 7;
	s->offset = (cmbloc >> 12) * unit;
	s->len = (cmbsz >> 12) * unit;
	read_bar(s->bdf, s->bar, &s->start, &bar, &flags);
	s->start += s->offset;
	return true;
}

static struct subject *add_subject(const char *bdf, enum where where)
{
	struct subject *s = &subjects[nr_subjects++];
	struct p2p_provider provider = {};
	unsigned long flags;

	if (nr_subjects > ARRAY_SIZE(subjects))
		ksft_exit_fail_msg("more than %zu devices\n",
				   ARRAY_SIZE(subjects));
	snprintf(s->bdf, sizeof(s->bdf), "%s", bdf);
	snprintf(provider.bdf, sizeof(provider.bdf), "%s", bdf);
	s->where = where;
	s->bar = 2;
	s->rest = p2p_available(&provider);
	p2p_driver_link(bdf, s->driver, sizeof(s->driver));
	read_bar(bdf, 0, &s->start0, &s->len0, &flags);
	read_bar(bdf, s->bar, &s->start, &s->len, &flags);
	return s;
}

/* An NVMe controller, which must not be taken if that hurts. */
static void add_controller(const struct p2p_client *client)
{
	struct subject *s;

	for (unsigned int i = 0; i < nr_subjects; i++)
		if (!strcmp(subjects[i].bdf, client->bdf))
			return;
	s = add_subject(client->bdf, ON_NO_CMB);
	s->client = client;
	if (read_cmb(s))
		s->where = ON_CMB;
	s->why_not = p2p_why_not_take(client->bdf);
}

static uint64_t memory_of_machine(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * page;
}

/* A page takes 64 bytes to describe. */
static uint64_t page_structs(uint64_t len)
{
	return len / page * 64;
}

/* What no driver is bound to: some of it is good for a test. */
static void add_idle(const char *bdf)
{
	bool small_found = false, memory = false;
	uint64_t start, len;
	unsigned long flags;
	char driver[64];

	if (!p2p_driver_link(bdf, driver, sizeof(driver)))
		return;
	for (unsigned int i = 0; i < nr_subjects; i++)
		small_found |= subjects[i].where == ON_SMALL;
	for (int bar = 0; bar < 6; bar++)
		memory |= read_bar(bdf, bar, &start, &len, &flags) &&
			  flags & BAR_MEMORY && len >= p2p_range_align();

	if (p2p_attr_number(bdf, "vendor") == 0x1af4 &&
	    p2p_attr_number(bdf, "device") == 0x1110)
		/* sysfs has nothing of a BAR without an address */
		add_subject(bdf, !read_bar(bdf, 2, &start, &len, &flags) ?
				 ON_UNASSIGNED :
				 page_structs(len) > memory_of_machine() ?
				 ON_HUGE : ON_IVSHMEM);
	else if (!memory && !small_found &&
		 p2p_attr_number(bdf, "class") >> 16 != 6)
		add_subject(bdf, ON_SMALL);
}

static void find_subjects(void)
{
	struct dirent **entry;
	int n;

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		if (strcmp(p->driver, DRIVER))
			continue;
		if (!strcmp(p->kind, "testdev"))
			add_subject(p->bdf, ON_BAR);
		else if (!strcmp(p->kind, "ivshmem"))
			add_subject(p->bdf, ON_IVSHMEM);
	}
	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		add_controller(&p2p.client[i]);

	n = scandir(SYS_PCI, &entry, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (isxdigit((unsigned char)entry[i]->d_name[0]))
			add_idle(entry[i]->d_name);
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
}

/* Replace what is in braces, see struct refusal. */
static void expand(const struct subject *s, const char *text, char *out,
		   size_t size)
{
	const struct {
		const char *name;
		uint64_t value;
	} values[] = {
		{ "start", s->start },
		{ "len", s->len },
		{ "pages", page_structs(s->len) },
		{ "start0", s->start0 },
		{ "len0", s->len0 },
		{ "align", p2p_range_align() },
		{ "quarter", MB(4) % p2p_range_align() ? MB(4) : MB(1) },
	};
	const char *open, *rest;
	char name[16];
	size_t used = 0, i;
	uint64_t value;
	char *end;

	while ((open = strchr(text, '{'))) {
		i = strcspn(open + 1, "+-:}");
		snprintf(name, sizeof(name), "%.*s", (int)i, open + 1);
		rest = open + 1 + i;
		for (i = 0; i < ARRAY_SIZE(values); i++)
			if (!strcmp(name, values[i].name))
				break;
		if (i == ARRAY_SIZE(values))
			ksft_exit_fail_msg("no such word: {%s}\n", name);
		value = values[i].value;
		if (*rest == '+' || *rest == '-') {
			value += strtoll(rest, &end, 0);
			rest = end;
		}
		used += snprintf(out + used, size - used,
				 *rest == ':' ? "%.*s%lu" : "%.*s%#lx",
				 (int)(open - text), text, value);
		text = strchr(rest, '}') + 1;
	}
	snprintf(out + used, size - used, "%s", text);
}

/* ---- the module -------------------------------------------------------- */

/* The module has the parameters that it had before the first test: none. */
static bool loaded_plainly;

static int load(const char *parameters)
{
	int fd, ret, saved;

	fd = open(module_file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, parameters, 0);
	saved = errno;
	close(fd);
	errno = saved;
	loaded_plainly = !ret && !*parameters;
	return ret;
}

static int delete_module(void *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK);
}

/* This unbinds its devices, which waits for their pages. */
static int unload(void)
{
	loaded_plainly = false;
	return p2p_limited("delete_module(" DRIVER ")", delete_module, DRIVER);
}

static void reload(struct __test_metadata *_metadata, const char *parameters)
{
	/* where loading it has failed before, there is none */
	if (unload())
		ASSERT_EQ(ENOENT, errno)
			TH_LOG("unloading the module: %s", strerror(errno));
	ASSERT_EQ(0, load(parameters))
		TH_LOG("loading %s with '%s': %s", module_file, parameters,
		       strerror(errno));
}

/* ---- the devices and their drivers ------------------------------------- */

static bool is_bound(const char *bdf, const char *driver)
{
	char name[64];

	return !p2p_driver_link(bdf, name, sizeof(name)) &&
	       !strcmp(name, driver);
}

/* Take a device away from its driver, so that this one can be bound to it. */
static void take(struct __test_metadata *_metadata, const struct subject *s)
{
	if (!strcmp(s->driver, DRIVER))
		return;
	if (*s->driver) {
		ASSERT_EQ(0, p2p_driver_write(s->driver, "unbind", s->bdf))
			TH_LOG("unbinding %s: %s", s->driver, strerror(errno));
	}
	ASSERT_EQ(0, p2p_set_override(s->bdf, DRIVER))
		TH_LOG("driver_override: %s", strerror(errno));
}

static int bind_it(const struct subject *s)
{
	return p2p_driver_write(DRIVER, "bind", s->bdf);
}

/* Hand it back. The nvme driver looks for namespaces after it was bound. */
static void give_back(struct __test_metadata *_metadata,
		      const struct subject *s)
{
	if (!strcmp(s->driver, DRIVER))
		return;
	if (is_bound(s->bdf, DRIVER))
		EXPECT_RET(0, p2p_driver_write(DRIVER, "unbind", s->bdf));
	EXPECT_RET(0, p2p_set_override(s->bdf, "\n"));
	if (!*s->driver || is_bound(s->bdf, s->driver))
		return;
	ASSERT_EQ(0, p2p_driver_write(s->driver, "bind", s->bdf))
		TH_LOG("binding %s again: %s", s->driver, strerror(errno));
	P2P_WAIT_FOR(p2p_find_clients(s->bdf));
}

/* Whether a test has made this driver that of a device, or is half through. */
static bool is_taken(const struct subject *s)
{
	char override[64] = "";

	if (!strcmp(s->driver, DRIVER))
		return false;
	p2p_attr(s->bdf, "driver_override", override, sizeof(override));
	return !strcmp(override, DRIVER) || is_bound(s->bdf, DRIVER) ||
	       (*s->driver && !is_bound(s->bdf, s->driver));
}

/* Also before a device is taken: nobody gives it back where a setup fails. */
static void give_all_back(struct __test_metadata *_metadata)
{
	for (unsigned int i = 0; i < nr_subjects; i++)
		if (!subjects[i].why_not && is_taken(&subjects[i]))
			give_back(_metadata, &subjects[i]);
}

/* Everything is as it was before the first test. */
static void restore(struct __test_metadata *_metadata)
{
	struct p2p_provider provider = {};
	const struct subject *s;

	give_all_back(_metadata);
	if (!loaded_plainly) {
		if (unload())
			EXPECT_EQ(ENOENT, errno)
				TH_LOG("unloading the module: %s",
				       strerror(errno));
		ASSERT_EQ(0, load(""))
			TH_LOG("%s: %s", module_file, strerror(errno));
	}

	for (unsigned int i = 0; i < nr_subjects; i++) {
		s = &subjects[i];
		snprintf(provider.bdf, sizeof(provider.bdf), "%s", s->bdf);
		EXPECT_EQ(s->rest, p2p_settled_at(&provider, s->rest))
			TH_LOG("%s does not provide what it did", s->bdf);
		EXPECT_TRUE(!*s->driver || is_bound(s->bdf, s->driver))
			TH_LOG("%s is not bound to %s", s->bdf, s->driver);
		if (s->rest >= 0 && !strcmp(s->driver, DRIVER))
			EXPECT_EQ(p2p_pool_size(&provider), s->rest);
	}
}

static struct p2p_provider as_provider(const struct subject *s)
{
	struct p2p_provider provider = {};

	snprintf(provider.bdf, sizeof(provider.bdf), "%s", s->bdf);
	snprintf(provider.driver, sizeof(provider.driver), DRIVER);
	snprintf(provider.kind, sizeof(provider.kind), "%s",
		 s->where == ON_BAR ? "testdev" :
		 s->where == ON_IVSHMEM ? "ivshmem" : "cmb");
	provider.size = p2p_pool_size(&provider);
	provider.rest = p2p_available(&provider);
	return provider;
}

/* ---- the kernel log ---------------------------------------------------- */

/*
 * What was said of a device since the last call, one line after the other,
 * without the name; and the first line of whatever the kernel complains of.
 * What the cores of PCI and of drivers say of every device is left out.
 */
static void log_of(int kmsg, const char *bdf, char *lines, size_t len)
{
	char prefix[64], text[1024], *line;
	size_t used = 0;

	lines[0] = '\0';
	snprintf(prefix, sizeof(prefix), DRIVER " %s: ", bdf);
	while (kmsg_next(kmsg, text, sizeof(text))) {
		line = text;
		if (!strncmp(text, prefix, strlen(prefix)))
			line += strlen(prefix);
		else if (!strstr(text, "WARNING:") && !strstr(text, "BUG:"))
			continue;
		if (!strncmp(line, "probe with driver ", 18) ||
		    !strncmp(line, "enabling device ", 16))
			continue;
		used += snprintf(lines + used, len - used, "%s%s",
				 used ? "\n" : "", line);
		if (used >= len)
			return;
	}
}

static void expect_log(struct __test_metadata *_metadata, int kmsg,
		       const char *bdf, const char *expected)
{
	char lines[4096];

	log_of(kmsg, bdf, lines, sizeof(lines));
	EXPECT_STREQ(expected, lines);
}

/* ---- what is refused --------------------------------------------------- */

FIXTURE(refused) {
	int kmsg;
};

FIXTURE_VARIANT(refused) {
	const struct subject *subject;
	const struct refusal *row;
};

FIXTURE_SETUP(refused)
{
	/* where nothing is to be found, there is no variant either */
	if (!variant)
		SKIP(return, "no device that could be refused");
	if (variant->subject->why_not)
		SKIP(return, "%s", variant->subject->why_not);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
}

FIXTURE_TEARDOWN(refused)
{
	restore(_metadata);
	close(self->kmsg);
}

/* One line, the right error, and nothing is left behind. */
TEST_F(refused, bind)
{
	const struct subject *s = variant->subject;
	char parameters[256], line[512], path[PATH_MAX];
	int64_t enabled;

	expand(s, variant->row->parameters, parameters, sizeof(parameters));
	expand(s, variant->row->line, line, sizeof(line));
	reload(_metadata, parameters);
	take(_metadata, s);
	enabled = p2p_attr_number(s->bdf, "enable");
	EXPECT_LE(0, enabled);

	kmsg_skip(self->kmsg);
	EXPECT_ERRNO(variant->row->error, bind_it(s));
	expect_log(_metadata, self->kmsg, s->bdf, line);

	EXPECT_FALSE(is_bound(s->bdf, DRIVER));
	snprintf(path, sizeof(path), SYS_PCI "/%s/p2pmem", s->bdf);
	EXPECT_ERRNO(ENOENT, access(path, F_OK));
	snprintf(path, sizeof(path), SYS_PCI "/%s/" DRIVER, s->bdf);
	EXPECT_ERRNO(ENOENT, access(path, F_OK));
	EXPECT_EQ(enabled, p2p_attr_number(s->bdf, "enable"));

	/* the device is not spoilt: without parameters it can be bound */
	if (*parameters) {
		reload(_metadata, "");
		if (strcmp(s->driver, DRIVER))
			EXPECT_TRUE(is_bound(s->bdf, DRIVER) || !bind_it(s))
				TH_LOG("%s", strerror(errno));
		EXPECT_TRUE(is_bound(s->bdf, DRIVER));
		EXPECT_EQ((ssize_t)s->len, as_provider(s).size);
		EXPECT_EQ((ssize_t)s->len, as_provider(s).rest);
	}
}

FIXTURE(unloadable) {
	int kmsg;
};

FIXTURE_VARIANT(unloadable) {
	const struct no_parameter *row;
};

FIXTURE_SETUP(unloadable)
{
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
}

FIXTURE_TEARDOWN(unloadable)
{
	restore(_metadata);
	close(self->kmsg);
}

TEST_F(unloadable, load)
{
	const char *parameters = variant->row->parameters;
	const char *value = strchr(parameters, '=');
	char text[1024], line[256], all[4096] = "";
	unsigned int found = 0;

	ASSERT_EQ(0, unload());
	kmsg_skip(self->kmsg);
	EXPECT_ERRNO(EINVAL, load(parameters));
	EXPECT_ERRNO(ENOENT, access("/sys/bus/pci/drivers/" DRIVER, F_OK));

	/* as parse_args() has it for all modules */
	snprintf(line, sizeof(line), DRIVER ": `%s' invalid for parameter `%.*s'",
		 value ? value + 1 : "",
		 (int)strcspn(parameters, "="), parameters);
	while (kmsg_next(self->kmsg, text, sizeof(text))) {
		found += !strcmp(text, line);
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s; ",
			 text);
	}
	EXPECT_EQ(1U, found)
		TH_LOG("expected '%s', found '%s'", line, all);
}

/* ---- what is accepted -------------------------------------------------- */

FIXTURE(accepted) {
	struct p2p_provider provider;
	uint64_t offset, size;
	bool misaligned;
};

FIXTURE_VARIANT(accepted) {
	const struct subject *subject;
	const struct accepted *row;
};

/* Refused, because of what the kernel does with ranges that share a page. */
static void expect_misaligned(struct __test_metadata *_metadata,
			      const struct subject *s)
{
	char expected[64], lines[4096];
	int kmsg = kmsg_open();

	ASSERT_LE(0, kmsg);
	kmsg_skip(kmsg);
	EXPECT_FALSE(is_bound(s->bdf, DRIVER));
	EXPECT_ERRNO(EINVAL, bind_it(s));
	log_of(kmsg, s->bdf, lines, sizeof(lines));
	close(kmsg);
	snprintf(expected, sizeof(expected), "must be multiples of %#lx",
		 p2p_range_align());
	EXPECT_NE(NULL, strstr(lines, expected))
		TH_LOG("found '%s'", lines);
}

FIXTURE_SETUP(accepted)
{
	const struct accepted *row;
	const struct subject *s;
	char parameters[256];

	if (!variant)
		SKIP(return, "no device that could be accepted");
	row = variant->row;
	s = variant->subject;
	if (s->why_not)
		SKIP(return, "%s", s->why_not);

	give_all_back(_metadata);
	self->offset = row->offset;
	if ((int64_t)row->offset < 0)
		self->offset += s->len;
	self->size = row->size ?: s->len - self->offset;

	expand(s, row->parameters, parameters, sizeof(parameters));
	reload(_metadata, parameters);
	take(_metadata, s);
	/* with larger pages some are refused: see Limits::memory_map_span() */
	self->misaligned = (s->start + self->offset) % p2p_range_align() ||
			   self->size / row->ranges % p2p_range_align();
	if (self->misaligned) {
		EXPECT_LT(MB(2), p2p_range_align());
		expect_misaligned(_metadata, s);
		return;
	}
	if (!is_bound(s->bdf, DRIVER))
		ASSERT_EQ(0, bind_it(s))
			TH_LOG("%s: %s", s->bdf, strerror(errno));
	self->provider = as_provider(s);
}

FIXTURE_TEARDOWN(accepted)
{
	restore(_metadata);
}

static void expect_attribute(struct __test_metadata *_metadata,
			     const struct subject *s, const char *attribute,
			     const char *fmt, ...) __printf(4, 5);

static void expect_attribute(struct __test_metadata *_metadata,
			     const struct subject *s, const char *attribute,
			     const char *fmt, ...)
{
	char expected[64], value[64] = "";
	va_list args;

	va_start(args, fmt);
	vsnprintf(expected, sizeof(expected), fmt, args);
	va_end(args);
	EXPECT_LT(0, p2p_attr(s->bdf, attribute, value, sizeof(value)))
		TH_LOG("%s cannot be read", attribute);
	EXPECT_STREQ(expected, value)
		TH_LOG("%s", attribute);
}

TEST_F(accepted, attributes)
{
	const struct accepted *row = variant->row;
	const struct subject *s = variant->subject;
	char numa_node[16];

	if (self->misaligned)
		return;
	ASSERT_LT(0, p2p_attr(s->bdf, "numa_node", numa_node,
			      sizeof(numa_node)));
	expect_attribute(_metadata, s, DRIVER "/source", "%s",
			 s->where == ON_CMB ? "cmb" : "bar");
	expect_attribute(_metadata, s, DRIVER "/bar", "%d", s->bar);
	expect_attribute(_metadata, s, DRIVER "/offset", "%lu",
			 s->offset + self->offset);
	expect_attribute(_metadata, s, DRIVER "/size", "%lu", self->size);
	expect_attribute(_metadata, s, DRIVER "/ranges", "%u", row->ranges);
	expect_attribute(_metadata, s, DRIVER "/numa_node", "%s", numa_node);
	expect_attribute(_metadata, s, DRIVER "/publish", "%d",
			 row->published);
	/* host bridges that translate have other addresses on their bus */
	expect_attribute(_metadata, s, DRIVER "/bus_address", "%#lx",
			 s->start + self->offset);
	expect_attribute(_metadata, s, "p2pmem/size", "%lu", self->size);
	expect_attribute(_metadata, s, "p2pmem/available", "%lu",
			 self->size);
	expect_attribute(_metadata, s, "p2pmem/published", "%d",
			 row->published);
	expect_attribute(_metadata, s, "enable", "1");
}

/*
 * All of it can be had, in pieces as large as a range and no larger: an
 * allocation does not cross from one range to the next.
 */
TEST_F(accepted, allocations)
{
	unsigned int ranges = variant->row->ranges;
	size_t part = self->size / ranges;
	char *map[64], why[256];
	int fd;

	if (self->misaligned)
		return;
	fd = p2p_open_pool(&self->provider, O_RDWR);
	ASSERT_LE(0, fd);
	errno = 0;
	EXPECT_EQ(MAP_FAILED, p2p_map(fd, part + page));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ((ssize_t)self->size, p2p_available(&self->provider));

	for (unsigned int i = 0; i < ranges; i++) {
		map[i] = p2p_map(fd, part);
		ASSERT_NE(MAP_FAILED, (void *)map[i])
			TH_LOG("range %u: %s", i, strerror(errno));
		EXPECT_EQ((ssize_t)(self->size - (i + 1) * part),
			  p2p_available(&self->provider));
		p2p_fill(map[i], page, P2P_DATA, i * part);
		p2p_fill(map[i] + part - page, page, P2P_DATA,
			 (i + 1) * part - page);
	}
	errno = 0;
	EXPECT_EQ(MAP_FAILED, p2p_map(fd, page));
	EXPECT_EQ(ENOMEM, errno);

	for (unsigned int i = 0; i < ranges; i++) {
		EXPECT_EQ(0UL, p2p_check(map[i], page, P2P_DATA, i * part, why,
					 sizeof(why)))
			TH_LOG("range %u: %s", i, why);
		EXPECT_EQ(0UL, p2p_check(map[i] + part - page, page, P2P_DATA,
					 (i + 1) * part - page, why,
					 sizeof(why)))
			TH_LOG("end of range %u: %s", i, why);
	}
	/* parts of what is left over from two ranges are no whole */
	if (ranges > 1) {
		EXPECT_EQ(0, munmap(map[0] + part / 2, part - part / 2));
		EXPECT_EQ(0, munmap(map[1], part / 2));
		errno = 0;
		EXPECT_EQ(MAP_FAILED, p2p_map(fd, part));
		EXPECT_EQ(ENOMEM, errno);
	}
	for (unsigned int i = 0; i < ranges; i++)
		EXPECT_EQ(0, munmap(map[i], part));
	EXPECT_EQ((ssize_t)self->size, p2p_available(&self->provider));
	close(fd);
}

/* Write to both ends of some memory what tells it from all other. */
static void mark(char *mem, size_t len, uint64_t at)
{
	p2p_fill(mem, page, P2P_DATA, at);
	p2p_fill(mem + len - page, page, P2P_DATA, at + len - page);
}

static bool is_marked(const char *mem, size_t len, uint64_t at)
{
	char why[256];

	return !p2p_check(mem, page, P2P_DATA, at, why, sizeof(why)) &&
	       !p2p_check(mem + len - page, page, P2P_DATA, at + len - page,
			  why, sizeof(why));
}

/*
 * The memory is the one of the BAR that was asked for, from there to there:
 * what is written to each range is seen in the BAR, once.
 */
TEST_F(accepted, place)
{
	const struct subject *s = variant->subject;
	unsigned int ranges = variant->row->ranges, found[64] = {};
	size_t part = self->size / ranges;
	char path[PATH_MAX], *map[64], *bar;
	int fd, resource;

	if (self->misaligned)
		return;
	snprintf(path, sizeof(path), SYS_PCI "/%s/resource%d", s->bdf, s->bar);
	resource = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, resource)
		TH_LOG("%s: %s", path, strerror(errno));
	bar = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   resource, s->offset + self->offset);
	ASSERT_NE(MAP_FAILED, (void *)bar)
		TH_LOG("%s: %s", path, strerror(errno));

	fd = p2p_open_pool(&self->provider, O_RDWR);
	ASSERT_LE(0, fd);
	for (unsigned int i = 0; i < ranges; i++) {
		map[i] = p2p_map(fd, part);
		ASSERT_NE(MAP_FAILED, (void *)map[i])
			TH_LOG("range %u: %s", i, strerror(errno));
		mark(map[i], part, i * part);
	}
	for (unsigned int i = 0; i < ranges; i++)
		for (unsigned int j = 0; j < ranges; j++)
			found[i] += is_marked(bar + j * part, part, i * part);
	for (unsigned int i = 0; i < ranges; i++) {
		EXPECT_EQ(1U, found[i])
			TH_LOG("range %u", i);
		EXPECT_EQ(0, munmap(map[i], part));
	}
	EXPECT_EQ(0, munmap(bar, self->size));
	close(fd);
	close(resource);
}

static int unbind_it(const struct subject *s)
{
	return p2p_driver_write(DRIVER, "unbind", s->bdf);
}

/* A namespace from which reads into the memory are expected to work. */
static const struct p2p_client *reaching(const struct p2p_provider *provider)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		enum p2p_verdict verdict =
			p2p_expect(provider, &p2p.client[i]).verdict;

		if (verdict == P2P_BUS_ADDR || verdict == P2P_HOST_BRIDGE)
			return &p2p.client[i];
	}
	return NULL;
}

/* ---- an NVMe controller taken over, and handed back -------------------- */

FIXTURE(taken) {
	struct p2p_provider provider;
	uint64_t pos;
	char *ram;
};

FIXTURE_VARIANT(taken) {
	const struct subject *subject;
};

#define TAKEN_LEN	MB(1)

/* Read from, or write to, a namespace; past the page cache. */
static void move_data(struct __test_metadata *_metadata,
		      const struct p2p_client *client, bool write, void *mem,
		      size_t len, uint64_t pos)
{
	int fd = open(client->path, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	ssize_t n;

	ASSERT_LE(0, fd)
		TH_LOG("%s: %s", client->path, strerror(errno));
	n = write ? pwrite(fd, mem, len, pos) : pread(fd, mem, len, pos);
	EXPECT_EQ((ssize_t)len, n)
		TH_LOG("%s %s: %s", write ? "writing" : "reading", client->path,
		       n < 0 ? strerror(errno) : "a short transfer");
	close(fd);
	if (p2p.corrupt)
		p2p_flip(mem, len / 2);
}

static void expect_holds(struct __test_metadata *_metadata, const char *what,
			 const void *mem, uint64_t at)
{
	char why[256];

	EXPECT_EQ(0UL, p2p_check(mem, TAKEN_LEN, P2P_DATA, at, why,
				 sizeof(why)))
		TH_LOG("%s: %s (P2PDMA_SEED=%#x)", what, why, p2p.seed);
}

FIXTURE_SETUP(taken)
{
	const struct subject *s;

	if (!variant)
		SKIP(return, "no NVMe controller has a memory buffer");
	s = variant->subject;
	if (s->why_not)
		SKIP(return, "%s", s->why_not);

	restore(_metadata);
	P2P_WAIT_FOR(p2p_find_clients(NULL));
	self->ram = mmap(NULL, TAKEN_LEN, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->ram);
	self->pos = s->client->size / 2 / MB(1) * MB(1);
	p2p_fill(self->ram, TAKEN_LEN, P2P_DATA, self->pos);
	move_data(_metadata, s->client, true, self->ram, TAKEN_LEN, self->pos);

	take(_metadata, s);
	ASSERT_EQ(0, bind_it(s))
		TH_LOG("%s: %s", s->bdf, strerror(errno));
	self->provider = as_provider(s);
	ASSERT_EQ((ssize_t)s->len, self->provider.size);
	ASSERT_EQ((ssize_t)s->len, self->provider.rest);
}

FIXTURE_TEARDOWN(taken)
{
	restore(_metadata);
}

/* The namespaces of other controllers are read into it and written from it. */
TEST_F_TIMEOUT(taken, io, 120)
{
	unsigned int transfers = 0;
	char *map;
	int fd;

	fd = p2p_open_pool(&self->provider, O_RDWR);
	ASSERT_LE(0, fd);
	map = p2p_map(fd, TAKEN_LEN);
	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("%s", strerror(errno));

	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *c = &p2p.client[i];
		uint64_t pos = c->size / 2 / MB(1) * MB(1);
		struct p2p_expect expect = p2p_expect(&self->provider, c);

		if (!c->scratch || !strcmp(c->bdf, self->provider.bdf) ||
		    expect.verdict == P2P_NOT_SUPPORTED ||
		    expect.verdict == P2P_UNKNOWN || expect.defect[0])
			continue;
		transfers++;

		/* from the medium */
		p2p_fill(self->ram, TAKEN_LEN, P2P_DATA, pos);
		move_data(_metadata, c, true, self->ram, TAKEN_LEN, pos);
		p2p_fill(map, TAKEN_LEN, P2P_PRESET, pos);
		move_data(_metadata, c, false, map, TAKEN_LEN, pos);
		expect_holds(_metadata, "read into the memory", map, pos);

		/* and to it */
		p2p_fill(map, TAKEN_LEN, P2P_DATA, ~pos & ~7UL);
		move_data(_metadata, c, true, map, TAKEN_LEN, pos);
		p2p_fill(self->ram, TAKEN_LEN, P2P_PRESET, pos);
		move_data(_metadata, c, false, self->ram, TAKEN_LEN, pos);
		expect_holds(_metadata, "written from the memory", self->ram,
			     ~pos & ~7UL);
	}
	EXPECT_EQ(0, munmap(map, TAKEN_LEN));
	close(fd);
	EXPECT_EQ(self->provider.rest, p2p_settled(&self->provider));
	if (!transfers && !_metadata->exit_code)
		SKIP(return, "no other namespace is said to reach it, see P2PDMA_EXPECT");
}

#define NVME_CC		0x14
#define NVME_CC_EN	0x1
/* queue entries of 64 and 16 bytes, as the nvme driver has it */
#define NVME_CC_ENABLE	(0x460000 | NVME_CC_EN)

/*
 * The register CC, through sysfs. A driver that asks for the registers takes
 * the mapping away, also if it does not keep them.
 */
static uint32_t access_cc(struct __test_metadata *_metadata,
			  const struct subject *s, const uint32_t *set)
{
	char path[PATH_MAX], *registers;
	uint32_t value;
	int resource;

	snprintf(path, sizeof(path), SYS_PCI "/%s/resource0", s->bdf);
	resource = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, resource)
		TH_LOG("%s: %s", path, strerror(errno));
	registers = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED,
			 resource, 0);
	ASSERT_NE(MAP_FAILED, (void *)registers)
		TH_LOG("%s: %s", path, strerror(errno));
	if (set)
		writel(*set, registers + NVME_CC);
	value = readl(registers + NVME_CC);
	EXPECT_EQ(0, munmap(registers, page));
	close(resource);
	return value;
}

/* A controller that somebody has enabled is left alone. */
TEST_F_TIMEOUT(taken, enabled, 120)
{
	const uint32_t reset = 0, enabled = NVME_CC_ENABLE;
	const struct subject *s = variant->subject;
	char enable[PATH_MAX];
	int kmsg;

	kmsg = kmsg_open();
	ASSERT_LE(0, kmsg);
	ASSERT_EQ(0, unbind_it(s));
	snprintf(enable, sizeof(enable), SYS_PCI "/%s/enable", s->bdf);
	ASSERT_EQ(0, p2p_sysfs_write(enable, "1"))
		TH_LOG("%s: %s", enable, strerror(errno));

	/* the nvme driver has shut it down, which leaves it enabled: reset it */
	EXPECT_EQ(0U, access_cc(_metadata, s, &reset) & NVME_CC_EN);
	/* without queues it cannot work, but that is not the driver's business */
	EXPECT_EQ(enabled, access_cc(_metadata, s, &enabled));

	kmsg_skip(kmsg);
	EXPECT_ERRNO(EBUSY, bind_it(s));
	expect_log(_metadata, kmsg, s->bdf,
		   "the controller is enabled: bind the nvme driver and unbind it, which shuts it down");
	EXPECT_FALSE(is_bound(s->bdf, DRIVER));
	if (!is_bound(s->bdf, DRIVER)) {
		EXPECT_EQ(enabled, access_cc(_metadata, s, NULL));
		EXPECT_EQ(reset, access_cc(_metadata, s, &reset));
		EXPECT_EQ(0, p2p_sysfs_write(enable, "0"))
			TH_LOG("%s: %s", enable, strerror(errno));
		EXPECT_EQ(0, bind_it(s))
			TH_LOG("%s: %s", s->bdf, strerror(errno));
	}
	EXPECT_EQ((ssize_t)s->len, p2p_settled_at(&self->provider, s->len));
	close(kmsg);
}

/* The nvme driver works with it again, and the medium was not touched. */
TEST_F_TIMEOUT(taken, handed_back, 120)
{
	const struct subject *s = variant->subject;
	char *map;
	int fd;

	/* write to all of the memory, as whoever has it may */
	fd = p2p_open_pool(&self->provider, O_RDWR);
	ASSERT_LE(0, fd);
	map = p2p_map(fd, s->len);
	ASSERT_NE(MAP_FAILED, (void *)map)
		TH_LOG("%s", strerror(errno));
	p2p_fill(map, s->len, P2P_PRESET, 0);
	EXPECT_EQ(0, munmap(map, s->len));
	close(fd);

	give_back(_metadata, s);
	EXPECT_TRUE(is_bound(s->bdf, s->driver));
	EXPECT_EQ(s->rest, p2p_available(&self->provider));
	EXPECT_EQ(1, p2p_attr_number(s->bdf, "enable"));

	p2p_fill(self->ram, TAKEN_LEN, P2P_PRESET, 0);
	move_data(_metadata, s->client, false, self->ram, TAKEN_LEN, self->pos);
	expect_holds(_metadata, s->client->path, self->ram, self->pos);

	p2p_fill(self->ram, TAKEN_LEN, P2P_DATA, self->pos + MB(2));
	move_data(_metadata, s->client, true, self->ram, TAKEN_LEN, self->pos);
	p2p_fill(self->ram, TAKEN_LEN, P2P_PRESET, 0);
	move_data(_metadata, s->client, false, self->ram, TAKEN_LEN, self->pos);
	expect_holds(_metadata, s->client->path, self->ram, self->pos + MB(2));
}

/* ---- a device that is bound -------------------------------------------- */

FIXTURE(bound) {
	struct p2p_provider provider;
	int kmsg, fd;
};

FIXTURE_VARIANT(bound) {
	const struct subject *subject;
};

/* Number of the array that publish_unbinding makes. */
#define ARRAY		140
#define ARRAY_PATH	"/dev/md140"

/* Sectors up to which writes to it wait. */
static int suspend(const char *until)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/md%d/md/suspend_hi", ARRAY);
	return p2p_sysfs_write(path, until);
}

/* It is there if something went wrong; its writer cannot be ended otherwise. */
static void stop_array(void)
{
	suspend("0");
	p2p_stop_array(ARRAY_PATH);
}

FIXTURE_SETUP(bound)
{
	if (!variant)
		SKIP(return, "no device is bound to " DRIVER);
	/* after a test that was ended by its limit */
	if (!is_bound(variant->subject->bdf, DRIVER) ||
	    !access(ARRAY_PATH, F_OK) || !p2p_find_clients(NULL)) {
		stop_array();
		restore(_metadata);
	}
	P2P_WAIT_FOR(p2p_find_clients(NULL));
	self->provider = as_provider(variant->subject);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg)
		TH_LOG("/dev/kmsg: %s", strerror(errno));
	self->fd = p2p_open_pool(&self->provider, O_RDWR);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(bound)
{
	stop_array();
	close(self->kmsg);
	close(self->fd);
	restore(_metadata);
}

/*
 * Nothing is lost over many cycles: neither memory nor an enabling. There are
 * fewer where everything takes longer, and a few would do for kmemleak.
 */
TEST_F_TIMEOUT(bound, cycles, 240)
{
	const struct subject *s = variant->subject;
	int64_t enabled = p2p_attr_number(s->bdf, "enable"), disabled = -1;
	double scale = p2p_timeout_scale();
	int cycles = scale > 1 ? CYCLES / scale : CYCLES;

	EXPECT_EQ(1, enabled);
	for (int i = 0; i < cycles || !i; i++) {
		ASSERT_EQ(0, unbind_it(s))
			TH_LOG("cycle %d: %s", i, strerror(errno));
		if (!i)
			disabled = p2p_attr_number(s->bdf, "enable");
		ASSERT_FALSE(p2p_is_provider(s->bdf));
		ASSERT_EQ(0, p2p_attr_number(s->bdf, "enable"))
			TH_LOG("cycle %d", i);
		ASSERT_EQ(0, bind_it(s))
			TH_LOG("cycle %d: %s", i, strerror(errno));
		ASSERT_EQ(self->provider.size, p2p_pool_size(&self->provider))
			TH_LOG("cycle %d", i);
		ASSERT_EQ(self->provider.size, p2p_available(&self->provider))
			TH_LOG("cycle %d", i);
		ASSERT_EQ(enabled, p2p_attr_number(s->bdf, "enable"))
			TH_LOG("cycle %d", i);
	}
	EXPECT_EQ(0, disabled);
}

/* Who leaves nothing behind is not talked about. */
TEST_F(bound, unbind_idle)
{
	void *map = p2p_map(self->fd, PAGES * page);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, munmap(map, PAGES * page));
	kmsg_skip(self->kmsg);
	EXPECT_RET(0, unbind_it(variant->subject));
	expect_log(_metadata, self->kmsg, variant->subject->bdf, "");
}

static void in_use(char *line, size_t len, ssize_t size, size_t mapped,
		   size_t pinned)
{
	snprintf(line, len,
		 "%zu of %zd bytes in use: mapped by user space %zu (pinned for I/O %zu), allocated in the kernel 0",
		 mapped, size, mapped, pinned);
}

/* Two mappings of one process, one of another; with a hole. */
TEST_F(bound, unbind_mapped)
{
	const struct subject *s = variant->subject;
	char line[256], *map, *other;

	map = p2p_map(self->fd, PAGES * page);
	ASSERT_NE(MAP_FAILED, (void *)map);
	other = p2p_map(self->fd, page);
	ASSERT_NE(MAP_FAILED, (void *)other);
	EXPECT_EQ(0, munmap(map + page, page));

	kmsg_skip(self->kmsg);
	EXPECT_RET(0, unbind_it(s));
	in_use(line, sizeof(line), self->provider.size, PAGES * page, 0);
	expect_log(_metadata, self->kmsg, s->bdf, line);
	EXPECT_EQ(SIGBUS, p2p_try_read(map, NULL));
	EXPECT_EQ(SIGBUS, p2p_try_read(other, NULL));
	EXPECT_EQ(0, munmap(other, page));
	EXPECT_EQ(0, munmap(map, PAGES * page));
}

/**
 * struct reader - a thread that keeps I/O in flight
 * @client: the namespace that it reads from
 * @map: where to, PAGES long
 * @reads: how many were made; to be looked at while it runs
 * @error: what the last one ended with
 */
struct reader {
	const struct p2p_client *client;
	char *map;
	int reads, error;
};

static void *read_until_gone(void *arg)
{
	struct reader *r = arg;
	int fd = open(r->client->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ssize_t n = -1;

	/* a part, if pages went while they were pinned */
	while (fd >= 0 && (n = pread(fd, r->map, PAGES * page, 0)) > 0)
		__atomic_add_fetch(&r->reads, 1, __ATOMIC_RELEASE);
	r->error = n < 0 ? errno : 0;
	/* let nobody wait for more */
	__atomic_store_n(&r->reads, INT_MAX, __ATOMIC_RELEASE);
	close(fd);
	return NULL;
}

/*
 * Pages that are pinned, for reads in flight. How many of them there are in
 * the moment when the driver counts is not known, but there are some sooner or
 * later; and one page is never among them.
 */
TEST_F_TIMEOUT(bound, unbind_pinned, 120)
{
	const struct subject *s = variant->subject;
	const size_t mapped = (READERS * PAGES + 1) * page;
	struct reader readers[READERS];
	pthread_t thread[READERS];
	char line[256], lines[4096], *idle;
	size_t pinned = 0;

	readers[0].client = reaching(&self->provider);
	if (!readers[0].client)
		SKIP(return, "no namespace is said to reach it, see P2PDMA_EXPECT");

	while (!pinned && !_metadata->exit_code) {
		idle = p2p_map(self->fd, page);
		ASSERT_NE(MAP_FAILED, (void *)idle);
		for (int i = 0; i < READERS; i++) {
			readers[i] = (struct reader) {
				.client = readers[0].client,
				.map = p2p_map(self->fd, PAGES * page),
			};
			ASSERT_NE(MAP_FAILED, (void *)readers[i].map);
			ASSERT_EQ(0, pthread_create(&thread[i], NULL,
						    read_until_gone,
						    &readers[i]));
		}
		for (int i = 0; i < READERS; i++)
			P2P_WAIT_FOR(__atomic_load_n(&readers[i].reads,
						     __ATOMIC_ACQUIRE));

		kmsg_skip(self->kmsg);
		EXPECT_RET(0, unbind_it(s));
		log_of(self->kmsg, s->bdf, lines, sizeof(lines));
		if (strstr(lines, "pinned for I/O "))
			pinned = strtoul(strstr(lines, "pinned for I/O ") + 15,
					 NULL, 10);
		in_use(line, sizeof(line), self->provider.size, mapped, pinned);
		ASSERT_STREQ(line, lines);
		EXPECT_EQ(0UL, pinned % page);
		EXPECT_GT(mapped, pinned);
		EXPECT_EQ(0, munmap(idle, page));

		for (int i = 0; i < READERS; i++) {
			ASSERT_EQ(0, pthread_join(thread[i], NULL));
			EXPECT_EQ(EFAULT, readers[i].error)
				TH_LOG("reading ended with: %s",
				       strerror(readers[i].error));
			EXPECT_EQ(0, munmap(readers[i].map, PAGES * page));
		}
		close(self->fd);
		ASSERT_EQ(0, bind_it(s));
		self->fd = p2p_open_pool(&self->provider, O_RDWR);
		ASSERT_LE(0, self->fd);
	}
}

/* The switch: what it takes, what it does not, and what comes of it. */
TEST_F(bound, publish)
{
	const struct subject *s = variant->subject;
	int fd, published = p2p_attr_number(s->bdf, "p2pmem/published");
	char path[PATH_MAX], large[2 * 4096];

	snprintf(path, sizeof(path), SYS_PCI "/%s/" DRIVER "/publish", s->bdf);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (size_t i = 0; i < ARRAY_SIZE(publications); i++) {
		const struct publication *row = &publications[i];
		ssize_t n = pwrite(fd, row->value, row->len, 0);

		if (row->published < 0) {
			EXPECT_EQ(-1, n)
				TH_LOG("row %zu was taken: '%s'", i,
				       row->value);
			EXPECT_EQ(EINVAL, errno);
		} else {
			EXPECT_EQ((ssize_t)row->len, n)
				TH_LOG("row %zu: '%s'", i, row->value);
			published = row->published;
		}
		EXPECT_EQ(published, p2p_attr_number(s->bdf, "p2pmem/published"))
			TH_LOG("row %zu: '%s'", i, row->value);
		EXPECT_EQ(published, p2p_attr_number(s->bdf, DRIVER "/publish"))
			TH_LOG("row %zu: '%s'", i, row->value);
	}
	memset(large, 'x', sizeof(large));
	EXPECT_ERRNO(EINVAL, pwrite(fd, large, sizeof(large), 0));

	/* it is no gate for mappings, and does not outlive the binding */
	EXPECT_EQ(0, published);
	EXPECT_NE(MAP_FAILED, p2p_map(self->fd, page));
	EXPECT_RET(0, unbind_it(s));
	errno = 0;
	EXPECT_EQ(-1, pwrite(fd, "1", 1, 0));
	EXPECT_EQ(ENODEV, errno);
	close(fd);
	EXPECT_RET(0, bind_it(s));
	EXPECT_EQ(1, p2p_attr_number(s->bdf, "p2pmem/published"));
	EXPECT_EQ(1, p2p_attr_number(s->bdf, DRIVER "/publish"));
}

/* Open a file of the device for as long as the test runs. */
static int open_file(const struct subject *s, const char *file, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYS_PCI "/%s/%s", s->bdf, file);
	return open(path, flags | O_CLOEXEC);
}

/**
 * struct opponent - a thread that writes 0 while the test writes 1
 * @fd: the attribute "publish"
 * @asked: how often it shall have written
 * @done: how often it has
 */
struct opponent {
	int fd;
	atomic_int asked, done;
};

static void *oppose(void *data)
{
	struct opponent *o = data;

	for (int i = 1; i <= DUELS; i++) {
		while (atomic_load(&o->asked) < i)
			sched_yield();
		if (pwrite(o->fd, "0", 1, 0) != 1) {
			/* nobody has to wait for it any more */
			atomic_store(&o->done, DUELS);
			return "cannot write";
		}
		atomic_store(&o->done, i);
	}
	return NULL;
}

/* Whoever of two writers was the last: what is shown is what is in force. */
TEST_F(bound, publish_twice)
{
	const struct subject *s = variant->subject;
	struct opponent o = { .fd = open_file(s, DRIVER "/publish", O_RDWR) };
	int fd = open_file(s, DRIVER "/publish", O_RDWR);
	int in_force = open_file(s, "p2pmem/published", O_RDONLY);
	unsigned int wrong = 0;
	pthread_t thread;
	void *error;
	char a, b;

	ASSERT_LE(0, fd);
	ASSERT_LE(0, o.fd);
	ASSERT_LE(0, in_force);
	ASSERT_EQ(0, pthread_create(&thread, NULL, oppose, &o));
	for (int i = 1; i <= DUELS; i++) {
		atomic_store(&o.asked, i);
		/* now a little earlier, now a little later */
		for (int wait = i % 256; wait; wait--)
			atomic_load(&o.done);
		ASSERT_EQ(1, pwrite(fd, "1", 1, 0));
		while (atomic_load(&o.done) < i)
			sched_yield();
		ASSERT_EQ(1, pread(fd, &a, 1, 0));
		ASSERT_EQ(1, pread(in_force, &b, 1, 0));
		wrong += a != b;
	}
	ASSERT_EQ(0, pthread_join(thread, &error));
	EXPECT_EQ(NULL, error);
	EXPECT_EQ(0U, wrong)
		TH_LOG("of %d times", DUELS);
	EXPECT_EQ(1, pwrite(fd, "1", 1, 0));
	close(fd);
	close(o.fd);
	close(in_force);
}

/**
 * struct publisher - a thread that publishes for as long as it can
 * @fd: the attribute "publish"
 * @ready: it has published once
 * @gone: the attribute is gone
 */
struct publisher {
	int fd;
	atomic_bool ready, gone;
};

static void *publish_until_gone(void *data)
{
	struct publisher *p = data;

	while (pwrite(p->fd, "1", 1, 0) == 1)
		atomic_store(&p->ready, true);
	atomic_store(&p->gone, true);
	return NULL;
}

/* Keep the lock of sysfs busy, so that removing attributes takes a while. */
static void *look_up_until_gone(void *data)
{
	struct publisher *p = data;
	struct stat st;

	while (!atomic_load(&p->gone))
		stat(SYS_PCI "/nothing", &st);
	return NULL;
}

/**
 * struct holder - a thread whose write keeps its pages pinned
 * @array: an array without redundancy, suspended: writes wait until it is not
 * @map: pages of the provider, PAGES of them
 * @tid: the thread, once it is about to write
 * @ret: what the write returned
 */
struct holder {
	char array[32];
	char *map;
	atomic_int tid;
	ssize_t ret;
};

static void *hold(void *data)
{
	struct holder *h = data;
	int fd = open(h->array, O_RDWR | O_DIRECT | O_CLOEXEC);

	atomic_store(&h->tid, gettid());
	h->ret = fd < 0 ? -1 : pwrite(fd, h->map, PAGES * page, 0);
	close(fd);
	return NULL;
}

/* Whether the thread waits for its write, which it does without being disturbed. */
static bool is_held(const struct holder *h)
{
	char path[64], line[512], *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat",
		 atomic_load(&h->tid));
	f = fopen(path, "re");
	state = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (f)
		fclose(f);
	return state && !strncmp(state, ") D", 3);
}

static void *unbind_in_thread(void *data)
{
	return unbind_it(data) ? "cannot be unbound" : NULL;
}

/* What is in force while the pages are waited for: '0', as soon as it is. */
static char in_force_at_last(int in_force)
{
	int looks = 3000 * p2p_patience();
	char value;

	do {
		if (pread(in_force, &value, 1, 0) != 1)
			return '-';
		if (value == '1')
			usleep(1000);
	} while (value == '1' && looks-- > 0);
	return value;
}

/* A disk that the provider reaches, and that may be made part of an array. */
static const struct p2p_client *reaching_scratch(const struct p2p_provider *p)
{
	for (unsigned int i = 0; i < p2p.nr_clients; i++) {
		const struct p2p_client *c = &p2p.client[i];
		enum p2p_verdict v = p2p_expect(p, c).verdict;

		if (c->scratch && (v == P2P_BUS_ADDR || v == P2P_HOST_BRIDGE))
			return c;
	}
	return NULL;
}

/*
 * What is written while the driver goes does not stay in force while its pages
 * are waited for. A write to an array that is suspended has some, for as long
 * as that takes to look.
 */
TEST_F_TIMEOUT(bound, publish_unbinding, 120)
{
	const struct p2p_client *c = reaching_scratch(&self->provider);
	struct subject *s = (struct subject *)variant->subject;
	pthread_t publisher[3], holder, unbinding;
	struct holder h = {};
	void *error;
	char last;

	if (!c)
		SKIP(return,
		     "no namespace in P2PDMA_SCRATCH is said to reach it, see P2PDMA_EXPECT");
	if (!p2p_has_raid1())
		SKIP(return, "the kernel has no RAID1");
	ASSERT_EQ(0, p2p_make_array(ARRAY, 1, 2,
				    (const char *const[]){ c->path }, 1,
				    h.array, sizeof(h.array)))
		TH_LOG("%s: %s", h.array, strerror(errno));

	for (int i = 0; i < UNBINDINGS; i++) {
		int in_force = open_file(s, "p2pmem/published", O_RDONLY);
		struct publisher p = {
			.fd = open_file(s, DRIVER "/publish", O_RDWR),
		};

		ASSERT_LE(0, p.fd);
		ASSERT_LE(0, in_force);
		h.map = p2p_map(self->fd, PAGES * page);
		ASSERT_NE(MAP_FAILED, (void *)h.map);
		atomic_store(&h.tid, 0);
		ASSERT_EQ(0, suspend("1000000"));
		ASSERT_EQ(0, pthread_create(&holder, NULL, hold, &h));
		for (size_t j = 0; j < ARRAY_SIZE(publisher); j++)
			ASSERT_EQ(0, pthread_create(&publisher[j], NULL,
						    j ? look_up_until_gone :
							publish_until_gone, &p));
		while (!atomic_load(&p.ready) && !atomic_load(&p.gone))
			sched_yield();
		EXPECT_TRUE(atomic_load(&p.ready))
			TH_LOG("\"publish\" cannot be written");
		P2P_WAIT_FOR(is_held(&h));
		EXPECT_EQ(0, munmap(h.map, PAGES * page));
		EXPECT_EQ(self->provider.rest - PAGES * page,
			  p2p_available(&self->provider))
			TH_LOG("the write does not keep the pages");

		ASSERT_EQ(0, pthread_create(&unbinding, NULL, unbind_in_thread,
					    s));
		for (size_t j = 0; j < ARRAY_SIZE(publisher); j++)
			ASSERT_EQ(0, pthread_join(publisher[j], NULL));
		last = in_force_at_last(in_force);
		ASSERT_EQ(0, suspend("0"));
		ASSERT_EQ(0, pthread_join(holder, NULL));
		EXPECT_EQ(PAGES * page, h.ret);
		ASSERT_EQ(0, pthread_join(unbinding, &error));
		EXPECT_EQ(NULL, error);
		EXPECT_FALSE(p2p_is_provider(s->bdf));
		ASSERT_EQ('0', last)
			TH_LOG("unbinding %d", i);
		close(p.fd);
		close(in_force);
		close(self->fd);
		ASSERT_EQ(0, bind_it(s));
		self->fd = p2p_open_pool(&self->provider, O_RDWR);
		ASSERT_LE(0, self->fd);
	}
	EXPECT_EQ(0, p2p_stop_array(h.array));
}

static const struct {
	const char *name;
	mode_t mode;
} modes[] = {
	{ DRIVER "/source", 0444 },
	{ DRIVER "/bar", 0444 },
	{ DRIVER "/offset", 0444 },
	{ DRIVER "/size", 0444 },
	{ DRIVER "/ranges", 0444 },
	{ DRIVER "/bus_address", 0444 },
	{ DRIVER "/numa_node", 0444 },
	{ DRIVER "/publish", 0644 },
	{ "p2pmem/allocate", 0660 },
};

/* Modes, and what they mean for root and for others. */
TEST_F(bound, modes)
{
	char path[PATH_MAX];
	struct stat st;
	DIR *list;
	int files = 0, status;
	pid_t pid;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		snprintf(path, sizeof(path), SYS_PCI "/%s/%s",
			 self->provider.bdf, modes[i].name);
		ASSERT_EQ(0, stat(path, &st))
			TH_LOG("%s: %s", path, strerror(errno));
		EXPECT_EQ(modes[i].mode, st.st_mode & 07777)
			TH_LOG("%s", path);
		EXPECT_EQ(0U, st.st_uid);
		if (modes[i].mode == 0444)
			EXPECT_ERRNO(EACCES, open(path, O_WRONLY));
		else
			EXPECT_LE(0, open(path, O_RDWR));
	}

	/* the table has them all */
	snprintf(path, sizeof(path), SYS_PCI "/%s/" DRIVER,
		 self->provider.bdf);
	list = opendir(path);
	ASSERT_NE(NULL, list);
	for (struct dirent *entry; (entry = readdir(list)); )
		files += entry->d_name[0] != '.';
	closedir(list);
	EXPECT_EQ((int)ARRAY_SIZE(modes) - 1, files);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(99);
		for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
			snprintf(path, sizeof(path), SYS_PCI "/%s/%s",
				 self->provider.bdf, modes[i].name);
			if (open(path, O_WRONLY) >= 0 || errno != EACCES)
				_exit(i + 1);
			if (modes[i].mode & 4 && open(path, O_RDONLY) < 0)
				_exit(i + 1);
			if (!(modes[i].mode & 4) && open(path, O_RDONLY) >= 0)
				_exit(i + 1);
		}
		_exit(unbind_it(variant->subject) != -1 || errno != EACCES ?
		      98 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status)
		TH_LOG("row %d", WEXITSTATUS(status) - 1);
}

/* ---- which tests there are --------------------------------------------- */

static void add_variants(void)
{
	const char *only = getenv("P2PDMA_PROVIDER_WHERE");
	unsigned int tried = 0;

	for (unsigned int i = 0; i < nr_subjects; i++) {
		const struct subject *s = &subjects[i];

		if (only && strcmp(only, where_names[s->where]))
			continue;
		tried++;
		for (size_t r = 0; r < ARRAY_SIZE(refusals); r++) {
			FIXTURE_VARIANT(refused) v = { s, &refusals[r] };

			if (refusals[r].where == s->where)
				P2P_VARIANT_ADD(refused, v, "%s.%s@%s",
						where_names[s->where],
						refusals[r].name, s->bdf);
		}
		for (size_t r = 0; r < ARRAY_SIZE(accepted); r++) {
			FIXTURE_VARIANT(accepted) v = { s, &accepted[r] };

			if (accepted[r].where == s->where)
				P2P_VARIANT_ADD(accepted, v, "%s.%s@%s",
						where_names[s->where],
						accepted[r].name, s->bdf);
		}
		if (s->where == ON_CMB) {
			FIXTURE_VARIANT(taken) v = { s };

			P2P_VARIANT_ADD(taken, v, "%s@%s",
					where_names[s->where], s->bdf);
		}
		if (!strcmp(s->driver, DRIVER)) {
			FIXTURE_VARIANT(bound) v = { s };

			P2P_VARIANT_ADD(bound, v, "%s@%s",
					where_names[s->where], s->bdf);
		}
	}
	if (only && !tried)
		ksft_exit_fail_msg("P2PDMA_PROVIDER_WHERE=%s: there is no such device\n",
				   only);
	for (size_t r = 0; r < ARRAY_SIZE(no_parameters); r++) {
		FIXTURE_VARIANT(unloadable) v = { &no_parameters[r] };

		P2P_VARIANT_ADD(unloadable, v, "%s", no_parameters[r].name);
	}
}

/* Without the file nothing can be loaded again, once it was unloaded. */
static void require_module(void)
{
	module_file = getenv("P2PDMA_PROVIDER_KO");
	if (!module_file)
		ksft_exit_skip("set P2PDMA_PROVIDER_KO to the file p2pdma_provider.ko\n");
	if (access(module_file, R_OK))
		ksft_exit_fail_msg("P2PDMA_PROVIDER_KO=%s: %s\n", module_file,
				   strerror(errno));
	if (access("/sys/module/" DRIVER, F_OK))
		ksft_exit_fail_msg("the module " DRIVER " is not loaded\n");
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv,
		     "What the driver p2pdma_provider refuses and accepts. The module is unloaded and\n"
		     "loaded again from the file that P2PDMA_PROVIDER_KO names."))
		return test_harness_run(argc, argv);
	p2p_discover();
	require_module();
	find_subjects();
	add_variants();
	return test_harness_run(argc, argv);
}
