// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI of the p2pdma_test module: who may use it, how structures grow, and
 * what is refused, with which error. What the commands do is the business of
 * other programs.
 */
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

static size_t page;

/* ---- who may ----------------------------------------------------------- */

TEST(open_as_root)
{
	EXPECT_EQ(0, p2p_open_without(P2P_NOTHING, P2PDMA_TEST_DEVICE));
}

TEST(open_without_root)
{
	EXPECT_EQ(EACCES, p2p_open_without(P2P_ROOT, P2PDMA_TEST_DEVICE));
}

TEST(open_without_capability)
{
	EXPECT_EQ(EPERM, p2p_open_without(P2P_CAP_SYS_ADMIN, P2PDMA_TEST_DEVICE));
}

/* ---- structures -------------------------------------------------------- */

/* The largest that an architecture with P2PDMA has. */
#define MAX_PAGE	65536

/* Large enough for every structure, and then some. */
union args {
	struct {
		__u32 size, flags;
	};
	struct p2pdma_test_pin pin;
	struct p2pdma_test_extract extract;
	struct p2pdma_test_peek peek;
	struct p2pdma_test_release release;
	struct p2pdma_test_alloc alloc;
	struct p2pdma_test_pattern pattern;
	struct p2pdma_test_map map;
	struct p2pdma_test_bio bio;
	struct p2pdma_test_pool pool;
	struct p2pdma_test_distance distance;
	struct p2pdma_test_find find;
	struct p2pdma_test_enable enable;
	unsigned char bytes[2 * MAX_PAGE];
};

/* A copy of a structure that the kernel cannot write to. */
static void *read_only(const void *args, size_t size)
{
	void *copy = mmap(NULL, page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		return copy;
	memcpy(copy, args, size);
	return mprotect(copy, page, PROT_READ) ? MAP_FAILED : copy;
}

/**
 * struct command - a command, and arguments that it takes
 * @name: its name
 * @request: the number of the ioctl
 * @size: size of its structure
 * @first: size of the structure's first version
 * @flags: all flags that have a name
 * @valid: fills in arguments with which the command succeeds
 */
struct command {
	const char *name;
	unsigned long request;
	size_t size, first;
	uint32_t flags;
	void (*valid)(int dev, union args *args);
};

/* A page of ordinary memory, and what points to it. */
static char *ordinary;
static struct p2pdma_test_segment segment;

static void valid_pin(int dev, union args *args)
{
	(void)dev;
	args->pin.api = P2PDMA_TEST_PIN_FAST;
	args->pin.addr = h_pointer(ordinary);
	args->pin.length = page;
}

static void valid_extract(int dev, union args *args)
{
	(void)dev;
	segment.addr = h_pointer(ordinary);
	segment.length = page;
	args->extract.segments = h_pointer(&segment);
	args->extract.nr_segments = 1;
	args->extract.max_pages = 1;
}

static uint32_t some_object(int dev)
{
	union args args = { 0 };

	valid_pin(dev, &args);
	args.flags = P2PDMA_TEST_PIN_HOLD;
	return h_pin(dev, &args.pin) ? 0 : args.pin.id;
}

static void valid_peek(int dev, union args *args)
{
	args->peek.id = some_object(dev);
}

static void valid_release(int dev, union args *args)
{
	args->release.id = some_object(dev);
}

static const char *provider;
static uint64_t client;

static void valid_alloc(int dev, union args *args)
{
	(void)dev;
	args->alloc.provider = h_function(provider);
	args->alloc.length = page;
	args->alloc.nr_entries = 1;
}

static uint32_t some_memory(int dev)
{
	int64_t id = h_memory(dev, provider, page, 1);

	return id < 0 ? 0 : id;
}

static void valid_pattern(int dev, union args *args)
{
	args->pattern.id = some_memory(dev);
	args->pattern.length = page;
}

/* For the provider itself as a client, which reaches its own memory. */
static void valid_map(int dev, union args *args)
{
	args->map.id = some_memory(dev);
	args->map.client = h_function(provider);
}

static int disk = -1;
static struct p2pdma_test_piece piece;

static void valid_bio(int dev, union args *args)
{
	(void)dev;
	piece.length = page;
	args->bio.fd = disk;
	args->bio.pieces = h_pointer(&piece);
	args->bio.nr_pieces = 1;
}

static void valid_pool(int dev, union args *args)
{
	(void)dev;
	args->pool.provider = h_function(provider);
}

static void valid_distance(int dev, union args *args)
{
	(void)dev;
	client = h_function(provider);
	args->distance.provider = client;
	args->distance.clients = h_pointer(&client);
	args->distance.nr_clients = 1;
}

static void valid_find(int dev, union args *args)
{
	(void)dev;
	client = h_function(provider);
	args->find.clients = h_pointer(&client);
	args->find.nr_clients = 1;
}

static void valid_enable(int dev, union args *args)
{
	(void)dev;
	args->enable.value[0] = '1';
}

#define COMMAND(_name, _NAME, _struct, _first, _flags) {		\
	.name = _name,							\
	.request = P2PDMA_TEST_IOC_##_NAME,				\
	.size = sizeof(struct p2pdma_test_##_struct),			\
	.first = _first,						\
	.flags = _flags,						\
	.valid = valid_##_struct,					\
}

#define PIN_FLAGS	(P2PDMA_TEST_PIN_WRITE | P2PDMA_TEST_PIN_LONGTERM | \
			 P2PDMA_TEST_PIN_P2PDMA | P2PDMA_TEST_PIN_HOLD | \
			 P2PDMA_TEST_PIN_COUNT_BEFORE)
#define EXTRACT_FLAGS	(P2PDMA_TEST_EXTRACT_WRITE | \
			 P2PDMA_TEST_EXTRACT_P2PDMA | \
			 P2PDMA_TEST_EXTRACT_HOLD)
#define BIO_FLAGS	(P2PDMA_TEST_BIO_SPLIT | P2PDMA_TEST_BIO_EACH)
#define POOL_FLAGS	(P2PDMA_TEST_POOL_LARGEST | P2PDMA_TEST_POOL_COUNT)

/* With the size of the first version, which stays what it is. */
static const struct command commands[] = {
	COMMAND("pin", PIN, pin, 56, PIN_FLAGS),
	COMMAND("extract", EXTRACT, extract, 72, EXTRACT_FLAGS),
	COMMAND("peek", PEEK, peek, 32, 0),
	COMMAND("release", RELEASE, release, 16, 0),
	COMMAND("alloc", ALLOC, alloc, 32, 0),
	COMMAND("fill", FILL, pattern, 72, 0),
	COMMAND("check", CHECK, pattern, 72, 0),
	COMMAND("map", MAP, map, 56, P2PDMA_TEST_MAP_HOLD),
	COMMAND("bio", BIO, bio, 80, BIO_FLAGS),
	COMMAND("pool", POOL, pool, 32, POOL_FLAGS),
	COMMAND("distance", DISTANCE, distance, 40,
		P2PDMA_TEST_DISTANCE_VERBOSE),
	COMMAND("find", FIND, find, 32, 0),
	COMMAND("enable", ENABLE, enable, 160, 0),
};

FIXTURE(command) {
	int dev;
	union args args;
};

FIXTURE_VARIANT(command) {
	const struct command *command;
};

FIXTURE_SETUP(command)
{
	if (variant->command->valid == valid_bio && disk < 0)
		SKIP(return, "there is no disk");
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	variant->command->valid(self->dev, &self->args);
	self->args.size = variant->command->size;
}

FIXTURE_TEARDOWN(command)
{
	close(self->dev);
}

#define CALL(_args) ioctl(self->dev, variant->command->request, _args)

TEST_F(command, succeeds)
{
	EXPECT_RET(0, CALL(&self->args));
	EXPECT_EQ(variant->command->size, self->args.size);
}

TEST_F(command, size_zero)
{
	self->args.size = 0;
	EXPECT_ERRNO(EINVAL, CALL(&self->args));
}

TEST_F(command, size_smaller_than_first_version)
{
	self->args.size = variant->command->first - 1;
	EXPECT_ERRNO(EINVAL, CALL(&self->args));
}

/* The caller knows less: what it does not know is left alone. */
TEST_F(command, size_of_first_version)
{
	unsigned char *behind = self->args.bytes + variant->command->first;

	self->args.size = variant->command->first;
	memset(behind, 0xa5, 64);
	EXPECT_RET(0, CALL(&self->args));
	for (int i = 0; i < 64; i++)
		EXPECT_EQ(0xa5, behind[i]);
}

/* The caller knows more, and does not use it. */
TEST_F(command, size_larger_with_zeros)
{
	self->args.size = variant->command->size + 8;
	EXPECT_RET(0, CALL(&self->args));
}

TEST_F(command, size_of_a_page_with_zeros)
{
	self->args.size = page;
	EXPECT_RET(0, CALL(&self->args));
}

TEST_F(command, size_larger_with_content)
{
	self->args.size = variant->command->size + 1;
	self->args.bytes[variant->command->size] = 1;
	EXPECT_ERRNO(E2BIG, CALL(&self->args));
}

TEST_F(command, size_larger_with_content_at_its_end)
{
	self->args.size = page;
	self->args.bytes[page - 1] = 1;
	EXPECT_ERRNO(E2BIG, CALL(&self->args));
}

TEST_F(command, size_larger_than_a_page)
{
	self->args.size = page + 1;
	EXPECT_ERRNO(E2BIG, CALL(&self->args));
	self->args.size = UINT32_MAX;
	EXPECT_ERRNO(E2BIG, CALL(&self->args));
}

/* Each bit that has no name, alone. */
TEST_F(command, flags_without_name)
{
	for (uint32_t bit = 1; bit; bit <<= 1) {
		if (bit & variant->command->flags)
			continue;
		self->args.flags = bit;
		EXPECT_ERRNO(EINVAL, CALL(&self->args));
	}
}

TEST_F(command, no_pointer)
{
	EXPECT_ERRNO(EFAULT, CALL(NULL));
	EXPECT_ERRNO(EFAULT, CALL((void *)-1UL));
	EXPECT_ERRNO(EFAULT, CALL((void *)(1UL << 63)));
}

/* The structure ends where the memory does, or one byte behind. */
TEST_F(command, pointer_at_the_end)
{
	char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *end = two + page;

	ASSERT_NE(MAP_FAILED, (void *)two);
	ASSERT_EQ(0, munmap(end, page));

	memcpy(end - variant->command->size + 1, &self->args,
	       variant->command->size - 1);
	EXPECT_ERRNO(EFAULT, CALL(end - variant->command->size + 1));
	memcpy(end - variant->command->size, &self->args,
	       variant->command->size);
	EXPECT_RET(0, CALL(end - variant->command->size));
}

/* The answer cannot be given: nothing is kept of what was done. */
TEST_F(command, read_only_structure)
{
	ssize_t before = p2p_available(&p2p.provider[0]);
	void *copy = read_only(&self->args, variant->command->size);

	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_ERRNO(EFAULT, CALL(copy));
	EXPECT_EQ(before, p2p_available(&p2p.provider[0]));
	munmap(copy, page);
}

/* The size is part of the structure, not of the number. */
TEST_F(command, number_with_a_size)
{
	EXPECT_ERRNO(ENOTTY, ioctl(self->dev,
				   variant->command->request | 8 << 16,
				   &self->args));
	EXPECT_ERRNO(ENOTTY, ioctl(self->dev,
				   variant->command->request | 1U << 30,
				   &self->args));
}

/* ---- numbers ----------------------------------------------------------- */

FIXTURE(device) {
	int dev;
};

FIXTURE_SETUP(device)
{
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(device)
{
	close(self->dev);
}

TEST_F(device, no_such_command)
{
	union args args = { .size = 64 };

	EXPECT_ERRNO(ENOTTY, ioctl(self->dev, _IO(P2PDMA_TEST_TYPE, 0xff),
				   &args));
	EXPECT_ERRNO(ENOTTY, ioctl(self->dev, _IO('x', P2PDMA_TEST_NR_PIN),
				   &args));
	EXPECT_ERRNO(ENOTTY, ioctl(self->dev, 0, NULL));
	EXPECT_ERRNO(ENOTTY, ioctl(self->dev, -1UL, NULL));
}

TEST_F(device, read_and_write)
{
	char c = 0;

	EXPECT_ERRNO(EINVAL, read(self->dev, &c, 1));
	EXPECT_ERRNO(EINVAL, write(self->dev, &c, 1));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ, MAP_SHARED,
				   self->dev, 0));
	EXPECT_EQ(ENODEV, errno);
}

/* ---- members that are out of range ------------------------------------- */

#define EXPECT_REFUSED(_error, _name, ...) do {				\
	struct p2pdma_test_##_name __args = { __VA_ARGS__ };		\
									\
	EXPECT_EQ(-(_error), h_##_name(self->dev, &__args)) {		\
		TH_LOG("%s: { %s }", #_name, #__VA_ARGS__);		\
	}								\
} while (0)

TEST_F(device, pin)
{
	const uint64_t at = h_pointer(ordinary);

	EXPECT_REFUSED(EINVAL, pin, .api = P2PDMA_TEST_NR_APIS, .addr = at,
		       .length = page);
	EXPECT_REFUSED(EINVAL, pin, .api = UINT32_MAX, .addr = at,
		       .length = page);
	EXPECT_REFUSED(EINVAL, pin, .addr = at, .length = 0);
	EXPECT_REFUSED(EINVAL, pin, .addr = at, .length = -at + 1);
	EXPECT_REFUSED(E2BIG, pin, .addr = at, .length = -at);
	EXPECT_REFUSED(E2BIG, pin, .addr = at,
		       .length = P2PDMA_TEST_MAX_PAGES * page + 1);
	EXPECT_REFUSED(EINVAL, pin, .pid = getpid(), .addr = at,
		       .length = page);
	EXPECT_REFUSED(ESRCH, pin, .api = P2PDMA_TEST_PIN_REMOTE, .pid = -1,
		       .addr = at, .length = page);
	EXPECT_REFUSED(ESRCH, pin, .api = P2PDMA_TEST_PIN_REMOTE,
		       .pid = INT32_MAX, .addr = at, .length = page);
	/* kthreadd: a process without user memory */
	EXPECT_REFUSED(ESRCH, pin, .api = P2PDMA_TEST_PIN_REMOTE, .pid = 2,
		       .addr = at, .length = page);
	/* the kernel would warn */
	EXPECT_REFUSED(EINVAL, pin, .flags = P2PDMA_TEST_PIN_LONGTERM |
		       P2PDMA_TEST_PIN_P2PDMA, .addr = at, .length = page);
	EXPECT_REFUSED(EINVAL, pin, .flags = P2PDMA_TEST_PIN_LONGTERM,
		       .api = P2PDMA_TEST_GET_SLOW, .addr = at,
		       .length = page);
	EXPECT_REFUSED(EFAULT, pin, .addr = at, .length = page, .pages = 8,
		       .nr_pages = 1);
}

/* That nothing is mapped is for the function under test to say. */
TEST_F(device, pin_of_nothing)
{
	struct p2pdma_test_pin args = {
		.addr = 1ULL << 63,
		.length = page,
		.nr_pages = 7,
	};

	EXPECT_EQ(0, h_pin(self->dev, &args));
	EXPECT_EQ(-EFAULT, args.ret);
	EXPECT_EQ(0U, args.nr_pages);
	EXPECT_EQ(0U, args.id);
}

TEST_F(device, extract)
{
	const uint64_t at = h_pointer(ordinary);
	struct p2pdma_test_segment one = { at, page };
	struct p2pdma_test_segment huge[2] = { { at, 1ULL << 62 },
					       { at, 1ULL << 62 } };
	struct p2pdma_test_segment wraps[2] = { { at, -1ULL }, { at, 2 } };
	/* the second begins with the last byte of a page */
	struct p2pdma_test_segment most[2] = {
		{ at, (P2PDMA_TEST_MAX_PAGES - 2) * page },
		{ at + page - 1, 2 },
	};
	struct p2pdma_test_segment too_long = {
		at, P2PDMA_TEST_MAX_PAGES * page + 1
	};
	static struct p2pdma_test_segment same[P2PDMA_TEST_MAX_SEGMENTS];

	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(&one),
		       .nr_segments = 0, .max_pages = 1);
	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(&one),
		       .nr_segments = 1, .max_pages = 0);
	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(&one),
		       .nr_segments = 1, .max_pages = UINT32_MAX);
	EXPECT_REFUSED(0, extract, .segments = h_pointer(&one),
		       .nr_segments = 1, .max_pages = P2PDMA_TEST_MAX_PAGES);
	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(&one),
		       .nr_segments = 1,
		       .max_pages = P2PDMA_TEST_MAX_PAGES + 1);
	/* as many pages as there may be, and one more */
	EXPECT_REFUSED(0, extract, .segments = h_pointer(most),
		       .nr_segments = 2, .max_pages = 1);
	most[1].length += page;
	EXPECT_REFUSED(E2BIG, extract, .segments = h_pointer(most),
		       .nr_segments = 2, .max_pages = 1);
	EXPECT_REFUSED(E2BIG, extract, .segments = h_pointer(&too_long),
		       .nr_segments = 1, .max_pages = 1);
	EXPECT_REFUSED(E2BIG, extract, .segments = h_pointer(huge),
		       .nr_segments = 1, .max_pages = 1);
	/* the same ones, again and again */
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		same[i] = (struct p2pdma_test_segment){ at, 257 * page };
	EXPECT_REFUSED(E2BIG, extract, .segments = h_pointer(same),
		       .nr_segments = ARRAY_SIZE(same), .max_pages = 1);
	EXPECT_REFUSED(E2BIG, extract, .segments = h_pointer(&one),
		       .nr_segments = P2PDMA_TEST_MAX_SEGMENTS + 1,
		       .max_pages = 1);
	EXPECT_REFUSED(E2BIG, extract, .segments = h_pointer(&one),
		       .nr_segments = UINT32_MAX, .max_pages = 1);
	EXPECT_REFUSED(EFAULT, extract, .segments = 8, .nr_segments = 1,
		       .max_pages = 1);
	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(huge),
		       .nr_segments = 2, .max_pages = 1);
	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(wraps),
		       .nr_segments = 2, .max_pages = 1);
	EXPECT_REFUSED(EINVAL, extract, .segments = h_pointer(&one),
		       .nr_segments = 1, .max_pages = 1, .reserved = 1);
	EXPECT_REFUSED(EFAULT, extract, .segments = h_pointer(&one),
		       .nr_segments = 1, .max_pages = 1, .calls = 8,
		       .nr_calls = 1);
	EXPECT_REFUSED(EFAULT, extract, .segments = h_pointer(&one),
		       .nr_segments = 1, .max_pages = 1, .pages = 8,
		       .nr_pages = 1);
}

/* No driver is bound to a host bridge, and it provides nothing. */
static uint64_t host_bridge(void)
{
	return 0;
}

TEST_F(device, alloc)
{
	const uint64_t at = h_function(provider);

	EXPECT_REFUSED(EINVAL, alloc, .provider = at, .length = page);
	EXPECT_REFUSED(EINVAL, alloc, .provider = at, .length = page,
		       .nr_entries = P2PDMA_TEST_MAX_ENTRIES + 1);
	EXPECT_REFUSED(EINVAL, alloc, .provider = at, .nr_entries = 1);
	EXPECT_REFUSED(EINVAL, alloc, .provider = at, .length = 5,
		       .nr_entries = 1);
	EXPECT_REFUSED(EINVAL, alloc, .provider = at, .length = 1ULL << 32,
		       .nr_entries = 1);
	EXPECT_REFUSED(ENOMEM, alloc, .provider = at,
		       .length = UINT32_MAX & ~3U, .nr_entries = 1);
	EXPECT_REFUSED(ENOMEM, alloc, .provider = at,
		       .length = UINT32_MAX & ~3U, .nr_entries = 2);
	EXPECT_REFUSED(ENODEV, alloc, .provider = P2PDMA_TEST_NO_FUNCTION,
		       .length = page, .nr_entries = 1);
	EXPECT_REFUSED(ENODEV, alloc, .provider = P2PDMA_TEST_SELF,
		       .length = page, .nr_entries = 1);
	EXPECT_REFUSED(ENODEV, alloc, .provider = at ^ 7, .length = page,
		       .nr_entries = 1);
	EXPECT_REFUSED(ENODEV, alloc, .provider = host_bridge(),
		       .length = page, .nr_entries = 1);
}

#define EXPECT_PATTERN(_error, ...) do {				\
	struct p2pdma_test_pattern __args = { __VA_ARGS__ };		\
	int __error = -(_error);					\
									\
	EXPECT_EQ(__error, h_fill(self->dev, &__args)) {		\
		TH_LOG("fill: { %s }", #__VA_ARGS__);			\
	}								\
	EXPECT_EQ(__error, h_check(self->dev, &__args)) {		\
		TH_LOG("check: { %s }", #__VA_ARGS__);			\
	}								\
} while (0)

TEST_F(device, pattern)
{
	uint32_t id = some_memory(self->dev);

	ASSERT_NE(0U, id);
	EXPECT_PATTERN(0, .id = id, .length = page);
	EXPECT_PATTERN(0, .id = id, .offset = page);
	EXPECT_PATTERN(EINVAL, .id = id, .length = page + 8);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 8, .offset = page);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 8, .offset = -8ULL);
	EXPECT_PATTERN(EINVAL, .id = id, .length = -8ULL, .offset = 16);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 4);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 8, .offset = 4);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 8, .position = 4);
	EXPECT_PATTERN(0, .id = id, .length = 8, .position = -8ULL);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 8, .tag = 8);
	EXPECT_PATTERN(EINVAL, .id = id, .length = 8, .reserved = 1);
	EXPECT_PATTERN(ENOENT, .id = 0, .length = 8);
	EXPECT_PATTERN(EMEDIUMTYPE, .id = some_object(self->dev), .length = 8);
}

TEST_F(device, map)
{
	const uint64_t to = h_function(provider);
	uint32_t id = some_memory(self->dev);

	ASSERT_NE(0U, id);
	EXPECT_REFUSED(0, map, .id = id, .client = to);
	EXPECT_REFUSED(EINVAL, map, .id = id, .client = to,
		       .direction = P2PDMA_TEST_NR_DIRECTIONS);
	EXPECT_REFUSED(ENODEV, map, .id = id, .client = to ^ 7);
	EXPECT_REFUSED(ENODEV, map, .id = id, .client = host_bridge());
	EXPECT_REFUSED(ENODEV, map, .id = id, .client = P2PDMA_TEST_SELF);
	EXPECT_REFUSED(ENOENT, map, .id = 0, .client = to);
	EXPECT_REFUSED(EMEDIUMTYPE, map, .id = some_object(self->dev),
		       .client = to);
	EXPECT_REFUSED(EFAULT, map, .id = id, .client = to, .entries = 8,
		       .nr_entries = 1);
	/* and it is there as before */
	EXPECT_PATTERN(0, .id = id, .length = page);
}

TEST_F(device, pool)
{
	EXPECT_REFUSED(0, pool, .provider = h_function(provider));
	EXPECT_REFUSED(ENODEV, pool, .provider = h_function(provider) ^ 7);
	EXPECT_REFUSED(ENODEV, pool, .provider = host_bridge());
	EXPECT_REFUSED(ENODEV, pool, .provider = P2PDMA_TEST_NO_FUNCTION);
}

TEST_F(device, clients)
{
	uint64_t one = h_function(provider), many[64] = { 0 };
	uint64_t no_pci_device[] = { one, P2PDMA_TEST_SELF };

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = one;
	EXPECT_REFUSED(EINVAL, distance, .provider = one,
		       .clients = h_pointer(&one), .nr_clients = 0);
	EXPECT_REFUSED(0, distance, .provider = one,
		       .clients = h_pointer(many),
		       .nr_clients = P2PDMA_TEST_MAX_CLIENTS);
	EXPECT_REFUSED(E2BIG, distance, .provider = one,
		       .clients = h_pointer(many),
		       .nr_clients = P2PDMA_TEST_MAX_CLIENTS + 1);
	EXPECT_REFUSED(EFAULT, distance, .provider = one, .clients = 8,
		       .nr_clients = 1);
	EXPECT_REFUSED(ENODEV, distance, .provider = one ^ 7,
		       .clients = h_pointer(&one), .nr_clients = 1);
	EXPECT_REFUSED(ENODEV, distance, .provider = P2PDMA_TEST_SELF,
		       .clients = h_pointer(&one), .nr_clients = 1);
	EXPECT_REFUSED(EINVAL, distance, .provider = one,
		       .clients = h_pointer(no_pci_device), .nr_clients = 2);
	EXPECT_REFUSED(EINVAL, find, .clients = h_pointer(no_pci_device),
		       .nr_clients = 2);
	EXPECT_REFUSED(EINVAL, find, .clients = h_pointer(&one),
		       .nr_clients = 0);
	EXPECT_REFUSED(E2BIG, find, .clients = h_pointer(many),
		       .nr_clients = UINT32_MAX);
	EXPECT_REFUSED(EFAULT, find, .clients = 8, .nr_clients = 1);
	many[3] = one ^ 7;
	EXPECT_REFUSED(0, find, .clients = h_pointer(many), .nr_clients = 3);
	EXPECT_REFUSED(ENODEV, find, .clients = h_pointer(many),
		       .nr_clients = 4);
}

TEST_F(device, enable)
{
	struct p2pdma_test_enable args = { 0 };

	memset(args.value, '1', sizeof(args.value));
	EXPECT_EQ(-EINVAL, h_enable(self->dev, &args));
	args.value[sizeof(args.value) - 1] = 0;
	EXPECT_EQ(0, h_enable(self->dev, &args));
	EXPECT_EQ(-ENODEV, args.ret);
}

/* ---- signals ----------------------------------------------------------- */

static void on_alarm(int number)
{
	(void)number;
}

/* Signals, one a millisecond, or none any more. */
static int alarms(bool on)
{
	const struct sigaction action = { .sa_handler = on_alarm };
	const struct itimerval timer = {
		{ .tv_usec = on ? 1000 : 0 }, { .tv_usec = on ? 1000 : 0 }
	};

	return (on && sigaction(SIGALRM, &action, NULL)) ||
	       setitimer(ITIMER_REAL, &timer, NULL);
}

/*
 * Makes a call until one is under way when a signal comes: what that one says.
 * Memory may be small, and a call too short for it.
 */
static int interrupt(int dev, unsigned long request, void *args)
{
	const time_t end = time(NULL) + 3;
	int ret;

	if (alarms(true))
		return -EINVAL;
	do {
		ret = ioctl(dev, request, args) ? -errno : 0;
	} while (!ret && time(NULL) < end);
	alarms(false);
	return ret;
}

/* Of memory that cannot be filled in a millisecond, by most machines. */
TEST_F(device, interrupted_pattern)
{
	const size_t length = p2p.provider[0].rest / 2 / page * page;
	struct p2pdma_test_pattern pattern = {
		.size = sizeof(pattern),
		.length = length,
	};
	int64_t id = h_memory(self->dev, provider, length, 1);

	ASSERT_LT(0, id);
	pattern.id = id;
	EXPECT_EQ(-EINTR, interrupt(self->dev, P2PDMA_TEST_IOC_FILL, &pattern));
	EXPECT_EQ(-EINTR, interrupt(self->dev, P2PDMA_TEST_IOC_CHECK,
				    &pattern));
	/* and it is there as before */
	pattern.length = page;
	EXPECT_EQ(0, h_fill(self->dev, &pattern));
	EXPECT_EQ(0, h_drop(self->dev, id));
}

TEST_F(device, interrupted_pool)
{
	struct p2pdma_test_pool pool = {
		.size = sizeof(pool),
		.flags = P2PDMA_TEST_POOL_COUNT,
		.provider = h_function(provider),
	};

	EXPECT_EQ(-EINTR, interrupt(self->dev, P2PDMA_TEST_IOC_POOL, &pool));
	EXPECT_EQ(p2p.provider[0].rest, p2p_available(&p2p.provider[0]));
}

/* ---- ids --------------------------------------------------------------- */

TEST_F(device, no_such_object)
{
	uint32_t id = some_object(self->dev);

	ASSERT_NE(0U, id);
	EXPECT_EQ(-ENOENT, h_drop(self->dev, 0));
	EXPECT_EQ(-ENOENT, h_drop(self->dev, id + 1));
	EXPECT_EQ(-ENOENT, h_drop(self->dev, UINT32_MAX));
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_EQ(-ENOENT, h_drop(self->dev, id));
	EXPECT_REFUSED(ENOENT, peek, .id = id);
	EXPECT_REFUSED(EINVAL, release, .id = some_object(self->dev),
		       .reserved = 1);
}

/* The slot of an object is used again, its id is not. */
TEST_F(device, ids_are_not_reused_at_once)
{
	uint32_t old = some_object(self->dev), id;

	ASSERT_NE(0U, old);
	EXPECT_EQ(0, h_drop(self->dev, old));
	for (int i = 0; i < 100; i++) {
		id = some_object(self->dev);
		ASSERT_NE(0U, id);
		EXPECT_NE(old, id);
		EXPECT_EQ(-ENOENT, h_drop(self->dev, old));
		EXPECT_EQ(0, h_drop(self->dev, id));
	}
}

/* An object belongs to the descriptor that it was made with. */
TEST_F(device, ids_of_another_descriptor)
{
	uint32_t id = some_object(self->dev);
	int other = h_open();

	ASSERT_NE(0U, id);
	ASSERT_LE(0, other);
	EXPECT_EQ(-ENOENT, h_drop(other, id));
	close(other);
	EXPECT_EQ(0, h_drop(self->dev, id));
}

/* Many objects, released in another order than they were made. */
TEST_F(device, many_objects)
{
	static uint32_t ids[2000];

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		ids[i] = some_object(self->dev);
		ASSERT_NE(0U, ids[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(ids); i += 2)
		EXPECT_EQ(0, h_drop(self->dev, ids[i]));
	for (size_t i = 0; i < ARRAY_SIZE(ids); i += 2) {
		EXPECT_EQ(-ENOENT, h_drop(self->dev, ids[i]));
		ids[i] = some_object(self->dev);
	}
	for (size_t i = ARRAY_SIZE(ids); i--;)
		EXPECT_EQ(0, h_drop(self->dev, ids[i]));
}

/* ---- answers that cannot be given -------------------------------------- */

/* Addresses that are no memory of the caller. */
#define NOWHERE		8

FIXTURE(unanswered) {
	int dev;
	char *map;
	struct p2pdma_test_segment segment;
	struct p2pdma_test_pin pin;
	struct p2pdma_test_extract extract;
};

FIXTURE_SETUP(unanswered)
{
	int pool = p2p_open_pool(&p2p.provider[0], O_RDWR);

	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	ASSERT_LE(0, pool);
	ASSERT_EQ(p2p.provider[0].rest, p2p_available(&p2p.provider[0]));
	self->map = p2p_map(pool, page);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	close(pool);

	self->pin = (struct p2pdma_test_pin){
		.size = sizeof(self->pin),
		.flags = P2PDMA_TEST_PIN_P2PDMA | P2PDMA_TEST_PIN_HOLD,
		.addr = h_pointer(self->map),
		.length = page,
	};
	self->segment = (struct p2pdma_test_segment){
		.addr = h_pointer(self->map),
		.length = page,
	};
	self->extract = (struct p2pdma_test_extract){
		.size = sizeof(self->extract),
		.flags = P2PDMA_TEST_EXTRACT_P2PDMA | P2PDMA_TEST_EXTRACT_HOLD,
		.segments = h_pointer(&self->segment),
		.nr_segments = 1,
		.max_pages = 1,
	};
}

/* With the mapping goes all that there is, unless a pin was kept. */
FIXTURE_TEARDOWN(unanswered)
{
	munmap(self->map, page);
	EXPECT_EQ(p2p.provider[0].rest, p2p_available(&p2p.provider[0]));
	close(self->dev);
}

TEST_F(unanswered, pin_pages)
{
	self->pin.pages = NOWHERE;
	self->pin.nr_pages = 1;
	EXPECT_EQ(-EFAULT, h_pin(self->dev, &self->pin));
}

TEST_F(unanswered, pin_structure)
{
	void *copy = read_only(&self->pin, sizeof(self->pin));

	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_ERRNO(EFAULT, ioctl(self->dev, P2PDMA_TEST_IOC_PIN, copy));
}

TEST_F(unanswered, extract_pages)
{
	self->extract.pages = NOWHERE;
	self->extract.nr_pages = 1;
	EXPECT_EQ(-EFAULT, h_extract(self->dev, &self->extract));
}

TEST_F(unanswered, extract_calls)
{
	self->extract.calls = NOWHERE;
	self->extract.nr_calls = 1;
	EXPECT_EQ(-EFAULT, h_extract(self->dev, &self->extract));
}

TEST_F(unanswered, extract_structure)
{
	void *copy = read_only(&self->extract, sizeof(self->extract));

	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_ERRNO(EFAULT, ioctl(self->dev, P2PDMA_TEST_IOC_EXTRACT, copy));
}

/* Memory that was to be mapped is memory, as before. */
TEST_F(unanswered, map)
{
	struct p2pdma_test_pattern pattern = { .length = page };
	struct p2pdma_test_map map = {
		.size = sizeof(map),
		.flags = P2PDMA_TEST_MAP_HOLD,
		.client = h_function(provider),
		.entries = NOWHERE,
		.nr_entries = 1,
	};
	uint32_t id = some_memory(self->dev);
	void *copy;

	ASSERT_NE(0U, id);
	pattern.id = id;
	map.id = id;
	EXPECT_EQ(-EFAULT, h_map(self->dev, &map));
	EXPECT_EQ(0, h_fill(self->dev, &pattern));

	map.entries = 0;
	copy = read_only(&map, sizeof(map));
	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_ERRNO(EFAULT, ioctl(self->dev, P2PDMA_TEST_IOC_MAP, copy));
	EXPECT_EQ(0, h_fill(self->dev, &pattern));
	EXPECT_EQ(0, h_drop(self->dev, id));
}

TEST_F(unanswered, release)
{
	struct p2pdma_test_release release = {
		.size = sizeof(release),
		.id = some_memory(self->dev),
	};
	void *copy = read_only(&release, sizeof(release));

	ASSERT_NE(0U, release.id);
	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_ERRNO(EFAULT, ioctl(self->dev, P2PDMA_TEST_IOC_RELEASE, copy));
	EXPECT_EQ(0, h_drop(self->dev, release.id));
}

/* ---- limits ------------------------------------------------------------ */

/* As many pages as there may be: each again and again. */
FIXTURE(most_pages) {
	int dev;
	char *map;
	struct p2pdma_test_segment segments[P2PDMA_TEST_MAX_SEGMENTS];
	struct p2pdma_test_extract args;
};

#define MOST_LENGTH	(P2PDMA_TEST_MAX_PAGES / P2PDMA_TEST_MAX_SEGMENTS * \
			 page)

FIXTURE_SETUP(most_pages)
{
	int pool = p2p_open_pool(&p2p.provider[0], O_RDWR);

	self->map = MAP_FAILED;
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	ASSERT_LE(0, pool);
	if (p2p.provider[0].rest < (ssize_t)MOST_LENGTH) {
		close(pool);
		SKIP(return, "the pool has less than %zu KiB",
		     MOST_LENGTH >> 10);
	}
	self->map = p2p_map(pool, MOST_LENGTH);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
	close(pool);
	for (size_t i = 0; i < ARRAY_SIZE(self->segments); i++) {
		self->segments[i].addr = h_pointer(self->map);
		self->segments[i].length = MOST_LENGTH;
	}
	self->args = (struct p2pdma_test_extract){
		.flags = P2PDMA_TEST_EXTRACT_P2PDMA | P2PDMA_TEST_EXTRACT_HOLD,
		.segments = h_pointer(self->segments),
		.nr_segments = ARRAY_SIZE(self->segments),
		.max_pages = 1,
	};
}

/* With the mapping goes all that there is, unless something was kept. */
FIXTURE_TEARDOWN(most_pages)
{
	if (self->map != MAP_FAILED)
		munmap(self->map, MOST_LENGTH);
	EXPECT_EQ(p2p.provider[0].rest, p2p_available(&p2p.provider[0]));
	close(self->dev);
}

/* In as many pieces, which is what has to be kept. */
TEST_F(most_pages, extract)
{
	struct p2pdma_test_peek peek = { 0 };

	EXPECT_EQ(0, h_extract(self->dev, &self->args));
	EXPECT_EQ(P2PDMA_TEST_MAX_PAGES * page, (size_t)self->args.ret);
	EXPECT_EQ(0U, self->args.left);
	peek.id = self->args.id;
	EXPECT_EQ(0, h_peek(self->dev, &peek));
	EXPECT_EQ((uint64_t)P2PDMA_TEST_MAX_PAGES, peek.total);
	EXPECT_EQ(0, h_drop(self->dev, self->args.id));
}

TEST_F(most_pages, interrupted)
{
	ASSERT_EQ(0, alarms(true));
	EXPECT_EQ(-EINTR, h_extract(self->dev, &self->args));
	alarms(false);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (p2p_help(argc, argv, "The ABI of the p2pdma_test module"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();

	ordinary = mmap(NULL, page, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ordinary == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	provider = p2p.provider[0].bdf;
	if (p2p.nr_clients)
		disk = open(p2p.client[0].path, O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		FIXTURE_VARIANT(command) v = { &commands[i] };

		P2P_VARIANT_ADD(command, v, "%s", commands[i].name);
	}
	return test_harness_run(argc, argv);
}
