// The inside of a forward pass against the reference: the stream that enters each layer, and the keys and values.

import { cacheOfLayer } from '../model/config.ts';
import type { NativeModelRunner } from '../model/native-runner.ts';
import { type Comparison, compareRows } from './compare.ts';
import { slotOf, writeStep } from './driver.ts';
import type { GoldenCase } from './format.ts';

/** f32 only: the bounds on bf16 are bounds on logits. */
export async function checkTaps(golden: GoldenCase, runner: NativeModelRunner): Promise<Comparison[]> {
  const { config } = runner;
  const d = config.hiddenSize;
  const comparisons: Comparison[] = [];
  const layers = Array.from({ length: config.numLayers }, (_, l) => `hidden.${l}`);
  const program = runner.createProgram('taps', { taps: new Set([...layers, `hidden.${golden.hiddenIndex}`, 'norm']) });
  const batch = runner.batches[0];
  for (const [slot, { name, ids, hidden, hiddenAll, k, v }] of golden.sequences.entries()) {
    const rows = ids.length;
    writeStep(runner, batch, [{ slot, tokens: [...ids], start: 0, count: rows, survivors: rows }]);
    await program.run(batch);
    const compare = (what: string, actual: Float32Array, expected: Float32Array, width: number) =>
      comparisons.push(compareRows(`${name} ${what}`, 'f32', actual, expected, width));
    if (hidden) {
      const index = golden.hiddenIndex;
      compare(`hidden state entering layer ${index}`, program.read(`hidden.${index}`, rows), hidden, d);
    }
    if (hiddenAll) {
      [...layers, 'norm'].forEach((tap, i) => {
        const expected = hiddenAll.subarray(i * rows * d, (i + 1) * rows * d);
        compare(tap === 'norm' ? 'after the final norm' : `input of layer ${i}`, program.read(tap, rows), expected, d);
      });
    }
    if (k && v) {
      const slots = Int32Array.from({ length: rows }, (_, position) => slotOf(runner, slot, position));
      const cache = await runner.readCache(cacheOfLayer(config, golden.kvLayer), slots);
      compare(`k of layer ${golden.kvLayer}`, cache.k, k, config.numKvHeads * config.headDim);
      compare(`v of layer ${golden.kvLayer}`, cache.v, v, config.numKvHeads * config.headDim);
    }
  }
  program.dispose();
  return comparisons;
}
