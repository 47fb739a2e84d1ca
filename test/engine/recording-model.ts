// A model that notes the bits of every logit row it computes, by the tokens that the row has seen.

import { createHash } from 'node:crypto';
import type { EngineModel } from '../../lib/engine/engine.ts';
import { type LoadedModel, type LoadOptions, loadModel } from '../../lib/model/load.ts';
import type { StepBatch } from '../../lib/model/runner.ts';
import type { SamplerState, StepResult } from '../../lib/native/binding.ts';
import { device } from '../places.ts';

export async function recordingModel(source: string, options: Partial<LoadOptions>): Promise<RecordingModel> {
  return new RecordingModel(await loadModel(source, { device, dtype: 'auto', ...options }));
}

export function digest(values: Float32Array | Int32Array): string {
  return createHash('sha1')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('base64');
}

export class RecordingModel implements EngineModel {
  /** Digest of a context's tokens -> digest of the logits that follow it. */
  readonly seen = new Map<string, string>();
  /** Contexts that were computed twice with different bits. */
  contradictions = 0;
  /** [T, S, R, BT, BS] of every step. */
  readonly shapes: number[][] = [];
  readonly layerRows: number[][] = [];
  /** Codes of the steps that failed. */
  readonly errors: string[] = [];

  private readonly model: LoadedModel;
  /** By slot: the tokens of its sequence, those that setSampler told of and those fed since. */
  private readonly contexts: number[][];

  constructor(model: LoadedModel) {
    this.model = model;
    this.contexts = Array.from({ length: model.capacity.maxSeqs }, () => []);
  }

  get config() {
    return this.model.config;
  }
  get capacity() {
    return this.model.capacity;
  }
  get batches() {
    return this.model.batches;
  }
  get numBlocks() {
    return this.model.numBlocks;
  }
  get kvBytesPerToken() {
    return this.model.kvBytesPerToken;
  }
  get tokenizerDir() {
    return this.model.tokenizerDir;
  }
  get generationConfig() {
    return this.model.generationConfig;
  }
  get maxModelLen() {
    return this.model.maxModelLen;
  }

  info() {
    return this.model.info();
  }
  setSampler(slot: number, state: SamplerState, promptIds: Int32Array, outputIds: Int32Array): void {
    this.contexts[slot] = [...promptIds, ...outputIds];
    this.model.setSampler(slot, state, promptIds, outputIds);
  }
  cancel(): void {
    this.model.cancel();
  }
  readLogits(rows: number): Float32Array {
    return this.model.readLogits(rows);
  }
  memory() {
    return this.model.memory();
  }

  dispose(): Promise<void> {
    return this.model.dispose();
  }

  async run(batch: StepBatch): Promise<StepResult> {
    try {
      const result = await this.model.run(batch);
      this.record(batch);
      return result;
    } catch (error) {
      this.errors.push((error as { code: string }).code);
      throw error;
    }
  }

  private record(b: StepBatch): void {
    const [T, , R, BT] = b.counts as unknown as [number, number, number, number];
    this.shapes.push(Array.from(b.counts));
    this.layerRows.push(Array.from(b.layerRows));
    for (let row = 0; row < T; row++) {
      const sequence = b.queryStartT.subarray(0, BT + 1).findLastIndex((start) => start <= row);
      const context = this.contexts[b.tableRowT[sequence]!]!;
      const position = b.positionsT[row]!;
      if (position === context.length) context.push(b.ids[row]!);
      if (context[position] !== b.ids[row]) throw new Error(`row ${row} is of another sequence than its sampler`);
    }
    if (R === 0) return;
    const vocab = this.config.vocabSize;
    const logits = this.model.readLogits(R);
    for (let i = 0; i < R; i++) {
      const position = b.positionsS[b.logitRows[i]!]!;
      const context = this.contexts[b.samplerSlots[i]!]!.slice(0, position + 1);
      const key = digest(Int32Array.from(context));
      const bits = digest(logits.subarray(i * vocab, (i + 1) * vocab));
      if ((this.seen.get(key) ?? bits) !== bits) this.contradictions++;
      this.seen.set(key, bits);
    }
  }
}
