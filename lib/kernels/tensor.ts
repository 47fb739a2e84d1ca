// Tensors in device memory, with explicit lifetime.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { DType, Layout, NativeTensor } from '../native/binding.ts';
import type { Device } from './device.ts';

export interface TensorOptions {
  /** Element type; by default that of the values (f32 for Float32Array, i32 for Int32Array, u8 for Uint8Array), else f32. */
  dtype?: DType;
  /**
   * `panels` is how a weight matrix [n, k] is stored for `linear` and the like, and the only layout of int8 and int4;
   * everything else is row-major.
   */
  layout?: Layout;
}

const floats: readonly DType[] = ['f32', 'bf16', 'f16', 'fp8_e4m3', 'int8', 'int4'];

export class Tensor {
  readonly device: Device;
  /** @internal */
  readonly native: NativeTensor;
  #disposed = false;

  private constructor(device: Device, native: NativeTensor) {
    this.device = device;
    this.native = native;
  }

  /**
   * A tensor of zeros. `shape`: sizes, slowest dimension first; a size may be 0.
   * Throws `ERR_INVALID_ARGUMENT` for a bad shape, dtype or layout and `ERR_OUT_OF_MEMORY`.
   */
  static zeros(device: Device, shape: readonly number[], options: TensorOptions = {}): Tensor {
    if (!Array.isArray(shape) || !shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected sizes >= 0 for shape but received [${String(shape)}]`);
    }
    const layout = options.layout ?? 'row_major';
    if (layout === 'panels' && shape.length !== 2) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected a matrix [n, k] for layout panels but received shape [${shape.join(', ')}]`,
      );
    }
    try {
      return new Tensor(device, device.binding.tensor(device.native, options.dtype ?? 'f32', [...shape], layout));
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  /**
   * A tensor holding a copy of `values`, row-major, converted to `dtype` (round to nearest even, fp8 saturates at 448).
   * Uint8Array fills a u8 tensor, or the codes of a row-major fp8_e4m3 one unconverted. In layout panels, fp8_e4m3, int8
   * and int4 quantize each row: a scale per output, for int4 one per output and 32 inputs. `shape` defaults to [values.length].
   */
  static from(
    device: Device,
    values: Float32Array | Int32Array | Uint8Array,
    shape: readonly number[] = [values.length],
    options: TensorOptions = {},
  ): Tensor {
    const natural = values instanceof Float32Array ? 'f32' : values instanceof Int32Array ? 'i32' : 'u8';
    const tensor = Tensor.zeros(device, shape, { ...options, dtype: options.dtype ?? natural });
    try {
      tensor.set(values);
    } catch (error) {
      tensor.dispose();
      throw error;
    }
    return tensor;
  }

  get dtype(): DType {
    return this.native.dtype;
  }

  get layout(): Layout {
    return this.native.layout;
  }

  get shape(): readonly number[] {
    return this.native.shape;
  }

  /** Elements, padding of the layout not counted. */
  get length(): number {
    return this.native.shape.reduce((product, n) => product * n, 1);
  }

  /** Bytes in device memory, padding of the layout included. */
  get byteLength(): number {
    return this.native.byteLength;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Overwrites all elements. The rules of `from` hold. */
  set(values: Float32Array | Int32Array | Uint8Array): void {
    this.#check(values);
    try {
      if (values instanceof Float32Array) this.native.writeFloats(values);
      else this.native.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  /** All elements as f32, row-major: exact for floats, code times scale for quantized weights. */
  toFloat32Array(): Float32Array {
    this.#expect(floats, 'toFloat32Array');
    return this.native.readFloats();
  }

  /** All elements of an i32 tensor. */
  toInt32Array(): Int32Array {
    this.#expect(['i32'], 'toInt32Array');
    const out = new Int32Array(this.length);
    this.native.read(new Uint8Array(out.buffer));
    return out;
  }

  /** The stored bytes of a row-major tensor, whatever its dtype. */
  toBytes(): Uint8Array {
    if (this.layout !== 'row_major') {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `toBytes: Expected layout row_major but received ${this.layout}`);
    }
    this.#expect([this.dtype], 'toBytes');
    const out = new Uint8Array(this.byteLength);
    this.native.read(out);
    return out;
  }

  /** Frees the memory. Idempotent; safe while an op that uses the tensor is in flight. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #expect(dtypes: readonly DType[], method: string): void {
    if (this.#disposed) throw new SwiftKVError('ERR_DISPOSED', `${method}: the tensor has been disposed of`);
    if (!dtypes.includes(this.dtype)) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `${method}: Expected a tensor of ${dtypes.join(', ')} but this one is ${this.dtype}`,
      );
    }
  }

  #check(values: Float32Array | Int32Array | Uint8Array): void {
    const kinds: [boolean, readonly DType[], string][] = [
      [values instanceof Float32Array, floats, 'Float32Array'],
      [values instanceof Int32Array, ['i32'], 'Int32Array'],
      [values instanceof Uint8Array, ['u8', 'fp8_e4m3'], 'Uint8Array'],
    ];
    const kind = kinds.find(([is]) => is);
    if (!kind) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected Float32Array, Int32Array or Uint8Array for values but received ${String(values)}`,
      );
    }
    this.#expect(kind[1], `values of ${kind[2]}`);
    if (values.length !== this.length) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected ${this.length} values for shape [${this.shape.join(', ')}] but received ${values.length}`,
      );
    }
  }
}
