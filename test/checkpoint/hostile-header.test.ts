// A safetensors file is input from strangers: whatever its header says, reading it ends in a coded error, and nothing
// is allocated that the file's size does not justify.

import { mkdir, open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseSafetensorsHeader, readSafetensorsHeader } from '../../lib/checkpoint/safetensors.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';

const folder = await temporaryFolder();

const utf8 = (text: string) => new TextEncoder().encode(text);

/** Parses a header in front of `dataBytes` bytes. */
const parse = (header: unknown, dataBytes: number) => {
  const bytes = utf8(typeof header === 'string' ? header : JSON.stringify(header));
  return parseSafetensorsHeader(bytes, 'model.safetensors', 8 + bytes.length + dataBytes);
};

const tensor = (overrides: Record<string, unknown> = {}) => ({
  dtype: 'F32',
  shape: [2, 3],
  data_offsets: [0, 24],
  ...overrides,
});

describe('a header that is right', () => {
  it('gives absolute offsets', () => {
    const header = { __metadata__: { format: 'pt' }, b: tensor({ data_offsets: [24, 48] }), a: tensor() };
    const start = 8 + JSON.stringify(header).length;
    expect(parse(header, 48).get('b')).toEqual({
      path: 'model.safetensors',
      offset: start + 24,
      byteLength: 24,
      dtype: 'F32',
      shape: [2, 3],
    });
  });

  it('may have scalars, empty tensors and trailing spaces', () => {
    const header = JSON.stringify({
      scalar: tensor({ shape: [], data_offsets: [0, 4] }),
      empty: tensor({ shape: [0, 7], data_offsets: [4, 4] }),
      // 0 elements, although the product of the others is beyond the exact integers.
      vast: tensor({ shape: [2 ** 40, 2 ** 40, 0], data_offsets: [2, 2] }),
    });
    expect([...parse(`${header}    `, 4).keys()]).toEqual(['scalar', 'empty', 'vast']);
  });
});

describe('a header that lies', () => {
  it.each([
    ['is no JSON', '{"a":', /expected JSON/],
    ['is no object', '[1]', /begin with/],
    ['begins with a byte order mark', '\ufeff{}', /begin with/],
    ['gives a tensor twice', `{"a":${JSON.stringify(tensor())},"a":${JSON.stringify(tensor())}}`, /"a" is given twice/],
    ['gives a key twice by an escape', '{"a":{"dtype":"F32","\\u0064type":"F32"}}', /"dtype" is given twice/],
    ['has an unknown dtype', { a: tensor({ dtype: 'F4' }) }, /"a".*dtypes.*"F4"/],
    ['has the name of a method as dtype', { a: tensor({ dtype: 'toString' }) }, /dtypes/],
    ['has no shape', { a: tensor({ shape: undefined }) }, /shape/],
    ['has a negative dimension', { a: tensor({ shape: [-2, -3] }) }, /shape/],
    ['has a fractional dimension', { a: tensor({ shape: [2.5, 2.4] }) }, /shape/],
    ['has a dimension beyond the exact integers', { a: tensor({ shape: [2 ** 60] }) }, /shape/],
    ['has a product that overflows', { a: tensor({ shape: [2 ** 50, 2 ** 50, 2 ** 50] }) }, /span/],
    ['has a shape that does not fit the offsets', { a: tensor({ shape: [2, 4] }) }, /span 32 bytes/],
    ['has offsets the wrong way round', { a: tensor({ data_offsets: [24, 0] }) }, /data_offsets/],
    ['has negative offsets', { a: tensor({ data_offsets: [-24, 0] }) }, /data_offsets/],
    ['has three offsets', { a: tensor({ data_offsets: [0, 24, 48] }) }, /data_offsets/],
    ['points behind the file', { a: tensor({ data_offsets: [24, 48] }) }, /inside the 24 bytes/],
    ['has metadata that is no text', { __metadata__: { a: 1 }, a: tensor() }, /__metadata__/],
    ['has an entry that is no object', { a: [] }, /"a"/],
    ['leaves bytes over', { a: tensor({ shape: [5], data_offsets: [0, 20] }) }, /4 bytes at the end/],
    [
      'overlaps',
      { a: tensor({ shape: [4], data_offsets: [0, 16] }), b: tensor({ shape: [4], data_offsets: [8, 24] }) },
      /"b" overlaps "a"/,
    ],
    [
      'leaves a hole',
      { a: tensor({ shape: [2], data_offsets: [0, 8] }), b: tensor({ shape: [2], data_offsets: [16, 24] }) },
      /"b" leaves a hole behind "a"/,
    ],
  ])('%s', (_, header, message) => {
    expect(() => parse(header, 24)).toThrow(message);
    expect(() => parse(header, 24)).toThrow(expect.objectContaining({ code: 'ERR_MODEL_INVALID' }));
  });

  it('is not UTF-8', () => {
    const bytes = Uint8Array.from([...utf8('{"'), 0xff, ...utf8('":1}')]);
    expect(() => parseSafetensorsHeader(bytes, 'f', 8 + bytes.length)).toThrow(/UTF-8/);
  });

  it('nests a million arrays', () => {
    expect(() => parse(`{"a":${'['.repeat(1e6)}${']'.repeat(1e6)}}`, 0)).toThrow(/at most 64 levels/);
  });

  it('has ten million values', () => {
    expect(() => parse(`{"a":[${'[],'.repeat(1e7)}[]]}`, 0)).toThrow(/at most 9000000 values/);
  });

  it('has escaped quotes and backslashes in a key', () => {
    expect([...parse('{"a\\\\\\"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1).keys()]).toEqual(['a\\"']);
  });

  it('is anything at all: one coded error or a sound result', () => {
    const value = fc.oneof(fc.json(), fc.constantFrom('F32', '"F32"', '[2,3]', '[0,24]', '{}', '-1', '1e400'));
    fc.assert(
      fc.property(value, value, value, (dtype, shape, offsets) => {
        try {
          const tensors = parse(`{"a":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`, 24);
          for (const t of tensors.values()) expect(t.byteLength).toBe(24);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_MODEL_INVALID' });
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a length field that lies', () => {
  const write = async (name: string, bytes: Uint8Array): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, bytes);
    return path;
  };
  const prefixed = (length: bigint, rest: Uint8Array): Uint8Array => {
    const bytes = Buffer.alloc(8 + rest.length);
    bytes.writeBigUInt64LE(length);
    bytes.set(rest, 8);
    return bytes;
  };

  it.each([
    ['is longer than the file', 3n, /at most 2 bytes.* 3$/],
    ['is the largest number', 2n ** 64n - 1n, /at most 2 bytes.* 18446744073709551615$/],
    ['is zero', 0n, /begin with/],
  ])('%s', async (name, length, message) => {
    const path = await write(`${name}.safetensors`, prefixed(length, utf8('{}')));
    await expect(readSafetensorsHeader(path)).rejects.toThrow(message);
  });

  it('is beyond the format, in a file that is large enough', async () => {
    const path = await write('large.safetensors', prefixed(100_000_001n, utf8('{}')));
    await truncate(path, 200_000_000); // sparse
    await expect(readSafetensorsHeader(path)).rejects.toThrow(/at most 100000000 bytes/);
  });

  it.each([0, 7])('stands in a file of %i bytes', async (size) => {
    const path = await write(`short-${size}.safetensors`, new Uint8Array(size));
    await expect(readSafetensorsHeader(path)).rejects.toThrow(/at least 8 bytes/);
  });

  it('belongs to a folder, not a file', async () => {
    const path = join(folder, 'folder.safetensors');
    await mkdir(path);
    await expect(readSafetensorsHeader(path)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });

  it('is right, and the file was cut behind it', async () => {
    const header = utf8(JSON.stringify({ a: tensor() }));
    const path = await write('cut.safetensors', prefixed(BigInt(header.length), header));
    const file = await open(path, 'a');
    await file.write(new Uint8Array(23));
    await file.close();
    await expect(readSafetensorsHeader(path)).rejects.toThrow(/inside the 23 bytes/);
  });
});
