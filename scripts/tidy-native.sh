#!/usr/bin/env bash
# clang-tidy over the addon and the core, with the checks of .clang-tidy; needs a build (for build/compile_commands.json)
# and clang-tidy-19 (scripts/setup-debian.sh). The kernels are left out: their constants are products of small ints, and
# sanitizers and emulation run them. Names of files as arguments check those alone.
set -euo pipefail
cd "$(dirname "$0")/.."

database=build/compile_commands.json
[[ -e $database ]] || { echo "tidy-native: $database is missing; run npm run build:native" >&2; exit 1; }
command -v clang-tidy-19 >/dev/null || { echo "tidy-native: clang-tidy-19 is missing; on Debian run scripts/setup-debian.sh" >&2; exit 1; }

if (($#)); then files=("$@"); else mapfile -t files < <(git ls-files 'csrc/core/*.cpp' 'csrc/addon/*.cpp'); fi
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy-19 -p build --quiet
echo "tidy-native: ${#files[@]} files, no finding"
