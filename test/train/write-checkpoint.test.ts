// Checkpoints of models in training: what is given is stored, what is not is the base's.

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { type BaseModel, openBase, parameterShapes } from '../../lib/train/base-model.ts';
import { initialTensors } from '../../lib/train/swiftkv-init.ts';
import { type Parameters, writeModelCheckpoint, writeSwiftKVCheckpoint } from '../../lib/train/write-checkpoint.ts';
import { plainModel, randomStream, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { readCheckpointTensors } from '../reference/tensors.ts';

const folder = await temporaryFolder();
const layout = { numKvLayers: 2, groupSize: 2 };
let made = 0;
const fresh = () => join(folder, `out-${++made}`);

async function bf16Base(): Promise<BaseModel> {
  const dir = fresh();
  await writeModel(dir, { ...plainModel, layers: 4, stored: 'BF16', tied: true });
  return openBase(dir);
}

const base = await bf16Base();
const tensorsOf = async (dir: string) => readCheckpointTensors(await openCheckpoint(dir));

/** Masters as a trainer has them: f32, off the grid of bf16. */
async function masters(): Promise<Map<string, Float32Array>> {
  const random = randomStream(7);
  const initial = await initialTensors(base, layout);
  return new Map([...initial].map(([name, { data }]) => [name, data.map((x) => x + random() * 1e-3)]));
}

const nearestBf16 = (values: Float32Array) =>
  Float32Array.from(values, (x) => {
    const word = new Uint32Array(Float32Array.of(x).buffer)[0]!;
    return new Float32Array(Uint32Array.of((word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000).buffer)[0]!;
  });

describe('a student', () => {
  it('stores f32 masters as the base stores its tensors, or as asked', async () => {
    const trained = await masters();
    const out = fresh();
    await writeSwiftKVCheckpoint(out, base, layout, trained);
    const wide = fresh();
    await writeSwiftKVCheckpoint(wide, base, layout, trained, { dtype: 'F32', variant: true });
    const [narrowed, kept] = [await tensorsOf(out), await tensorsOf(wide)];
    for (const [name, data] of trained) {
      expect(narrowed.get(name)!.data, name).toEqual(nearestBf16(data));
      expect(kept.get(name)!.data, name).toEqual(data);
    }
    expect((await openCheckpoint(out)).tensors.get('model.norm_swiftkv.weight')!.dtype).toBe('BF16');
    expect((await openModel(wide)).checkpoint.base!.dir).toBe(base.checkpoint.dir);
  });

  it('stores bits of bf16 as they are', async () => {
    const codes = new Map(
      [...(await masters())].map(([name, data]) => [name, Uint16Array.from(data, (_, i) => (i * 37) % 0x7f00)]),
    );
    const out = fresh();
    await writeSwiftKVCheckpoint(out, base, layout, codes);
    const stored = await tensorsOf(out);
    for (const [name, expected] of codes) {
      const words = new Uint32Array(stored.get(name)!.data.buffer);
      expect(
        Uint16Array.from(words, (word) => word >>> 16),
        name,
      ).toEqual(expected);
    }
  });

  it('is written again from a student as base, whose own SwiftKV tensors give way', async () => {
    const first = fresh();
    await writeSwiftKVCheckpoint(first, base, layout, await masters());
    const again = fresh();
    const narrower = { numKvLayers: 3, groupSize: 1 };
    const initial = await initialTensors(base, narrower);
    const data = new Map([...initial].map(([name, tensor]) => [name, tensor.data]));
    await writeSwiftKVCheckpoint(again, await openModel(first), narrower, data);
    const { config, checkpoint } = await openModel(again);
    expect(config).toMatchObject({ modelType: 'llama_swiftkv', ...narrower });
    expect([...checkpoint.tensors.keys()].filter((name) => name.includes('_swiftkv')).sort()).toEqual(
      [...data.keys()].sort(),
    );
  });

  it('takes the place of a checkpoint only where that is asked for', async () => {
    const out = fresh();
    await mkdir(out);
    await writeFile(join(out, 'old'), '');
    const trained = await masters();
    await expect(writeSwiftKVCheckpoint(out, base, layout, trained)).rejects.toThrow(/has old/);
    await writeSwiftKVCheckpoint(out, base, layout, trained, { replace: true });
    expect((await readdir(out)).sort()).toEqual(['config.json', 'model.safetensors']);
    // Nor is anything left beside it.
    expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('is refused when a tensor is missing, unknown or of another size', async () => {
    const trained = await masters();
    const [[name, data]] = [...trained] as [[string, Float32Array]];
    const refused = (tensors: Parameters) => writeSwiftKVCheckpoint(fresh(), base, layout, tensors);
    await expect(refused(new Map([...trained].slice(1)))).rejects.toThrow(`Expected ${name} among the tensors`);
    await expect(refused(new Map([...trained, ['lm_head.weight', data]]))).rejects.toThrow(
      /no tensor "lm_head.weight"/,
    );
    await expect(refused(new Map([...trained, [name, data.subarray(1)]]))).rejects.toThrow(/Expected \d+ values for/);
  });
});

describe('a model', () => {
  it('has the parameters given and the others of its base', async () => {
    const name = 'model.layers.1.mlp.down_proj.weight';
    const before = await tensorsOf(base.checkpoint.dir);
    const data = before.get(name)!.data.map((x) => 2 * x);
    const out = fresh();
    await writeModelCheckpoint(out, base, new Map([[name, data]]));
    const after = await tensorsOf(out);
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    for (const [other, tensor] of before) {
      expect(after.get(other)!.data, other).toEqual(other === name ? data : tensor.data);
    }
    expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).toEqual(base.checkpoint.config);
  });

  it('may have more layers than its base, if their parameters are given', async () => {
    const config = { num_hidden_layers: 5 };
    const shapes = parameterShapes({ ...base.config, numLayers: 5, numKvLayers: 5 });
    const layer = [...shapes].filter(([name]) => name.startsWith('model.layers.4.'));
    const data = new Map(
      layer.map(([name, shape]) => [name, new Float32Array(shape.reduce((n, size) => n * size, 1)).fill(0.5)]),
    );
    const out = fresh();
    await writeModelCheckpoint(out, base, data, { config });
    const { config: parsed, checkpoint } = await openModel(out);
    expect(parsed.numLayers).toBe(5);
    expect(checkpoint.tensors.get('model.layers.4.mlp.up_proj.weight')!.dtype).toBe('BF16');
    await expect(writeModelCheckpoint(fresh(), base, new Map(), { config })).rejects.toThrow(
      /Expected model.layers.4.input_layernorm.weight \[32\] among the parameters/,
    );
  });

  it('is refused a parameter that it does not have', async () => {
    // A tied head is the embedding: a copy of its own would contradict it.
    const head = new Map([['lm_head.weight', new Float32Array(1)]]);
    await expect(writeModelCheckpoint(fresh(), base, head)).rejects.toThrow(/no parameter lm_head.weight/);
  });
});
