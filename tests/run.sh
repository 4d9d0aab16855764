#!/usr/bin/env bash
# All tests, on a fresh Debian 12 as root: installs what is missing, builds, runs ctest.
#   bash tests/run.sh                the default run
#   bash tests/run.sh --long         the torture: 400 random kills, each process of a handoff killed and
#                                    stopped at each of its places, 1,000 handoffs, 200 good releases in
#                                    steps, ten minutes for each fuzzer, threads under ThreadSanitizer
#   bash tests/run.sh --label unit   only one label: unit, e2e, crash, bad, fuzz
set -euo pipefail
cd "$(dirname "$0")/.."
source fixtures/lib/packages.sh

long=0 labels=''
while [ $# -gt 0 ]; do
  case $1 in
    --long) long=1 ;;
    --label) labels=${2:?--label NAME}; shift ;;
    *) echo "usage: bash tests/run.sh [--long] [--label NAME]" >&2; exit 2 ;;
  esac
  shift
done

need "${build_packages[@]}" btrfs-progs libgtest-dev clang-19 libclang-rt-19-dev ccache \
  ca-certificates curl git iproute2 jq nginx-light openssl procps prometheus python3 python3-jsonschema sqlite3 \
  strace systemd tar util-linux xfsprogs zstd "${server_packages[@]}"
need_node
jobs=$(nproc)

began=$SECONDS
cmake --preset debug >/dev/null
cmake --build --preset debug -j "$jobs"
cmake --preset fuzz >/dev/null
# the fuzzers, and all of the product: clang sees what g++ does not
cmake --build --preset fuzz -j "$jobs" --target all updagent updagent-supervisor
printf 'built in %d s\n' $((SECONDS - began))

# Everything in the tests that is real (nginx, node, compilers) is slower under the sanitizers' care.
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export UPDAGENT_LONG=$long
# twice as many as there are processors: most tests wait for a watch, a drain or a disk
arguments=(--test-dir build/debug --output-on-failure -j "$((jobs * 2))" --no-tests=error)
[ -n "$labels" ] && arguments+=(-L "^$labels\$")
# ctest sums up each label at its end; beside it stands what docs/CONTRIBUTING.md gives that label
budget_of() { sed -n "s/^| \`$1\` | *\([^|]*[^ |]\) *|.*/   of \1/p" docs/CONTRIBUTING.md; }
beside_budget() {
  local line
  while IFS= read -r line; do
    case $line in *'sec*proc'*) line+=$(budget_of "${line%% *}") ;; esac
    printf '%s\n' "$line"
  done
}
ctest "${arguments[@]}" | beside_budget

[ "$long" = 1 ] || exit 0
# What runs in more than one thread, and what it hands its bytes to. setarch: this sanitizer wants
# the addresses where it expects them.
cmake --preset tsan >/dev/null
cmake --build --preset tsan -j "$jobs" --target release_reader_test store_test
for name in release_reader store; do
  setarch -R "build/tsan/tests/unit/$name/${name}_test" --gtest_brief=1
done
