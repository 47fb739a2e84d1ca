#!/usr/bin/env bash
# Remakes the embedded SwiftKV variants from the embedded base by distillation, and goes on where it was stopped. Needs the data that README.md makes: CORPUS has prose.jsonl and the recall documents.
#
#   models/make/variants.sh CORPUS [swiftkv-50|swiftkv-50-g4]...
set -euo pipefail
corpus=$(realpath "${1:?usage: variants.sh CORPUS [VARIANT]...}")
shift
cd "$(dirname "$0")/../.."
(($#)) || set -- swiftkv-50 swiftkv-50-g4

for name in "$@"; do
  case $name in
    swiftkv-50) group=1 steps=700 ;;
    swiftkv-50-g4) group=4 steps=1500 ;;
    *) echo "variants.sh: expected swiftkv-50 or swiftkv-50-g4 but received $name" >&2; exit 2 ;;
  esac
  # Beside the base, whose relative path is part of the config.
  new=models/$name.new
  [[ -e $new ]] || npx swiftkv distill models/base --variant --kv-layers 4 --group-size $group --out "$new" --resume \
    --data "$corpus/d980.jsonl=0.45" "$corpus/d420.jsonl=0.25" "$corpus/prose.jsonl=0.3" \
    --steps $steps --tokens-per-batch 4096 --max-length 1024 --seed 77 --lr 3e-3 --schedule cosine --floor 0.02 \
    --hidden-loss 0.1 --answer-weight 4 --context-weight 0.3 --checkpoint-every 50
  rm -rf "models/$name"
  mv "$new" "models/$name"
  rm -rf "$new-training"
done
