#!/usr/bin/env bash
# Remakes the embedded SwiftKV variants from the embedded base by distillation, and goes on where it was stopped. Needs the data that README.md makes: CORPUS has prose.jsonl and the recall documents.
#
#   models/make/variants.sh CORPUS [swiftkv-50|swiftkv-50-g4]...
set -euo pipefail
corpus=$(realpath "${1:?usage: variants.sh CORPUS [VARIANT]...}")
shift
cd "$(dirname "$0")/../.."
(($#)) || set -- swiftkv-50 swiftkv-50-g4
tokens=$PWD/models/tokens-training  # of the data, the same for both
mkdir -p "$tokens"

distill() { # distill GROUP OUT OPTIONS...
  local group=$1 out=$2
  shift 2
  mkdir -p "$out-training"
  ln -sfn "$tokens" "$out-training/tokens"
  npx swiftkv distill models/base --variant --kv-layers 4 --group-size "$group" --out "$out" --resume \
    --tokens-per-batch 4096 --max-length 1024 --seed 77 --lr 3e-3 --schedule cosine --floor 0.02 \
    --hidden-loss 0.1 --context-weight 0.3 --checkpoint-every 50 "$@"
}

for name in "$@"; do
  new=models/$name.new  # beside the base, whose relative path is part of the config
  if [[ ! -e $new ]]; then
    case $name in
      swiftkv-50)
        distill 1 "$new" --steps 1100 --answer-weight 6 --data "$corpus/l980.jsonl=0.5" "$corpus/d980.jsonl=0.25" \
          "$corpus/d420.jsonl=0.1" "$corpus/prose.jsonl=0.15"
        ;;
      swiftkv-50-g4)
        distill 4 "$new" --steps 1500 --answer-weight 4 --data "$corpus/d980.jsonl=0.45" "$corpus/d420.jsonl=0.25" \
          "$corpus/prose.jsonl=0.3"
        ;;
      *) echo "variants.sh: expected swiftkv-50 or swiftkv-50-g4 but received $name" >&2; exit 2 ;;
    esac
  fi
  rm -rf "models/$name"
  mv "$new" "models/$name"
  rm -rf "$new-training"
done
rm -rf "$tokens"
