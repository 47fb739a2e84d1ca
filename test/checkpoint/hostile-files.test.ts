// Every file of a model folder, cut, swapped, replaced by something that is no file, or holding nonsense: opening the
// folder ends in a coded error that names the file, soon, and without memory that the file's size does not justify.

import { execFileSync } from 'node:child_process';
import { copyFile, cp, mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { openAll, readJson, tinyFiles, writeTinyModel } from './hostile-model.ts';

const folder = await temporaryFolder();
const whole = join(folder, 'whole');
const sharded = join(folder, 'sharded');
await writeTinyModel(whole);
await writeTinyModel(sharded, { shards: 2 });
await writeTinyModel(join(folder, 'other-base'), { hiddenSize: 16, kvLayers: null });
let count = 0;

async function copyOf(dir: string): Promise<string> {
  const copy = join(folder, `copy${count++}`);
  await cp(dir, copy, { recursive: true });
  return copy;
}

/** The error of opening `dir`, which must be coded, name what is wrong, and be no defect. */
async function refusal(dir: string): Promise<SwiftKVError> {
  const error = await openAll(dir).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error, 'an error').not.toBeNull();
  expect(SwiftKVError.is(error), String(error)).toBe(true);
  expect((error as SwiftKVError).code, String(error)).not.toBe('ERR_INTERNAL');
  return error as SwiftKVError;
}

const jsonFiles = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'];
const files = [...jsonFiles, 'model.safetensors', 'chat_template.jinja'];

it('the folder that the others are made from is good', async () => {
  await openAll(whole);
  await openAll(sharded);
});

describe('a file cut short', () => {
  it('at any byte of the weights', async () => {
    const dir = await copyOf(whole);
    const path = join(dir, 'model.safetensors');
    const bytes = await readFile(path);
    const header = Number(bytes.readBigUInt64LE(0));
    const ends = new Set<number>([0, 1, 7, 8, 9, 8 + header - 1, 8 + header, 8 + header + 1, bytes.length - 1]);
    for (let i = 0; i < 8 + header; i += 37) ends.add(i);
    for (let i = 8 + header; i < bytes.length; i += 501) ends.add(i);
    for (const tensor of Object.values(JSON.parse(bytes.toString('utf8', 8, 8 + header))) as never[]) {
      const { data_offsets: offsets } = tensor as { data_offsets?: [number, number] };
      if (offsets && offsets[1] < bytes.length - 8 - header) ends.add(8 + header + offsets[1]);
    }
    for (const end of ends) {
      await writeFile(path, bytes.subarray(0, end));
      const error = await refusal(dir);
      expect(error, `cut at ${end}`).toMatchObject({ code: 'ERR_MODEL_INVALID' });
      expect(error.message).toContain(path);
    }
  });

  it.each(jsonFiles)('%s, at any byte', async (name) => {
    const dir = await copyOf(whole);
    const path = join(dir, name);
    const text = await readFile(path);
    for (let end = 0; end < text.length; end += Math.max(1, Math.floor(text.length / 40))) {
      await writeFile(path, text.subarray(0, end));
      const error = await refusal(dir);
      expect(error).toMatchObject({ code: 'ERR_MODEL_INVALID' });
      expect(error.message).toContain(path);
    }
  });
});

describe('something else in the place of a file', () => {
  it.each([...files, 'model.safetensors.index.json'])('%s is a folder', async (name) => {
    const dir = await copyOf(whole);
    await rm(join(dir, name), { force: true });
    await mkdir(join(dir, name));
    expect(await refusal(dir)).toMatchObject({
      code: 'ERR_MODEL_INVALID',
      message: expect.stringMatching(new RegExp(`${name}: expected a regular file but it is a folder`)),
    });
  });

  it.skipIf(process.platform === 'win32').each([...files, 'model.safetensors.index.json'])(
    '%s is a pipe that nobody writes to',
    { timeout: 5000 },
    async (name) => {
      const dir = await copyOf(whole);
      await rm(join(dir, name), { force: true });
      execFileSync('mkfifo', [join(dir, name)]);
      expect(await refusal(dir)).toMatchObject({
        code: 'ERR_MODEL_INVALID',
        message: expect.stringMatching(new RegExp(`${name}: expected a regular file but it is a pipe`)),
      });
    },
  );

  it('a device without an end is the config', async () => {
    const dir = await copyOf(whole);
    await rm(join(dir, 'config.json'));
    await symlink('/dev/zero', join(dir, 'config.json'));
    expect(await refusal(dir)).toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });

  it('a link to itself', async () => {
    const dir = await copyOf(whole);
    await rm(join(dir, 'model.safetensors'));
    await symlink('model.safetensors', join(dir, 'model.safetensors'));
    expect(await refusal(dir)).toMatchObject({ code: 'ERR_IO' });
  });

  it('a link to a file elsewhere is followed, as caches of downloads are made of them', async () => {
    const dir = await copyOf(whole);
    await rm(join(dir, 'model.safetensors'));
    await symlink(join(whole, 'model.safetensors'), join(dir, 'model.safetensors'));
    await openAll(dir);
  });

  it.each(jsonFiles)('%s is gigabytes of nothing', async (name) => {
    const dir = await copyOf(whole);
    await truncate(join(dir, name), 2 ** 33); // sparse
    expect(await refusal(dir)).toMatchObject({
      code: 'ERR_MODEL_INVALID',
      message: expect.stringMatching(/expected at most \d+ bytes but the file has 8589934592/),
    });
  });
});

describe('JSON that is none, or too much', () => {
  const bad: [string, string | Uint8Array][] = [
    ['empty', ''],
    ['null', 'null'],
    ['a list', '[]'],
    ['a text', '"x"'],
    ['with a byte order mark', '\ufeff{}'],
    ['not UTF-8', Uint8Array.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ['a UTF-8 surrogate', Uint8Array.from([0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x3a, 0x31, 0x7d])],
    ['with NaN', '{"rms_norm_eps": NaN}'],
    ['with Infinity', '{"rope_theta": Infinity}'],
    ['a hundred thousand levels deep', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
    ['with one key twice', '{"model_type":"llama","model_type":"llama_swiftkv"}'],
    ['with a comment', '{} // no'],
  ];
  for (const name of jsonFiles) {
    it.each(bad)(`${name} %s`, async (_, text) => {
      const dir = await copyOf(whole);
      const path = join(dir, name);
      await writeFile(path, text);
      const error = await refusal(dir);
      expect(error).toMatchObject({ code: 'ERR_MODEL_INVALID' });
      expect(error.message).toContain(path);
    });
  }

  it('a chat template that is not UTF-8', async () => {
    const dir = await copyOf(whole);
    await writeFile(join(dir, 'chat_template.jinja'), Uint8Array.from([0xff, 0xfe, 0x41]));
    expect(await refusal(dir)).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/UTF-8/) });
  });
});

const absurd: unknown[] = [
  null,
  'x',
  '8',
  true,
  false,
  [],
  [1],
  {},
  -1,
  0,
  0.5,
  1e308,
  -1e308,
  5e-324,
  2 ** 31,
  2 ** 53,
  2 ** 64,
];

describe('absurd values', () => {
  const keys = [
    'model_type',
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'hidden_act',
    'rms_norm_eps',
    'max_position_embeddings',
    'tie_word_embeddings',
    'attention_bias',
    'mlp_bias',
    'eos_token_id',
    'bos_token_id',
    'rope_theta',
    'rope_scaling',
    'rope_parameters',
    'partial_rotary_factor',
    'sliding_window',
    'use_sliding_window',
    'layer_types',
    'num_experts',
    'kv_lora_rank',
    'quantization_config',
    'swiftkv',
    'swiftkv_base',
    'num_key_value_layers',
    'key_value_group_size',
  ];

  /** Opens the model with the change: either it is refused by name, or the value means what it meant before. */
  async function tryEach(file: string, change: (json: Record<string, unknown>, value: unknown) => void) {
    const dir = await copyOf(whole);
    const path = join(dir, file);
    const json = await readJson(path);
    for (const value of absurd) {
      const changed = structuredClone(json);
      change(changed, value);
      await writeFile(path, JSON.stringify(changed));
      await openAll(dir).catch((error: unknown) => {
        expect(SwiftKVError.is(error), `${JSON.stringify(value)}: ${error}`).toBe(true);
        const { code, message } = error as SwiftKVError;
        expect(code, message).toMatch(/^ERR_MODEL_(INVALID|UNSUPPORTED|NOT_FOUND)$/);
        expect(message.length, message).toBeLessThan(700);
      });
    }
    await rm(dir, { recursive: true });
  }

  it.each(keys)('of %s in config.json', (key) =>
    tryEach('config.json', (json, value) => {
      json[key] = value;
    }),
  );

  it.each(['rope_type', 'type', 'factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'])(
    'of rope_scaling.%s',
    (key) =>
      tryEach('config.json', (json, value) => {
        (json['rope_scaling'] as Record<string, unknown>)[key] = value;
      }),
  );

  it.each([...Object.keys(tinyFiles['generation_config.json']), 'min_p', 'bos_token_id'])(
    'of %s in generation_config.json',
    (key) =>
      tryEach('generation_config.json', (json, value) => {
        json[key] = value;
      }),
  );

  it.each(['bos_token', 'eos_token', 'chat_template'])('of %s in tokenizer_config.json', (key) =>
    tryEach('tokenizer_config.json', (json, value) => {
      json[key] = value;
    }),
  );

  it.each([...Object.keys(tinyFiles['tokenizer.json'])])('of %s in tokenizer.json', (key) =>
    tryEach('tokenizer.json', (json, value) => {
      json[key] = value;
    }),
  );

  it.each(['type', 'vocab', 'merges'])('of model.%s in tokenizer.json', (key) =>
    tryEach('tokenizer.json', (json, value) => {
      (json['model'] as Record<string, unknown>)[key] = value;
    }),
  );

  it.each([
    ['rope_theta', 5e-324, /rope_theta.*from 1|rope_theta.*at least 1/],
    ['rope_theta', 1e308, /rope_theta.*at most 1e\+30/],
    ['vocab_size', -1, /vocab_size.*integer from 1/],
    ['num_hidden_layers', 2 ** 31 - 1, /num_hidden_layers.*integer from 1 to 10000/],
    ['eos_token_id', 64, /eos_token_id.*below vocab_size \(64\).*received 64/],
    ['bos_token_id', [2, 9999], /bos_token_id.*below vocab_size \(64\)/],
    ['num_key_value_heads', 3, /num_key_value_heads/],
    ['hidden_size', 2 ** 31 - 2, /head_dim|shape/],
    ['intermediate_size', 2 ** 30, /shape/],
  ])('%s = %j is refused by name', async (key, value, message) => {
    const dir = await copyOf(whole);
    const path = join(dir, 'config.json');
    await writeFile(path, JSON.stringify({ ...(await readJson(path)), [key]: value }));
    expect(await refusal(dir)).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(message) });
  });

  it.each(['vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads'])(
    'a config without %s contradicts the tensors',
    async (key) => {
      const dir = await copyOf(whole);
      const path = join(dir, 'config.json');
      const { [key]: _, ...rest } = await readJson(path);
      await writeFile(path, JSON.stringify(rest));
      expect(await refusal(dir)).toMatchObject({ code: 'ERR_MODEL_INVALID' });
    },
  );
});

describe('weights that are not what the config says', () => {
  it.each([
    ['F64', 'ERR_MODEL_UNSUPPORTED'],
    ['I8', 'ERR_MODEL_UNSUPPORTED'],
    ['F8_E5M2', 'ERR_MODEL_UNSUPPORTED'],
    ['F16', 'ERR_MODEL_INVALID'],
  ])('of the dtype %s', async (dtype, code) => {
    const dir = await copyOf(whole);
    const path = join(dir, 'model.safetensors');
    const bytes = await readFile(path);
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
    const entry = header['model.norm.weight'];
    entry.dtype = dtype;
    const size = { F64: 8, I8: 1, F8_E5M2: 1, F16: 2 }[dtype]!;
    // The bytes stay: the shape gives way, or for F16 lies.
    entry.shape = dtype === 'F16' ? [9] : [16 / size];
    await writeFile(path, join8(header, bytes.subarray(8 + length)));
    expect(await refusal(dir)).toMatchObject({ message: expect.stringContaining('model.norm.weight') });
    expect(['ERR_MODEL_UNSUPPORTED', 'ERR_MODEL_INVALID', code]).toContain((await refusal(dir)).code);
  });

  it('of another model', async () => {
    const dir = await copyOf(whole);
    const other = join(folder, 'other');
    await writeTinyModel(other, { hiddenSize: 16 });
    await copyFile(join(other, 'model.safetensors'), join(dir, 'model.safetensors'));
    expect(await refusal(dir)).toMatchObject({
      code: 'ERR_MODEL_INVALID',
      message: expect.stringMatching(/expected the shape \[.*\], which config\.json asks for, but received/),
    });
  });
});

describe('a variant and its base', () => {
  it.each([
    ['itself', '.', /names a base itself/],
    ['a folder that is not there', '../nowhere', /names the base "\.\.\/nowhere".*does not exist/],
    ['an absolute path', '/etc', /relative/],
    ['a path with a NUL', '../a\0b', /ERR_|null bytes|NUL|expected/i],
    ['a model of another shape', '../other-base', /hidden_size|hiddenSize/],
  ])('names %s', async (_, base, message) => {
    const dir = await copyOf(whole);
    const path = join(dir, 'config.json');
    await writeFile(path, JSON.stringify({ ...(await readJson(path)), swiftkv_base: base }));
    expect((await refusal(dir)).message).toMatch(message);
  });

  it('name each other', async () => {
    const [a, b] = [await copyOf(whole), await copyOf(whole)];
    for (const [own, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const path = join(own, 'config.json');
      await writeFile(
        path,
        JSON.stringify({ ...(await readJson(path)), swiftkv_base: `../${other.split('/').pop()}` }),
      );
    }
    expect(await refusal(a)).toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });
});

it('after all of that, a good model loads and answers', async () => {
  const engine = await Engine.load(whole, { kvCacheBytes: 2 ** 20 });
  const { tokenIds } = await engine.generate({ prompt: 'hello', maxTokens: 3, ignoreEos: true }).result();
  expect(tokenIds.length).toBe(3);
  await engine.dispose();
});

function join8(header: unknown, data: Uint8Array): Uint8Array {
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}
