// Memory of training beside weights: flat arrays, inputs of a step, transposes.

import { readRange } from '../checkpoint/files.ts';
import type { CheckpointTensor } from '../checkpoint/safetensors.ts';
import type { ModelConfig } from '../model/config.ts';
import type { ComputeDType } from '../model/forward.ts';
import type { WeightKey } from '../model/weights.ts';
import type { DType, NativeBinding, NativeDevice, NativeTensor } from '../native/binding.ts';
import type { TrainingModelOptions } from './model.ts';
import type { Parameters } from './parameters.ts';

/** What is updated, its gradients, and AdamW's moments. */
export const flatArrays = ['parameters', 'gradients', 'm', 'v'] as const;
export type FlatArray = (typeof flatArrays)[number];

export class TrainingMemory {
  readonly tensors = new Map<string, NativeTensor>();
  readonly #binding: NativeBinding;
  readonly #device: NativeDevice;
  readonly #parameters: Parameters;
  readonly #dtype: ComputeDType;

  constructor(
    binding: NativeBinding,
    device: NativeDevice,
    config: ModelConfig,
    parameters: Parameters,
    { dtype, maxRows }: TrainingModelOptions,
  ) {
    this.#binding = binding;
    this.#device = device;
    this.#parameters = parameters;
    this.#dtype = dtype;
    const vector = (name: string, length: number) => this.#make(name, 'f32', [length]);
    for (const name of flatArrays) vector(name, parameters.total);
    vector('squares', 1);
    vector('hyper decayed', 8);
    vector('hyper kept', 8);
    vector('token weights', maxRows);
    vector('hidden weights', maxRows);
    vector(`zeros of ${config.hiddenSize}`, maxRows * config.hiddenSize);
  }

  #make(name: string, dtype: DType, shape: number[], layout: 'row_major' | 'panels' = 'row_major'): NativeTensor {
    const tensor = this.#binding.tensor(
      this.#device,
      dtype,
      shape,
      layout,
      layout === 'panels' ? 'weights' : 'tensors',
    );
    this.tensors.set(name, tensor);
    return tensor;
  }

  async transpose(key: WeightKey): Promise<void> {
    const weight = this.tensors.get(key)!;
    const [n, k] = weight.shape as [number, number];
    const transposed = this.#make(`${key} transposed`, this.#dtype, [k, n], 'panels');
    if (this.#parameters.trained.some((trained) => trained.key === key)) return; // made by `publish`
    const values = this.#binding.tensor(this.#device, 'f32', [n, k], 'row_major');
    try {
      values.writeFloats(weight.readFloats());
      await this.#device.run('pack_weight', { src: values, dst: weight, transposed }, {});
    } finally {
      values.dispose();
    }
  }

  /** The parameters as the checkpoint has them, not as products round them. */
  async readParameters(tensors: ReadonlyMap<string, CheckpointTensor>): Promise<void> {
    const dtypes: Readonly<Record<string, DType>> = { F32: 'f32', BF16: 'bf16', F16: 'f16' };
    const flat = this.tensors.get('parameters')!;
    for (const { parts } of this.#parameters.trained) {
      for (const { name, offset } of parts) {
        const tensor = tensors.get(name)!;
        const bytes = await readRange(tensor.path, tensor.offset, tensor.byteLength);
        const values = this.#binding.convertBack(bytes, dtypes[tensor.dtype]!);
        flat.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset * 4);
      }
    }
  }

  /** What programs write, and the inputs that JavaScript writes. */
  states(transposed: ReadonlySet<WeightKey>): Map<string, { tensor: NativeTensor; offset: number }> {
    const states = new Map<string, { tensor: NativeTensor; offset: number }>();
    const add = (name: string, of: string, offset = 0) => states.set(name, { tensor: this.tensors.get(of)!, offset });
    for (const name of this.tensors.keys()) add(name, name);
    for (const name of flatArrays) {
      add(`${name} decayed`, name);
      add(`${name} kept`, name, this.#parameters.decayed);
    }
    for (const { key, offset } of this.#parameters.trained) {
      add(`parameters of ${key}`, 'parameters', offset);
      add(`gradient of ${key}`, 'gradients', offset);
      if (transposed.has(key)) add(`${key} transposed`, `${key} transposed`);
    }
    return states;
  }
}
