// The element types of a GGUF file that our writer makes, and their encoding from f32 as ggml defines it.

/** By name: ggml's number, elements of a block, bytes of a block, llama.cpp's number for a file of mostly this type. */
export const ggmlTypes = {
  f32: { id: 0, block: 1, bytes: 4, fileType: 0 },
  q4_0: { id: 2, block: 32, bytes: 18, fileType: 2 },
  q8_0: { id: 8, block: 32, bytes: 34, fileType: 7 },
  bf16: { id: 30, block: 1, bytes: 2, fileType: 32 },
};

const encoders = { f32: encodeF32, bf16: encodeBf16, q8_0: encodeQ8, q4_0: encodeQ4 };

/** Bytes of `count` elements. @throws RangeError where they are no whole number of blocks */
export function encodedBytes(type, count) {
  const { block, bytes } = ggmlTypes[type];
  if (count % block !== 0) throw new RangeError(`${type}: expected whole blocks of ${block} but received ${count}`);
  return (count / block) * bytes;
}

/** @param {Float32Array} values whole rows; a block never crosses a row, since a row is whole blocks */
export function encode(type, values) {
  const out = new Uint8Array(encodedBytes(type, values.length));
  encoders[type](values, out);
  return out;
}

function encodeF32(values, out) {
  const view = new DataView(out.buffer);
  for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i], true);
}

/** To the nearest, ties to even. NaN stays NaN. */
function encodeBf16(values, out) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const u = bits[i];
    const nan = (u & 0x7fffffff) > 0x7f800000;
    const rounded = nan ? (u >>> 16) | 0x40 : (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
    out[2 * i] = rounded & 0xff;
    out[2 * i + 1] = rounded >>> 8;
  }
}

const f32 = Math.fround;

/** A block: f16 scale d = max|x| / 127, then 32 signed bytes round(x / d), halves away from zero. */
function encodeQ8(values, out) {
  for (let start = 0, at = 0; start < values.length; start += 32, at += 34) {
    let max = 0;
    for (let i = start; i < start + 32; i++) max = Math.max(max, Math.abs(values[i]));
    const d = f32(max / 127);
    const inverse = d === 0 ? 0 : f32(1 / d);
    writeHalf(out, at, d);
    for (let i = 0; i < 32; i++) {
      const x = f32(values[start + i] * inverse);
      out[at + 2 + i] = x < 0 ? -Math.floor(0.5 - x) : Math.floor(x + 0.5);
    }
  }
}

/**
 * A block: f16 scale d = m / -8 with m the value of largest magnitude, sign kept; then 16 bytes: elements i in the low
 * and i + 16 in the high nibbles, each floor(x / d + 8.5) and at most 15.
 */
function encodeQ4(values, out) {
  for (let start = 0, at = 0; start < values.length; start += 32, at += 18) {
    let extreme = 0;
    for (let i = start; i < start + 32; i++) if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i];
    const d = f32(extreme / -8);
    const inverse = d === 0 ? 0 : f32(1 / d);
    writeHalf(out, at, d);
    const nibble = (i) => Math.min(15, Math.trunc(f32(f32(values[i] * inverse) + 8.5)));
    for (let i = 0; i < 16; i++) out[at + 2 + i] = nibble(start + i) | (nibble(start + i + 16) << 4);
  }
}

function writeHalf(out, at, value) {
  const half = toHalf(value);
  out[at] = half & 0xff;
  out[at + 1] = half >>> 8;
}

const scratch = new DataView(new ArrayBuffer(4));

/** Bits of the nearest f16, ties to even; what is too large becomes infinity. */
export function toHalf(value) {
  scratch.setFloat32(0, value);
  const u = scratch.getUint32(0);
  const sign = (u >>> 16) & 0x8000;
  const magnitude = Math.abs(f32(value));
  if (Number.isNaN(magnitude)) return sign | 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundToEven(magnitude * 2 ** 24); // subnormal, in units of 2^-24
  const exponent = ((u >>> 23) & 0xff) - 127;
  // A mantissa that rounds up to 2048 carries into the exponent by itself.
  return sign | (((exponent + 14) << 10) + roundToEven(magnitude * 2 ** (10 - exponent)));
}

function roundToEven(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
