// SPDX-License-Identifier: GPL-2.0
/*
 * The NVMe target with data in peer-to-peer memory, against the same with data
 * in memory of the system.
 *
 * One disk is two namespaces of one subsystem, one with p2pmem set to the
 * provider and one without, so that both are measured in the same boot through
 * the same queue, turn by turn. The transport neither fills nor looks at the
 * memory here: what is compared is the target's work and the disk's DMA.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest.h"
#include "p2pdma_nvmet_util.h"

#define NQN		"p2pdma-bench"
#define ROUNDS		9
#define MIN_NS		300000000ULL	/* that a measurement takes, at least */
#define MIB		1048576

static const size_t sizes[] = { 4 << 10, 64 << 10, MIB };
static const unsigned int depths[] = { 1, 8, 32 };

enum { P2P, RAM, WAYS };

/**
 * struct figure - what a way of doing it comes to
 * @rate: MiB per second
 * @cpu: milliseconds of processor time per MiB
 */
struct figure {
	double rate, cpu;
};

/**
 * struct row - what is measured for a size and a depth
 * @way: median of the rounds
 * @ratio: median of the rounds' ratios, P2P to RAM
 */
struct row {
	struct figure way[WAYS], ratio;
};

struct bench {
	struct nvmet_host host;
	struct p2p_client disk;
	const struct p2p_provider *provider;
	FILE *out;
	bool json, progress;
};

/*
 * Milliseconds that tasks have run on all processors. Threads of the kernel are
 * tasks; interrupts that come while a processor is idle are not counted.
 */
static double cpu_ms(void)
{
	unsigned long long ns, sum = 0;
	char line[512];
	FILE *f;
	int n = 0;

	/* a task that runs is counted when it stops running, so is this one */
	usleep(1000);
	f = fopen("/proc/schedstat", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "cpu%*u %*u %*u %*u %*u %*u %*u %llu", &ns) != 1)
			continue;
		sum += ns;
		n++;
	}
	if (!n)
		ksft_exit_fail_msg("/proc/schedstat: %s (CONFIG_SCHEDSTATS)\n",
				   strerror(errno));
	fclose(f);
	return sum / 1e6;
}

/* The ways are namespaces of one subsystem. */
#define NSID(_way)	((_way) + 1)

static struct p2pdma_nvmet_run transfer(struct bench *b, unsigned int nsid,
					size_t size, unsigned int depth,
					uint64_t count)
{
	uint64_t span = 32 * MIB / b->disk.lba;
	struct p2pdma_nvmet_run r = {
		.op = P2PDMA_NVMET_READ,
		.flags = P2PDMA_NVMET_NO_DATA,
		.qid = 1,
		.nsid = nsid,
		.block_size = b->disk.lba,
		.blocks = size / b->disk.lba,
		.depth = depth,
		.span = span,
		.count = count,
	};

	if (ioctl(b->host.fd, P2PDMA_NVMET_RUN, &r))
		ksft_exit_fail_perror("P2PDMA_NVMET_RUN");
	if (r.commands != count)
		ksft_exit_fail_msg("%llu of %llu commands, status %#x\n",
				   r.commands, r.count, r.error_status);
	if (r.p2p_commands != (nsid == NSID(P2P) ? count : 0))
		ksft_exit_fail_msg("%llu of %llu commands in peer-to-peer memory, namespace %u\n",
				   r.p2p_commands, r.count, nsid);
	return r;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), by_value);
	return values[ROUNDS / 2];
}

/* Rounds that take turns, each of as many commands as take long enough. */
static struct row measure(struct bench *b, size_t size, unsigned int depth)
{
	double rate[WAYS][ROUNDS], cpu[WAYS][ROUNDS];
	double rate_ratio[ROUNDS], cpu_ratio[ROUNDS];
	uint64_t count = depth;
	struct row row;

	while (transfer(b, NSID(RAM), size, depth, count).ns < MIN_NS ||
	       transfer(b, NSID(P2P), size, depth, count).ns < MIN_NS)
		count *= 2;

	for (int i = 0; i < ROUNDS; i++) {
		for (unsigned int way = 0; way < WAYS; way++) {
			double mib = (double)size * count / MIB;
			struct p2pdma_nvmet_run r;
			double before = cpu_ms();

			r = transfer(b, NSID(way), size, depth, count);
			rate[way][i] = mib * 1e9 / r.ns;
			cpu[way][i] = (cpu_ms() - before) / mib;
		}
		rate_ratio[i] = rate[P2P][i] / rate[RAM][i];
		cpu_ratio[i] = cpu[P2P][i] / cpu[RAM][i];
	}
	for (unsigned int way = 0; way < WAYS; way++) {
		row.way[way].rate = median(rate[way]);
		row.way[way].cpu = median(cpu[way]);
	}
	row.ratio.rate = median(rate_ratio);
	row.ratio.cpu = median(cpu_ratio);
	return row;
}

static void configure(struct bench *b)
{
	int ret = nvmet_subsys_add(NQN);

	for (unsigned int way = 0; way < WAYS && !ret; way++)
		ret = nvmet_ns_add(NQN, NSID(way), b->disk.path) ?:
		      nvmet_ns_set(NQN, NSID(way), "p2pmem",
				   way == P2P ? b->provider->bdf : "0") ?:
		      nvmet_ns_set(NQN, NSID(way), "enable", "1");
	ret = ret ?: nvmet_port_add(NVMET_PORT) ?: nvmet_link(NVMET_PORT, NQN);
	if (ret)
		ksft_exit_fail_msg("configuring the target: %s\n",
				   strerror(-ret));
	ret = nvmet_host_connect(&b->host, NVMET_PORT, NQN, b->disk.bdf, 1,
				 129);
	if (ret < 0)
		ksft_exit_fail_msg("connecting: %s\n", strerror(-ret));
	if (ret)
		ksft_exit_fail_msg("connecting: status %#x\n", ret);
}

/* Where both go to the same place, the rows that are printed are progress enough. */
static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* A provider whose memory is as fast as memory of the system, and a disk. */
static void choose(struct bench *b)
{
	for (unsigned int i = 0; i < p2p.nr_providers; i++)
		if (!b->provider || !strcmp(p2p.provider[i].kind, "testdev"))
			b->provider = &p2p.provider[i];
	for (unsigned int i = 0; i < p2p.nr_clients; i++)
		if (strcmp(p2p.client[i].bdf, b->provider->bdf) &&
		    p2p_expect(b->provider, &p2p.client[i]).verdict !=
		    P2P_NOT_SUPPORTED)
			b->disk = p2p.client[i];
	if (!b->disk.name[0])
		ksft_exit_skip("no disk reaches %s\n", b->provider->bdf);
}

static void print_head(const struct bench *b)
{
	if (b->json) {
		fprintf(b->out, "{\"provider\":\"%s\",\"disk\":\"%s\",",
			b->provider->bdf, b->disk.name);
		fprintf(b->out, "\"rounds\":%d,\"results\":[", ROUNDS);
		return;
	}
	fprintf(b->out, "NVMe target: reads of %s, p2pmem of %s (%s)\n",
		b->disk.path, b->provider->bdf, b->provider->kind);
	fprintf(b->out, "%-12s %25s %25s\n", "", "MiB/s", "CPU ms/MiB");
	fprintf(b->out, "%6s %5s %8s %8s %7s %8s %8s %7s\n", "size", "depth",
		"p2pmem", "system", "ratio", "p2pmem", "system", "ratio");
}

static void print_figure(const struct bench *b, const char *name,
			 const struct figure *f)
{
	fprintf(b->out, ",\"%s\":{\"mib_per_s\":%.3f,\"cpu_ms_per_mib\":%.3f}",
		name, f->rate, f->cpu);
}

static void print_row(const struct bench *b, size_t size, unsigned int depth,
		      const struct row *row, bool first)
{
	const struct figure *p2p = &row->way[P2P], *ram = &row->way[RAM];

	if (b->json) {
		fprintf(b->out, "%s{\"size\":%zu,\"depth\":%u",
			first ? "" : ",", size, depth);
		print_figure(b, "p2pmem", p2p);
		print_figure(b, "system", ram);
		print_figure(b, "ratio", &row->ratio);
		fputc('}', b->out);
	} else {
		fprintf(b->out, "%5zuK %5u %8.1f %8.1f %7.3f %8.3f %8.3f %7.3f\n",
			size >> 10, depth, p2p->rate, ram->rate,
			row->ratio.rate, p2p->cpu, ram->cpu, row->ratio.cpu);
	}
	fflush(b->out);
}

static void usage(FILE *to, const char *name)
{
	fprintf(to,
		"Usage: %s [--json]\n"
		"\n"
		"The NVMe target's throughput, and the processor time that it takes, with data\n"
		"in peer-to-peer memory and in memory of the system. Only reads the disk. Needs\n"
		"p2pdma_nvmet.\n"
		"\n"
		"Examples:\n"
		"  %s\n"
		"  %s --json > bench.json\n",
		name, name, name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	struct bench bench = { .host.fd = -1 };
	bool first = true;
	int option;

	while ((option = getopt_long(argc, argv, "jh", options, NULL)) >= 0) {
		if (option == 'h') {
			usage(stdout, argv[0]);
			return 0;
		}
		if (option != 'j') {
			usage(stderr, argv[0]);
			return 2;
		}
		bench.json = true;
	}

	bench.progress = !same_file(STDOUT_FILENO, STDERR_FILENO);
	/* standard output is for the table, what kselftest says is not */
	bench.out = fdopen(dup(STDOUT_FILENO), "w");
	if (!bench.out || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
		perror("standard output");
		return 2;
	}
	setenv("KSFT_TAP_LEVEL", "1", 1);
	p2p_discover();
	p2p_require_clients();
	nvmet_init(NQN);
	nvmet_require_transport();
	choose(&bench);
	configure(&bench);
	print_head(&bench);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(depths); j++) {
			struct row row;

			if (bench.progress)
				fprintf(stderr, "%zu KiB, depth %u\n",
					sizes[i] >> 10, depths[j]);
			row = measure(&bench, sizes[i], depths[j]);
			print_row(&bench, sizes[i], depths[j], &row, first);
			first = false;
		}
	}
	if (bench.json)
		fputs("]}\n", bench.out);
	nvmet_host_close(&bench.host);
	return nvmet_cleanup() || fclose(bench.out) ? 1 : 0;
}
