// A program between the builder and native code: its memory counted, its names bound to weights, caches and samplers.

import { SwiftKVError } from '../errors.ts';
import type {
  BatchCapacity,
  Dim,
  DType,
  NativeKVPool,
  NativeSamplerTable,
  NativeTensor,
  ProgramDescription,
  ProgramTensor,
} from '../native/binding.ts';
import type { Architecture } from './architecture.ts';
import type { ForwardOptions } from './forward.ts';
import { type Program, ProgramBuilder, type SymbolicTensor } from './program-builder.ts';
import type { TransposedKey, WeightKey } from './weights.ts';

/** Of what buffers are made of; int8 and int4 exist as weight matrices only. */
const elementBytes: Partial<Record<DType, number>> = { f32: 4, bf16: 2, f16: 2, fp8_e4m3: 1, i32: 4, u8: 1 };

/** A model's forward pass as a program; `taps` names tensors to read back. */
export function buildForward(
  architecture: Architecture,
  options: ForwardOptions,
  taps: Iterable<string> = [],
): Program {
  const builder = new ProgramBuilder(taps);
  architecture.forward(builder, options);
  return builder.build();
}

/** Bytes of a program's buffers at capacity; the scratch of its ops comes on top. */
export function bufferBytes(program: Program, capacity: BatchCapacity): number {
  return program.tensors.reduce((sum, tensor) => {
    if (tensor.kind !== 'buffer') return sum;
    const elements = tensor.shape.reduce<number>((product, dim) => product * dimAtCapacity(dim, capacity), 1);
    return sum + elements * elementBytes[tensor.dtype]!;
  }, 0);
}

function dimAtCapacity(dim: Dim, capacity: BatchCapacity): number {
  if (typeof dim === 'number') return dim;
  if (typeof dim === 'object') return dimAtCapacity(dim.axis, capacity) + dim.plus;
  return {
    T: capacity.maxRows,
    S: capacity.maxRows,
    R: capacity.maxLogitRows,
    BT: capacity.maxSeqs,
    BS: capacity.maxSeqs,
    P: capacity.maxLogitRows,
    C: capacity.maxCopies,
  }[dim];
}

export interface Bindings {
  constants: ReadonlyMap<WeightKey | TransposedKey, NativeTensor>;
  pool: NativeKVPool;
  samplers: NativeSamplerTable;
  /** Programs of training only. */
  states?: ReadonlyMap<string, { tensor: NativeTensor; offset: number }>;
}

/** What native code takes. */
export function describeProgram(
  name: string,
  program: Program,
  capacity: BatchCapacity,
  bindings: Bindings,
): ProgramDescription {
  return {
    name,
    capacity,
    tensors: program.tensors.map((tensor) => bind(tensor, bindings)),
    steps: [...program.steps],
  };
}

function bind(tensor: SymbolicTensor, { constants, pool, samplers, states }: Bindings): ProgramTensor {
  switch (tensor.kind) {
    case 'constant': {
      const bound = constants.get(tensor.key);
      if (bound === undefined) {
        throw new SwiftKVError('ERR_INTERNAL', `The program reads ${tensor.key}, which no weight provides`);
      }
      return { kind: 'constant', tensor: bound };
    }
    case 'buffer':
      return { ...tensor, shape: [...tensor.shape] };
    case 'state': {
      const bound = states?.get(tensor.name);
      if (bound === undefined) {
        throw new SwiftKVError('ERR_INTERNAL', `The program writes ${tensor.name}, for which there is no memory`);
      }
      return { kind: 'state', ...bound, shape: [...tensor.shape] };
    }
    case 'batch':
      return tensor;
    case 'cache':
      return { kind: 'cache', cache: pool.cache(tensor.index) };
    case 'caches':
      return {
        kind: 'caches',
        caches: Array.from({ length: tensor.count }, (_, i) => pool.cache(tensor.first + i)),
      };
    case 'samplers':
      return { kind: 'samplers', samplers };
  }
}
