#!/usr/bin/env bash
# Every symbol that the AVX-512 objects of a build export must live in swiftkv::cpu::avx512. An inline function of any
# other namespace could be the copy that the linker keeps for the whole program, and a machine without AVX-512 would
# then stop with an illegal instruction in code that has nothing to do with it. For Release builds.
#
# Usage: scripts/check-isa-leaks.sh BUILD_DIR
set -euo pipefail

if [[ $# -ne 1 || ! -d $1 ]]; then
  echo "usage: $0 BUILD_DIR (a folder that cmake has built in)" >&2
  exit 2
fi

mapfile -d '' -t objects < <(find "$1" -path '*swiftkv_avx512.dir*' -name '*.o' -print0 | sort -z)
if [[ ${#objects[@]} -eq 0 ]]; then
  echo "no AVX-512 objects under $1; build the target swiftkv_avx512 first" >&2
  exit 2
fi

# The mangled prefix of the namespace, of anything nested in it, and of its tables and guards. avx512_kernels is the
# level's entry point: one strong definition, called only where the level is.
inside='^_Z(T[VTIS]|GV|Th[0-9n]+_)?NK?7swiftkv3cpu6avx512'
entry='^_ZN7swiftkv3cpu14avx512_kernelsEv$'
# The personality routine's address, a word of data that every C++ object of a shared library repeats.
data='^DW\.ref\.__gxx_personality_v0$'

failed=0
for object in "${objects[@]}"; do
  # Upper case letters and u, v, w are symbols that another file can bind to.
  leaks=$(nm --defined-only "$object" | awk '$2 ~ /^[A-Zuvw]$/ {print $3}' | grep -Ev "$inside|$entry|$data" || true)
  if [[ -n $leaks ]]; then
    failed=1
    echo "outside swiftkv::cpu::avx512 in $object:" >&2
    echo "$leaks" | c++filt | sed 's/^/  /' >&2
  fi
done
if [[ $failed -ne 0 ]]; then exit 1; fi
echo "no leaks in ${#objects[@]} AVX-512 objects"
