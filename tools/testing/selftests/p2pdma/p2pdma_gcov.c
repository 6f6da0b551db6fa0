// SPDX-License-Identifier: GPL-2.0
/*
 * How often each line of the kernel has been run since it was booted, on a kernel
 * that counts: each file of counters, in base64, as comments. It is the last one
 * to be run, and for a report only.
 */
#include <errno.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest.h"

#define GCOV	"/sys/kernel/debug/gcov"
#define LINE	57	/* bytes, which are 76 characters */

static unsigned int files;

static void print_line(const uint8_t *bytes, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char text[LINE / 3 * 4 + 1], *to = text;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t word = bytes[i] << 16;

		if (i + 1 < n)
			word |= bytes[i + 1] << 8;
		if (i + 2 < n)
			word |= bytes[i + 2];
		*to++ = digits[word >> 18];
		*to++ = digits[word >> 12 & 63];
		*to++ = i + 1 < n ? digits[word >> 6 & 63] : '=';
		*to++ = i + 2 < n ? digits[word & 63] : '=';
	}
	*to = '\0';
	ksft_print_msg("gcov data %s\n", text);
}

/* Their size is not known before they are read. */
static int print_file(const char *path, const struct stat *status, int type,
		      struct FTW *place)
{
	const char *suffix = strrchr(path, '.');
	uint8_t bytes[LINE];
	size_t n;
	FILE *file;

	(void)status;
	(void)place;
	if (type != FTW_F || !suffix || strcmp(suffix, ".gcda"))
		return 0;
	file = fopen(path, "r");
	if (!file) {
		ksft_print_msg("%s: %s\n", path, strerror(errno));
		return -1;
	}
	ksft_print_msg("gcov file %s\n", path + strlen(GCOV));
	while ((n = fread(bytes, 1, sizeof(bytes), file)) > 0)
		print_line(bytes, n);
	n = ferror(file);
	fclose(file);
	files++;
	return n ? -1 : 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		printf("Usage: %s\n\n"
		       "Prints the kernel's counters of lines, " GCOV ", in base64.\n\n"
		       "Example:\n  %s | grep 'gcov file'\n", argv[0], argv[0]);
		return 0;
	}
	ksft_print_header();
	ksft_set_plan(1);
	if (access(GCOV, F_OK))
		ksft_exit_skip("the kernel has no " GCOV ": CONFIG_GCOV_KERNEL\n");
	ksft_test_result(!nftw(GCOV, print_file, 16, FTW_PHYS) && files > 0,
			 "counters of %u files\n", files);
	ksft_finished();
}
