// A program bound to native memory: run it, read its outputs.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type {
  BatchCapacity,
  NativeBatch,
  NativeBinding,
  NativeDevice,
  NativeProgram,
  StepResult,
} from '../native/binding.ts';
import { type Bindings, describeProgram } from './program.ts';
import type { Program } from './program-builder.ts';

export class StepProgram {
  readonly workspaceBytes: number;
  readonly #native: NativeProgram;
  readonly #outputs: ReadonlyMap<string, number>;
  #inFlight: Promise<unknown> = Promise.resolve();

  constructor(
    binding: NativeBinding,
    device: NativeDevice,
    name: string,
    program: Program,
    capacity: BatchCapacity,
    bindings: Bindings,
  ) {
    this.#native = binding.program(device, describeProgram(name, program, capacity, bindings));
    this.#outputs = program.outputs;
    this.workspaceBytes = this.#native.workspaceBytes;
  }

  /** One step at a time. @throws ERR_ABORTED after cancel(), ERR_INVALID_ARGUMENT for a batch that is not one */
  async run(batch: NativeBatch): Promise<StepResult> {
    try {
      const step = this.#native.run(batch);
      this.#inFlight = step.catch(() => {});
      return await step;
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  cancel(): void {
    this.#native.cancel();
  }

  /** The first `rows` rows of an output of the last step, as f32. */
  read(output: string, rows: number): Float32Array {
    const index = this.#outputs.get(output);
    if (index === undefined) {
      const known = [...this.#outputs.keys()].join(', ');
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected one of ${known} for the output but received ${output}`);
    }
    try {
      return this.#native.readBuffer(index, rows);
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  /** Resolves, never rejects, when no step is in flight. */
  async idle(): Promise<void> {
    await this.#inFlight;
  }

  dispose(): void {
    this.#native.dispose();
  }
}
