/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Interface of p2pdma_nvmet.ko, a transport of the NVMe target for tests.
 *
 * The module serves ports of type "loop", configured in configfs as usual. The
 * host's side is driven from here: an open file of the device is one host, with
 * at most one controller, whose queues are connected by real fabrics commands.
 * Closing the file disconnects it. Calls on one file may be made from several
 * threads at once; each works on the queue that it names.
 *
 * All fields are in the byte order of the machine, but for the bytes of commands.
 */
#ifndef _SELFTESTS_P2PDMA_NVMET_H
#define _SELFTESTS_P2PDMA_NVMET_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define P2PDMA_NVMET_DEVICE	"/dev/p2pdma_nvmet"
#define P2PDMA_NVMET_NQN_LEN	224

/*
 * A PCI function in 64 bits: domain << 16 | bus << 8 | device << 3 | function.
 */
#define P2PDMA_NVMET_NO_FUNCTION	(~0ULL)

/**
 * struct p2pdma_nvmet_connect - connect a host to a subsystem
 * @port: in: ID of the port, its directory's name in configfs
 * @queues: in: number of I/O queues, with the IDs from 1 on; 0 for a host that
 *	has an admin queue only
 * @queue_size: in: entries of each I/O queue, 2 at least; one less commands can
 *	be under way at a time, in all calls that work on the queue together
 * @cntlid: out: ID of the new controller
 * @status: out: 0, or the completion status of the Connect or Property Set
 *	command that was refused; nothing is connected then
 * @qid: out: the queue that was refused
 * @client: in: the PCI function that does the fabric's DMA, or
 *	P2PDMA_NVMET_NO_FUNCTION, and then there is no peer-to-peer memory
 * @subsysnqn: in: the subsystem, NUL-terminated
 * @hostnqn: in: the host, NUL-terminated
 *
 * Errors: EALREADY if the file has a controller already; ENODEV if there is no
 * such port or client; EINVAL.
 */
struct p2pdma_nvmet_connect {
	__u16 port;
	__u16 queues;
	__u16 queue_size;
	__u16 cntlid;
	__u16 status;
	__u16 qid;
	__u32 reserved;
	__u64 client;
	__u8 subsysnqn[P2PDMA_NVMET_NQN_LEN];
	__u8 hostnqn[P2PDMA_NVMET_NQN_LEN];
};

/* Where the data of a command were, in the results below. */
enum p2pdma_nvmet_place {
	P2PDMA_NVMET_NOWHERE,	/* there were none */
	P2PDMA_NVMET_RAM,	/* in memory of the system: no provider is meant */
	P2PDMA_NVMET_FALLBACK,	/* the same, but there is a provider */
	P2PDMA_NVMET_P2P,	/* in a provider's memory */
};

/* What the transport loses of a command, as one with a defect might. */
enum p2pdma_nvmet_leak {
	P2PDMA_NVMET_LEAK_NOTHING,
	P2PDMA_NVMET_LEAK_PARSED,	/* the request, which is never executed */
	P2PDMA_NVMET_LEAK_EXECUTED,	/* the request, while it is executed */
	P2PDMA_NVMET_LEAK_COMPLETED,	/* the request, after it was completed */
};

/**
 * struct p2pdma_nvmet_command - send one command, and wait for its completion
 * @sqe: in: the command, in NVMe's byte order
 * @data: in: address of the data, which are copied to the target's memory before
 *	the command is executed, or from there afterwards, as its opcode says
 * @data_len: in: their length in bytes, as the command's SGL would say it; up to
 *	P2PDMA_NVMET_MAX_DATA
 * @qid: in: the queue
 * @status: out: completion status: code, type, and the bits More and Do Not Retry
 * @place: out: enum p2pdma_nvmet_place
 * @sq_head: out: head of the submission queue
 * @leak: in: enum p2pdma_nvmet_leak; what is lost has no completion, and keeps
 *	its memory, and the namespace enabled, until the host disconnects
 * @result: out: dwords 0 and 1 of the completion
 * @provider: out: whose memory held the data, or P2PDMA_NVMET_NO_FUNCTION
 * @wrong_pages: out: pages that are not memory of @provider, or are peer-to-peer
 *	memory where there is none
 *
 * Errors: ENOTCONN without a controller, or if it was deleted; ENOENT if it has
 * no such queue; ENOMEM if there was no memory for the data.
 */
struct p2pdma_nvmet_command {
	__u8 sqe[64];
	__u64 data;
	__u32 data_len;
	__u16 qid;
	__u16 status;
	__u16 place;
	__u16 sq_head;
	__u32 leak;
	__u64 result;
	__u64 provider;
	__u64 wrong_pages;
};

#define P2PDMA_NVMET_MAX_DATA	(64 << 20)

/* What struct p2pdma_nvmet_run does, and what it leaves out. */
enum p2pdma_nvmet_op {
	P2PDMA_NVMET_WRITE,
	P2PDMA_NVMET_READ,
};

#define P2PDMA_NVMET_NO_DATA	0x01	/* neither fill nor compare */

/**
 * struct p2pdma_nvmet_run - send many Reads or Writes
 * @op: in: enum p2pdma_nvmet_op
 * @flags: in: P2PDMA_NVMET_NO_DATA
 * @qid: in: the queue
 * @nsid: in: the namespace
 * @block_size: in: its logical block size in bytes
 * @blocks: in: blocks of each command, 1 to 65536
 * @depth: in: commands under way at a time
 * @slba: in: first block
 * @span: in: blocks from there on; when they are used up, the commands start
 *	again at @slba. A multiple of @blocks.
 * @count: in: commands to send
 * @pattern: in: data. The 64-bit word at byte p of the medium is the finalizer of
 *	splitmix64 applied to @pattern | p; bits that p can have must be 0 here.
 *	Writes fill the target's memory with it, Reads compare.
 * @commands: out: commands that were completed without error
 * @errors: out: commands that were completed with an error; after the first one
 *	no more are sent
 * @error_status: out: status of the first
 * @error_slba: out: and its first block
 * @p2p_commands: out: commands whose data were in peer-to-peer memory
 * @p2p_bytes: out: their bytes
 * @fallback_commands: out: commands whose data were in memory of the system
 *	though there is a provider
 * @fallback_bytes: out: their bytes
 * @ram_commands: out: commands for which no provider is meant
 * @ram_bytes: out: their bytes
 * @no_memory: out: commands for which there was no memory at all; they are sent
 *	again when others have given theirs back
 * @wrong_pages: out: pages that are not memory of the provider that the core
 *	names, or are peer-to-peer memory where it names none
 * @providers: out: times that a command's provider was another than the one before
 * @provider: out: that of the last command that had one, or
 *	P2PDMA_NVMET_NO_FUNCTION
 * @bad_words: out: words that were read and are not as they should be
 * @bad_at: out: byte on the medium of the first of them
 * @bad_found: out: what it was
 * @ns: out: time from the first command to the last completion, in nanoseconds
 *
 * A signal ends it early: what was done so far is reported, without an error.
 *
 * Errors: as for struct p2pdma_nvmet_command; EINVAL for what makes no sense.
 * ENOTCONN is returned only if nothing was sent: a controller that is deleted
 * meanwhile ends it like a signal does, and @gone says so.
 */
struct p2pdma_nvmet_run {
	__u8 op;
	__u8 flags;
	__u16 qid;
	__u32 nsid;
	__u32 block_size;
	__u32 blocks;
	__u32 depth;
	__u16 error_status;
	__u16 gone;
	__u64 slba;
	__u64 span;
	__u64 count;
	__u64 pattern;
	__u64 commands;
	__u64 errors;
	__u64 error_slba;
	__u64 p2p_commands;
	__u64 p2p_bytes;
	__u64 fallback_commands;
	__u64 fallback_bytes;
	__u64 ram_commands;
	__u64 ram_bytes;
	__u64 no_memory;
	__u64 wrong_pages;
	__u64 providers;
	__u64 provider;
	__u64 bad_words;
	__u64 bad_at;
	__u64 bad_found;
	__u64 ns;
};

#define P2PDMA_NVMET_CONNECT	_IOWR('|', 0x90, struct p2pdma_nvmet_connect)
#define P2PDMA_NVMET_DISCONNECT	_IO('|', 0x91)
#define P2PDMA_NVMET_COMMAND	_IOWR('|', 0x92, struct p2pdma_nvmet_command)
#define P2PDMA_NVMET_RUN	_IOWR('|', 0x93, struct p2pdma_nvmet_run)

#endif /* _SELFTESTS_P2PDMA_NVMET_H */
