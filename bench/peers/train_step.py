"""A step of training in plain PyTorch: one JSON request a line on stdin, one JSON answer a line on stdout.

The first request describes the model, the batch and the optimiser; each `{}` after it is a step. Written as one would
write it: separate projections, torch's own rms_norm, attention and AdamW, and the full logits. In distillation, layers
before the cut run once and the teacher's others without gradients. In bf16 weights, moments and activations are all bf16,
and the losses f32.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Model:
    def __init__(self, folders, config, trained, inverse_frequencies, length, dtype):
        self.c = config
        self.w = {}
        for folder in folders:
            for path in sorted(Path(folder).glob("*.safetensors")):
                self.w.update({name: tensor.to(dtype) for name, tensor in load_file(path).items()})
        for name in trained:
            self.w[name] = torch.nn.Parameter(self.w[name])
        self.parameters = [self.w[name] for name in trained]
        self.w.setdefault("lm_head.weight", self.w["model.embed_tokens.weight"])
        angle = torch.arange(length)[:, None] * torch.tensor(inverse_frequencies, dtype=torch.float64)
        angle = torch.cat((angle, angle), -1)
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def norm(self, x, name):
        return F.rms_norm(x, (x.shape[-1],), self.w[f"{name}.weight"], self.c["rmsNormEps"])

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def split(self, x, heads):
        return x.view(*x.shape[:2], heads, self.c["headDim"]).transpose(1, 2)

    def rotate(self, x):
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat((-second, first), -1) * self.sin

    def keys_and_values(self, z, layer, suffix=""):
        attention = f"model.layers.{layer}.self_attn"
        k, v = (self.split(self.linear(z, f"{attention}.{p}_proj{suffix}"), self.c["numKvHeads"]) for p in "kv")
        return self.rotate(k), v

    def layer(self, x, l, shared=None):
        """Of a plain model; or with keys and values that were there before, of a SwiftKV model."""
        p = f"model.layers.{l}"
        a = self.norm(x, f"{p}.input_layernorm")
        k, v = self.keys_and_values(a, l) if shared is None else shared
        q_proj = "q_proj" if shared is None else "q_proj_swiftkv"
        q = self.rotate(self.split(self.linear(a, f"{p}.self_attn.{q_proj}"), self.c["numHeads"]))
        # Faster on the CPU than enable_gqa.
        k, v = (t.repeat_interleave(self.c["numHeads"] // self.c["numKvHeads"], 1) for t in (k, v))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.linear(o.transpose(1, 2).flatten(2), f"{p}.self_attn.o_proj")
        m = self.norm(x, f"{p}.post_attention_layernorm")
        gated = F.silu(self.linear(m, f"{p}.mlp.gate_proj")) * self.linear(m, f"{p}.mlp.up_proj")
        return x + self.linear(gated, f"{p}.mlp.down_proj")

    def embed(self, ids):
        return F.embedding(ids, self.w["model.embed_tokens.weight"])

    def early(self, x):
        for l in range(self.c["numKvLayers"]):
            x = self.layer(x, l)
        return x

    def later(self, x, student):
        """The input of the last layer, and the final norm's output."""
        n, last = self.c["numKvLayers"], self.c["numLayers"] - 1
        z = self.norm(x, "model.norm_swiftkv") if student and n <= last else None
        shared, before_last = None, x
        for l in range(n, last + 1):
            if student and (l - n) % self.c["groupSize"] == 0:
                shared = self.keys_and_values(z, l, "_swiftkv")
            before_last = x if l == last else before_last
            x = self.layer(x, l, shared)
        return before_last, self.norm(x, "model.norm")

    def distill_losses(self, ids, temperature):
        with torch.no_grad():
            x = self.early(self.embed(ids))
            teacher_hidden, teacher = self.later(x, student=False)
            teacher = F.log_softmax(self.linear(teacher, "lm_head").float() / temperature, -1)
        hidden, student = self.later(x, student=True)
        student = F.log_softmax(self.linear(student, "lm_head").float() / temperature, -1)
        kl = F.kl_div(student, teacher, reduction="sum", log_target=True) / ids.numel()
        return temperature**2 * kl, F.mse_loss(hidden.float(), teacher_hidden.float())

    def train_losses(self, ids):
        _, out = self.later(self.early(self.embed(ids)), student=True)
        logits = self.linear(out[:, :-1], "lm_head").float()
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()), torch.zeros(())


class Trainer:
    def __init__(self, request):
        torch.set_num_threads(request["threads"])
        self.task, self.temperature = request["task"], request["temperature"]
        self.model = Model(
            request["folders"],
            request["config"],
            request["trained"],
            request["inverseFrequencies"],
            request["length"],
            {"f32": torch.float32, "bf16": torch.bfloat16}[request["dtype"]],
        )
        self.ids = torch.tensor(request["ids"]).view(-1, request["length"])
        o = request["update"]
        matrices = [p for p in self.model.parameters if p.ndim > 1]
        vectors = [p for p in self.model.parameters if p.ndim == 1]
        self.clip = o["clip"] if o["clip"] is not None else math.inf
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": o["weightDecay"]}, {"params": vectors, "weight_decay": 0.0}],
            lr=o["lr"],
            betas=(o["beta1"], o["beta2"]),
            eps=o["eps"],
            fused=True,
        )

    def step(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        if self.task == "distill":
            logits_loss, hidden_loss = self.model.distill_losses(self.ids, self.temperature)
        else:
            logits_loss, hidden_loss = self.model.train_losses(self.ids)
        (logits_loss + hidden_loss).backward()
        middle = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.model.parameters, self.clip)
        self.optimizer.step()
        end = time.perf_counter()
        return {
            "ms": (end - start) * 1000,
            "updateMs": (end - middle) * 1000,
            "logitsLoss": logits_loss.item(),
            "hiddenLoss": hidden_loss.item(),
            "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def main():
    trainer = Trainer(json.loads(sys.stdin.readline()))
    print(json.dumps({"version": torch.__version__, "onednn": torch.backends.mkldnn.is_available()}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(trainer.step()), flush=True)


if __name__ == "__main__":
    main()
