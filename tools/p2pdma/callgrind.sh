#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Counts the instructions of p2pdma check and topo for each function of a machine, from 100 to 1,000
# functions: callgrind.sh P2PDMA LARGE_MACHINE. Fails if they are more than 1.1 times as many with
# 1,000 functions as with 100: the number of instructions does not depend on the machine's speed.
set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

count() {
	valgrind --tool=callgrind --callgrind-out-file="$dir/out" "$@" >/dev/null 2>"$dir/log" ||
		{ cat "$dir/log" >&2 && exit 1; }
	sed -n 's/^summary: //p' "$dir/out"
}

printf '%-6s  %9s  %14s  %12s\n' command functions instructions 'per function'
for functions in 100 200 500 1000; do
	"$2" "$functions" "$dir/$functions.tar.gz"
	for command in check topo; do
		instructions=$(count "$1" "$command" --from "$dir/$functions.tar.gz")
		printf '%-6s  %9d  %14d  %12d\n' "$command" "$functions" "$instructions" \
			$((instructions / functions)) | tee -a "$dir/table"
	done
done
awk '
	$2 == 100 { small[$1] = $4 }
	$2 == 1000 { large[$1] = $4 }
	END {
		for (command in small) {
			ratio = large[command] / small[command]
			printf "%s: %.3f times as many for each of 1,000 functions as for each of 100\n",
				command, ratio
			bad += ratio > 1.1
			seen++
		}
		exit bad || seen != 2
	}' "$dir/table"
