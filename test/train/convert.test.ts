// A plain checkpoint becomes a SwiftKV one: bit for bit what the public trainer starts from, in the layout that its
// classes load, and nothing at all where something goes wrong.

import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { readSafetensorsHeader } from '../../lib/checkpoint/safetensors.ts';
import { writeModelFolder } from '../../lib/checkpoint/write-folder.ts';
import { writeSafetensors } from '../../lib/checkpoint/write-safetensors.ts';
import { Engine } from '../../lib/engine/engine.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { openBase } from '../../lib/train/base-model.ts';
import { convertModel } from '../../lib/train/convert.ts';
import { initialTensors } from '../../lib/train/swiftkv-init.ts';
import { type GeneratedModel, plainModel, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { type HostTensor, readCheckpointTensors, readSafetensors } from '../reference/tensors.ts';

const folder = await temporaryFolder();
const golden = fileURLToPath(new URL('../golden/data', import.meta.url));
const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

let made = 0;
const fresh = () => join(folder, `out-${++made}`);

async function generated(change: Partial<GeneratedModel>): Promise<string> {
  const dir = fresh();
  await writeModel(dir, { ...plainModel, ...change });
  return dir;
}

const converted = async (base: string, kvLayers: number | string, groupSize?: number, more = {}) => {
  const out = fresh();
  await convertModel(base, { kvLayers, groupSize, out, ...more });
  return out;
};

/** Nearest bf16, ties to even. */
function bf16(x: number): number {
  const word = new Uint32Array(Float32Array.of(x).buffer)[0]!;
  const rounded = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(Uint32Array.of(rounded).buffer)[0]!;
}

/** The rule of the initialisation, in words of its own: every division and every addition is rounded. */
function expectedMean(terms: readonly Float32Array[], round: (x: number) => number): Float32Array {
  return Float32Array.from(terms[0]!, (_, i) =>
    terms.reduce((sum, term) => round(sum + round(term[i]! / terms.length)), 0),
  );
}

function expectInitialised(
  all: ReadonlyMap<string, HostTensor>,
  {
    layers,
    kvLayers,
    group,
    biased,
    round,
  }: Record<'layers' | 'kvLayers' | 'group', number> & {
    biased: boolean;
    round: (x: number) => number;
  },
): void {
  const data = (name: string) => all.get(name)!.data;
  const same = (name: string, expected: Float32Array) => expect(bits(data(name)), name).toEqual(bits(expected));
  const added = new Set(['model.norm_swiftkv.weight']);
  same('model.norm_swiftkv.weight', data(`model.layers.${kvLayers}.input_layernorm.weight`));
  for (let l = kvLayers; l < layers; l++) {
    for (const part of biased ? ['weight', 'bias'] : ['weight']) {
      const q = `model.layers.${l}.self_attn.q_proj`;
      added.add(`${q}_swiftkv.${part}`);
      same(`${q}_swiftkv.${part}`, data(`${q}.${part}`));
      if ((l - kvLayers) % group !== 0) continue;
      for (const p of ['k', 'v']) {
        const name = `model.layers.${l}.self_attn.${p}_proj_swiftkv.${part}`;
        added.add(name);
        const terms = Array.from({ length: group }, (_, i) =>
          data(`model.layers.${l + i}.self_attn.${p}_proj.${part}`),
        );
        same(name, expectedMean(terms, round));
      }
    }
  }
  expect([...all.keys()].filter((name) => name.includes('_swiftkv')).sort()).toEqual([...added].sort());
}

describe('the initialisation', () => {
  it('equals the reference trainer in bits', async () => {
    const expected = await readSafetensors(`${golden}/init_g2.safetensors`);
    const names = [...expected.keys()].filter((name) => name.includes('swiftkv')).sort();
    expect(names).toHaveLength(5);

    // The reference up-casts the checkpoint; so does this copy of it.
    const f32 = fresh();
    await mkdir(f32);
    await cp(`${golden}/llama_plain/config.json`, `${f32}/config.json`);
    const wide = [...(await readSafetensors(`${golden}/llama_plain/model.safetensors`))].map(([name, t]) => ({
      name,
      dtype: 'F32' as const,
      shape: t.shape,
      data: new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength),
    }));
    await writeSafetensors(`${f32}/model.safetensors`, wide);
    const written = await readCheckpointTensors(await openCheckpoint(await converted(f32, 2, 2)));
    const inMemory = await initialTensors(
      await openBase(`${golden}/llama_plain`),
      { numKvLayers: 2, groupSize: 2 },
      'f32',
    );
    expect([...inMemory.keys()].sort()).toEqual(names);
    for (const name of names) {
      expect(written.get(name)!.shape).toEqual(expected.get(name)!.shape);
      expect(bits(written.get(name)!.data), name).toEqual(bits(expected.get(name)!.data));
      expect(bits(inMemory.get(name)!.data), name).toEqual(bits(expected.get(name)!.data));
    }
  });

  it.each([
    { family: 'llama', stored: 'BF16', layers: 4, kvLayers: 1, group: 1, shards: 1 },
    { family: 'llama', stored: 'BF16', layers: 7, kvLayers: 1, group: 3, shards: 2 },
    { family: 'llama', stored: 'F32', layers: 6, kvLayers: 1, group: 5, shards: 1 },
    { family: 'qwen2', stored: 'BF16', layers: 6, kvLayers: 2, group: 4, shards: 3 },
    { family: 'qwen2', stored: 'F32', layers: 4, kvLayers: 3, group: 1, shards: 1 },
    { family: 'llama', stored: 'BF16', layers: 4, kvLayers: 2, group: 2, shards: 1, attentionBias: true },
  ] as const)('follows its rule for $family $stored, $layers layers, n $kvLayers, groups of $group', async (shape) => {
    const { kvLayers, group, layers, family, stored } = shape;
    const attentionBias = 'attentionBias' in shape;
    const base = await generated({ family, stored, layers, shards: shape.shards, attentionBias, kvLayers: null });
    const out = await converted(base, kvLayers, group);
    const all = await readCheckpointTensors(await openCheckpoint(out));
    const biased = family === 'qwen2' || attentionBias;
    const round = stored === 'BF16' ? bf16 : Math.fround;
    expectInitialised(all, { layers, kvLayers, group, biased, round });
    // The base is all there, teacher's projections included, as it was.
    for (const [name, tensor] of await readCheckpointTensors(await openCheckpoint(base))) {
      expect(bits(all.get(name)!.data), name).toEqual(bits(tensor.data));
    }
    const inMemory = await initialTensors(await openBase(base), { numKvLayers: kvLayers, groupSize: group });
    for (const [name, { data }] of inMemory) expect(bits(data), name).toEqual(bits(all.get(name)!.data));
  });

  it('averages norms of heads like the projections', async () => {
    const base = await generated({ family: 'qwen3', layers: 3, headDim: 8 });
    const all = await readCheckpointTensors(await openCheckpoint(await converted(base, 1, 2)));
    const data = (name: string) => all.get(`model.layers.${name}.weight`)!.data;
    const terms = [data('1.self_attn.k_norm'), data('2.self_attn.k_norm')];
    expect(data('1.self_attn.k_norm_swiftkv')).toEqual(expectedMean(terms, Math.fround));
    expect(data('2.self_attn.q_norm_swiftkv')).toEqual(data('2.self_attn.q_norm'));
  });
});

describe('the folder', () => {
  it('has the config that the public classes read, with all else as it was', async () => {
    const base = await generated({ family: 'qwen2', layers: 4, spelling: 'new' });
    const written = JSON.parse(await readFile(join(await converted(base, '50%', 2), 'config.json'), 'utf8'));
    const { model_type: _, ...rest } = JSON.parse(await readFile(join(base, 'config.json'), 'utf8'));
    expect(written).toEqual({
      ...rest,
      architectures: ['Qwen2SwiftKVForCausalLM'],
      model_type: 'qwen2_swiftkv',
      swiftkv: true,
      num_key_value_layers: 2,
      key_value_group_size: 2,
    });
  });

  it('loads whole, and answers like the variant that names its base', async () => {
    const whole = await converted('embedded:base', '50%', 4, { variant: false });
    const variant = await converted('embedded:base', '50%', 4);
    expect((await readdir(whole)).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect((await readdir(variant)).sort()).toEqual(['config.json', 'model.safetensors']);
    const layout = JSON.parse(await readFile(join(variant, 'config.json'), 'utf8'));
    const today = JSON.parse(
      await readFile(fileURLToPath(new URL('../../models/swiftkv-50-g4/config.json', import.meta.url)), 'utf8'),
    );
    expect(Object.entries({ ...layout, swiftkv_base: '../base' })).toEqual(Object.entries(today));
    const own = await readSafetensorsHeader(join(variant, 'model.safetensors'));
    expect([...own.keys()].every((name) => name.includes('_swiftkv'))).toBe(true);
    const answers = await Promise.all(
      [whole, variant].map(async (dir) => {
        await using engine = await Engine.load(dir, { dtype: 'f32' });
        const generation = engine.generate({ prompt: 'The code for Mara is 4821.', maxTokens: 12, temperature: 0 });
        return (await generation.result()).text;
      }),
    );
    expect(answers[0]).toBe(answers[1]);
  });

  it('is cut into shards with an index above the size given', async () => {
    const base = await generated({ layers: 4 });
    const out = await converted(base, 2, 2, { maxShardBytes: 20_000 });
    const index = JSON.parse(await readFile(join(out, 'model.safetensors.index.json'), 'utf8'));
    const files = [...new Set(Object.values(index.weight_map))] as string[];
    expect(files.length).toBeGreaterThan(3);
    expect(files[0]).toBe(`model-00001-of-0000${files.length}.safetensors`);
    const whole = await readCheckpointTensors(await openCheckpoint(await converted(base, 2, 2)));
    const sharded = await readCheckpointTensors(await openCheckpoint(out));
    expect([...sharded].sort()).toEqual([...whole].sort());
    const bytes = [...whole.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    expect(index.metadata.total_size).toBe(bytes);
    expect((await openModel(out)).config.numKvLayers).toBe(2);
  });
});

describe('a refusal', () => {
  const nothingIn = async (dir: string) =>
    expect((await readdir(dir)).filter((name) => name.startsWith('.'))).toEqual([]);

  it.each([
    [0, 1, /kvLayers to be 1 to 7 of the 8 layers.*received 0/],
    [8, 1, /kvLayers to be 1 to 7/],
    [2.5, 1, /kvLayers/],
    ['', 1, /kvLayers/],
    ['100%', 1, /kvLayers/],
    ['1%', 1, /kvLayers/],
    ['half', 1, /kvLayers/],
    [4, 3, /groupSize to divide the 4 layers from 4 on \(1, 2, 4\) but received 3/],
    [4, 0, /groupSize/],
    [3, 1.5, /groupSize/],
  ])('of the counts %j and %j says what would do', async (kvLayers, groupSize, message) => {
    const failure = convertModel('embedded:base', { kvLayers, groupSize, out: fresh() });
    await expect(failure).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  it('of a SwiftKV model names the base to start from', async () => {
    await expect(convertModel('embedded:swiftkv-50', { kvLayers: 4, out: fresh() })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/is a SwiftKV model already.*models.base/),
    });
    await expect(convertModel(`${golden}/llama_swiftkv_g1`, { kvLayers: 3, out: fresh() })).rejects.toThrow(
      /is a SwiftKV model already \(model_type llama_swiftkv\); give the plain model/,
    );
  });

  it('of quantized weights asks for the float checkpoint', async () => {
    const base = await generated({ layers: 4 });
    const config = JSON.parse(await readFile(join(base, 'config.json'), 'utf8'));
    config.quantization_config = { quant_method: 'compressed-tensors', format: 'float-quantized', config_groups: {} };
    await writeFile(join(base, 'config.json'), JSON.stringify(config));
    await expect(convertModel(base, { kvLayers: 2, out: fresh() })).rejects.toMatchObject({
      code: 'ERR_MODEL_UNSUPPORTED',
      message: expect.stringMatching(/is quantized \(config.json has quantization_config\).*f32, bf16 or f16/),
    });
  });

  it('of a folder with contents leaves them', async () => {
    const out = fresh();
    await mkdir(out);
    await writeFile(join(out, 'mine'), 'x');
    await expect(convertModel('embedded:base', { kvLayers: 4, out })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('has mine'),
    });
    expect(await readdir(out)).toEqual(['mine']);
  });

  it('in the middle of writing leaves nothing behind', async () => {
    const where = fresh();
    await mkdir(where);
    async function* full(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(8);
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    }
    const tensors = [{ name: 'x', dtype: 'F32' as const, shape: [4], data: full() }];
    const contents = { config: {}, generationConfig: null, tokenizerDir: null, tensors };
    await expect(writeModelFolder(join(where, 'out'), contents)).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringMatching(/disk is full.*free some space/),
    });
    expect(await readdir(where)).toEqual([]);

    const signal = AbortSignal.abort();
    await expect(convertModel('embedded:base', { kvLayers: 4, out: join(where, 'out'), signal })).rejects.toMatchObject(
      {
        code: 'ERR_ABORTED',
      },
    );
    await nothingIn(where);
  });

  it('of more than the disk can hold comes before anything is written', async () => {
    const where = fresh();
    await mkdir(where);
    const tensors = [{ name: 'x', dtype: 'F32' as const, shape: [2 ** 48], data: new Uint8Array(0) }];
    const contents = { config: {}, generationConfig: null, tokenizerDir: null, tensors };
    await expect(writeModelFolder(join(where, 'out'), contents)).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringMatching(/Expected 1125899906842624 bytes of free space/),
    });
    expect(await readdir(where)).toEqual([]);
  });
});
