#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
#
# Compares p2pdma bench with fio, in one boot, on the same disk and the memory of the same provider,
# in turns: bench-fio.sh P2PDMA [ROUNDS [SECONDS]]. A line for each pair of runs: MiB/s, transfers
# in a second, and the median latency. fio submits and reaps as many at once as there are, as
# p2pdma bench does, and takes the time once for each transfer. With one transfer at a time both are
# on one processor: that a thread wakes up on another one makes a difference that is neither's.
set -eu

b=/bin/busybox
p2pdma=$1
rounds=${2:-3}
seconds=${3:-3}
disk=nvme1n1
provider=0000:05:00.0
memory=/sys/bus/pci/devices/$provider/p2pmem/allocate

with_fio() {
	# shellcheck disable=SC2016 # awk's own
	/usr/bin/fio --name=run --filename=/dev/$disk --direct=1 --rw=randread --bs="$1" \
		--ioengine="$2" --iodepth=8 --offset=1M --size=32M --time_based --runtime="$seconds" \
		--iodepth_batch_submit=8 --iodepth_batch_complete_min=1 \
		--iodepth_batch_complete_max=8 \
		--cpus_allowed="$cpus" --disable_lat=1 --disable_slat=1 --disk_util=0 \
		--iomem=mmapshared:"$memory" --invalidate=0 --norandommap --thread --eta=never \
		--output-format=terse --terse-version=3 |
		$b awk -F';' 'NF > 50 {
			for (i = 18; i <= 37; i++) if ($i ~ /^50.000000%=/) split($i, half, "=")
			printf "%8.1f %8.0f %6d us", $7 / 1024, $8, half[2]
		}'
}

with_bench() {
	# shellcheck disable=SC2016 # awk's own
	$b taskset -c "$cpus" "$p2pdma" bench --provider $provider --client $disk --path p2p --size "$1" \
		--engine "$2" --depth 8 --span 32M --time "$seconds" --rounds 1 |
		$b awk '$0 ~ / P2P  / { printf "%8.1f %8.0f %6d us", $(NF - 6), $(NF - 5), $(NF - 4) }'
}

echo "# $(/usr/bin/fio --version), $("$p2pdma" --version)"
for size in 4k 64k 1M; do
	for engine in sync io_uring; do
		for _ in $($b seq "$rounds"); do
			case $engine in
			sync) fio=psync bench=sync cpus=0 ;;
			*) fio=io_uring bench=io-uring cpus=0-1 ;;
			esac
			echo "$size $engine fio $(with_fio "$size" $fio) bench $(with_bench "$size" $bench)"
		done
	done
done
