"""Makes distillation data for a SwiftKV case, in plain torch: losses, gradients and three steps of AdamW.

    pip install torch==2.13.0 safetensors numpy
    python test/golden/make/distill.py test/golden/data qwen2_swiftkv_g2

Written from the public trainer's definitions (arXiv 2410.03960; ArcticTraining, projects/swiftkv/train.py), with nothing
of its code and nothing of this package; it reproduces the data of the two Llama cases, which come from that trainer
itself (--check). ../data/README.md describes the files.
"""

import json
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
T, MULT, LR, BETAS, EPS, STEPS = 2.0, 1.0, 1e-3, (0.9, 0.999), 1e-8, 3


def inverse_frequencies(c, hd):
    f = 1.0 / c["rope_theta"] ** (torch.arange(0, hd, 2).double() / hd)
    s = c.get("rope_scaling")
    if s and s.get("rope_type") == "llama3":
        lo, hi, old, k = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"], s["factor"]
        wave = 2 * torch.pi / f
        smooth = (old / wave - lo) / (hi - lo)
        f = torch.where(wave < old / hi, f, torch.where(wave > old / lo, f / k, (1 - smooth) * f / k + smooth * f))
    return f


class Model:
    def __init__(self, folder, dtype):
        self.c = c = json.load(open(f"{folder}/config.json"))
        self.w = {k: v.to(dtype) for k, v in load_file(f"{folder}/model.safetensors").items()}
        self.w.setdefault("lm_head.weight", self.w["model.embed_tokens.weight"])
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.hd = c.get("head_dim") or c["hidden_size"] // self.heads
        self.n, self.g, self.layers = c["num_key_value_layers"], c["key_value_group_size"], c["num_hidden_layers"]
        self.f = inverse_frequencies(c, self.hd).to(dtype)
        self.trainable = sorted(k for k in self.w if "_swiftkv" in k)

    def norm(self, x, name):
        return self.w[name] * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def split(self, x, heads):
        return x.view(*x.shape[:2], heads, self.hd).transpose(1, 2)

    def rotate(self, x):
        angle = torch.arange(x.shape[2]).to(x.dtype)[:, None] * self.f
        cos, sin = angle.cos(), angle.sin()
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def attend(self, q, k, v):
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        s = q @ k.transpose(2, 3) / self.hd ** 0.5
        s = s.masked_fill(torch.ones(s.shape[2:], dtype=torch.bool).triu(1), float("-inf"))
        o = torch.softmax(s, -1) @ v
        return o.transpose(1, 2).flatten(2)

    def hidden(self, ids, student):
        """The inputs of all layers, then the final norm's output."""
        x = self.w["model.embed_tokens.weight"][ids]
        states = []
        for l in range(self.layers):
            states.append(x)
            p = f"model.layers.{l}"
            a = self.norm(x, f"{p}.input_layernorm.weight")
            own = not student or l < self.n
            suffix = "" if own else "_swiftkv"
            if own or (l - self.n) % self.g == 0:
                if not own and l == self.n:
                    z = self.norm(x, "model.norm_swiftkv.weight")
                source = a if own else z
                k = self.rotate(self.split(self.linear(source, f"{p}.self_attn.k_proj{suffix}"), self.kv_heads))
                v = self.split(self.linear(source, f"{p}.self_attn.v_proj{suffix}"), self.kv_heads)
            q = self.rotate(self.split(self.linear(a, f"{p}.self_attn.q_proj{suffix}"), self.heads))
            x = x + self.linear(self.attend(q, k, v), f"{p}.self_attn.o_proj")
            m = self.norm(x, f"{p}.post_attention_layernorm.weight")
            gate, up = self.linear(m, f"{p}.mlp.gate_proj"), self.linear(m, f"{p}.mlp.up_proj")
            x = x + self.linear(F.silu(gate) * up, f"{p}.mlp.down_proj")
        return states + [self.norm(x, "model.norm.weight")]

    def losses(self, ids, mask):
        with torch.no_grad():
            teacher = self.hidden(ids, False)
        student = self.hidden(ids, True)
        logits = [self.linear(h[-1], "lm_head") / T for h in (teacher, student)]
        log_p, log_q = (F.log_softmax(x, -1) for x in logits)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)
        logits_loss = (mask * T ** 2 * kl).mean()
        hidden_loss = (student[-2] - teacher[-2]).pow(2).mean()
        return logits_loss, hidden_loss, logits_loss + MULT * hidden_loss


def train(folder, dtype, ids, mask, clip):
    model = Model(folder, dtype)
    parameters = {k: model.w[k].clone().requires_grad_() for k in model.trainable}
    model.w.update(parameters)
    optimizer = torch.optim.AdamW(parameters.values(), lr=LR, betas=BETAS, eps=EPS, weight_decay=0)
    trajectory, first = [], None
    for step in range(STEPS + 1):
        optimizer.zero_grad()
        logits_loss, hidden_loss, loss = model.losses(ids, mask.to(dtype))
        entry = {"step": step, "logits_loss": logits_loss.item(), "hidden_loss": hidden_loss.item(), "loss": loss.item()}
        if step < STEPS:
            loss.backward()
            if first is None:
                first = {k: p.grad.clone() for k, p in parameters.items()}
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), clip or float("inf"))
            entry["grad_norm"] = norm.item()
            optimizer.step()
        trajectory.append(entry)
    return trajectory, first, {k: p.detach() for k, p in parameters.items()}


def main():
    data, case = sys.argv[1:3]
    folder = f"{data}/{case}"
    if "--check" in sys.argv:
        known = load_file(f"{folder}.distill.safetensors")
        ids, mask = known["input_ids"].long(), known["loss_mask"]
        wanted = json.load(open(f"{folder}.distill.json"))
        trajectory, first, _ = train(folder, torch.float32, ids, mask, None)
        print("loss", max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(trajectory, wanted["trajectory"])))
        print("gradient", max((first[k] - known[f"grad.{k}"]).norm() / known[f"grad.{k}"].norm() for k in first).item())
        return
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(3, 256, (2, 20), generator=generator)
    mask = (torch.rand(2, 20, generator=generator) < 0.6).to(torch.uint8)
    trajectory, first, after = train(folder, torch.float32, ids, mask, None)
    exact, exact_first, exact_after = train(folder, torch.float64, ids, mask, None)
    clipped, _, _ = train(folder, torch.float32, ids, mask, 1.0)
    distance = lambda a, b: max((a[k] - b[k]).abs().max().item() for k in a)
    report = {
        "checkpoint": case,
        "recipe": {"logits_loss_temp": T, "hidden_loss_mult": MULT, "hidden_loss_layer": -2, "optimizer": "AdamW",
                   "lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": 0.0, "steps": STEPS, "grad_clip": None},
        "trajectory": trajectory, "trajectory_f64": exact, "trajectory_with_grad_clip_1": clipped,
        "trainable": list(first), "num_trainable": sum(g.numel() for g in first.values()),
        "f32_vs_f64": {"grad_maxabs": distance(first, exact_first), "after_maxabs": distance(after, exact_after)},
    }
    json.dump(report, open(f"{folder}.distill.json", "w"), indent=1)
    tensors = {"input_ids": ids.int(), "loss_mask": mask}
    tensors.update({f"grad.{k}": v for k, v in first.items()})
    tensors.update({f"after.{k}": v for k, v in after.items()})
    save_file(tensors, f"{folder}.distill.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
