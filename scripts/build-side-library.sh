#!/usr/bin/env bash
# Builds the library of a backend that is not part of the addon, and puts it beside the addon, where it is looked for.
# cuda: the kernels for GPUs; needs nvcc 13, on the path or in $CUDA_HOME or /usr/local/cuda. simt: the same kernels for
# the host, for tests. SWIFTKV_CUDA_ARCHITECTURES, e.g. 90a-real, builds for one GPU in place of all that are shipped.
# Usage: build-side-library.sh cuda|simt
set -euo pipefail
cd "$(dirname "$0")/.."

backend=${1-}
case $backend in
  cuda)
    nvcc=$(command -v nvcc || true)
    for home in "${CUDA_HOME-}" /usr/local/cuda; do
      [[ -n $nvcc || ! -x $home/bin/nvcc ]] || nvcc=$home/bin/nvcc
    done
    if [[ -z $nvcc ]]; then
      echo "build:cuda: no nvcc on the path, in \$CUDA_HOME/bin or in /usr/local/cuda/bin." >&2
      echo "Install the CUDA toolkit 13 (packages cuda-nvcc-13-0 and cuda-cudart-dev-13-0 are enough) and run it again." >&2
      exit 1
    fi
    version=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\).*/\1/p')
    if ((version < 13)); then
      echo "build:cuda: $nvcc is of CUDA $version, but 13 or newer is needed; set CUDA_HOME to a newer one." >&2
      exit 1
    fi
    options=(-DSWIFTKV_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc")
    [[ -z ${SWIFTKV_CUDA_ARCHITECTURES-} ]] || options+=("-DCMAKE_CUDA_ARCHITECTURES=$SWIFTKV_CUDA_ARCHITECTURES")
    ;;
  simt) options=(-DSWIFTKV_SIMT=ON) ;;
  *) echo "build-side-library: expected cuda or simt but received '$backend'" >&2; exit 2 ;;
esac

cmake -S . -B "build-$backend" "${options[@]}" >/dev/null
cmake --build "build-$backend" --target "swiftkv_$backend" --parallel "${SWIFTKV_BUILD_JOBS:-2}"
mkdir -p build/Release
# Another file in its place, so that a process that has it open keeps its own.
cp "build-$backend/libswiftkv_$backend.so" "build/Release/libswiftkv_$backend.so.new"
mv "build/Release/libswiftkv_$backend.so.new" "build/Release/libswiftkv_$backend.so"
echo "build/Release/libswiftkv_$backend.so"
