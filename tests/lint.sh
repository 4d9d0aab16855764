#!/usr/bin/env bash
# Format of every C++ file, clang-tidy on those that changed since BASE (default: the last commit's
# parents, or everything that differs from the work tree's HEAD~20 at most).
#   bash tests/lint.sh [BASE]
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-$(git rev-parse --verify --quiet HEAD~1 || git hash-object -t tree /dev/null)}

mapfile -t all < <(git ls-files '*.cpp' '*.hpp')
clang-format-19 --dry-run --Werror "${all[@]}"
echo "format: ${#all[@]} files"

mapfile -t changed < <(git diff --name-only --diff-filter=d "$base" -- 'agent/*.cpp' 'cli/*.cpp')
if [ ${#changed[@]} -eq 0 ]; then
  echo "clang-tidy: nothing changed"
  exit 0
fi
# a database with one entry per file: the presets of the tests compile each folder as one unit
cmake -S . -B build/lint -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DUPDAGENT_TESTS=OFF >/dev/null
ninja -C build/lint updagent_schema >/dev/null
printf '%s\n' "${changed[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy-19 --quiet -p build/lint
echo "clang-tidy: ${#changed[@]} files"
