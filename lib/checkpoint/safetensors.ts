// The header of a safetensors file: 8 bytes of length, JSON, then the tensors' bytes. Checked against the file's size
// before anything is believed.

import { SwiftKVError } from '../errors.ts';
import { fileSize, readRange } from './files.ts';
import { isJsonObject, parseJsonObject, quote } from './json.ts';

/** Bytes of one element. Types with elements smaller than a byte are not known here. */
export const safetensorsDTypes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

export type SafetensorsDType = keyof typeof safetensorsDTypes;

/** Where a tensor lies: `byteLength` bytes at `offset` of the file, row-major, little-endian. */
export interface CheckpointTensor {
  path: string;
  offset: number;
  byteLength: number;
  dtype: SafetensorsDType;
  shape: readonly number[];
}

/** The format's own limit on the length of a header. */
export const maxHeaderBytes = 100_000_000;

/** Reads and checks the header of one file. @throws ERR_MODEL_INVALID, ERR_IO; `missing` names an absent file's error */
export async function readSafetensorsHeader(
  path: string,
  missing: 'ERR_MODEL_NOT_FOUND' | 'ERR_MODEL_INVALID' = 'ERR_MODEL_NOT_FOUND',
): Promise<Map<string, CheckpointTensor>> {
  const size = await fileSize(path, missing);
  if (size < 8) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${path}: expected at least 8 bytes but the file has ${size}`);
  }
  const prefix = await readRange(path, 0, 8);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  const limit = Math.min(size - 8, maxHeaderBytes);
  if (length > BigInt(limit)) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${path}: expected a header of at most ${limit} bytes but its length field says ${length}`,
    );
  }
  return parseSafetensorsHeader(await readRange(path, 8, Number(length)), path, size);
}

/**
 * Checks a header (without its length field) against the size of the whole file.
 * The tensors must cover the bytes behind the header exactly: no overlap, no hole, nothing left over.
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  path: string,
  fileBytes: number,
): Map<string, CheckpointTensor> {
  if (header[0] !== 0x7b) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${path}: expected the header to begin with "{"`);
  }
  const dataStart = 8 + header.length;
  const dataBytes = fileBytes - dataStart;
  const tensors = new Map<string, CheckpointTensor>();
  for (const [name, entry] of Object.entries(parseJsonObject(header, path))) {
    if (name === '__metadata__') {
      if (!isJsonObject(entry) || Object.values(entry).some((value) => typeof value !== 'string')) {
        throw new SwiftKVError('ERR_MODEL_INVALID', `${path}: expected __metadata__ to be an object of strings`);
      }
      continue;
    }
    tensors.set(name, parseEntry(entry, name, path, dataStart, dataBytes));
  }
  checkCoverage(tensors, path, dataStart, dataBytes);
  return tensors;
}

function parseEntry(
  entry: unknown,
  name: string,
  path: string,
  dataStart: number,
  dataBytes: number,
): CheckpointTensor {
  const refuse = (expected: string, received: unknown): never => {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${path}: tensor ${quote(name)}: expected ${expected} but received ${quote(received)}`,
    );
  };
  if (!isJsonObject(entry)) return refuse('an object with dtype, shape and data_offsets', entry);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(safetensorsDTypes, dtype)) {
    return refuse(`one of the dtypes ${Object.keys(safetensorsDTypes).join(', ')}`, dtype);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) return refuse('a shape of non-negative integers', shape);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return refuse('data_offsets of two non-negative integers', offsets);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes) {
    return refuse(`data_offsets inside the ${dataBytes} bytes behind the header`, offsets);
  }
  const known = dtype as SafetensorsDType;
  // A product that leaves the exact integers is far beyond any file, and stays so: factors are at least 1 or it is 0.
  const bytes = shape.includes(0) ? 0 : shape.reduce((product, n) => product * n, safetensorsDTypes[known]);
  if (bytes !== end - begin) {
    return refuse(`data_offsets that span ${bytes} bytes (${dtype} ${quote(shape)})`, offsets);
  }
  return { path, offset: dataStart + begin, byteLength: bytes, dtype: known, shape: shape as number[] };
}

function checkCoverage(
  tensors: Map<string, CheckpointTensor>,
  path: string,
  dataStart: number,
  dataBytes: number,
): void {
  // Empty tensors may lie anywhere and cover nothing.
  const inOrder = [...tensors].filter(([, t]) => t.byteLength > 0).sort((a, b) => a[1].offset - b[1].offset);
  let end = dataStart;
  let before = 'the header';
  for (const [name, tensor] of inOrder) {
    if (tensor.offset !== end) {
      const fault = tensor.offset < end ? 'overlaps' : 'leaves a hole behind';
      throw new SwiftKVError(
        'ERR_MODEL_INVALID',
        `${path}: tensor ${quote(name)} ${fault} ${before}; get a whole copy of the file`,
      );
    }
    end = tensor.offset + tensor.byteLength;
    before = quote(name);
  }
  if (end !== dataStart + dataBytes) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${path}: ${dataStart + dataBytes - end} bytes at the end belong to no tensor; is the file complete?`,
    );
  }
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
