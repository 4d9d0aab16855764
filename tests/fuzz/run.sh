#!/usr/bin/env bash
# Runs one fuzzer from its seeds; fails on a crash, a leak, a hang or memory past the bound.
#   tests/fuzz/run.sh BINARY NAME [SECONDS]     15, or 600 with UPDAGENT_LONG=1; NAME: as the folders of fixtures/seeds
# What it finds stays in a folder beside the binary; run the binary with that file to see it again.
set -euo pipefail
binary=${1:?binary} name=${2:?name} seconds=15
[ "${UPDAGENT_LONG:-0}" = 1 ] && seconds=600
seconds=${3:-$seconds}
here=$(cd "$(dirname "$0")" && pwd)
seeds=$here/../../fixtures/seeds/$name

if [ ! -x "$binary" ]; then
  echo "no $binary: cmake --preset fuzz && cmake --build --preset fuzz" >&2
  exit 1
fi
if [ -z "$(ls "$seeds")" ]; then
  echo "no seeds in $seeds: fixtures/seeds/make_seeds.py writes them" >&2
  exit 1
fi

# The longest input: enough for every construct; longer ones only make the runs fewer.
declare -A longest=([manifest]=16384 [dsse]=8192 [unpack]=32768 [notify]=8192 [metrics]=8192)
found=$binary.found
mkdir -p "$found"
corpus=$(mktemp -d)
# what is unpacked goes into memory where there is room for it
disk=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$corpus" "$disk"' EXIT
export UPDAGENT_FUZZ_FOLDER=$disk/node

# A run takes a millisecond: one of 20 s hangs, whatever else the machine does. The memory is that
# of the sanitizer with its quarantine; a single allocation of more than the second is never right.
log=$found/log
if ! "$binary" -max_total_time="$seconds" -max_len="${longest[$name]}" -timeout=20 -rss_limit_mb=1024 \
  -malloc_limit_mb=256 -dict="$here/$name.dict" -artifact_prefix="$found/" -print_final_stats=1 \
  "$corpus" "$seeds" >"$log" 2>&1; then
  tail -n 120 "$log"
  exit 1
fi
tail -n 12 "$log"
