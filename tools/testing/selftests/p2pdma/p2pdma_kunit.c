// SPDX-License-Identifier: GPL-2.0
/*
 * The KUnit suites that are compiled into p2pdma.ko: they are run, and each of
 * their cases is a result here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest.h"

#define DIR		"/sys/kernel/debug/kunit"
#define MAX_RESULTS	262144

static const char * const suites[] = {
	"rust_p2pdma_address",
	"rust_p2pdma_cmb",
	"rust_p2pdma_range",
	"rust_p2pdma_sysfs",
	"rust_p2pdma_user",
};

static char text[ARRAY_SIZE(suites)][MAX_RESULTS];

/* Run the suite, and read what it printed: 0, or a negative errno. */
static int run_suite(const char *suite, char *results)
{
	size_t len = 0;
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), DIR "/%s/run", suite);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	n = write(fd, "1", 1);
	close(fd);
	if (n != 1)
		return -EIO;

	snprintf(path, sizeof(path), DIR "/%s/results", suite);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	while ((n = read(fd, results + len, MAX_RESULTS - 1 - len)) > 0)
		len += n;
	close(fd);
	results[len] = '\0';
	return 0;
}

/* The result of a case: its name, or NULL if this is another line. */
static const char *case_of(const char *line, bool *ok)
{
	unsigned int number;
	int end = 0;

	if (strncmp(line, "    ", 4) || line[4] == ' ')
		return NULL;
	*ok = sscanf(line, "    ok %u %n", &number, &end) == 1 && end;
	if (!*ok)
		sscanf(line, "    not ok %u %n", &number, &end);
	return end ? line + end : NULL;
}

/* Without KUnit there are no suites. */
static void require_kunit(void)
{
	char enabled = 0;
	int fd;

	if (access(DIR, F_OK))
		ksft_exit_skip("no " DIR ": needs CONFIG_KUNIT=y, CONFIG_KUNIT_DEBUGFS=y\n");
	fd = open("/sys/module/kunit/parameters/enable", O_RDONLY);
	if (fd >= 0) {
		if (read(fd, &enabled, 1) == 1 && enabled == 'N')
			ksft_exit_skip("KUnit is switched off: boot with kunit.enable=1\n");
		close(fd);
	}
}

static void report(const char *suite, char *results)
{
	unsigned int planned = 0, seen = 0;
	char *line, *save = NULL, said[2048] = "";
	size_t len = 0;
	bool ok;

	for (line = strtok_r(results, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *name = case_of(line, &ok);

		if (sscanf(line, "    1..%u", &planned) == 1)
			continue;
		if (!name) {
			/* what a failed assertion says stands above the result */
			if (len < sizeof(said))
				len += snprintf(said + len, sizeof(said) - len,
						"# %s\n",
						line + strspn(line, " #"));
			continue;
		}
		seen++;
		if (!ok)
			printf("%s", said);
		len = 0;
		if (ok && strstr(name, "# SKIP"))
			ksft_test_result_skip("%s.%s\n", suite, name);
		else
			ksft_test_result(ok, "%s.%s\n", suite, name);
	}
	ksft_test_result(planned && planned == seen, "%s: %u of %u cases\n",
			 suite, seen, planned);
}

int main(void)
{
	int error[ARRAY_SIZE(suites)];
	unsigned int plan = 0;
	bool ok;

	ksft_print_header();
	require_kunit();
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++) {
		error[i] = run_suite(suites[i], text[i]);
		/* that it is there, and complete */
		plan++;
		if (error[i])
			continue;
		for (char *line = text[i]; line; line = strchr(line, '\n')) {
			line += *line == '\n';
			plan += !!case_of(line, &ok);
		}
	}
	ksft_set_plan(plan);
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++) {
		if (error[i])
			ksft_test_result_fail("%s: %s\n", suites[i],
					      strerror(-error[i]));
		else
			report(suites[i], text[i]);
	}
	ksft_finished();
}
