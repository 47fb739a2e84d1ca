// The reference decoder against the outputs of the public classes: if it were wrong, everything compared with it would
// be wrong with it.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { cacheOfLayer } from '../../lib/model/config.ts';
import { parseConfig } from '../../lib/model/parse-config.ts';
import { referenceForward, referenceGreedy } from './decoder.ts';
import { readCheckpointTensors, readSafetensors } from './tensors.ts';

const golden = (name: string) => fileURLToPath(new URL(`../golden/data/${name}`, import.meta.url));

/** Both sides accumulate differently in f32 or better; the data's README gives 2e-4 for logits of deviation 2.5. */
const tolerance = 2e-4;

function maxDifference(actual: Float32Array, expected: Float32Array): number {
  expect(actual.length).toBe(expected.length);
  return actual.reduce((max, value, i) => Math.max(max, Math.abs(value - expected[i]!)), 0);
}

describe.each([
  'llama_plain',
  'llama_swiftkv_g1',
  'llama_swiftkv_g2',
  'llama_swiftkv_g4',
  'llama_swiftkv_hd64',
  'qwen2_swiftkv_g2',
  'qwen2_plain',
  'qwen3_plain',
  'mistral_plain',
])('reference decoder on %s', async (name) => {
  const checkpoint = await openCheckpoint(golden(name));
  const config = parseConfig(checkpoint.config, checkpoint.generationConfig);
  const weights = await readCheckpointTensors(checkpoint);
  const expected = await readSafetensors(golden(`${name}.expected.safetensors`));
  const index = JSON.parse(await readFile(golden(`${name}.expected.json`), 'utf8')) as {
    hidden_index: number;
    kv_layer: number;
  };

  it.each(['seq0', 'seq1'])('gives the logits, hidden states, keys and values of %s', (seq) => {
    const ids = [...expected.get(`${seq}.input_ids`)!.data];
    const result = referenceForward(config, weights, ids);
    const data = (key: string) => expected.get(`${seq}.${key}`)!.data;
    expect(maxDifference(result.logits.data, data('logits'))).toBeLessThan(tolerance);
    expect(maxDifference(result.hidden[index.hidden_index]!.data, data('hidden'))).toBeLessThan(tolerance);
    const cache = cacheOfLayer(config, index.kv_layer);
    expect(maxDifference(result.k[cache]!.data, data('k'))).toBeLessThan(tolerance);
    expect(maxDifference(result.v[cache]!.data, data('v'))).toBeLessThan(tolerance);
    if (seq === 'seq0') {
      const all = expected.get('seq0.hidden_all')!.data;
      const stacked = [...result.hidden.slice(0, config.numLayers), result.normed].flatMap((x) => [...x.data]);
      expect(maxDifference(Float32Array.from(stacked), all)).toBeLessThan(tolerance);
    }
  });

  it('continues greedily with the expected tokens', () => {
    const ids = [...expected.get('seq0.input_ids')!.data];
    expect(referenceGreedy(config, weights, ids, 16)).toEqual([...expected.get('seq0.greedy_ids')!.data]);
  });
});
