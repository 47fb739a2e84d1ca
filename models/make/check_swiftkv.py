#!/usr/bin/env python3
"""Loads a whole SwiftKV checkpoint with the public reference classes, and compares their logits with swiftkv's.

usage: check_swiftkv.py --classes DIR --model DIR [--tokens 300] [--seed 1]

--classes is a folder with the package `models` of the public trainer's SwiftKV project (ArcticTraining, projects/swiftkv),
which needs transformers 4.56 or newer, below 5. The model is read in float32 by both, the classes with swiftkv on (student)
and off (teacher); a tensor that the classes do not know or do not find is an error. Run in a checkout, after npm run build.
"""
import argparse, json, os, subprocess, sys
import torch

PROGRAM = """
import { Engine } from '%s/dist/index.js';
const engine = await Engine.load(process.argv[1], { dtype: 'f32', kvCacheDtype: 'f32' });
const { data } = await engine.logits(JSON.parse(process.argv[2]));
process.stdout.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
await engine.dispose();
"""


def ours(model, ids):
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    args = ["node", "--input-type=module", "-e", PROGRAM % root, model, json.dumps(ids)]
    return torch.frombuffer(bytearray(subprocess.run(args, check=True, stdout=subprocess.PIPE).stdout), dtype=torch.float32)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--classes", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--tokens", type=int, default=300)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    sys.path.insert(0, os.path.join(a.classes, "models"))
    config = json.load(open(os.path.join(a.model, "config.json")))
    if config["model_type"] == "llama_swiftkv":
        from llama.modeling_llama_swiftkv import LlamaSwiftKVForCausalLM as Model
    elif config["model_type"] == "qwen2_swiftkv":
        from qwen2.modeling_qwen2_swiftkv import Qwen2SwiftKVForCausalLM as Model
    else:
        sys.exit(f"{a.model}: expected model_type llama_swiftkv or qwen2_swiftkv but received {config['model_type']}")
    # transformers fills what is missing with random numbers and only warns
    model, report = Model.from_pretrained(a.model, dtype=torch.float32, output_loading_info=True)
    tied = {"lm_head.weight"} if config.get("tie_word_embeddings") else set()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if set(report[kind]) - tied:
            sys.exit(f"{a.model}: {kind} {sorted(report[kind])}")
    model = model.eval()
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    torch.manual_seed(a.seed)
    ids = torch.randint(7, config["vocab_size"], (a.tokens,)).tolist()
    wanted = {}
    with torch.no_grad():
        for student in (True, False):
            wanted[student] = model.swiftkv(student)(torch.tensor([ids]), use_cache=False).logits[0]
    found = ours(a.model, ids).view(a.tokens, -1)
    error = float((found - wanted[True]).abs().max() / wanted[True].abs().max())
    apart = float((wanted[False] - wanted[True]).abs().max() / wanted[True].abs().max())
    print(f"{a.tokens} tokens: largest difference from the public classes {error:.1e} of the largest logit"
          f" (teacher and student are {apart:.1e} apart)")
    if not error < 1e-4:
        sys.exit("they differ")


if __name__ == "__main__":
    main()
