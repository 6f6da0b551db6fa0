// SPDX-License-Identifier: GPL-2.0
/*
 * Which ways of getting at user pages take peer-to-peer memory, and which
 * refuse it, and how: every function, with every combination of flags, on
 * every kind of mapping. What is expected, and why, is the table rules[]
 * below, and nowhere else; p2pdma_pin --cells prints it cell by cell.
 *
 * For each page that is taken it is checked whose it is, where in the pool,
 * that it is the page that is mapped there, and its reference count before,
 * during and after.
 */
#include <limits.h>
#include <linux/stddef.h> /* which the next needs */
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"
#include "p2pdma_harness.h"

#define PAGES	4

static size_t page;

/* ---- the axes of the matrix -------------------------------------------- */

static const char * const api_names[] = {
	[P2PDMA_TEST_PIN_FAST] = "pin_fast",
	[P2PDMA_TEST_PIN_SLOW] = "pin",
	[P2PDMA_TEST_PIN_REMOTE] = "pin_remote",
	[P2PDMA_TEST_GET_FAST] = "get_fast",
	[P2PDMA_TEST_GET_FAST_ONLY] = "get_fast_only",
	[P2PDMA_TEST_GET_SLOW] = "get",
};

#define A(_api)		(1U << P2PDMA_TEST_##_api)
#define ALL_APIS	((1U << P2PDMA_TEST_NR_APIS) - 1)
#define FAST_ONLY	A(GET_FAST_ONLY)
#define PINS		(A(PIN_FAST) | A(PIN_SLOW) | A(PIN_REMOTE))
#define GETS		(ALL_APIS & ~PINS)

/* How the four pages that are asked for are mapped. */
enum state {
	SHARED,		/* a mapping of the pool, for reading and writing */
	READ_ONLY,	/* one for reading */
	HOLE,		/* the third page was unmapped */
	PAST_END,	/* only the first two belong to the mapping */
	GROWN,		/* and these, when mremap() made it larger */
	MOVED,		/* mremap() put it elsewhere */
	MOVED_AWAY,	/* where it was before, with MREMAP_DONTUNMAP */
	FORK_PARENT,	/* there is a child that has it as well */
	FORK_CHILD,	/* the child's */
	PROTECTED,	/* made read-only and writable again; written to before */
	CLEAN,		/* the same, never written to */
	NO_ACCESS,	/* made PROT_NONE */
	DONTNEED,	/* dropped with MADV_DONTNEED */
	MIXED,		/* an anonymous page, two of the pool, an anonymous one */
	MIXED_FIRST,	/* the other way round: the first is one of the pool */
	ANONYMOUS,	/* no peer-to-peer memory at all */
	NR_STATES,
};

static const char * const state_names[] = {
	[SHARED] = "shared",
	[READ_ONLY] = "read_only",
	[HOLE] = "hole",
	[PAST_END] = "past_end",
	[GROWN] = "grown",
	[MOVED] = "moved",
	[MOVED_AWAY] = "moved_away",
	[FORK_PARENT] = "fork_parent",
	[FORK_CHILD] = "fork_child",
	[PROTECTED] = "protected",
	[CLEAN] = "protected_clean",
	[NO_ACCESS] = "no_access",
	[DONTNEED] = "dontneed",
	[MIXED] = "mixed",
	[MIXED_FIRST] = "mixed_first",
	[ANONYMOUS] = "anonymous",
};

#define S(_state)	(1U << (_state))
#define ALL_STATES	((1U << NR_STATES) - 1)

/* The three flags, each of which is set, not set, or does not matter. */
#define P		P2PDMA_TEST_PIN_P2PDMA
#define W		P2PDMA_TEST_PIN_WRITE
#define L		P2PDMA_TEST_PIN_LONGTERM
#define NONE		0

#define NR_FLAGS	8	/* combinations: the flags are bits 0 to 2 */

/* ---- what is expected -------------------------------------------------- */

#define LIVELOCK	P2P_LIVELOCK

/* Whether this kernel has it, which is tried out once. */
static bool has_livelock;

/*
 * Whether the fast path takes pages that are neither anonymous nor of a file,
 * as those of a pool are. gup_fast_folio_allowed() of older kernels leaves all
 * of them to the slow path, in case it was a file that was truncated.
 */
static bool fast_takes_unmapped = true;

/**
 * struct rule - what is expected of some cells; the first that fits counts
 * @states: of these mappings
 * @apis: of these functions
 * @set: with these flags set
 * @clear: and these not
 * @ret: what the function returns: a number of pages, or a negative errno
 * @defect: name of the known defect because of which it does not return
 * @why: the reason
 * @fixed: what it returns instead where %LIVELOCK is fixed, if that makes a
 *	difference: see expected_ret()
 */
static const struct rule {
	unsigned int states, apis;
	unsigned int set, clear;
	int ret;
	const char *defect;
	const char *why;
	int fixed;
} rules[] = {
	/* Flags that contradict each other. */
	{ ALL_STATES, GETS, L, NONE, -EINVAL, NULL,
	  "is_valid_gup_args(): FOLL_LONGTERM is for pins", 0 },
	{ ALL_STATES, A(PIN_FAST), L | P, NONE, -EINVAL, NULL,
	  "is_valid_gup_args(): a provider can be unplugged at any time", 0 },
	{ ALL_STATES, PINS, L | P, NONE, 0, NULL,
	  "is_valid_gup_args(), which these functions make 0 pages of", 0 },

	/* Ordinary memory: all flags are fine with it. */
	{ S(ANONYMOUS), ALL_APIS, NONE, NONE, PAGES, NULL,
	  "ordinary memory", 0 },
	{ S(MIXED), ALL_APIS, NONE, P, 1, NULL,
	  "stops at the first page that is refused: the ones before count", 0 },

	/* Nothing to be had: the slow path asks for a fault. */
	{ S(MOVED_AWAY) | S(DONTNEED), FAST_ONLY, NONE, NONE, 0, NULL,
	  "gup_fast_pte_range(): no PTE to follow", 0 },
	{ S(NO_ACCESS), FAST_ONLY, NONE, NONE, 0, NULL,
	  "gup_fast_pte_range(): the PTE is pte_protnone()", 0 },
	{ S(NO_ACCESS), ALL_APIS, NONE, NONE, -EFAULT, NULL,
	  "check_vma_flags(): neither VM_READ nor VM_WRITE", 0 },
	{ S(MOVED_AWAY) | S(DONTNEED), PINS, L | W, NONE, -EFAULT, NULL,
	  "writable_file_mapping_allowed(): kernfs wants to be told of writes", 0 },
	{ S(MOVED_AWAY) | S(DONTNEED), ALL_APIS, NONE, NONE, -EFAULT, NULL,
	  "kernfs_vma_fault(): SIGBUS, as p2pmem/allocate has no fault handler", 0 },

	/* Writing. */
	{ S(CLEAN), FAST_ONLY, W | P, NONE, 0, NULL,
	  "gup_fast_pte_range(): the PTE is not writable", PAGES },
	{ S(READ_ONLY) | S(CLEAN), FAST_ONLY, W, NONE, 0, NULL,
	  "gup_fast_pte_range(): the PTE is not writable", 0 },
	{ S(READ_ONLY), ALL_APIS, W, NONE, -EFAULT, NULL,
	  "check_vma_flags(): no VM_WRITE", 0 },
	{ ALL_STATES, PINS, L | W, NONE, -EFAULT, NULL,
	  "writable_file_mapping_allowed(): kernfs wants to be told of writes",
	  -EREMOTEIO },
	{ S(CLEAN), ALL_APIS, W | P, NONE, PAGES, LIVELOCK,
	  "the fault makes the PTE writable", 0 },
	{ S(CLEAN), ALL_APIS, W, P, -EREMOTEIO, LIVELOCK,
	  "try_grab_folio(), after the fault made the PTE writable", 0 },

	/* Peer-to-peer memory that is not allowed. */
	{ ALL_STATES, FAST_ONLY, NONE, P, 0, NULL,
	  "try_grab_folio_fast() refuses, and there is no slow path to say so", 0 },
	{ ALL_STATES, ALL_APIS, NONE, P, -EREMOTEIO, NULL,
	  "try_grab_folio(): no FOLL_PCI_P2PDMA", 0 },

	/* Peer-to-peer memory that is allowed. */
	{ S(HOLE) | S(PAST_END), ALL_APIS, P, NONE, 2, NULL,
	  "no mapping behind the second page", 0 },
	{ S(GROWN), ALL_APIS, P, NONE, 2, NULL,
	  "kernfs_vma_fault(): SIGBUS, memory is allocated by mmap() only", 0 },
	{ ALL_STATES, ALL_APIS, P, NONE, PAGES, NULL,
	  "FOLL_PCI_P2PDMA", 0 },
};

static const struct rule *rule_for(enum state how, unsigned int api,
				   unsigned int flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *r = &rules[i];

		if (r->states & S(how) && r->apis & (1U << api) &&
		    (flags & r->set) == r->set && !(flags & r->clear))
			return r;
	}
	ksft_exit_fail_msg("no rule for %s/%s/%#x\n", state_names[how],
			   api_names[api], flags);
}

/* What a cell returns on this kernel, where @kinds is mapped. */
static int expected_ret(const struct rule *rule, unsigned int api,
			const char *kinds)
{
	int ret = rule->fixed && !has_livelock ? rule->fixed : rule->ret;
	int anonymous = strspn(kinds, "a");

	if (api == P2PDMA_TEST_GET_FAST_ONLY && !fast_takes_unmapped &&
	    ret > anonymous)
		return anonymous;
	return ret;
}

static const char *flag_names(unsigned int flags)
{
	static char names[64];

	snprintf(names, sizeof(names), "%s%s%s", flags & W ? "write" : "read",
		 flags & P ? "+p2pdma" : "", flags & L ? "+longterm" : "");
	return names;
}

/* ---- the mappings ------------------------------------------------------ */

/*
 * A process that has the same memory, and waits until it is told to end.
 */
struct sibling {
	pid_t pid;
	int wake;
};

static struct sibling sibling_start(void)
{
	struct sibling s;
	int ends[2];
	char c;

	if (pipe(ends))
		ksft_exit_fail_perror("pipe");
	s.pid = fork();
	if (s.pid < 0)
		ksft_exit_fail_perror("fork");
	if (!s.pid) {
		close(ends[1]);
		/* ends with the parent, too */
		_exit(read(ends[0], &c, 1) < 0);
	}
	close(ends[0]);
	s.wake = ends[1];
	return s;
}

static int sibling_end(struct sibling *s)
{
	int status;

	if (!s->pid)
		return 0;
	close(s->wake);
	if (waitpid(s->pid, &status, 0) != s->pid)
		return -1;
	s->pid = 0;
	return status;
}

/**
 * struct mapping - memory in one of the states
 * @addr: where the pages are asked for
 * @kinds: what is there: 'p' a page of the pool, 'a' an anonymous one, '-'
 *	nothing
 * @elsewhere: memory of the pool that is not at @addr any more, or NULL
 * @users: how many mappings refer to each page of the pool
 * @sibling: the other process, with %FORK_PARENT and %FORK_CHILD
 */
struct mapping {
	char *addr, *elsewhere;
	const char *kinds;
	int users;
	struct sibling sibling;
};

static char *anonymous(size_t pages)
{
	char *mem = mmap(NULL, pages * page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	for (size_t i = 0; i < pages; i++)
		mem[i * page] = 1;
	return mem;
}

/* Without anything behind it. */
static char *alone(size_t pages)
{
	char *mem = anonymous(pages + 4 * PAGES);

	munmap(mem, (pages + 4 * PAGES) * page);
	return mem;
}

static bool pool_at(int pool, char *at, size_t pages, int prot)
{
	return mmap(at, pages * page, prot, MAP_SHARED | MAP_FIXED, pool,
		    0) == at;
}

static bool make_mapping(struct mapping *m, enum state how, int pool)
{
	size_t len = PAGES * page;
	int rw = PROT_READ | PROT_WRITE;
	char *to;

	m->kinds = "pppp";
	m->elsewhere = NULL;
	m->users = 1;
	m->sibling.pid = 0;
	m->addr = alone(PAGES);

	switch (how) {
	case SHARED:
		return pool_at(pool, m->addr, PAGES, rw);
	case READ_ONLY:
		return pool_at(pool, m->addr, PAGES, PROT_READ);
	case HOLE:
		m->kinds = "pp-p";
		return pool_at(pool, m->addr, PAGES, rw) &&
		       !munmap(m->addr + 2 * page, page);
	case PAST_END:
		m->kinds = "pp--";
		return pool_at(pool, m->addr, 2, rw);
	case GROWN:
		m->kinds = "pp--";
		/* with something behind it, see mremap-mixedmap-enomem */
		if (!pool_at(pool, m->addr, 2, rw) ||
		    mmap(m->addr + 2 * page, page, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			 0) == MAP_FAILED)
			return false;
		m->addr = mremap(m->addr, 2 * page, len, MREMAP_MAYMOVE);
		return m->addr != MAP_FAILED;
	case MOVED:
		if (!pool_at(pool, m->addr, PAGES, rw))
			return false;
		to = alone(PAGES);
		if (mremap(m->addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			   to) != to)
			return false;
		m->addr = to;
		return true;
	case MOVED_AWAY:
		m->kinds = "----";
		if (!pool_at(pool, m->addr, PAGES, rw))
			return false;
		to = mremap(m->addr, len, len,
			    MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		if (to == MAP_FAILED)
			return false;
		m->elsewhere = to;
		return true;
	case FORK_PARENT:
	case FORK_CHILD:
		if (!pool_at(pool, m->addr, PAGES, rw))
			return false;
		m->sibling = sibling_start();
		m->users = 2;
		return true;
	case PROTECTED:
		if (!pool_at(pool, m->addr, PAGES, rw))
			return false;
		p2p_fill(m->addr, len, P2P_PRESET, 0);
		return !mprotect(m->addr, len, PROT_READ) &&
		       !mprotect(m->addr, len, rw);
	case CLEAN:
		return pool_at(pool, m->addr, PAGES, rw) &&
		       !mprotect(m->addr, len, PROT_READ) &&
		       !mprotect(m->addr, len, rw);
	case NO_ACCESS:
		return pool_at(pool, m->addr, PAGES, rw) &&
		       !mprotect(m->addr, len, PROT_NONE);
	case DONTNEED:
		m->kinds = "----";
		return pool_at(pool, m->addr, PAGES, rw) &&
		       !madvise(m->addr, len, MADV_DONTNEED);
	case MIXED:
		m->kinds = "appa";
		m->addr = anonymous(PAGES);
		return pool_at(pool, m->addr + page, 2, rw);
	case MIXED_FIRST:
		m->kinds = "paap";
		if (!pool_at(pool, m->addr, PAGES, rw))
			return false;
		to = m->addr + page;
		if (mmap(to, 2 * page, rw, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) != to)
			return false;
		to[0] = 1;
		to[page] = 1;
		return true;
	case ANONYMOUS:
		m->kinds = "aaaa";
		m->addr = anonymous(PAGES);
		return true;
	case NR_STATES:
		break;
	}
	return false;
}

/* ---- the cells --------------------------------------------------------- */

/**
 * struct answer - what a cell gave, in memory shared with the process that
 *	made the call
 * @error: what ioctl() returned
 * @args: the arguments, filled in
 * @page: the facts
 */
struct answer {
	int error;
	struct p2pdma_test_pin args;
	struct p2pdma_test_page page[PAGES];
};

FIXTURE(cells) {
	int dev, pool;
	struct mapping m;
	struct answer *answer;
};

FIXTURE_VARIANT(cells) {
	const struct p2p_provider *provider;
	enum state how;
	unsigned int api;
};

FIXTURE_SETUP(cells)
{
	self->answer = mmap(NULL, sizeof(*self->answer),
			    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->answer);
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
	ASSERT_TRUE(make_mapping(&self->m, variant->how, self->pool))
		TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(cells)
{
	EXPECT_EQ(0, sibling_end(&self->m.sibling));
	if (self->dev >= 0)
		close(self->dev);
	close(self->pool);
	/* with all that is left in there */
	munmap(self->m.addr, PAGES * page);
	if (self->m.elsewhere)
		munmap(self->m.elsewhere, PAGES * page);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

static void call(int dev, struct answer *answer)
{
	answer->error = h_pin(dev, &answer->args);
}

/* The call in a process of its own: the status that it ended with. */
static int call_in_child(int dev, struct answer *answer, bool limited)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		call(dev, answer);
		_exit(0);
	}
	if (limited)
		return p2p_wait_limited(pid);
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

/* What a call adds to the reference count of a page. */
static int weight(unsigned int api)
{
	return PINS & (1U << api) ? P2PDMA_TEST_PIN_BIAS : 1;
}

static bool same(struct __test_metadata *_metadata, const char *what,
		 uint64_t expected, uint64_t seen)
{
	EXPECT_EQ(expected, seen) {
		TH_LOG("%s: expected %#lx, found %#lx", what, expected, seen);
	}
	return expected == seen;
}

static bool page_is_right(struct __test_metadata *_metadata,
			  const struct p2p_provider *provider,
			  const void *addr, bool p2pdma, int users, int taken,
			  const struct p2pdma_test_page *facts,
			  const struct p2pdma_test_page *first)
{
	bool right;

	right = same(_metadata, "frame", p2p_frame_at(addr),
		     facts->phys / page);
	right &= same(_metadata, "flags",
		      p2pdma ? P2PDMA_TEST_PAGE_P2PDMA : 0, facts->flags);
	right &= same(_metadata, "provider",
		      p2pdma ? h_function(provider->bdf) :
			       P2PDMA_TEST_NO_FUNCTION, facts->provider);
	if (!p2pdma) {
		/* who else has a page of ordinary memory is its own business */
		return right & same(_metadata, "what the call counts", taken,
				    facts->during - facts->after);
	}

	/* one piece of the pool, so offsets follow one another as pages do */
	right &= same(_metadata, "offset",
		      first->offset + (facts - first) * page, facts->offset);
	right &= same(_metadata, "start of the range",
		      first->phys - first->offset, facts->phys - facts->offset);
	right &= same(_metadata, "being in the pool", true,
		      facts->offset < (uint64_t)provider->size);
	right &= same(_metadata, "count before", users, facts->before);
	right &= same(_metadata, "count during", users + taken, facts->during);
	right &= same(_metadata, "count after", users, facts->after);
	return right;
}

/* The library has no such call: see p2pdma_gup. */
static bool is_contradiction(unsigned int api, unsigned int flags)
{
	return (flags & L) && ((flags & P) || !(PINS & 1U << api));
}

static void run_cell(struct __test_metadata *_metadata,
		     const struct p2p_provider *provider, int dev,
		     struct mapping *m, struct answer *answer,
		     enum state how, unsigned int api, unsigned int flags)
{
	const struct rule *rule = rule_for(how, api, flags);
	int ret = expected_ret(rule, api, m->kinds);
	bool in_child = rule->defect || (how == FORK_CHILD &&
					 api != P2PDMA_TEST_PIN_REMOTE);
	int status = 0, first = -1, users = m->users;

	answer->error = 1;
	answer->args = (struct p2pdma_test_pin){
		.flags = flags | P2PDMA_TEST_PIN_COUNT_BEFORE,
		.api = api,
		.addr = h_pointer(m->addr),
		.length = PAGES * page,
		.pages = h_pointer(answer->page),
		.nr_pages = PAGES,
	};
	if (api == P2PDMA_TEST_PIN_REMOTE)
		answer->args.pid = how == FORK_CHILD ? m->sibling.pid :
				   getpid();

	if (in_child) {
		/* which has a mapping of its own */
		users++;
		status = call_in_child(dev, answer, rule->defect);
	} else {
		call(dev, answer);
	}

	if (is_contradiction(api, flags)) {
		int gup = open(P2PDMA_TEST_GUP_DEVICE, O_RDWR | O_CLOEXEC);

		ASSERT_LE(0, gup);
		EXPECT_EQ(-EINVAL, answer->error);
		answer->args.flags = flags;
		call(gup, answer);
		close(gup);
	}

	if (rule->defect && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		P2P_XFAIL("%s: the call does not return", rule->defect);
		return;
	}
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, answer->error);
	EXPECT_EQ(ret, answer->args.ret) {
		TH_LOG("%s, expected %d: %s", flag_names(flags), ret,
		       rule->why);
	}
	if (status || answer->error || ret != answer->args.ret)
		return;
	if (rule->defect)
		P2P_XPASS("%s did not show itself", rule->defect);

	EXPECT_EQ(ret > 0 ? ret : 0, (int)answer->args.nr_pages);
	for (unsigned int i = 0; i < answer->args.nr_pages; i++) {
		if (m->kinds[i] == 'p' && first < 0)
			first = i;
		if (!page_is_right(_metadata, provider, m->addr + i * page,
				   m->kinds[i] == 'p', users, weight(api),
				   &answer->page[i],
				   &answer->page[first < 0 ? 0 : first]))
			TH_LOG("%s, page %u", flag_names(flags), i);
	}
}

/* One cell for each combination of the flags. */
TEST_F(cells, flags)
{
	for (unsigned int flags = 0; flags < NR_FLAGS; flags++)
		run_cell(_metadata, variant->provider, self->dev, &self->m,
			 self->answer, variant->how, variant->api, flags);
}

/* ---- pins that are held ------------------------------------------------ */

static bool takes_nothing(unsigned int api)
{
	return api == P2PDMA_TEST_GET_FAST_ONLY && !fast_takes_unmapped;
}

#define TAKES_NOTHING \
	"the fast path of this kernel takes no pages without a mapping"

FIXTURE(hold) {
	int dev, pool;
	char *map;
	size_t len;
	struct p2pdma_test_page page[PAGES];
};

FIXTURE_VARIANT(hold) {
	const struct p2p_provider *provider;
	unsigned int api;
};

FIXTURE_SETUP(hold)
{
	if (takes_nothing(variant->api))
		SKIP(return, TAKES_NOTHING);
	self->len = PAGES * page;
	self->dev = h_open();
	ASSERT_LE(0, self->dev);
	self->pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, self->pool);
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
	self->map = p2p_map(self->pool, self->len);
	ASSERT_NE(MAP_FAILED, (void *)self->map);
}

FIXTURE_TEARDOWN(hold)
{
	if (takes_nothing(variant->api))
		return;
	if (self->dev >= 0)
		close(self->dev);
	if (self->map != MAP_FAILED)
		munmap(self->map, self->len);
	close(self->pool);
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

static uint32_t hold(struct __test_metadata *_metadata, int dev,
		     unsigned int api, void *addr, size_t len)
{
	struct p2pdma_test_pin args = {
		.flags = P | W | P2PDMA_TEST_PIN_HOLD,
		.api = api,
		.addr = h_pointer(addr),
		.length = len,
	};

	EXPECT_EQ(0, h_pin(dev, &args));
	EXPECT_EQ((long)(len / page), args.ret);
	EXPECT_NE(0U, args.id);
	return args.id;
}

/* All pages of @id have @count references. */
static void expect_count(struct __test_metadata *_metadata, int dev,
			 uint32_t id, int count)
{
	struct p2pdma_test_page facts[PAGES];
	struct p2pdma_test_peek args = {
		.id = id,
		.pages = h_pointer(facts),
		.nr_pages = PAGES,
	};

	ASSERT_EQ(0, h_peek(dev, &args));
	ASSERT_EQ(PAGES, (int)args.nr_pages);
	EXPECT_EQ(PAGES, (int)args.total);
	for (int i = 0; i < PAGES; i++)
		EXPECT_EQ(count, facts[i].during);
}

#define EXPECT_TAKEN(_taken)						\
	EXPECT_EQ(variant->provider->rest - (ssize_t)(_taken),		\
		  p2p_available(variant->provider))

/* Held until told. */
TEST_F(hold, release)
{
	uint32_t id = hold(_metadata, self->dev, variant->api, self->map,
			   self->len);

	expect_count(_metadata, self->dev, id, 1 + weight(variant->api));
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_EQ(-ENOENT, h_drop(self->dev, id));
	EXPECT_TAKEN(self->len);
}

/* The mapping goes, the pages stay, with all that they hold. */
TEST_F(hold, munmap)
{
	uint32_t id = hold(_metadata, self->dev, variant->api, self->map,
			   self->len);

	EXPECT_EQ(0, munmap(self->map, self->len));
	self->map = MAP_FAILED;
	EXPECT_TAKEN(self->len);
	expect_count(_metadata, self->dev, id, weight(variant->api));
	EXPECT_EQ(0, h_drop(self->dev, id));
	EXPECT_TAKEN(0);
}

/* Several pins of one page add up. */
TEST_F(hold, several)
{
	uint32_t ids[3];

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		ids[i] = hold(_metadata, self->dev, variant->api, self->map,
			      self->len);
		expect_count(_metadata, self->dev, ids[0],
			     1 + (i + 1) * weight(variant->api));
	}
	EXPECT_EQ(0, h_drop(self->dev, ids[1]));
	expect_count(_metadata, self->dev, ids[2],
		     1 + 2 * weight(variant->api));
	EXPECT_EQ(0, munmap(self->map, self->len));
	self->map = MAP_FAILED;
	EXPECT_EQ(0, h_drop(self->dev, ids[0]));
	EXPECT_TAKEN(self->len);
	EXPECT_EQ(0, h_drop(self->dev, ids[2]));
	EXPECT_TAKEN(0);
}

/* Closing the descriptor releases. */
TEST_F(hold, close)
{
	hold(_metadata, self->dev, variant->api, self->map, self->len);
	EXPECT_EQ(0, munmap(self->map, self->len));
	self->map = MAP_FAILED;
	EXPECT_TAKEN(self->len);
	close(self->dev);
	self->dev = -1;
	EXPECT_TAKEN(0);
}

/* So does the death of the only process that has it. */
TEST_F(hold, kill)
{
	int status, ready[2];
	pid_t pid;
	char c;

	EXPECT_EQ(0, munmap(self->map, self->len));
	self->map = MAP_FAILED;
	ASSERT_EQ(0, pipe(ready));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = h_open();
		char *map = p2p_map(self->pool, self->len);

		if (dev < 0 || map == MAP_FAILED)
			_exit(1);
		hold(_metadata, dev, variant->api, map, self->len);
		h_ready(ready[1], true);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TAKEN(self->len);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TAKEN(0);
}

/*
 * The driver of the provider is unbound while a process has the memory mapped
 * and held: unbinding waits for all references, and gets them.
 */
FIXTURE(unbind) {
};

FIXTURE_VARIANT(unbind) {
	const struct p2p_provider *provider;
	unsigned int api;
};

FIXTURE_SETUP(unbind)
{
	/* the harness runs a fixture without variants once, with none */
	if (!variant)
		SKIP(return, "no device is bound to p2pdma_provider");
	if (takes_nothing(variant->api))
		SKIP(return, TAKES_NOTHING);
	ASSERT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

FIXTURE_TEARDOWN(unbind)
{
	if (!variant || takes_nothing(variant->api))
		return;
	EXPECT_EQ(0, p2p_bind(variant->provider));
	EXPECT_EQ(variant->provider->rest, p2p_available(variant->provider));
}

TEST_F(unbind, held)
{
	size_t len = PAGES * page;
	uint64_t word;
	int pool, dev;
	uint32_t id;
	char *map;

	dev = h_open();
	ASSERT_LE(0, dev);
	pool = p2p_open_pool(variant->provider, O_RDWR);
	ASSERT_LE(0, pool);
	map = p2p_map(pool, len);
	ASSERT_NE(MAP_FAILED, (void *)map);
	id = hold(_metadata, dev, variant->api, map, len);

	EXPECT_EQ(0, p2p_unbind(variant->provider));
	EXPECT_FALSE(p2p_is_provider(variant->provider->bdf));
	EXPECT_EQ(SIGBUS, p2p_try_read(map, &word));
	EXPECT_EQ(-ENOENT, h_drop(dev, id));
	EXPECT_EQ(0, munmap(map, len));
	close(pool);
	close(dev);
}

/* ---- who may ask for flags that contradict each other ------------------ */

TEST(contradict_without_capability)
{
	EXPECT_EQ(EPERM, p2p_open_without(P2P_CAP_SYS_ADMIN, P2PDMA_TEST_GUP_DEVICE));
}

/* ---- what this kernel can do ------------------------------------------- */

/* Asks for a page of an io_uring: the kernel's own, and mapped like a pool's. */
static void find_fast_path(void)
{
	struct io_uring_params params = { 0 };
	struct p2pdma_test_page facts;
	struct p2pdma_test_pin args = {
		.api = P2PDMA_TEST_GET_FAST_ONLY,
		.length = page,
		.pages = h_pointer(&facts),
		.nr_pages = 1,
	};
	int ring = syscall(SYS_io_uring_setup, 1, &params), dev;
	uint64_t word;
	char *map;

	if (ring < 0) {
		ksft_print_msg("no io_uring to try the fast path with: %s\n",
			       strerror(errno));
		return;
	}
	map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		   IORING_OFF_SQ_RING);
	dev = h_open();
	if (map == MAP_FAILED || dev < 0)
		ksft_exit_fail_perror("trying the fast path");
	args.addr = h_pointer(map);
	if (p2p_try_read(map, &word) || h_pin(dev, &args) || args.ret < 0 || args.ret > 1)
		ksft_exit_fail_msg("trying the fast path: %lld\n",
				   (long long)args.ret);
	fast_takes_unmapped = args.ret;
	ksft_print_msg("pages without a mapping: %s\n", args.ret ?
		       "taken by the fast path" : "left to the slow path");
	munmap(map, page);
	close(dev);
	close(ring);
}

/* ---- one variant for each cell ----------------------------------------- */

static void print_cell(enum state how, unsigned int api, unsigned int flags)
{
	const struct rule *rule = rule_for(how, api, flags);
	char ret[32];

	if (rule->fixed)
		snprintf(ret, sizeof(ret), "%s/%s", strerrorname_np(-rule->ret),
			 strerrorname_np(-rule->fixed));
	else if (rule->ret < 0)
		snprintf(ret, sizeof(ret), "%s", strerrorname_np(-rule->ret));
	else
		snprintf(ret, sizeof(ret), "%d pages", rule->ret);
	printf("%-16s%-14s%-24s%-18s%s%s%s%s\n", state_names[how],
	       api_names[api], flag_names(flags), ret, rule->why,
	       rule->defect ? " [" : "", rule->defect ?: "",
	       rule->defect ? "]" : "");
}

static int print_cells(void)
{
	for (unsigned int s = 0; s < NR_STATES; s++)
		for (unsigned int a = 0; a < P2PDMA_TEST_NR_APIS; a++)
			for (unsigned int f = 0; f < NR_FLAGS; f++)
				print_cell(s, a, f);
	return 0;
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	if (argc == 2 && !strcmp(argv[1], "--cells"))
		return print_cells();
	if (p2p_help(argc, argv,
		     "Ways to pin peer-to-peer memory; --cells prints what is expected"))
		return test_harness_run(argc, argv);
	p2p_discover();
	h_require();
	h_require_device(P2PDMA_TEST_GUP_DEVICE, "p2pdma_gup");
	has_livelock = p2p_has_livelock(&p2p.provider[0]);
	find_fast_path();

	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		const struct p2p_provider *p = &p2p.provider[i];

		for (unsigned int a = 0; a < P2PDMA_TEST_NR_APIS; a++) {
			FIXTURE_VARIANT(hold) hold = { p, a };

			for (unsigned int s = 0; s < NR_STATES; s++) {
				FIXTURE_VARIANT(cells) v = { p, s, a };

				P2P_VARIANT_ADD(cells, v, "%s@%s/%s/%s",
						p->kind, p->bdf,
						state_names[s], api_names[a]);
			}
			P2P_VARIANT_ADD(hold, hold, "%s@%s/%s", p->kind,
					p->bdf, api_names[a]);
			/* other drivers have more to do than to provide */
			if (!strcmp(p->driver, "p2pdma_provider")) {
				FIXTURE_VARIANT(unbind) v = { p, a };

				P2P_VARIANT_ADD(unbind, v, "%s@%s/%s", p->kind,
						p->bdf, api_names[a]);
			}
		}
	}
	return test_harness_run(argc, argv);
}
