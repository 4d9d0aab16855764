#!/usr/bin/env bash
# Format of every C++ file, clang-tidy on those that changed since BASE.
#   bash tests/lint.sh [BASE]
# Without BASE: since the branch left its upstream. Where there is none, or nothing is ahead of it
# (a clone of what was pushed), the newest commits of the first-parent line, a merge counting as all
# it brought: the last one in any case, and as many before it as change no more than 16 files
# together. clang-tidy takes about 15 s for a file, so two cores stay below 3 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
most=16
linted=('agent/*.cpp' 'cli/*.cpp' 'tests/*.cpp')

changed_since() { git diff --name-only --diff-filter=d "$1" -- "${linted[@]}"; }

find_base() {
  local empty upstream base next
  empty=$(git hash-object -t tree /dev/null)
  if upstream=$(git merge-base HEAD '@{upstream}' 2>/dev/null) && [ "$upstream" != "$(git rev-parse HEAD)" ]; then
    echo "$upstream"
    return
  fi
  base=$(git rev-parse --verify --quiet HEAD~1) || base=$empty
  while next=$(git rev-parse --verify --quiet "$base~1") && [ "$(changed_since "$next" | wc -l)" -le "$most" ]; do
    base=$next
  done
  echo "$base"
}

base=${1:-$(find_base)}
mapfile -t all < <(git ls-files '*.cpp' '*.hpp')
clang-format-19 --dry-run --Werror "${all[@]}"
echo "format: ${#all[@]} files"

mapfile -t changed < <(changed_since "$base")
if [ ${#changed[@]} -eq 0 ]; then
  echo "clang-tidy: nothing changed"
  exit 0
fi
# a database with one entry per file: the presets of the tests compile each folder as one unit
cmake -S . -B build/lint -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 >/dev/null
ninja -C build/lint updagent_schema >/dev/null
printf '%s\n' "${changed[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy-19 --quiet -p build/lint
echo "clang-tidy: ${#changed[@]} files since ${base:0:12}"
