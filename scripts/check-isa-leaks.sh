#!/usr/bin/env bash
# Every symbol that the objects of an ISA level export must live in that level's namespace. An inline function of any
# other namespace could be the copy that the linker keeps for the whole program, and a machine without the level would
# then stop with an illegal instruction in code that has nothing to do with it. For Release builds.
#
# Usage: scripts/check-isa-leaks.sh BUILD_DIR [NM]
set -euo pipefail

if [[ $# -lt 1 || ! -d $1 ]]; then
  echo "usage: $0 BUILD_DIR (a folder that cmake has built in) [NM (of a cross compiler)]" >&2
  exit 2
fi
nm=${2-nm}

# The personality routine's address, a word of data that every C++ object of a shared library repeats.
data='^DW\.ref\.__gxx_personality_v0$'

failed=0 checked=()
for level in avx2 avx512 neon neon_bf16; do
  mapfile -d '' -t objects < <(find "$1" -path "*/swiftkv_$level.dir/*" -name '*.o' -print0 | sort -z)
  ((${#objects[@]})) || continue
  # The mangled prefix of the namespace, of anything nested in it, and of its tables and guards. LEVEL_kernels is the
  # level's entry point: one strong definition, called only where the level is.
  inside="^_Z(T[VTIS]|GV|Th[0-9n]+_)?NK?7swiftkv3cpu${#level}$level"
  entry="${level}_kernels"
  entry="^_ZN7swiftkv3cpu${#entry}${entry}Ev\$"
  for object in "${objects[@]}"; do
    # Upper case letters and u, v, w are symbols that another file can bind to.
    leaks=$("$nm" --defined-only "$object" | awk '$2 ~ /^[A-Zuvw]$/ {print $3}' | grep -Ev "$inside|$entry|$data" || true)
    if [[ -n $leaks ]]; then
      failed=1
      echo "outside swiftkv::cpu::$level in $object:" >&2
      echo "$leaks" | c++filt | sed 's/^/  /' >&2
    fi
  done
  checked+=("${#objects[@]} of $level")
done
if ((${#checked[@]} == 0)); then
  echo "no objects of any ISA level under $1; build there first" >&2
  exit 2
fi
if ((failed)); then exit 1; fi
printf -v list '%s, ' "${checked[@]}"
echo "no leaks in the objects of ISA levels: ${list%, }"
