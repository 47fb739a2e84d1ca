// What is loaded, and what is refused before anything is allocated.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import type { CheckpointTensor } from '../../lib/checkpoint/safetensors.ts';
import type { ModelConfig } from '../../lib/model/config.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { packedBytes } from '../../lib/model/weight-dtype.ts';
import { planWeights } from '../../lib/model/weight-plan.ts';
import { decoderWeights } from '../../lib/model/weights.ts';
import { type GeneratedModel, plainModel, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';

const folder = await temporaryFolder();
let count = 0;

async function generated(model: Partial<GeneratedModel>): Promise<{
  config: ModelConfig;
  tensors: Map<string, CheckpointTensor>;
}> {
  const dir = join(folder, `${count++}`);
  await writeModel(dir, { ...plainModel, ...model });
  const { checkpoint, config } = await openModel(dir);
  return { config, tensors: checkpoint.tensors };
}

const swiftkv = { layers: 5, kvLayers: 1, group: 2 };
const up = 'model.layers.0.mlp.up_proj.weight';

describe('the plan of a model with norms of heads', async () => {
  const { config, tensors } = await generated({ ...swiftkv, family: 'qwen3', headDim: 16, stripped: true });
  const plan = planWeights(decoderWeights(config), tensors, 'auto', 'here');

  it('has every later layer’s own norm of queries, and the leaders’ norms of keys, one a row', () => {
    expect(plan.unused).toEqual([]);
    const shapes = plan.tensors.flatMap(({ key, dtype, shape }) =>
      /[qk]_norm/.test(key) ? [[key, dtype, shape]] : [],
    );
    expect(shapes).toEqual([
      ['layers.0.q_norm', 'f32', [16]],
      ['layers.0.k_norm', 'f32', [16]],
      ['k_norm_swiftkv', 'f32', [2, 16]],
      ...[1, 2, 3, 4].map((l) => [`layers.${l}.q_norm`, 'f32', [16]]),
    ]);
    const leader = tensors.get('model.layers.3.self_attn.k_norm_swiftkv.weight')!;
    const segment = plan.segments.find(({ offset }) => offset === leader.offset);
    expect(segment).toMatchObject({ key: 'k_norm_swiftkv', rows: 1, k: 16, dstRow: 1 });
  });

  it('is refused where one is missing or of another width', () => {
    const name = 'model.layers.2.self_attn.q_norm_swiftkv.weight';
    const plan = (changed: ReadonlyMap<string, CheckpointTensor>) => () =>
      planWeights(decoderWeights(config), changed, 'auto', 'here');
    expect(plan(new Map([...tensors].filter(([key]) => key !== name)))).toThrow(`here: tensor ${name} [16] is missing`);
    const wide = new Map(tensors).set(name, { ...tensors.get(name)!, shape: [64] });
    expect(plan(wide)).toThrow(/q_norm_swiftkv\.weight: expected the shape \[16\].*received \[64\]/);
  });
});

describe('the plan of a SwiftKV model', async () => {
  const { config, tensors } = await generated(swiftkv);
  const plan = planWeights(decoderWeights(config), tensors, 'auto', 'here');

  it('leaves the teacher’s projections of later layers on disk, and nothing else', () => {
    const teacher = [1, 2, 3, 4].flatMap((l) =>
      ['q', 'k', 'v'].map((p) => `model.layers.${l}.self_attn.${p}_proj.weight`),
    );
    expect(plan.unused.sort()).toEqual(teacher.sort());
  });

  it('puts keys and values of all groups into one matrix: for each group its k rows, then its v rows', () => {
    const target = plan.tensors.find(({ key }) => key === 'kv_swiftkv')!;
    const kv = config.numKvHeads * config.headDim;
    expect(target.shape).toEqual([4 * kv, config.hiddenSize]);
    const at = (name: string) => {
      const { path, offset } = tensors.get(`model.layers.${name}_proj_swiftkv.weight`)!;
      return plan.segments.find((segment) => segment.path === path && segment.offset === offset)!;
    };
    expect(at('1.self_attn.k')).toMatchObject({ key: 'kv_swiftkv', rows: kv, dstRow: 0 });
    expect(at('1.self_attn.v')).toMatchObject({ dstRow: kv });
    expect(at('3.self_attn.k')).toMatchObject({ dstRow: 2 * kv });
    expect(at('3.self_attn.v')).toMatchObject({ dstRow: 3 * kv });
  });

  it('reads files from front to back', () => {
    const order = plan.segments.map(({ path, offset }) => `${path} ${String(offset).padStart(12, '0')}`);
    expect(order).toEqual([...order].sort());
  });

  it('fills every row of every tensor exactly once', () => {
    for (const { key, shape } of plan.tensors) {
      const rows = plan.segments.filter((segment) => segment.key === key).sort((a, b) => a.dstRow - b.dstRow);
      const end = rows.reduce((next, segment) => {
        expect(segment.dstRow).toBe(next);
        return next + segment.rows;
      }, 0);
      expect(end).toBe(shape[0]);
    }
  });
});

describe('dtypes', () => {
  it('follow the files: f32 stays, 16 bits are bf16', async () => {
    for (const [stored, dtype] of [
      ['F32', 'f32'],
      ['BF16', 'bf16'],
    ] as const) {
      const { config, tensors } = await generated({ stored });
      expect(planWeights(decoderWeights(config), tensors, 'auto', 'here').dtype).toBe(dtype);
    }
    const { config, tensors } = await generated({ stored: 'BF16' });
    for (const tensor of tensors.values()) tensor.dtype = 'F16';
    expect(planWeights(decoderWeights(config), tensors, 'auto', 'here')).toMatchObject({
      dtype: 'bf16',
      sourceDTypes: ['f16'],
    });
  });

  it('do not lower one matrix that is stored in f32', async () => {
    const { config, tensors } = await generated({ stored: 'BF16' });
    tensors.get('model.layers.0.mlp.up_proj.weight')!.dtype = 'F32';
    expect(planWeights(decoderWeights(config), tensors, 'auto', 'here').dtype).toBe('f32');
  });

  it.each([
    ['F8_E5M2', /only F8_E4M3 matrices are read; expected F32, BF16 or F16 but received F8_E5M2/],
    ['F64', /expected F32, BF16 or F16 but received F64/],
  ] as const)('refuse %s', async (dtype, message) => {
    const { config, tensors } = await generated({});
    tensors.get('model.layers.1.mlp.up_proj.weight')!.dtype = dtype;
    const plan = () => planWeights(decoderWeights(config), tensors, 'auto', 'here');
    expect(plan).toThrow(message);
    expect(plan).toThrow(expect.objectContaining({ code: 'ERR_MODEL_UNSUPPORTED' }));
  });
});

describe('FP8 matrices', () => {
  /** Every projection as codes with scales of a shape; nothing is read, so the bytes do not matter. */
  async function coded(scaleShape: (rows: number) => number[], fields: Partial<GeneratedModel> = swiftkv) {
    const model = await generated({ stored: 'BF16', ...fields });
    for (const [name, tensor] of [...model.tensors]) {
      if (!/_proj(_swiftkv)?\.weight$/.test(name)) continue;
      model.tensors.set(`${name}_scale`, { ...tensor, shape: scaleShape(tensor.shape[0]!) });
      tensor.dtype = 'F8_E4M3';
    }
    return model;
  }

  it.each([
    ['per output', (rows: number) => [rows, 1], false],
    ['per output, flat', (rows: number) => [rows], false],
    ['per tensor', () => [1], true],
    ['per tensor, scalar', () => [], true],
  ] as const)('stay FP8 with scales %s, each part with its own', async (_, shape, repeat) => {
    const { config, tensors } = await coded((rows) => [...shape(rows)]);
    const plan = planWeights(decoderWeights(config), tensors, 'auto', 'here');
    expect(plan.dtype).toBe('bf16');
    expect([...plan.sourceDTypes].sort()).toEqual(['bf16', 'fp8_e4m3']);
    expect(plan.tensors.find(({ key }) => key === 'head')!.dtype).toBe('bf16');
    expect(plan.tensors.find(({ key }) => key === 'kv_swiftkv')!.dtype).toBe('fp8_e4m3');
    const parts = plan.segments.filter(({ key }) => key === 'layers.0.qkv');
    const [values, scales] = ['values', 'scales'].map((target) =>
      parts.filter((part) => part.target === target).sort((a, b) => a.dstRow - b.dstRow),
    );
    expect(values).toHaveLength(3);
    expect(values!.every(({ dtype, k }) => dtype === 'fp8_e4m3' && k === config.hiddenSize)).toBe(true);
    expect(scales).toMatchObject(values!.map(({ rows, dstRow }) => ({ rows, dstRow, k: 1, repeat, dtype: 'bf16' })));
    expect(plan.unused.filter((name) => !/self_attn\.[qkv]_proj\.weight(_scale)?$/.test(name))).toEqual([]);
  });

  it.each([
    [
      'a scale is missing',
      (t: Map<string, CheckpointTensor>) => t.delete(`${up}_scale`),
      /up_proj\.weight_scale.*missing/,
    ],
    [
      'scales are by block',
      (t: Map<string, CheckpointTensor>) => {
        t.get(`${up}_scale`)!.shape = [3, 2];
      },
      /expected \[\d+, 1\] .* but received \[3,2\]/,
    ],
    [
      'scales are integers',
      (t: Map<string, CheckpointTensor>) => {
        t.get(`${up}_scale`)!.dtype = 'I32';
      },
      /weight_scale: expected F32, BF16 or F16 but received I32/,
    ],
    [
      'its partner in one product is not',
      (t: Map<string, CheckpointTensor>) => {
        t.get(up)!.dtype = 'BF16';
      },
      /gate_proj\.weight is F8_E4M3, but .*up_proj\.weight.*is BF16/,
    ],
  ])('are refused when %s', async (_, spoil, message) => {
    const { config, tensors } = await coded((rows) => [rows, 1]);
    spoil(tensors);
    expect(() => planWeights(decoderWeights(config), tensors, 'auto', 'here')).toThrow(message);
  });

  it('are not requantized', async () => {
    const { config, tensors } = await coded((rows) => [rows, 1]);
    const plan = () => planWeights(decoderWeights(config), tensors, 'auto', 'here', 'int8');
    expect(plan).toThrow(/is stored in FP8; expected auto or fp8 for weightDtype but received int8/);
    expect(() => planWeights(decoderWeights(config), tensors, 'auto', 'here', 'fp8')).not.toThrow();
  });
});

describe('quantizing at load', () => {
  it.each([
    ['fp8', 'fp8_e4m3', 'bf16'],
    ['int8', 'int8', 'int8'],
    ['int4', 'int4', 'int8'],
  ] as const)('%s keeps the head in enough bits', async (weightDtype, matrix, head) => {
    const { config, tensors } = await generated({ ...swiftkv, stored: 'BF16' });
    const plan = planWeights(decoderWeights(config), tensors, 'auto', 'here', weightDtype);
    for (const { key, layout, dtype } of plan.tensors) {
      const expected = layout === 'row_major' ? (key === 'embed' ? 'bf16' : 'f32') : key === 'head' ? head : matrix;
      expect([key, dtype]).toEqual([key, expected]);
    }
    expect(plan.segments.every(({ target, dtype }) => target === 'values' && dtype === 'bf16')).toBe(true);
  });

  it('counts the packed bytes: panels of 64 outputs, their scales, k padded', () => {
    expect(packedBytes('f32', 65, 3)).toBe(128 * 3 * 4);
    expect(packedBytes('bf16', 65, 3)).toBe(128 * 4 * 2);
    expect(packedBytes('fp8_e4m3', 65, 3)).toBe(128 * 4 + 128 * 4);
    expect(packedBytes('int8', 1, 5)).toBe(64 * 8 + 64 * 4);
    expect(packedBytes('int4', 64, 33)).toBe(2 * (64 * 16 + 64 * 2));
    expect(packedBytes('int4', 64, 0)).toBe(0);
  });
});

describe('tied embeddings', () => {
  it('are stored once, and a redundant head is not read', async () => {
    const { config, tensors } = await generated({ tied: true });
    tensors.set('lm_head.weight', { ...tensors.get('model.embed_tokens.weight')! });
    const plan = planWeights(decoderWeights(config), tensors, 'auto', 'here');
    expect(plan.tensors.filter(({ shape }) => shape[0] === config.vocabSize).map(({ key }) => key)).toEqual(['head']);
    expect(plan.unused).toEqual(['lm_head.weight']);
  });
});

describe('a checkpoint that does not fit its config', () => {
  it.each([
    ['model.norm.weight', /here: tensor model\.norm\.weight \[32\] is missing$/],
    ['lm_head.weight', /missing; if the head shares the embedding/],
    ['model.layers.4.self_attn.q_proj_swiftkv.weight', /missing$/],
    ['model.norm_swiftkv.weight', /missing$/],
  ])('lacks %s', async (name, message) => {
    const { config, tensors } = await generated(swiftkv);
    tensors.delete(name);
    const plan = () => planWeights(decoderWeights(config), tensors, 'auto', 'here');
    expect(plan).toThrow(message);
    expect(plan).toThrow(expect.objectContaining({ code: 'ERR_MODEL_INVALID' }));
  });

  it('has another shape', async () => {
    const { config, tensors } = await generated(swiftkv);
    tensors.get('model.layers.0.self_attn.k_proj.weight')!.shape = [32, 16];
    expect(() => planWeights(decoderWeights(config), tensors, 'auto', 'here')).toThrow(
      /k_proj\.weight: expected the shape \[16,32\], which config\.json asks for, but received \[32,16\]/,
    );
  });

  it('has biases that the config denies', async () => {
    const { config, tensors } = await generated({ mlpBias: true });
    expect(() =>
      planWeights(decoderWeights({ ...config, bias: { ...config.bias, mlp: false } }), tensors, 'auto', 'x'),
    ).toThrow(/mlp\..*\.bias exists, but config\.json says/);
  });

  it('was stripped of its teacher, and is asked for the teacher', async () => {
    const { config, tensors } = await generated({ ...swiftkv, stripped: true });
    expect(() => planWeights(decoderWeights(config), tensors, 'auto', 'here')).not.toThrow();
    expect(() => planWeights(decoderWeights({ ...config, numKvLayers: 5 }), tensors, 'auto', 'here')).toThrow(
      /layers\.1\.self_attn\.q_proj.*without its teacher/,
    );
  });
});

it('gives a part without a bias zeros, by leaving its rows alone', async () => {
  const { config, tensors } = await generated({ attentionBias: true });
  const onlyQ = { ...config, bias: { ...config.bias, k: false, v: false, o: false } };
  for (const name of [...tensors.keys()]) if (/[kvo]_proj\.bias$/.test(name)) tensors.delete(name);
  const plan = planWeights(decoderWeights(onlyQ), tensors, 'auto', 'here');
  const q = config.numHeads * config.headDim;
  const kv = config.numKvHeads * config.headDim;
  expect(plan.tensors.find(({ key }) => key === 'layers.0.qkv_bias')!.shape).toEqual([q + 2 * kv]);
  expect(plan.segments.filter(({ key }) => key === 'layers.0.qkv_bias')).toMatchObject([{ rows: q, k: 1, dstRow: 0 }]);
});

it('opens the golden checkpoints without reading a tensor', async () => {
  const { tensors } = await openCheckpoint(new URL('../golden/data/llama_swiftkv_hd64', import.meta.url).pathname);
  expect(tensors.size).toBeGreaterThan(30);
});
