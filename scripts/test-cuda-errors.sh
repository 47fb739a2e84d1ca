#!/usr/bin/env bash
# What the cuda backend says where there is no GPU (test/backends/cuda.test.ts), with its library built: of PTX alone,
# which takes a fraction of the time and is never loaded here. That library is removed again, lest it be packed; one that
# was built before is used as it is. Without nvcc only the tests that need no library run. Arguments go to vitest.
set -euo pipefail
cd "$(dirname "$0")/.."

library=build/Release/libswiftkv_cuda.so
if [[ ! -e $library ]] && { command -v nvcc || [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc ]]; } >/dev/null; then
  trap 'rm -f "$library"' EXIT
  SWIFTKV_CUDA_ARCHITECTURES=89-virtual scripts/build-side-library.sh cuda >/dev/null
fi
npx vitest run --project simt test/backends/cuda.test.ts "$@"
