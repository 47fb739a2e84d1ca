#!/usr/bin/env bash
# Trains the embedded base further, in two runs with its layers put in another order between them, and goes on where it was stopped. START is the model that pretrain.py made (README.md says where it is), CORPUS has the data.
#
#   models/make/base.sh CORPUS START OUT
set -euo pipefail
(($# == 3)) || { echo "usage: base.sh CORPUS START OUT" >&2; exit 2; }
corpus=$(realpath "$1") start=$(realpath "$2") out=$(realpath -m "$3")
cd "$(dirname "$0")/../.."

train() { # train FROM TO OPTIONS...
  local from=$1 to=$2
  shift 2
  [[ -e $to ]] || npx swiftkv train "$from" --out "$to" --resume \
    --tokens-per-batch 4096 --max-length 1024 --lr 1.5e-3 --schedule linear --beta2 0.98 --weight-decay 0.05 \
    --answer-weight 5 --context-weight 0.3 --checkpoint-every 100 "$@"
}

train "$start" "$out-1" --steps 1500 --warmup 0.03 --seed 11 \
  --data "$corpus/d980.jsonl=0.45" "$corpus/d420.jsonl=0.25" "$corpus/r980.jsonl=0.15" "$corpus/prose.jsonl=0.15"
if [[ ! -e $out-2 ]]; then
  rm -rf "$out-2.new"
  node models/make/layers.mjs "$out-1" 0,3,4,5,6,+6,+7,7 "$out-2.new"
  mv "$out-2.new" "$out-2"
fi
train "$out-2" "$out" --steps 2900 --warmup 0.02 --seed 12 \
  --data "$corpus/d980.jsonl=0.40" "$corpus/d420.jsonl=0.15" "$corpus/r980.jsonl=0.15" "$corpus/prose.jsonl=0.30"
