// A SwiftKV variant that names its base loads as if it were whole, and is exported as one that is.

import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Checkpoint, openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { exportModel } from '../../lib/checkpoint/export.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { configOf, plainModel, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { readCheckpointTensors } from '../reference/tensors.ts';

const folder = await temporaryFolder();
const embedded = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));

const variant = { ...plainModel, layers: 3, kvLayers: 1, group: 2 };

/** `whole` has everything; `base` and `variant` beside it are the same in two parts. */
async function split(name: string, change: (config: Record<string, unknown>) => void = () => {}): Promise<string> {
  const dir = join(folder, name);
  await writeModel(join(dir, 'whole'), variant);
  await writeModel(join(dir, 'base'), { ...plainModel, layers: 3 });
  const own = join(dir, 'variant');
  await writeModel(own, variant);
  const config: Record<string, unknown> = { ...configOf(variant), swiftkv_base: '../base' };
  change(config);
  await writeFile(join(own, 'config.json'), JSON.stringify(config));
  return own;
}

async function expectSameTensors(actual: Checkpoint, expected: Checkpoint): Promise<void> {
  const bits = async (checkpoint: Checkpoint) =>
    Object.fromEntries(
      [...(await readCheckpointTensors(checkpoint))].map(([name, { shape, data }]) => [
        name,
        `${shape} ${createHash('sha256').update(data).digest('hex')}`,
      ]),
    );
  expect(await bits(actual)).toEqual(await bits(expected));
}

describe('a variant', () => {
  it('has its own tensors and the rest of its base', async () => {
    const { tensors, base, tokenizerDir } = await openCheckpoint(embedded('swiftkv-50'));
    expect(tensors.get('model.norm_swiftkv.weight')!.path).toContain('swiftkv-50');
    expect(tensors.get('model.norm.weight')!.path).toContain('base');
    expect(base!.dir).toBe(embedded('base'));
    expect(tokenizerDir).toBe(embedded('base'));
  });

  it('takes the end-of-sequence ids of its base', async () => {
    expect((await openModel(embedded('swiftkv-50-g4'))).config.eosTokenIds).toEqual([1, 6]);
  });

  it('hides a tensor of its base by its own of that name', async () => {
    const { tensors } = await openCheckpoint(await split('hides'));
    expect(tensors.get('model.norm.weight')!.path).toContain('variant');
  });

  it.each([
    ['/tmp/base', /path relative to the folder/],
    ['', /path relative to the folder/],
    [7, /path relative to the folder/],
    ['../nowhere', /names the base "..\/nowhere".*does not exist/],
  ])('refuses the base %j', async (base, message) => {
    const dir = await split(`base-${typeof base}-${String(base).replace(/\W/g, '')}`, (config) => {
      config['swiftkv_base'] = base;
    });
    await expect(openCheckpoint(dir)).rejects.toThrow(message);
  });

  it('refuses a base that names a base itself', async () => {
    const dir = await split('chain');
    const far = join(folder, 'chain', 'far');
    await mkdir(far);
    await writeFile(join(far, 'config.json'), JSON.stringify({ ...configOf(variant), swiftkv_base: '../variant' }));
    await expect(openCheckpoint(far)).rejects.toThrow(/names a base itself/);
    await expect(openCheckpoint(dir)).resolves.toBeDefined();
  });

  it('refuses itself as its base', async () => {
    const dir = await split('self', (config) => {
      config['swiftkv_base'] = '.';
    });
    await expect(openCheckpoint(dir)).rejects.toThrow(/names a base itself/);
  });

  it.each([
    ['vocab_size', 71],
    ['hidden_size', 64],
    ['num_hidden_layers', 5],
    ['intermediate_size', 41],
    ['num_key_value_heads', 1],
    ['head_dim', 16],
    ['rms_norm_eps', 1e-6],
    ['rope_theta', 10000],
    ['attention_bias', true],
    ['tie_word_embeddings', true],
  ])('refuses a base with another %s', async (field, value) => {
    const dir = await split(`differs-${field}`, (config) => {
      config[field] = value;
    });
    await expect(openModel(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    await expect(openModel(dir)).rejects.toThrow(/but the base/);
  });
});

describe('export', () => {
  it('writes a folder that is whole, bit for bit', async () => {
    const out = join(folder, 'exported');
    await exportModel(embedded('swiftkv-50'), out);
    expect((await readdir(out)).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).not.toHaveProperty('swiftkv_base');
    const exported = await openModel(out);
    const source = await openModel(embedded('swiftkv-50'));
    expect(exported.checkpoint.base).toBeNull();
    expect(exported.config).toEqual({ ...source.config, base: null });
    // The teacher's projections of later layers stay, as in published checkpoints.
    expect(exported.checkpoint.tensors.has('model.layers.7.self_attn.k_proj.weight')).toBe(true);
    await expectSameTensors(exported.checkpoint, source.checkpoint);
  });

  it('merges shards', async () => {
    const dir = join(folder, 'shards');
    await writeModel(dir, { ...plainModel, shards: 3, stored: 'BF16' });
    const out = join(folder, 'merged');
    await exportModel(dir, out);
    await expectSameTensors(await openCheckpoint(out), await openCheckpoint(dir));
  });

  it('takes an empty folder and refuses one with contents', async () => {
    const out = join(folder, 'empty');
    await mkdir(out);
    await exportModel(embedded('base'), out);
    await expect(exportModel(embedded('base'), out)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });

  it('leaves nothing behind when it is stopped', async () => {
    const parent = join(folder, 'stopped');
    await mkdir(parent);
    const signal = AbortSignal.abort();
    await expect(exportModel(embedded('base'), join(parent, 'out'), { signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    });
    expect(await readdir(parent)).toEqual([]);
  });
});
