"""Makes the golden cases of plain Qwen2, Qwen3 and Mistral: tiny random models and what transformers answers.

    pip install torch==2.13.0 transformers==5.18.0 safetensors numpy
    python test/golden/make/families.py test/golden/data

Everything is computed in fp32 on a CPU with eager attention; ../data/README.md describes the files. Weights are stored
in bf16 and exactly what the reference computed with. Prompts are chosen so that no greedy step is a near tie, which
rounding to bf16 could turn.
"""

import json
import os
import sys

import torch
import transformers
from safetensors.torch import save_file

VOCAB = 256
LENGTHS = [7, 29]
NEW_TOKENS = 16
LEAST_MARGIN = 0.15

torch.set_num_threads(1)  # the same sums on every machine of one kind

COMMON = dict(vocab_size=VOCAB, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, hidden_act="silu")
CASES = {
    # Tied, like the small published ones.
    "qwen2_plain": transformers.Qwen2Config(
        **COMMON, hidden_size=48, intermediate_size=64, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    # head_dim is not hidden_size / heads.
    "qwen3_plain": transformers.Qwen3Config(
        **COMMON, hidden_size=40, intermediate_size=56, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "mistral_plain": transformers.MistralConfig(
        **COMMON, hidden_size=48, intermediate_size=56, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5, sliding_window=None, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
}


def randomize(model, generator):
    """Sums of about unit variance, norms around one, logits of deviation 2.5; every value one of bf16."""
    tied = model.config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        shape = parameter.shape
        values = torch.randn(shape, generator=generator)
        if "norm" in name:
            values = 1 + 0.2 * values
        elif name.endswith("bias"):
            values = 0.5 * values
        elif "embed_tokens" in name:
            values = values * (2.5 / shape[1] ** 0.5 if tied else 1.0)
        else:
            values = values * (2.5 if "lm_head" in name else 1.0) / shape[1] ** 0.5
        parameter.data.copy_(values.to(torch.bfloat16).to(torch.float32))


def greedy(model, prompt):
    ids, margins = list(prompt), []
    for _ in range(NEW_TOKENS):
        best = model(torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
        margins.append(float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[len(prompt):], margins


def choose_prompt(model, length, generator):
    for _ in range(2000):
        prompt = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        answer, margins = greedy(model, prompt)
        if min(margins) >= LEAST_MARGIN and model.config.eos_token_id not in answer:
            return prompt, answer, margins
    raise SystemExit(f"no prompt of {length} tokens without a near tie")


@torch.no_grad()
def make(name, config, out, seed):
    generator = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model, generator)
    hidden_index = kv_layer = config.num_hidden_layers // 2
    tensors, sequences = {}, []
    for i, length in enumerate(LENGTHS):
        prompt, answer, margins = choose_prompt(model, length, generator)
        result = model(torch.tensor([prompt]), use_cache=True, output_hidden_states=True)
        cache = result.past_key_values.layers[kv_layer]
        tensors |= {
            f"seq{i}.input_ids": torch.tensor(prompt, dtype=torch.int32),
            f"seq{i}.logits": result.logits[0],
            f"seq{i}.greedy_ids": torch.tensor(answer, dtype=torch.int32),
            f"seq{i}.greedy_margin": torch.tensor(margins),
            f"seq{i}.hidden": result.hidden_states[hidden_index][0],
            f"seq{i}.k": cache.keys[0].transpose(0, 1),
            f"seq{i}.v": cache.values[0].transpose(0, 1),
        }
        if i == 0:
            tensors["seq0.hidden_all"] = torch.stack([h[0] for h in result.hidden_states])
        stats = {"logit_std": float(result.logits.std()), "min_greedy_margin": min(margins)}
        sequences.append({"input_ids": prompt, "greedy_ids": answer, "stats": stats})

    folder = os.path.join(out, name)
    model.to(torch.bfloat16).save_pretrained(folder)
    for extra in set(os.listdir(folder)) - {"config.json", "model.safetensors"}:
        os.remove(os.path.join(folder, extra))
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(out, f"{name}.expected.safetensors"))
    expected = {
        "case": name,
        "made_by": f"test/golden/make/families.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "seed": seed,
        "num_kv_caches": config.num_hidden_layers,
        "num_key_value_layers": None,
        "key_value_group_size": None,
        "hidden_index": hidden_index,
        "kv_layer": kv_layer,
        "sequences": sequences,
    }
    with open(os.path.join(out, f"{name}.expected.json"), "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")
    print(name, [s["stats"] for s in sequences])


for index, (case, case_config) in enumerate(CASES.items()):
    make(case, case_config, sys.argv[1], seed=index + 1)
