import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { convert, convertBack } from '../../lib/kernels/index.ts';
import { decodeFp8, encodeFp8 } from './reference.ts';

function readTables(): Record<string, Float32Array | Uint8Array> {
  const file = readFileSync(new URL('../golden/data/fp8_e4m3.safetensors', import.meta.url));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes));
  const data = file.subarray(8 + headerBytes);
  const entries = Object.entries<{ dtype: string; data_offsets: [number, number] }>(header).filter(
    ([name]) => name !== '__metadata__',
  );
  return Object.fromEntries(
    entries.map(([name, { dtype, data_offsets }]) => {
      const bytes = Uint8Array.from(data.subarray(...data_offsets));
      return [name, dtype === 'F32' ? new Float32Array(bytes.buffer) : bytes];
    }),
  );
}

const tables = readTables();

it('every e4m3 code decodes to the value of the golden table, bit for bit', () => {
  const decoded = convertBack(
    Uint8Array.from({ length: 256 }, (_, code) => code),
    'fp8_e4m3',
  );
  decoded.forEach((value, code) => {
    const expected = tables.decode_is_nan![code] ? Number.NaN : tables.decode_table![code]!;
    expect(Object.is(value, expected), `code ${code}: ${value}, expected ${expected}`).toBe(true);
    expect(Object.is(decodeFp8(code) || value, value)).toBe(true);
  });
});

it('every tie, subnormal, overflow and signed zero of the golden table encodes to its code', () => {
  const inputs = tables.encode_input as Float32Array;
  const codes = convert(inputs, 'fp8_e4m3');
  inputs.forEach((x, i) => {
    expect(codes[i], `encode(${x})`).toBe(tables.encode_code![i]);
    expect(encodeFp8(x), `the reference's encode(${x})`).toBe(tables.encode_code![i]);
  });
});

it('bf16 and f16 round to nearest even and keep NaN, infinity and signed zero', () => {
  const cases: [number, number, number][] = [
    // value, bf16 bits, f16 bits
    [1, 0x3f80, 0x3c00],
    [-0, 0x8000, 0x8000],
    [1 + 2 ** -8, 0x3f80, 0x3c04],
    [1 + 3 * 2 ** -8, 0x3f82, 0x3c0c],
    [1 + 2 ** -11, 0x3f80, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3f80, 0x3c02],
    [65504, 0x4780, 0x7bff],
    [65520, 0x4780, 0x7c00],
    [2 ** -24, 0x3380, 0x0001],
    [2 ** -25, 0x3300, 0x0000],
    [3 * 2 ** -25, 0x33c0, 0x0002],
    [3.4028235e38, 0x7f80, 0x7c00],
    [Number.NEGATIVE_INFINITY, 0xff80, 0xfc00],
  ];
  for (const [value, bf16, f16] of cases) {
    const bits = (dtype: 'bf16' | 'f16') => {
      const bytes = convert(Float32Array.of(value), dtype);
      return bytes[0]! | (bytes[1]! << 8);
    };
    expect(bits('bf16').toString(16), `bf16 of ${value}`).toBe(bf16.toString(16));
    expect(bits('f16').toString(16), `f16 of ${value}`).toBe(f16.toString(16));
  }
  for (const dtype of ['bf16', 'f16', 'fp8_e4m3'] as const) {
    expect(convertBack(convert(Float32Array.of(Number.NaN), dtype), dtype)[0]).toBeNaN();
  }
});

it('every bf16 and f16 bit pattern survives the way to f32 and back', () => {
  const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
  for (const dtype of ['bf16', 'f16'] as const) {
    const values = convertBack(new Uint8Array(patterns.buffer), dtype);
    const back = new Uint16Array(convert(values, dtype).slice().buffer);
    const wrong = patterns.findIndex((p, i) => !Number.isNaN(values[i]) && back[i] !== p);
    expect(wrong, dtype).toBe(-1);
  }
});
