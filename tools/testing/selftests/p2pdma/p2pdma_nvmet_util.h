/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the selftests of the NVMe target share: its configuration in configfs,
 * the kernel's messages, and hosts that connect through p2pdma_nvmet.
 *
 * Each function that configures something returns 0, or an errno as a negative
 * number. Names of what a program creates start with the prefix that it gives
 * to nvmet_init(), so that nvmet_cleanup() finds all of it, and nothing else.
 */
#ifndef _SELFTESTS_P2PDMA_NVMET_UTIL_H
#define _SELFTESTS_P2PDMA_NVMET_UTIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kselftest.h"
#include "p2pdma_nvmet.h"
#include "p2pdma_util.h"

#define NVMET_CONFIG	"/sys/kernel/config/nvmet"
#define NVMET_DEBUG	"/sys/kernel/debug/p2pdma_nvmet"
#define NVMET_MODULE	"/sys/module/p2pdma_nvmet"

/* Ports have numbers for names: this one is the programs'. */
#define NVMET_PORT	4200

/* What the names of subsystems begin with, of all programs: one removes what another left. */
#define NQN_PREFIX	"p2pdma-selftest-"

/* Status of completions: code and type, then what else may be set. */
#define NVME_MORE	0x2000
#define NVME_DNR	0x4000

void nvmet_init(const char *prefix);
void nvmet_require_transport(void);
int nvmet_cleanup(void);

/* configfs */
int nvmet_subsys_add(const char *nqn);
int nvmet_subsys_remove(const char *nqn);
int nvmet_ns_add(const char *nqn, unsigned int nsid, const char *device);
int nvmet_ns_remove(const char *nqn, unsigned int nsid);
int nvmet_ns_rmdir(const char *nqn, unsigned int nsid);
int nvmet_ns_set(const char *nqn, unsigned int nsid, const char *attr,
		 const char *value);
int nvmet_ns_get(const char *nqn, unsigned int nsid, const char *attr,
		 char *buf, size_t len);
int nvmet_port_add(unsigned int port);
int nvmet_port_remove(unsigned int port);
int nvmet_port_set(unsigned int port, const char *attr, const char *value);
int nvmet_link(unsigned int port, const char *nqn);
int nvmet_unlink(unsigned int port, const char *nqn);

/* the kernel's messages */
bool kmsg_find(int fd, char *line, size_t len, const char *fmt, ...)
	__printf(4, 5);

/* PCI functions */
uint64_t nvmet_function(const char *bdf);
void nvmet_function_name(uint64_t function, char *buf, size_t len);

/* hosts */
struct nvmet_host {
	int fd;
	struct p2pdma_nvmet_connect connect;
};

int nvmet_host_connect(struct nvmet_host *host, unsigned int port,
		       const char *nqn, const char *client,
		       unsigned int queues, unsigned int queue_size);
void nvmet_host_close(struct nvmet_host *host);
int nvmet_command(struct nvmet_host *host, struct p2pdma_nvmet_command *cmd);
uint64_t nvmet_pattern(enum p2p_what what);

/* What a controller counted. */
struct nvmet_counters {
	uint64_t p2p_commands, p2p_bytes;
	uint64_t fallback_commands, fallback_bytes;
	uint64_t ram_commands, ram_bytes;
	uint64_t no_memory;
};

int nvmet_counters(const struct nvmet_host *host, int queue, int nsid,
		   struct nvmet_counters *sum);

#endif /* _SELFTESTS_P2PDMA_NVMET_UTIL_H */
