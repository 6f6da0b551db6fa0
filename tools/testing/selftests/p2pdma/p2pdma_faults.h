/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocations that fail on request, for one thread: the kernel has
 * /proc/thread-self/fail-nth for that, see
 * Documentation/fault-injection/fault-injection.rst.
 */
#ifndef _SELFTESTS_P2PDMA_FAULTS_H
#define _SELFTESTS_P2PDMA_FAULTS_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest.h"
#include "p2pdma_util.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define FAULTS_DEBUGFS	"/sys/kernel/debug"
#define MIN_ORDER	FAULTS_DEBUGFS "/fail_page_alloc/min-order"

/* No operation has as many allocations. */
#define MAX_NTH		10000

/* All allocations can fail, also those that may wait; without a word. */
static const struct {
	const char *file, *value;
} fault_settings[] = {
	{ FAULTS_DEBUGFS "/failslab/ignore-gfp-wait", "N" },
	{ FAULTS_DEBUGFS "/failslab/verbose", "0" },
	{ FAULTS_DEBUGFS "/fail_page_alloc/ignore-gfp-wait", "N" },
	{ MIN_ORDER, "0" },
	{ FAULTS_DEBUGFS "/fail_page_alloc/verbose", "0" },
};

#define FAULT_CONFIGS	"CONFIG_FAILSLAB, FAIL_PAGE_ALLOC and FAULT_INJECTION_DEBUG_FS"

static inline void require_faults(void)
{
	if (access(FAIL_NTH, W_OK))
		ksft_exit_skip("no " FAIL_NTH ": CONFIG_FAULT_INJECTION is off\n");
	for (size_t i = 0; i < ARRAY_SIZE(fault_settings); i++)
		if (p2p_sysfs_write(fault_settings[i].file,
				    fault_settings[i].value))
			ksft_exit_skip("%s: %s: not all of " FAULT_CONFIGS " is there\n",
				       fault_settings[i].file, strerror(errno));
}

/* Let the allocation number @nth from now on fail; 0 is none. */
static inline bool fail_nth(int fd, int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", nth);

	return pwrite(fd, text, n, 0) == n;
}

/* Whether it came to that. */
static inline bool has_failed(int fd)
{
	char text[16] = "";

	return pread(fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
}

/* Whether an operation may fail with it: @others ends with 0 */
static inline bool is_expected(const int *others, int error)
{
	if (error == ENOMEM)
		return true;
	while (*others && *others != error)
		others++;
	return *others;
}

#endif /* _SELFTESTS_P2PDMA_FAULTS_H */
