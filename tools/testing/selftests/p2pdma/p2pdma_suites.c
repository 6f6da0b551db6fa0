// SPDX-License-Identifier: GPL-2.0
/*
 * The suites that the p2pdma_test module runs by itself, from debugfs: each of
 * them, twice, and what the files there refuse.
 */
#include <ctype.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TH_LOG_STREAM stdout
#include "kselftest_harness.h"
#include "p2pdma_util.h"

#define DIR		"/sys/kernel/debug/p2pdma_test"
#define MAX_CASES	64
#define MAX_RESULTS	1048576

static char cases[MAX_CASES][64];
static unsigned int nr_cases;

static char *read_file(const char *path)
{
	char *text = malloc(MAX_RESULTS);
	size_t len = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !text) {
		free(text);
		return NULL;
	}
	while ((n = read(fd, text + len, MAX_RESULTS - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = '\0';
	return text;
}

/* The error that the write gives, or 0. */
static int run_suites(const char *what, size_t len)
{
	int fd = open(DIR "/run", O_WRONLY | O_CLOEXEC), error = 0;
	ssize_t n;

	if (fd < 0)
		return errno;
	n = write(fd, what, len);
	if (n < 0)
		error = errno;
	else if ((size_t)n != len)
		error = EIO;
	close(fd);
	return error;
}

/**
 * struct results - what a run said
 * @ok: number of cases that passed or were skipped
 * @skipped: number of those that were skipped
 * @not_ok: number of those that failed
 * @lists: number of lists of results
 */
struct results {
	unsigned int ok, skipped, not_ok, lists;
};

/*
 * Read KTAP: results of cases are indented by two levels, and each list has as
 * many results as it says.
 */
static struct results parse(struct __test_metadata *_metadata, char *text)
{
	unsigned int planned[8] = { 0 }, seen[8] = { 0 };
	struct results r = { 0 };
	char *line, *save = NULL;

	EXPECT_EQ(0, strncmp(text, "KTAP version 1\n1..", 18));
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned int depth = strspn(line, " ") / 2, number;
		bool ok;

		line += 2 * depth;
		ASSERT_GT(ARRAY_SIZE(planned), depth);
		if (sscanf(line, "1..%u", &number) == 1) {
			planned[depth] = number;
			seen[depth] = 0;
			r.lists++;
			continue;
		}
		ok = !strncmp(line, "ok ", 3);
		if (!ok && strncmp(line, "not ok ", 7)) {
			if (*line == '#' && strncmp(line, "# Subtest", 9))
				TH_LOG("%s", line);
			EXPECT_TRUE(*line == '#' ||
				    !strcmp(line, "KTAP version 1")) {
				TH_LOG("no KTAP: %s", line);
			}
			continue;
		}
		EXPECT_EQ(1, sscanf(line, ok ? "ok %u" : "not ok %u",
				    &number));
		EXPECT_EQ(++seen[depth], number);
		EXPECT_LE(number, planned[depth]);
		/* the list below, if there was one, was complete */
		EXPECT_EQ(planned[depth + 1], seen[depth + 1]) {
			TH_LOG("incomplete: %s", line);
		}
		planned[depth + 1] = 0;
		seen[depth + 1] = 0;
		if (depth < 2)
			continue;
		r.ok += ok;
		r.not_ok += !ok;
		r.skipped += !!strstr(line, "# SKIP");
		if (!ok)
			TH_LOG("%s", line);
	}
	EXPECT_EQ(planned[0], seen[0]);
	return r;
}

static struct results last_results(struct __test_metadata *_metadata)
{
	char *text = read_file(DIR "/results");
	struct results r;

	ASSERT_NE(NULL, text);
	r = parse(_metadata, text);
	free(text);
	return r;
}

static void pools_are_full(struct __test_metadata *_metadata)
{
	for (unsigned int i = 0; i < p2p.nr_providers; i++) {
		EXPECT_EQ(p2p.provider[i].rest,
			  p2p_available(&p2p.provider[i])) {
			TH_LOG("%s", p2p.provider[i].bdf);
		}
	}
}

/* ---- each case --------------------------------------------------------- */

FIXTURE(suite) {
};

FIXTURE_VARIANT(suite) {
	const char *name;
};

FIXTURE_SETUP(suite)
{
	pools_are_full(_metadata);
}

FIXTURE_TEARDOWN(suite)
{
	pools_are_full(_metadata);
}

/* On every provider, and again. */
TEST_F(suite, twice)
{
	struct results r;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, run_suites(variant->name, strlen(variant->name)));
		r = last_results(_metadata);
		EXPECT_EQ(0U, r.not_ok);
		EXPECT_EQ(p2p.nr_providers, r.ok);
		/* the suites, its providers, and the case on each of them */
		EXPECT_EQ(2 + p2p.nr_providers, r.lists);
		if (p2p.nr_clients)
			EXPECT_EQ(0U, r.skipped);
	}
}

/* ---- the files --------------------------------------------------------- */

FIXTURE(files) {
};

FIXTURE_SETUP(files)
{
	pools_are_full(_metadata);
}

FIXTURE_TEARDOWN(files)
{
	pools_are_full(_metadata);
}

TEST_F(files, all)
{
	struct results r;

	ASSERT_EQ(0, run_suites("all\n", 4));
	r = last_results(_metadata);
	EXPECT_EQ(0U, r.not_ok);
	EXPECT_EQ(nr_cases * p2p.nr_providers, r.ok);
}

/* Several names, in any order, with any white space; twice is once. */
TEST_F(files, selection)
{
	char text[512], suite[64];
	unsigned int in_suite = 0;
	struct results r;

	ASSERT_LT(1U, nr_cases);
	snprintf(suite, sizeof(suite), "%s", cases[0]);
	*strchr(suite, '.') = '\0';
	for (unsigned int i = 0; i < nr_cases; i++)
		in_suite += !strncmp(cases[i], suite, strlen(suite)) &&
			    cases[i][strlen(suite)] == '.';

	snprintf(text, sizeof(text), " %s\t%s  %s %s\n", cases[nr_cases - 1],
		 suite, cases[0], suite);
	ASSERT_EQ(0, run_suites(text, strlen(text)));
	r = last_results(_metadata);
	EXPECT_EQ(0U, r.not_ok);
	EXPECT_EQ((in_suite + 1) * p2p.nr_providers, r.ok);
}

TEST_F(files, refused)
{
	static const char * const wrong[] = {
		"", "\n", "   ", "nothing", "pool.", ".sizes", "pool.nothing",
		"pool.sizes.x", "al", "all.sizes", "pool nothing", "POOL",
	};
	char *before, *after, large[600];

	ASSERT_EQ(0, run_suites("pool.sizes", 10));
	before = read_file(DIR "/results");
	ASSERT_NE(NULL, before);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		/* a write of nothing does not get to the file */
		if (!wrong[i][0])
			continue;
		EXPECT_EQ(EINVAL, run_suites(wrong[i], strlen(wrong[i]))) {
			TH_LOG("'%s'", wrong[i]);
		}
	}
	EXPECT_EQ(EINVAL, run_suites("pool.sizes\xff", 11));
	EXPECT_EQ(EINVAL, run_suites("pool.sizes\0x", 12));
	memset(large, ' ', sizeof(large));
	memcpy(large, "pool", 4);
	EXPECT_EQ(E2BIG, run_suites(large, sizeof(large)));
	EXPECT_EQ(EFAULT, run_suites((const char *)8, 8));

	/* what is refused leaves the results of the last run alone */
	after = read_file(DIR "/results");
	ASSERT_NE(NULL, after);
	EXPECT_STREQ(before, after);
	free(before);
	free(after);
}

TEST_F(files, modes)
{
	struct stat st;

	ASSERT_EQ(0, stat(DIR "/run", &st));
	EXPECT_EQ(0200U, st.st_mode & 0777);
	ASSERT_EQ(0, stat(DIR "/list", &st));
	EXPECT_EQ(0400U, st.st_mode & 0777);
	ASSERT_EQ(0, stat(DIR "/results", &st));
	EXPECT_EQ(0400U, st.st_mode & 0777);
}

/* Several at a time take turns, and each is complete. */
TEST_F(files, at_the_same_time)
{
	pid_t pid[3];
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			_exit(run_suites("all", 3));
	}
	for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
		struct results r;

		ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
		r = last_results(_metadata);
		EXPECT_EQ(0U, r.not_ok);
		EXPECT_EQ(nr_cases * p2p.nr_providers, r.ok);
	}
}

/* The cases are the lines of the list that are indented. */
static void find_cases(void)
{
	char *list, *line, *save = NULL;

	if (access(DIR, F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	list = read_file(DIR "/list");
	if (!list && getenv("P2PDMA_TOPOLOGY"))
		ksft_exit_fail_msg(DIR "/list: %s\n", strerror(errno));
	if (!list)
		ksft_exit_skip(DIR "/list: %s: load the module p2pdma_test, and mount debugfs\n",
			       strerror(errno));
	for (line = strtok_r(list, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!isspace((unsigned char)*line))
			continue;
		if (nr_cases == MAX_CASES)
			ksft_exit_fail_msg("more than %d cases\n", MAX_CASES);
		if (sscanf(line, " %63s", cases[nr_cases]) != 1 ||
		    !strchr(cases[nr_cases], '.'))
			ksft_exit_fail_msg("no case: %s\n", line);
		nr_cases++;
	}
	free(list);
	if (!nr_cases)
		ksft_exit_fail_msg(DIR "/list: no cases\n");
}

int main(int argc, char **argv)
{
	if (p2p_help(argc, argv, "Suites that the kernel runs by itself"))
		return test_harness_run(argc, argv);
	p2p_discover();
	find_cases();

	for (unsigned int i = 0; i < nr_cases; i++) {
		FIXTURE_VARIANT(suite) v = { cases[i] };

		P2P_VARIANT_ADD(suite, v, "%s", cases[i]);
	}
	return test_harness_run(argc, argv);
}
