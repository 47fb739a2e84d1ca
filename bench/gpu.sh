#!/usr/bin/env bash
# Everything that a GPU is needed for, in one command and within 8 minutes: builds, runs the op, golden and engine tests on
# the device, small ops under compute-sanitizer, times every op against cuBLASLt and the roofline, and the plain model
# against SwiftKV 50%. A part that fails or runs out of its time does not stop the others.
# Usage: bench/gpu.sh [--out DIR] [--device cuda|cuda:N] [--rehearse]
#   --out       where results go: NAME.log and NAME.json of each part, results.json, results.md (default: build-gpu)
#   --rehearse  on the host executor (simt) with tiny shapes, where there is no GPU: to try this script, not the kernels
# Exit status: 0 all parts passed, 1 some did not, 2 no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."

out=build-gpu device=cuda rehearse=
while (($#)); do
  case $1 in
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --device) device=${2:?--device needs cuda or cuda:N}; shift 2 ;;
    --rehearse) rehearse=1 device=simt; shift ;;
    *) echo "gpu.sh: expected --out, --device or --rehearse but received $1" >&2; exit 2 ;;
  esac
done

if [[ -z $rehearse ]]; then
  if ! gpu=$(nvidia-smi --query-gpu=name,compute_cap,memory.total,driver_version --format=csv,noheader 2>/dev/null) ||
    [[ -z $gpu ]]; then
    echo "gpu.sh: no GPU here (nvidia-smi finds none). Kernels are proven without one by npm run test:simt, test:ptx and" >&2
    echo "cuda:report; bench/gpu.sh --rehearse tries this script on the host." >&2
    exit 2
  fi
  echo "$gpu"
  # For this GPU alone: the four architectures that are shipped take minutes.
  index=${device#cuda}
  capability=$(sed -n "$((${index#:} + 1))p" <<<"$gpu" | cut -d, -f2 | tr -d ' .')
  [[ $capability == 90 ]] && capability=90a
  export SWIFTKV_CUDA_ARCHITECTURES=$capability-real
  export SWIFTKV_BUILD_JOBS=$(nproc)
else
  echo "rehearsal on the host executor: its times mean nothing"
fi
mkdir -p "$out"
rm -f "$out"/*.log "$out"/*.json "$out"/results.md

# part NAME SECONDS COMMAND...: at most so many seconds, and at most what is left of the 8 minutes.
# The host executor is slow: a rehearsal may take longer.
slower=${rehearse:+4}
deadline=$((SECONDS + 470 * ${slower:-1}))
: >"$out/parts.tsv"
part() {
  local name=$1 limit=$(($2 * ${slower:-1})) start=$SECONDS status left=$((deadline - SECONDS)) state
  shift 2
  ((limit <= left)) || limit=$left
  printf '\n== %s (at most %s s): %s\n' "$name" "$((limit > 0 ? limit : 0))" "$*"
  if ((limit <= 0)); then
    state='no time left' status=1
  else
    timeout -k 5 "$limit" "$@" </dev/null >"$out/$name.log" 2>&1
    status=$?
    case $status in
      0) state=passed ;;
      124 | 137) state="stopped after $limit s" ;;
      *) state="failed with $status" ;;
    esac
    tail -n 40 "$out/$name.log"
  fi
  printf '%s\t%s\t%s\n' "$name" "$((SECONDS - start))" "$state" >>"$out/parts.tsv"
  return $((status != 0))
}
skip() { printf '\n== %s: %s\n' "$1" "$2"; printf '%s\t0\tskipped: %s\n' "$1" "$2" >>"$out/parts.tsv"; }

# The tests that run on any device (test/places.ts); on the host executor the project simt makes them smaller.
export SWIFTKV_TEST_BACKENDS=$device
[[ -n $rehearse ]] && project=simt || project=unit
tests=(npx vitest run --reporter=default --project "$project")

if [[ -n $rehearse ]]; then
  small=(--shape embedded --rows 1,5 --contexts 33 --rotate 1)
  kernels=("${small[@]}" --ms 1)
  models=(--model embedded --prompt 40 --answer 4 --requests 1,2 --rounds 1)
  library=simt
else
  small=(--shape embedded --rows 1,33 --contexts 300 --rotate 1)
  kernels=()
  models=()
  library=cuda
fi

built=
if [[ -d node_modules ]] || part install 60 npm ci --ignore-scripts; then
  if part build 120 npm run build && part "build-$library" 180 npm run "build:$library"; then built=1; fi
fi
if [[ -n $built ]]; then
  part ops 90 "${tests[@]}" test/kernels
  part golden 60 "${tests[@]}" test/golden/golden.test.ts test/model/forward.test.ts
  part engine 60 "${tests[@]}" test/engine/bit-equality.test.ts
  if command -v compute-sanitizer >/dev/null && [[ -z $rehearse ]]; then
    part sanitizer 60 compute-sanitizer --error-exitcode 9 --target-processes all \
      node bench/gpu/kernels.mjs --device "$device" --once "${small[@]}"
  else
    skip sanitizer 'no compute-sanitizer here'
    part small 30 node bench/gpu/kernels.mjs --device "$device" --once "${small[@]}"
  fi
  part kernels 90 node bench/gpu/kernels.mjs --device "$device" --seconds 75 "${kernels[@]}" --json "$out/kernels.json"
  part models 150 node bench/gpu/models.mjs --device "$device" --seconds 90 "${models[@]}" --json "$out/models.json"
fi

node bench/gpu/results.mjs "$out"
