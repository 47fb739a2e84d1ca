// One instruction on its way to becoming a function of a warp.

import type { Binder } from './binder.ts';
import type { Execute } from './lanes.ts';
import { type Instruction, type Operand, opcode, type PtxError } from './syntax.ts';
import { findType, type Type, typeOf } from './types.ts';

export class Operation {
  readonly binder: Binder;
  readonly instruction: Instruction;

  constructor(instruction: Instruction, binder: Binder) {
    this.instruction = instruction;
    this.binder = binder;
  }

  get words(): readonly string[] {
    return this.instruction.words;
  }

  /** The type that the opcode ends with, or the first of two (cvt has two). */
  get type(): Type {
    return typeOf(
      this.instruction.words.findLast((w) => findType(w) !== undefined),
      this.instruction.line,
    );
  }

  /** Undefined for opcodes without a type. */
  get ownType(): Type | undefined {
    const name = this.instruction.words.findLast((w) => findType(w) !== undefined);
    return name === undefined ? undefined : findType(name);
  }

  has(word: string): boolean {
    return this.instruction.words.includes(word);
  }

  /** Throws for a word of the opcode that the handler has not accounted for. */
  allow(...known: (string | RegExp)[]): void {
    for (const word of this.instruction.words.slice(1)) {
      const fits = known.some((k) => (typeof k === 'string' ? k === word : k.test(word)));
      if (!fits && findType(word) === undefined) throw this.error(`.${word} is not supported`);
    }
  }

  operand(index: number): Operand | undefined {
    return this.instruction.operands[index];
  }

  error(message: string): PtxError {
    return this.binder.error(`${opcode(this.instruction)}: ${message}`);
  }
}

export type Handler = (op: Operation) => Execute;
export type Handlers = Readonly<Record<string, Handler>>;
