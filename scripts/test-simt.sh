#!/usr/bin/env bash
# Builds and runs the tests of the cuda backend's kernels on the host (docs/simt.md): plain; under AddressSanitizer and
# UBSan; under ThreadSanitizer, which takes about 60 times as long, so only what has [race] in the name of its test case.
# Needs doctest (scripts/setup-debian.sh). Usage: test-simt.sh [plain|address|thread]... [-- ARGUMENTS OF DOCTEST]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/doctest-shards.sh

modes=()
while (($#)) && [[ $1 != -- ]]; do modes+=("$1"); shift; done
(($#)) && shift
((${#modes[@]})) || modes=(plain)

export ASAN_OPTIONS=strict_string_checks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:history_size=4

build() {  # build TARGET
  local log=build-simt/$1.log
  mkdir -p build-simt
  cmake -S . -B build-simt -DSWIFTKV_SIMT=ON >"$log" 2>&1 </dev/null &&
    cmake --build build-simt --target "$1" -j2 >>"$log" 2>&1 </dev/null ||
    { grep -E 'error|FAILED' "$log" >&2 || tail -n 40 "$log" >&2; echo "test-simt: building $1 failed" >&2; return 1; }
}

# Hundreds of thousands of draws belong to the cpu; here every draw is compared with the reference's instead.
quick=(--test-case-exclude='*[many draws]*')

status=0
for mode in "${modes[@]}"; do
  case $mode in
    plain)
      echo "kernels on the host"
      build swiftkv_simt_tests && doctest_shards build-simt/swiftkv_simt_tests "${quick[@]}" "$@" || status=1
      ;;
    address)
      echo "kernels on the host under AddressSanitizer and UBSan"
      build swiftkv_simt_tests_address &&
        doctest_shards build-simt/swiftkv_simt_tests_address "${quick[@]}" "$@" || status=1
      ;;
    thread)
      echo "kernels on the host under ThreadSanitizer"
      build swiftkv_simt_tests_thread &&
        doctest_shards build-simt/swiftkv_simt_tests_thread --test-case='*[race]*' "$@" || status=1
      ;;
    *) echo "test-simt: expected plain, address or thread but received $mode" >&2; exit 2 ;;
  esac
done
exit $status
