// Small floats as bits: f16, bf16 and e4m3, to and from numbers. Results that are NaN are the canonical one of the ISA.

const word = new DataView(new ArrayBuffer(8));

export function bitsOf(x: number): number {
  word.setFloat32(0, x);
  return word.getUint32(0);
}

export function floatOf(bits: number): number {
  word.setUint32(0, bits);
  return word.getFloat32(0);
}

export function bf16ToNumber(bits: number): number {
  return floatOf((bits & 0xffff) << 16);
}

export function numberToBf16(x: number): number {
  if (Number.isNaN(x)) return 0x7fff;
  const bits = bitsOf(x);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function f16ToNumber(bits: number): number {
  return decode(bits, 5, 10, true);
}

export function numberToF16(x: number): number {
  if (Number.isNaN(x)) return 0x7fff;
  const code = encode(Math.abs(x), 5, 10);
  return Math.min(code, 0x7c00) | (isNegative(x) ? 0x8000 : 0);
}

export function e4m3ToNumber(bits: number): number {
  return (bits & 0x7f) === 0x7f ? Number.NaN : decode(bits, 4, 3, false);
}

/** Saturating at 448. */
export function numberToE4m3(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  const code = encode(Math.abs(x), 4, 3);
  return Math.min(code, 0x7e) | (isNegative(x) ? 0x80 : 0);
}

function isNegative(x: number): boolean {
  return x < 0 || Object.is(x, -0);
}

function decode(bits: number, exponentBits: number, fractionBits: number, hasInfinity: boolean): number {
  const sign = (bits >>> (exponentBits + fractionBits)) & 1 ? -1 : 1;
  const exponent = (bits >>> fractionBits) & ((1 << exponentBits) - 1);
  const fraction = bits & ((1 << fractionBits) - 1);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (hasInfinity && exponent === (1 << exponentBits) - 1) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction * 2 ** -fractionBits) * 2 ** (exponent - bias);
}

/** The code of the nearest value, ties to even, without sign; what is too large gives a code past the last exponent. */
function encode(magnitude: number, exponentBits: number, fractionBits: number): number {
  const bias = (1 << (exponentBits - 1)) - 1;
  if (magnitude === Infinity) return 0x7fff;
  const exponent = magnitude === 0 ? 1 - bias : Math.max(Math.floor(Math.log2(magnitude)), 1 - bias);
  // log2 may be off by one next to a power of two; the ulp is then twice or half, so correct it.
  const e =
    magnitude >= 2 ** (exponent + 1)
      ? exponent + 1
      : magnitude < 2 ** exponent && exponent > 1 - bias
        ? exponent - 1
        : exponent;
  if (e > bias + 1) return 0x7fff;
  const steps = roundTiesToEven(magnitude / 2 ** (e - fractionBits));
  // A carry into the exponent comes out right: codes of magnitudes are ordered and consecutive.
  return ((e + bias - 1) << fractionBits) + steps;
}

export function roundTiesToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
