// Files for llama.cpp: what is written can be found where the header says, and holds the values that went in.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encode, encodedBytes, toHalf } from './ggml-types.mjs';
import { writeGguf } from './gguf.mjs';

let folder;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swiftkv-gguf-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A tiny reader of its own: every scalar type that the writer has, in the order of the format. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }
  skip(count) {
    this.at += count;
    return this.at - count;
  }
  u32() {
    return this.view.getUint32(this.skip(4), true);
  }
  u64() {
    return Number(this.view.getBigUint64(this.skip(8), true));
  }
  string() {
    const length = this.u64();
    return this.bytes.toString('utf8', this.at, this.skip(length) + length);
  }
  value(type) {
    if (type === 4) return this.u32();
    if (type === 5) return this.view.getInt32(this.skip(4), true);
    if (type === 6) return this.view.getFloat32(this.skip(4), true);
    if (type === 7) return this.view.getUint8(this.skip(1)) === 1;
    if (type === 8) return this.string();
    if (type === 10) return this.u64();
    if (type !== 9) throw new Error(`type ${type}`);
    const item = this.u32();
    return Array.from({ length: this.u64() }, () => this.value(item));
  }
  file() {
    const magic = this.bytes.toString('latin1', 0, this.skip(4) + 4);
    const version = this.u32();
    const numTensors = this.u64();
    const metadata = Object.fromEntries(
      Array.from({ length: this.u64() }, () => [this.string(), this.value(this.u32())]),
    );
    const tensors = Array.from({ length: numTensors }, () => ({
      name: this.string(),
      dims: Array.from({ length: this.u32() }, () => this.u64()),
      type: this.u32(),
      offset: this.u64(),
    }));
    const alignment = metadata['general.alignment'];
    return { magic, version, metadata, tensors, dataStart: Math.ceil(this.at / alignment) * alignment };
  }
}

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

const decoders = {
  f32: (bytes, count) => Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(4 * i)),
  bf16: (bytes, count) => {
    const bits = Uint32Array.from({ length: count }, (_, i) => bytes.readUInt16LE(2 * i) << 16);
    return new Float32Array(bits.buffer);
  },
  q8_0: (bytes, count) =>
    Float32Array.from({ length: count }, (_, i) => {
      const block = 34 * (i >> 5);
      return half(bytes.readUInt16LE(block)) * bytes.readInt8(block + 2 + (i & 31));
    }),
  q4_0: (bytes, count) =>
    Float32Array.from({ length: count }, (_, i) => {
      const block = 18 * (i >> 5);
      const byte = bytes[block + 2 + (i & 15)];
      return half(bytes.readUInt16LE(block)) * (((i & 16) === 0 ? byte & 15 : byte >> 4) - 8);
    }),
};

/**
 * The largest error of a value in a block whose largest magnitude is `max`: half a step, and what rounding the scale to
 * f16 (2^-11 relative) moves the largest multiple of it. q4_0 ends at 7 steps on one side: there it is a whole step.
 */
const errorBound = {
  f32: () => 0,
  bf16: (max) => max * 2 ** -8,
  q8_0: (max) => max * (0.5 / 127 + 2 ** -11) + 127 * 2 ** -25,
  q4_0: (max) => max * (1 / 8 + 2 ** -11) + 8 * 2 ** -25,
};

const wave = (count, scale, seed = 1) => Float32Array.from({ length: count }, (_, i) => scale * Math.sin(seed + i * i));

const once = (values) =>
  async function* () {
    yield values;
  };

test.each(Object.keys(decoders))('%s values come back within the error of their type', (type) => {
  const scales = fc.constantFrom(0, 1e-6, 0.02, 1, 300);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), scales, fc.integer({ min: 0, max: 99 }), (blocks, scale, seed) => {
      const values = wave(32 * blocks, scale, seed);
      const bytes = encode(type, values);
      expect(bytes.length).toBe(encodedBytes(type, values.length));
      const read = decoders[type](Buffer.from(bytes.buffer), values.length);
      const excess = values.map((value, i) => {
        const block = values.subarray(i - (i % 32), i - (i % 32) + 32);
        return Math.abs(read[i] - value) - errorBound[type](Math.max(...block.map(Math.abs)));
      });
      expect(Math.max(...excess)).toBeLessThanOrEqual(0);
    }),
  );
});

test('blocks have the bytes that ggml gives them', () => {
  const q8 = Float32Array.from({ length: 32 }, (_, i) => (i === 0 ? -127 : i / 2));
  expect([...encode('q8_0', q8)].slice(0, 8)).toEqual([0x00, 0x3c, 0x81, 1, 1, 2, 2, 3]); // d = 1; 0.5 rounds to 1
  const q4 = Float32Array.from({ length: 32 }, (_, i) => (i === 16 ? -8 : i === 1 ? 7.9 : i % 4));
  // d = 1. Low nibbles are the first half, high ones the second; 7.9 would be 16 and becomes 15.
  expect([...encode('q4_0', q4)].slice(0, 6)).toEqual([0x00, 0x3c, 0x08, 0x9f, 0xaa, 0xbb]);
  // The value of largest magnitude is the exact end of the range, whatever its sign.
  expect(
    [
      ...encode(
        'q4_0',
        q4.map((x) => -x),
      ),
    ].slice(0, 4),
  ).toEqual([0x00, 0xbc, 0x08, 0x9f]);
});

test('scales become the nearest half, ties to even, subnormal and infinite ones too', () => {
  const all = Array.from({ length: 0x7c00 }, (_, bits) => bits);
  expect(all.map((bits) => toHalf(half(bits)))).toEqual(all);
  for (const bits of [0, 1, 2, 0x3ff, 0x400, 0x3c00, 0x7bfe]) {
    const middle = (half(bits) + half(bits + 1)) / 2;
    expect(toHalf(middle)).toBe(bits + (bits % 2));
    expect(toHalf(-middle)).toBe(0x8000 | (bits + (bits % 2)));
  }
  expect([65519, 65520, 1e9, Number.NaN].map(toHalf)).toEqual([0x7bff, 0x7c00, 0x7c00, 0x7e00]);
});

test('a file says where its tensors are: aligned, contiguous dimension first', async () => {
  const path = join(folder, 'a.gguf');
  const matrix = wave(3 * 64, 2);
  const rows = async function* () {
    yield matrix.subarray(0, 128);
    yield matrix.subarray(128);
  };
  const vector = Float32Array.of(1, 2, 3);
  const tensors = [
    { name: 'vector', shape: [3], type: 'f32', slabs: once(vector) },
    { name: 'matrix', shape: [3, 64], type: 'q4_0', slabs: rows },
    { name: 'again', shape: [3, 64], type: 'bf16', slabs: rows },
  ];
  const metadata = [
    ['text', 'string', 'naïve'],
    ['number', 'u32', 2 ** 32 - 1],
    ['real', 'f32', 0.5],
    ['yes', 'bool', true],
    ['texts', ['string'], ['a', '', 'ccc']],
    ['numbers', ['i32'], [-1, 7]],
  ];
  const size = await writeGguf(path, metadata, tensors);
  const bytes = await readFile(path);
  expect(bytes.length).toBe(size);
  const file = new Reader(bytes).file();
  expect([file.magic, file.version]).toEqual(['GGUF', 3]);
  expect(file.metadata).toEqual({
    ...Object.fromEntries(metadata.map(([key, , value]) => [key, value])),
    'general.alignment': 32,
  });
  expect(file.tensors.map(({ name, dims, type }) => [name, dims, type])).toEqual([
    ['vector', [3], 0],
    ['matrix', [64, 3], 2],
    ['again', [64, 3], 30],
  ]);
  expect(file.tensors.every(({ offset }) => offset % 32 === 0)).toBe(true);
  const data = (i) => bytes.subarray(file.dataStart + file.tensors[i].offset);
  expect(decoders.f32(data(0), 3)).toEqual(vector);
  expect(Buffer.compare(data(1).subarray(0, 108), encode('q4_0', matrix))).toBe(0);
  expect(Buffer.compare(data(2).subarray(0, 384), encode('bf16', matrix))).toBe(0);
});

test('values that do not fill a tensor, and rows of broken blocks, are refused', async () => {
  const write = (shape, type, count) =>
    writeGguf(join(folder, 'b.gguf'), [], [{ name: 't', shape, type, slabs: once(wave(count, 1)) }]);
  await expect(write([2, 32], 'q8_0', 32)).rejects.toThrow('t: expected 68 bytes of values but received 34');
  await expect(write([2, 48], 'q4_0', 96)).rejects.toThrow('whole blocks of 32 for q4_0 but received 48');
});
