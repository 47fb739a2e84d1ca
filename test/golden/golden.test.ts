// The reference's outputs, compared by the same code that `npm run test:golden` runs.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { checkDistillation, checkFolder, checkFp8Table, checkModel, dtypes } from '../../lib/golden/report.ts';
import { optionsOf, places } from '../places.ts';

const dir = fileURLToPath(new URL('data', import.meta.url));
const models = [
  'llama_plain',
  'llama_swiftkv_g1',
  'llama_swiftkv_g2',
  'llama_swiftkv_g4',
  'llama_swiftkv_hd64',
  'llama_swiftkv_fp8',
  'qwen2_swiftkv_g2',
  'qwen2_plain',
  'qwen3_plain',
  'mistral_plain',
];

const settings = dtypes.flatMap((dtype) => places.map((place) => ({ dtype, place })));

describe.each(models)('%s', (model) => {
  it.each(settings)('answers like the reference in $dtype on $place', async ({ dtype, place }) => {
    const { comparisons } = await checkModel(dir, model, dtype, place);
    // On the cpu everything is there twice, on one thread and on two.
    expect(comparisons.length).toBeGreaterThan(optionsOf(place).device === 'cpu' ? 50 : 40);
    expect(comparisons.filter((c) => !c.ok)).toEqual([]);
  });
});

it('converts fp8_e4m3 like the reference, bit for bit', async () => {
  const { comparisons } = await checkFp8Table(`${dir}/fp8_e4m3.safetensors`);
  expect(comparisons.filter((c) => !c.ok)).toEqual([]);
});

it('starts a student like the reference, bit for bit', async () => {
  const { cases, notSupported } = await checkFolder(dir, 'init_g2');
  expect(cases.map(({ name, comparisons }) => [name, comparisons.length])).toEqual([['init_g2', 6]]);
  expect(cases[0]!.comparisons.filter((c) => !c.ok)).toEqual([]);
  expect(notSupported).toEqual([]);
});

const distilled = ['llama_swiftkv_g1', 'llama_swiftkv_g2', 'qwen2_swiftkv_g2'];
const levels = places.filter((place) => optionsOf(place).device === 'cpu');

describe.skipIf(levels.length === 0).each(distilled)('distillation of %s', (model) => {
  it.each(levels)('has the losses, gradients and steps of the reference at %s', async (place) => {
    const { comparisons } = await checkDistillation(dir, model, place);
    expect(comparisons.length).toBeGreaterThanOrEqual(100);
    expect(comparisons.filter((c) => !c.ok)).toEqual([]);
  });
});

it('a folder without golden data is an error, not a success', async () => {
  await expect(checkFolder(fileURLToPath(new URL('.', import.meta.url)), '')).rejects.toThrow(/golden data/);
  await expect(checkFolder('/does/not/exist', '')).rejects.toThrow(/does\/not\/exist/);
});
