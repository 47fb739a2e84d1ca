// A boring decoder that never skips: every layer runs on every position, keys and values are whole arrays, no pages.
// It is what the native forward pass is compared with. Values are rounded to f32 where a tensor is stored; sums are
// accumulated in f64, so its own error is far below that of an f32 engine.

import { cacheOfLayer, type ModelConfig, type RopeScaling } from '../../lib/model/config.ts';
import type { HostTensors } from './tensors.ts';

/** Rows of equal length, contiguous. */
export interface Rows {
  rows: number;
  dim: number;
  data: Float32Array;
}

export interface ReferenceResult {
  /** [positions, V] */
  logits: Rows;
  /** hidden[l]: the residual stream that enters layer l, [positions, d]; hidden[L]: after the last layer. */
  hidden: Rows[];
  /** After the final norm, [positions, d]. */
  normed: Rows;
  /** By distinct cache: K after rotation and V, [positions, Hk hd]. */
  k: Rows[];
  v: Rows[];
}

const f32 = Math.fround;

export function referenceForward(c: ModelConfig, w: HostTensors, tokenIds: readonly number[]): ReferenceResult {
  const positions = tokenIds.length;
  const hidden: Rows[] = [];
  const k: Rows[] = [];
  const v: Rows[] = [];
  let x = gather(w, 'model.embed_tokens.weight', tokenIds);
  for (let l = 0; l < c.numLayers; l++) {
    hidden.push(x);
    const layer = `model.layers.${l}`;
    const attn = `${layer}.self_attn`;
    if (l === c.numKvLayers) projectLater(c, w, x, k, v);
    const a = rmsNorm(w, `${layer}.input_layernorm.weight`, x, c.rmsNormEps);
    const isLater = l >= c.numKvLayers;
    const suffix = isLater ? '_swiftkv' : '';
    const q = rotateNormed(c, w, `${attn}.q_norm${suffix}`, project(w, `${attn}.q_proj${suffix}`, a, c.bias.q));
    if (!isLater) {
      k.push(rotateNormed(c, w, `${attn}.k_norm`, project(w, `${attn}.k_proj`, a, c.bias.k)));
      v.push(project(w, `${attn}.v_proj`, a, c.bias.v));
    }
    const cache = cacheOfLayer(c, l);
    const o = attend(c, q, k[cache]!, v[cache]!, positions);
    x = add(x, project(w, `${attn}.o_proj`, o, c.bias.o));
    const m = rmsNorm(w, `${layer}.post_attention_layernorm.weight`, x, c.rmsNormEps);
    const gate = project(w, `${layer}.mlp.gate_proj`, m, c.bias.mlp);
    const up = project(w, `${layer}.mlp.up_proj`, m, c.bias.mlp);
    const product = gate.data.map((g, i) => (g / (1 + Math.exp(-g))) * up.data[i]!);
    x = add(x, project(w, `${layer}.mlp.down_proj`, { ...gate, data: product }, c.bias.mlp));
  }
  hidden.push(x);
  const normed = rmsNorm(w, 'model.norm.weight', x, c.rmsNormEps);
  const head = c.tieWordEmbeddings ? 'model.embed_tokens' : 'lm_head';
  return { logits: project(w, head, normed, false), hidden, normed, k, v };
}

/** The most likely continuation, everything recomputed at each step. Ties go to the lower id. */
export function referenceGreedy(c: ModelConfig, w: HostTensors, prompt: readonly number[], count: number): number[] {
  const ids = [...prompt];
  for (let i = 0; i < count; i++) {
    const { logits } = referenceForward(c, w, ids);
    const last = row(logits, ids.length - 1);
    ids.push(last.indexOf(Math.max(...last)));
  }
  return ids.slice(prompt.length);
}

export function row(x: Rows, i: number): Float32Array {
  return x.data.subarray(i * x.dim, (i + 1) * x.dim);
}

/** Keys and values of all later groups: one norm of the stream that enters layer n, then each leader's projections. */
function projectLater(c: ModelConfig, w: HostTensors, x: Rows, k: Rows[], v: Rows[]): void {
  const z = rmsNorm(w, 'model.norm_swiftkv.weight', x, c.rmsNormEps);
  for (let leader = c.numKvLayers; leader < c.numLayers; leader += c.groupSize) {
    const attn = `model.layers.${leader}.self_attn`;
    k.push(rotateNormed(c, w, `${attn}.k_norm_swiftkv`, project(w, `${attn}.k_proj_swiftkv`, z, c.bias.k)));
    v.push(project(w, `${attn}.v_proj_swiftkv`, z, c.bias.v));
  }
}

function tensor(w: HostTensors, name: string): { shape: readonly number[]; data: Float32Array } {
  const found = w.get(name);
  if (found === undefined) throw new Error(`The reference needs ${name}`);
  return found;
}

function gather(w: HostTensors, name: string, ids: readonly number[]): Rows {
  const { shape, data } = tensor(w, name);
  const dim = shape[1]!;
  const x = { rows: ids.length, dim, data: new Float32Array(ids.length * dim) };
  ids.forEach((id, i) => {
    x.data.set(data.subarray(id * dim, (id + 1) * dim), i * dim);
  });
  return x;
}

function rmsNorm(w: HostTensors, name: string, x: Rows, eps: number): Rows {
  const weight = tensor(w, name).data;
  const out = { ...x, data: new Float32Array(x.data.length) };
  for (let i = 0; i < x.rows; i++) {
    let squares = 0;
    for (const value of row(x, i)) squares += value * value;
    const scale = 1 / Math.sqrt(squares / x.dim + eps);
    for (let j = 0; j < x.dim; j++) out.data[i * x.dim + j] = weight[j]! * x.data[i * x.dim + j]! * scale;
  }
  return out;
}

/** x W^T + b with `module`.weight [out, in]. */
function project(w: HostTensors, module: string, x: Rows, hasBias: boolean): Rows {
  const { shape, data } = tensor(w, `${module}.weight`);
  const [n, k] = shape as [number, number];
  const bias = hasBias ? tensor(w, `${module}.bias`).data : null;
  const out = { rows: x.rows, dim: n, data: new Float32Array(x.rows * n) };
  for (let i = 0; i < x.rows; i++) {
    const input = row(x, i);
    for (let o = 0; o < n; o++) {
      let sum = bias === null ? 0 : bias[o]!;
      const from = o * k;
      for (let j = 0; j < k; j++) sum += input[j]! * data[from + j]!;
      out.data[i * n + o] = sum;
    }
  }
  return out;
}

/** Queries or keys: each head normed, where the model does that, and then rotated. */
function rotateNormed(c: ModelConfig, w: HostTensors, norm: string, x: Rows): Rows {
  const heads = x.dim / c.headDim;
  if (!c.qkNorm) return rotate(c, x, heads);
  const normed = rmsNorm(w, `${norm}.weight`, { ...x, rows: x.rows * heads, dim: c.headDim }, c.rmsNormEps);
  return rotate(c, { ...x, data: normed.data }, heads);
}

/** Rotates each head: dimension i pairs with i + hd/2. Row index = position. */
function rotate(c: ModelConfig, x: Rows, heads: number): Rows {
  const pairs = c.headDim / 2;
  const frequencies = Array.from({ length: pairs }, (_, i) => frequency(c, i));
  const out = { ...x, data: new Float32Array(x.data.length) };
  for (let p = 0; p < x.rows; p++) {
    for (let h = 0; h < heads; h++) {
      const at = p * x.dim + h * c.headDim;
      for (let i = 0; i < pairs; i++) {
        const angle = f32(p * frequencies[i]!);
        const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
        const [a, b] = [x.data[at + i]!, x.data[at + i + pairs]!];
        out.data[at + i] = a * cos - b * sin;
        out.data[at + i + pairs] = b * cos + a * sin;
      }
    }
  }
  return out;
}

function frequency(c: ModelConfig, i: number): number {
  const f = f32(c.rope.theta ** ((-2 * i) / c.headDim));
  return c.rope.scaling === null ? f : f32(scaleFrequency(f, c.rope.scaling));
}

function scaleFrequency(f: number, s: RopeScaling): number {
  if (s.type === 'linear') return f / s.factor;
  const wavelength = (2 * Math.PI) / f;
  if (wavelength < s.originalMaxPositions / s.highFreqFactor) return f;
  if (wavelength > s.originalMaxPositions / s.lowFreqFactor) return f / s.factor;
  const smooth = (s.originalMaxPositions / wavelength - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return ((1 - smooth) * f) / s.factor + smooth * f;
}

/** Causal attention of every position over positions 0..p; query head h reads KV head floor(h / (Hq / Hk)). */
function attend(c: ModelConfig, q: Rows, k: Rows, v: Rows, positions: number): Rows {
  const hd = c.headDim;
  const group = c.numHeads / c.numKvHeads;
  const out = { rows: positions, dim: q.dim, data: new Float32Array(positions * q.dim) };
  for (let p = 0; p < positions; p++) {
    for (let h = 0; h < c.numHeads; h++) {
      const query = q.data.subarray(p * q.dim + h * hd, p * q.dim + (h + 1) * hd);
      const from = Math.floor(h / group) * hd;
      const scores: number[] = [];
      for (let t = 0; t <= p; t++) {
        let dot = 0;
        for (let j = 0; j < hd; j++) dot += query[j]! * k.data[t * k.dim + from + j]!;
        scores.push(dot / Math.sqrt(hd));
      }
      const max = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - max));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let j = 0; j < hd; j++) {
        let sum = 0;
        for (let t = 0; t <= p; t++) sum += weights[t]! * v.data[t * v.dim + from + j]!;
        out.data[p * q.dim + h * hd + j] = sum / total;
      }
    }
  }
  return out;
}

function add(x: Rows, y: Rows): Rows {
  return { ...x, data: x.data.map((value, i) => value + y.data[i]!) };
}
