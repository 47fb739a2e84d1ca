// A writer of GGUF files, version 3: header, metadata and tensor infos first, then tensors as they come, so that a model
// is never in memory as a whole.

import { open } from 'node:fs/promises';
import { encode, encodedBytes, ggmlTypes } from './ggml-types.mjs';

const version = 3;
/** Bytes; readers take 32 where the metadata has no general.alignment. */
export const alignment = 32;

/** Numbers of GGUF's metadata types, and how many bytes a scalar takes. */
const valueTypes = {
  u32: { id: 4, bytes: 4, write: (view, at, value) => view.setUint32(at, value, true) },
  i32: { id: 5, bytes: 4, write: (view, at, value) => view.setInt32(at, value, true) },
  f32: { id: 6, bytes: 4, write: (view, at, value) => view.setFloat32(at, value, true) },
  bool: { id: 7, bytes: 1, write: (view, at, value) => view.setUint8(at, value ? 1 : 0) },
  u64: { id: 10, bytes: 8, write: (view, at, value) => view.setBigUint64(at, BigInt(value), true) },
};
const stringType = 8;
const arrayType = 9;

function scalar(type, value) {
  const { bytes, write } = valueTypes[type];
  const out = Buffer.alloc(bytes);
  write(new DataView(out.buffer, out.byteOffset, bytes), 0, value);
  return out;
}

function string(text) {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([scalar('u64', bytes.length), bytes]);
}

const one = (type, value) => (type === 'string' ? string(value) : scalar(type, value));
const typeId = (type) => scalar('u32', type === 'string' ? stringType : valueTypes[type].id);

/** [key, type, value]; `[type]` as the type means an array of it. */
function entry([key, type, value]) {
  if (!Array.isArray(type)) return Buffer.concat([string(key), typeId(type), one(type, value)]);
  const head = [string(key), scalar('u32', arrayType), typeId(type[0]), scalar('u64', value.length)];
  return Buffer.concat([...head, ...value.map((item) => one(type[0], item))]);
}

const align = (offset) => Math.ceil(offset / alignment) * alignment;
const elements = (shape) => shape.reduce((product, size) => product * size, 1);

/** Everything before the first tensor's bytes. */
function header(metadata, tensors) {
  const parts = [
    Buffer.from('GGUF'),
    scalar('u32', version),
    scalar('u64', tensors.length),
    scalar('u64', metadata.length + 1),
    ...[...metadata, ['general.alignment', 'u32', alignment]].map(entry),
  ];
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    // GGUF lists the contiguous dimension first.
    const dims = [...shape].reverse().map((size) => scalar('u64', size));
    parts.push(string(name), scalar('u32', shape.length), ...dims);
    parts.push(scalar('u32', ggmlTypes[type].id), scalar('u64', offset));
    offset = align(offset + encodedBytes(type, elements(shape)));
  }
  const bytes = Buffer.concat(parts);
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)]);
}

/**
 * @param {string} path a file that is made or replaced
 * @param {[key: string, type: string | [string], value: unknown][]} metadata
 * @param {{ name: string, shape: number[], type: keyof ggmlTypes, slabs: () => AsyncIterable<Float32Array> }[]} tensors
 *   `shape` outermost dimension first; slabs: whole rows of values, in order
 * @returns {Promise<number>} bytes of the file
 */
export async function writeGguf(path, metadata, tensors) {
  for (const { name, shape, type } of tensors) {
    const { block } = ggmlTypes[type];
    if (shape.at(-1) % block === 0) continue;
    throw new RangeError(`${name}: expected rows of whole blocks of ${block} for ${type} but received ${shape.at(-1)}`);
  }
  const file = await open(path, 'w');
  try {
    let position = 0;
    const append = async (bytes) => {
      await file.write(bytes, 0, bytes.length, position);
      position += bytes.length;
    };
    await append(header(metadata, tensors));
    for (const { name, shape, type, slabs } of tensors) {
      const start = position;
      for await (const slab of slabs()) await append(encode(type, slab));
      const expected = encodedBytes(type, elements(shape));
      if (position - start !== expected) {
        throw new RangeError(`${name}: expected ${expected} bytes of values but received ${position - start}`);
      }
      await append(Buffer.alloc(align(position) - position));
    }
    return position;
  } finally {
    await file.close();
  }
}
