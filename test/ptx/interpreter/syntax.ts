// What the parser makes of PTX text: modules of variables and functions, functions of instructions. Names are resolved:
// an operand that names a register, a variable or a label refers to its declaration.

export class PtxError extends Error {
  constructor(message: string, line?: number) {
    super(line === undefined ? message : `line ${line}: ${message}`);
    this.name = 'PtxError';
  }
}

/** `b32`, `f16x2`, `pred` and so on, as in the text. */
export type TypeName = string;

export interface Register {
  readonly kind: 'register';
  readonly name: string;
  readonly type: TypeName;
}

export type Space = 'param' | 'shared' | 'local' | 'global' | 'const';

export interface Variable {
  readonly kind: 'variable';
  readonly name: string;
  readonly space: Space;
  readonly align: number;
  readonly bytes: number;
  /** Of variables with an initial value. */
  readonly data?: Uint8Array;
  /** `extern .shared`: the block's dynamic shared memory. */
  readonly dynamic: boolean;
}

export interface Label {
  readonly kind: 'label';
  readonly name: string;
  /** Index of the instruction that follows it. */
  at: number;
}

/** A special register such as %tid.x. */
export interface Special {
  readonly kind: 'special';
  readonly name: string;
}

export interface TargetList {
  readonly kind: 'targets';
  readonly name: string;
  readonly labels: Label[];
}

export interface FunctionName {
  readonly kind: 'function';
  readonly name: string;
}

export type Named = Register | Variable | Label | Special | TargetList | FunctionName;

export type Operand =
  | Named
  | { readonly kind: 'integer'; readonly value: bigint }
  /** The bits of 0f... and 0d... */
  | { readonly kind: 'float'; readonly bits: bigint; readonly width: 32 | 64 }
  | { readonly kind: 'vector'; readonly elements: Operand[] }
  | { readonly kind: 'address'; readonly base: Operand; readonly offset: number }
  /** `%r1|%p1`: a result and a predicate, or two predicates. */
  | { readonly kind: 'pair'; readonly first: Operand; readonly second: Operand }
  | { readonly kind: 'not'; readonly operand: Operand }
  /** The parenthesised lists of `call`. */
  | { readonly kind: 'list'; readonly elements: Operand[] }
  | { readonly kind: 'sink' };

export interface Guard {
  readonly predicate: Operand;
  readonly negated: boolean;
}

export interface Instruction {
  readonly line: number;
  readonly guard?: Guard | undefined;
  /** The words of the opcode: ['ld', 'global', 'v4', 'b32']. */
  readonly words: readonly string[];
  readonly operands: readonly Operand[];
}

export interface PtxFunction {
  readonly name: string;
  readonly isKernel: boolean;
  readonly params: Variable[];
  readonly results: Variable[];
  /** Declared inside: shared and local memory, params of calls. */
  readonly variables: Variable[];
  readonly instructions: Instruction[];
}

export interface Module {
  readonly target: string;
  readonly variables: Variable[];
  readonly functions: ReadonlyMap<string, PtxFunction>;
}

export function opcode(instruction: Instruction): string {
  return instruction.words.join('.');
}
