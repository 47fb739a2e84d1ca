#!/usr/bin/env bash
# Builds and runs the stand-alone native tests: all of them under AddressSanitizer and UBSan, the threaded ones under
# ThreadSanitizer. Needs doctest (scripts/setup-debian.sh). Usage: test-native.sh [address|thread]...
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/doctest-shards.sh

# What shares state between threads: pool, executor, program. Kernels only split work over the pool.
thread_files='core_*'

export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

build() {  # build NAME SANITIZERS FILES
  local options=(-DSWIFTKV_TESTS=ON "-DSWIFTKV_SANITIZE=$2" "-DSWIFTKV_TEST_FILES=$3")
  cmake -S . -B "build-$1" "${options[@]}" >"/tmp/swiftkv-$1.log" 2>&1 </dev/null &&
    cmake --build "build-$1" --target swiftkv_tests -j2 >>"/tmp/swiftkv-$1.log" 2>&1 </dev/null ||
    { tail -n 40 "/tmp/swiftkv-$1.log" >&2; echo "test-native: building with $2 failed" >&2; return 1; }
}

status=0
(($#)) || set -- address thread
for kind in "$@"; do
  case $kind in
    address)
      echo "native tests under AddressSanitizer and UBSan"
      build asan address,undefined '*' && doctest_shards build-asan/swiftkv_tests || status=1
      ;;
    thread)
      echo "threaded native tests under ThreadSanitizer"
      build tsan thread "$thread_files" &&
        doctest_shards build-tsan/swiftkv_tests --source-file="*/$thread_files" || status=1
      ;;
    *) echo "test-native: expected address or thread but received $kind" >&2; exit 2 ;;
  esac
done
exit $status
