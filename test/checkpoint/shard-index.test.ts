// The index decides which files count. It comes from outside and may not lead out of the folder.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { plainModel, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';

const folder = await temporaryFolder();
let count = 0;

async function sharded(change: (index: { weight_map: Record<string, unknown> }) => unknown): Promise<string> {
  const dir = join(folder, `model${count++}`);
  await writeModel(dir, { ...plainModel, shards: 2 });
  const path = join(dir, 'model.safetensors.index.json');
  const index = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify(change(index) ?? index));
  return dir;
}

describe('a sharded checkpoint', () => {
  it('has the tensors of all shards, whatever these are called', async () => {
    const one = join(folder, 'whole');
    await writeModel(one, plainModel);
    const whole = await openCheckpoint(one);
    const parts = await openCheckpoint(await sharded(() => undefined));
    expect([...parts.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
    expect(new Set([...parts.tensors.values()].map((tensor) => tensor.path)).size).toBe(2);
  });

  it('follows the index even where model.safetensors lies beside it', async () => {
    const dir = await sharded(() => undefined);
    await writeFile(join(dir, 'model.safetensors'), 'not weights');
    expect((await openCheckpoint(dir)).tensors.size).toBeGreaterThan(0);
  });

  it.each(['../outside.safetensors', '/etc/passwd', '..\\outside', 'sub/x', 'C:x', '..', '.', '', 'a\0b', 7, null])(
    'refuses the shard name %j',
    async (name) => {
      const dir = await sharded((index) => {
        index.weight_map['model.norm.weight'] = name;
      });
      await copyFile(join(dir, 'config.json'), join(folder, 'outside.safetensors'));
      const opened = openCheckpoint(dir);
      await expect(opened).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
      await expect(opened).rejects.toThrow(/model\.norm\.weight.*name of a file in the folder/);
    },
  );

  it('names the file and the tensor when a shard is missing', async () => {
    const dir = await sharded((index) => {
      index.weight_map['model.norm.weight'] = 'gone.safetensors';
    });
    await expect(openCheckpoint(dir)).rejects.toThrow(/model\.norm\.weight.*gone\.safetensors, which does not exist/);
    await expect(openCheckpoint(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });

  it('names the file and the tensor when a shard lacks it', async () => {
    const dir = await sharded((index) => {
      index.weight_map['model.extra.weight'] = index.weight_map['model.norm.weight'];
    });
    await expect(openCheckpoint(dir)).rejects.toThrow(/model\.extra\.weight.*which does not have it/);
  });

  it.each([[{ weight_map: [] }], [{ weight_map: null }], [{}], [[]]])('refuses the index %j', async (index) => {
    await expect(openCheckpoint(await sharded(() => index))).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });
});

describe('a folder', () => {
  it('that does not exist is not found', async () => {
    await expect(openCheckpoint(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
  });

  it('that is a file is not found', async () => {
    const path = join(folder, 'file');
    await writeFile(path, '');
    await expect(openCheckpoint(path)).rejects.toThrow(/is not a folder/);
  });

  it.each(['config.json', 'model.safetensors'])('without %s is not found, by name', async (missing) => {
    const dir = join(folder, `without-${missing}`);
    await mkdir(dir);
    await writeFile(join(dir, missing === 'config.json' ? 'model.safetensors' : 'config.json'), '{}');
    await expect(openCheckpoint(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(openCheckpoint(dir)).rejects.toThrow(missing);
  });

  it('with weights of another format says so', async () => {
    const dir = join(folder, 'pickle');
    await mkdir(dir);
    await writeFile(join(dir, 'config.json'), '{}');
    await writeFile(join(dir, 'pytorch_model.bin'), '');
    await expect(openCheckpoint(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
  });

  it('with a broken config.json is invalid, not a crash', async () => {
    const dir = join(folder, 'broken');
    await mkdir(dir);
    for (const text of ['', '{', 'null', '"x"', '{"a":1,"a":2}']) {
      await writeFile(join(dir, 'config.json'), text);
      await expect(openCheckpoint(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    }
  });
});
