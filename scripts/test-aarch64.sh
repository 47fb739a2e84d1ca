#!/usr/bin/env bash
# Cross-compiles the native tests for 64-bit Arm, checks that nothing leaks out of the NEON levels' objects, and runs the
# tests of kernels under qemu-user, so that NEON is tested on a machine without it. Needs scripts/setup-debian.sh.
# Usage: test-aarch64.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/doctest-shards.sh

build=build-aarch64 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{ cmake -S . -B $build -DCMAKE_TOOLCHAIN_FILE=scripts/aarch64-toolchain.cmake -DSWIFTKV_TESTS=ON &&
  cmake --build $build --target swiftkv_tests -j2; } >"$work/build.log" 2>&1 </dev/null ||
  { tail -n 40 "$work/build.log" >&2; echo "test-aarch64: building failed" >&2; exit 1; }
scripts/check-isa-leaks.sh $build aarch64-linux-gnu-nm

# Of core_*, only the thread pool depends on the machine. What is left out takes minutes under an emulator and tests
# arithmetic that the other tests of the same op share: long contexts in many waves, and thousands of draws.
run() {  # run FILTER...: emulators of their own; the limit is several times what one takes
  doctest_shards timeout 1500 qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu $build/swiftkv_tests \
    --test-case-exclude='*over the end of a wave*,sample follows*' "$@"
}

status=0
run --source-file='*/core_thread_pool*' || status=1
run --source-file-exclude='*/core_*' || status=1
exit $status
