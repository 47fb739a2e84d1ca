// The ops of a step as kernels: how much each computes and moves.
import { kernelTime } from './kernel-time.mjs';
import { assumed } from './machines.mjs';
import { cacheTokenBytes } from './models.mjs';

const f32 = 4;
const bf16 = 2;
const rowsOfBand = 16; // tiles of rows that share a read of the weights: TileGrid::kBand

/** `plans`: answers of plans.cpp by question; `blocksPerSm(name)`: of a kernel, from the report. */
export class Ops {
  constructor({ gpu, model, plans, blocksPerSm }) {
    Object.assign(this, { gpu, model, plans, blocksPerSm });
  }

  #time(kernel) {
    return kernelTime(this.gpu, kernel);
  }

  /** Ops that read and write every element once. */
  #move(bytes, kernel) {
    const ofThread = 32; // bytes
    const blocks = Math.ceil(bytes / (256 * ofThread));
    return this.#time({ dram: bytes, blocks, blocksPerSm: this.blocksPerSm(kernel), inFlight: 256 * ofThread });
  }

  #product(rows, outputs, k, plan, kernel, written) {
    const weights = outputs * k * bf16 * Math.ceil(plan.rowTiles / rowsOfBand);
    const columnTiles = plan.blocks / plan.rowTiles;
    return this.#time({
      flops: 2 * plan.rowTiles * plan.rows * columnTiles * plan.columns * k,
      share: assumed.productShare,
      dram: weights + rows * k * bf16 + written,
      l2: plan.blocks * (Math.min(plan.rows, rows) + plan.columns) * k * bf16 + written,
      blocks: plan.blocks,
      blocksPerSm: this.blocksPerSm(`gemm<MmaProduct<${plan.tile}, bf16>, ${kernel}>`),
      inFlight: plan.inFlight,
    });
  }

  linear(rows, outputs, k, elementBytes, accumulate = false) {
    const plan = this.plans(`linear ${rows} ${outputs} ${this.gpu.multiprocessors}`);
    return this.#product(rows, outputs, k, plan, 'LinearFinish', rows * outputs * elementBytes * (accumulate ? 2 : 1));
  }

  #heads(rows, heads, written) {
    const { dim, headDim } = this.model;
    const plan = this.plans(`heads ${rows} ${heads} ${headDim} ${this.gpu.multiprocessors}`);
    return this.#product(rows, heads * headDim, dim, plan, 'HeadsFinish', written);
  }

  qkv_rope_cache(rows, cache) {
    const { heads, kvHeads, headDim } = this.model;
    const written = rows * (heads * headDim * f32 + cacheTokenBytes(this.model, cache));
    return this.#heads(rows, heads + 2 * kvHeads, written);
  }

  q_rope(rows) {
    const { heads, headDim } = this.model;
    return this.#heads(rows, heads, rows * heads * headDim * f32);
  }

  /** The norm is a kernel of its own. */
  swiftkv_project(rows, groups, cache) {
    const norm = this.rms_norm(rows);
    const written = rows * groups * cacheTokenBytes(this.model, cache);
    const product = this.#heads(rows, groups * 2 * this.model.kvHeads, written);
    return { seconds: norm.seconds + product.seconds, bound: product.bound, kernels: 2 };
  }

  /** One row of each sequence, which has `tokens` keys. Queries are f32: two bf16 products each. */
  attention_decode(sequences, tokens, cache) {
    const { heads, kvHeads, headDim } = this.model;
    const plan = this.plans(
      `decode ${sequences} ${heads} ${kvHeads} ${headDim} ${cache} ${tokens} ${this.gpu.multiprocessors}`,
    );
    const keys = sequences * tokens * cacheTokenBytes(this.model, cache);
    const main = this.#time({
      flops: sequences * kvHeads * 16 * tokens * headDim * 4 * 2, // tiles of 16 rows
      share: assumed.attentionShare,
      dram: keys,
      blocks: plan.blocks,
      blocksPerSm: this.blocksPerSm(`attention_decode_kernel<${cache}, ${headDim}, 2>`),
      inFlight: plan.inFlight,
    });
    if (!plan.apart) return { ...main, kernels: 1 };
    const states = sequences * heads * plan.splits * (headDim + 2) * f32;
    const merge = this.#move(states, 'merge_splits_kernel');
    return { seconds: main.seconds + merge.seconds, bound: main.bound, kernels: 2 };
  }

  /** Rows [first, first + rows) of one prompt, whose earlier keys are in the cache. */
  attention_prefill(first, rows, cache) {
    const { heads, kvHeads, headDim } = this.model;
    const plan = this.plans(`prefill ${rows} ${heads} ${kvHeads} ${headDim} ${cache}`);
    const pairs = rows * first + (rows * (rows + 1)) / 2; // of a row and a key that it sees
    const token = cacheTokenBytes(this.model, cache);
    const tokensOfBlock = (64 * kvHeads) / heads; // a block has 64 pairs of a token and a head
    return {
      ...this.#time({
        flops: pairs * heads * headDim * 4 * 2,
        share: assumed.attentionShare,
        dram: (first + rows) * token + rows * heads * headDim * (f32 + bf16),
        l2: (pairs / tokensOfBlock) * token,
        blocks: plan.blocks,
        blocksPerSm: this.blocksPerSm(`attention_prefill_kernel<${cache}, ${headDim}, 2>`),
        inFlight: plan.inFlight,
      }),
      kernels: 1,
    };
  }

  embed(rows) {
    return this.#move(rows * this.model.dim * (bf16 + f32), 'embed_kernel<1, true, true>');
  }
  rms_norm(rows) {
    return this.#move(rows * this.model.dim * (f32 + bf16), 'rms_norm_kernel<bf16>');
  }
  silu_mul(rows) {
    return this.#move(rows * this.model.ff * (2 * f32 + bf16), 'silu_mul_kernel<float, bf16, true>');
  }
  gather_rows(rows) {
    return this.#move(rows * this.model.dim * 2 * f32, 'gather_rows_kernel<uint4>');
  }

  /** A block a row that reads the logits once. */
  sample_greedy(rows) {
    const waves = Math.ceil(rows / this.gpu.multiprocessors);
    return { seconds: assumed.ramp + (waves * this.model.vocab * f32) / assumed.readOfOneBlock, bound: 'latency' };
  }
}
