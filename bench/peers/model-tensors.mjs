// The weights of a plain Llama as the GGUF tensors that llama.cpp's `llama` architecture reads: fused matrices split,
// rows of q and k in the order of its rotary embedding, values handed out in slabs of rows.

import { architectures } from '../../dist/model/architectures.js';
import { resolveModel } from '../../dist/model/embedded.js';
import { randomMatrices } from '../../dist/model/random.js';
import { inverseFrequencies } from '../../dist/model/rope.js';
import { openSource } from '../../dist/model/source.js';
import { native } from '../../dist/native/load.js';

/** Values handed out at a time: small beside the model, large beside a call. */
const slabValues = 1 << 22;

const layerNames = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
};
const names = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

function ggufName(name) {
  const [, layer, rest] = /^model\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  const known = layer === undefined ? names[name] : `blk.${layer}.${layerNames[rest]}`;
  if (known === undefined || known.endsWith('undefined')) throw new Error(`${name}: llama.cpp has no such tensor`);
  return known;
}

/**
 * Row of the checkpoint's q or k that comes at `row` for llama.cpp: it rotates neighbouring pairs (2i, 2i + 1) of a
 * head, where checkpoints pair i with i + hd / 2.
 */
export function interleavedRow(row, headDim) {
  const head = row - (row % headDim);
  const within = row % headDim;
  return head + (within >> 1) + (within % 2) * (headDim / 2);
}

/** Holds one fused matrix at a time, in native memory, in bf16 as a checkpoint would. */
class TargetReader {
  #binding = native();
  #device;
  #model;
  #matrices;
  #current = { key: null, tensor: null };

  constructor(model, targets) {
    const { levels } = this.#binding.cpuInfo();
    this.#device = this.#binding.openDevice({ backend: 'cpu', threads: 1, level: levels.at(-1) });
    this.#model = model;
    const matrices = model.random === null ? [] : [...randomMatrices(targets, model.random)];
    this.#matrices = new Map(matrices.map((matrix) => [matrix.target.key, matrix]));
  }

  async open({ key, kind, rows, k }) {
    if (this.#current.key === key) return this.#current.tensor;
    this.#current.tensor?.dispose();
    const shape = kind === 'vector' ? [rows] : [rows, k];
    const tensor = this.#binding.tensor(this.#device, kind === 'vector' ? 'f32' : 'bf16', shape, 'row_major');
    this.#current = { key, tensor };
    const matrix = this.#matrices.get(key);
    if (matrix !== undefined) await tensor.fillRandom(matrix.seed, matrix.scale);
    else if (this.#model.random !== null) tensor.writeFloats(new Float32Array(rows).fill(1));
    else await this.#read(key, tensor);
    return tensor;
  }

  async #read(wanted, dst) {
    const segments = this.#model.plan.segments.filter(({ key }) => key === wanted);
    await this.#binding.loadWeights(
      this.#device,
      segments.map(({ key, ...segment }) => ({ ...segment, dst })),
    ).promise;
  }

  close() {
    this.#device.close();
  }
}

/** Rows [first, first + rows) of a matrix, row i being the source's row `rowAt(i)`. */
async function* matrixSlabs(reader, target, first, rows, rowAt) {
  const tensor = await reader.open(target);
  const { k } = target;
  const perSlab = Math.max(1, Math.floor(slabValues / k));
  for (let start = 0; start < rows; start += perSlab) {
    const count = Math.min(perSlab, rows - start);
    const stored = new Uint16Array(count * k);
    for (let r = 0; r < count; r++) {
      tensor.read(new Uint8Array(stored.buffer, r * k * 2, k * 2), (first + rowAt(start + r)) * k * 2);
    }
    const values = new Uint32Array(count * k);
    for (let i = 0; i < values.length; i++) values[i] = stored[i] << 16;
    yield new Float32Array(values.buffer);
  }
}

async function* vectorSlab(reader, target) {
  yield (await reader.open(target)).readFloats();
}

function* partTensors(reader, target, types, headDim) {
  const type = ['embed', 'head'].includes(target.key) ? types.head : types.matrices;
  let first = 0;
  for (const { name, rows } of target.parts) {
    const from = first;
    first += rows;
    if (target.kind === 'vector') {
      yield { name: ggufName(name), shape: [rows], type: 'f32', slabs: () => vectorSlab(reader, target) };
      continue;
    }
    const rowAt = /\.[qk]_proj\./.test(name) ? (row) => interleavedRow(row, headDim) : (row) => row;
    const slabs = () => matrixSlabs(reader, target, from, rows, rowAt);
    yield { name: ggufName(name), shape: [rows, target.k], type, slabs };
  }
}

/** What llama.cpp divides each frequency by. */
export function ropeFactors(config) {
  const scaled = inverseFrequencies(config);
  const plain = inverseFrequencies({ headDim: config.headDim, rope: { ...config.rope, scaling: null } });
  return plain.map((frequency, i) => frequency / scaled[i]);
}

/**
 * @param {string} source a folder, `embedded:NAME` or `random:NAME` of a plain Llama without biases
 * @param {{ matrices: string, head: string }} types 'bf16', 'q8_0' or 'q4_0'; head: of the embedding too; vectors are f32
 * @returns {Promise<{ config: object, tensors: object[], close(): void }>} for `writeGguf`, in an order in which each
 *   source matrix is made once
 */
export async function modelTensors(source, types) {
  const model = await openSource(resolveModel(source), { dtype: 'bf16', weightDtype: 'auto', kvCacheDtype: 'bf16' });
  const { config } = model;
  const scaling = config.rope.scaling?.type ?? 'none';
  if (
    config.modelType !== 'llama' ||
    Object.values(config.bias).some(Boolean) ||
    !['none', 'llama3'].includes(scaling)
  ) {
    throw new Error(`${source}: expected a plain Llama without biases and with no or llama3 rope scaling`);
  }
  const targets = [...architectures.get(config.modelType).weights(config)];
  const reader = new TargetReader(model, targets);
  const tensors = targets.flatMap((target) => [...partTensors(reader, target, types, config.headDim)]);
  if (scaling === 'llama3') {
    const factors = async function* () {
      yield ropeFactors(config);
    };
    tensors.push({ name: 'rope_freqs.weight', shape: [config.headDim / 2], type: 'f32', slabs: factors });
  }
  return { config, tensors, close: () => reader.close() };
}
