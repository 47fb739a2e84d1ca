#!/usr/bin/env bash
# Trains the embedded base further, and goes on where it was stopped. START is the model that pretrain.py made (README.md says where it is), CORPUS has the data.
#
#   models/make/base.sh CORPUS START OUT
set -euo pipefail
(($# == 3)) || { echo "usage: base.sh CORPUS START OUT" >&2; exit 2; }
corpus=$(realpath "$1") start=$(realpath "$2") out=$(realpath -m "$3")
cd "$(dirname "$0")/../.."
npx swiftkv train "$start" --out "$out" --resume \
  --data "$corpus/d980.jsonl=0.45" "$corpus/d420.jsonl=0.25" "$corpus/r980.jsonl=0.15" "$corpus/prose.jsonl=0.15" \
  --steps 1500 --tokens-per-batch 4096 --max-length 1024 --seed 11 \
  --lr 1.5e-3 --warmup 0.03 --schedule linear --beta2 0.98 --weight-decay 0.05 \
  --answer-weight 5 --context-weight 0.3 --checkpoint-every 100
