// The exact element conversions of the native core, on host memory.

import { toSwiftKVError } from '../errors.ts';
import type { DType } from '../native/binding.ts';
import { native } from '../native/load.ts';

/** The stored bytes of f32 values as `dtype`: round to nearest even; fp8_e4m3 saturates at 448; NaN stays NaN. */
export function convert(values: Float32Array, dtype: DType): Uint8Array {
  try {
    return native().convert(values, dtype);
  } catch (error) {
    throw toSwiftKVError(error);
  }
}

/** The f32 values of stored bytes of `dtype`: exact, since every float dtype widens exactly. */
export function convertBack(bytes: Uint8Array, dtype: DType): Float32Array {
  try {
    return native().convertBack(bytes, dtype);
  } catch (error) {
    throw toSwiftKVError(error);
  }
}
