// A kernel as steps: its instructions bound to registers, calls inlined (functions are not recursive here).

import { type AddressRef, Binder, type PredicateRef, type Slot } from './binder.ts';
import { controlAction } from './control.ts';
import { handlerOf } from './handlers.ts';
import type { Execute } from './lanes.ts';
import { nowhere, type Place } from './memory.ts';
import { Operation } from './operation.ts';
import { placeVariables } from './placement.ts';
import {
  type FunctionName,
  type Instruction,
  type Label,
  type Module,
  type Operand,
  opcode,
  PtxError,
  type PtxFunction,
  type Variable,
} from './syntax.ts';

export type Action =
  | { readonly kind: 'lanes'; readonly run: Execute }
  /** Needs all lanes of `members` (every lane of the warp when undefined) at once. */
  | { readonly kind: 'collective'; readonly run: Execute; readonly members: Slot | undefined }
  | { readonly kind: 'branch'; target: number }
  | { readonly kind: 'table'; readonly index: Slot; targets: number[] }
  | { readonly kind: 'exit' }
  | { readonly kind: 'yield' }
  | Barrier;

export interface Barrier {
  readonly kind: 'barrier';
  readonly id: Slot;
  /** Threads that take part; the whole block when undefined. */
  readonly count: Slot | undefined;
  readonly arriveOnly: boolean;
  readonly reduction: BarrierReduction | undefined;
}

export interface BarrierReduction {
  readonly operation: 'popc' | 'and' | 'or';
  readonly source: PredicateRef;
  /** A word per lane for popc, else a predicate. */
  readonly target: number;
}

export interface Step {
  readonly line: number;
  readonly opcode: string;
  readonly guard: PredicateRef | undefined;
  readonly action: Action;
}

export interface Program {
  readonly steps: Step[];
  readonly binder: Binder;
  readonly sharedBytes: number;
  readonly localBytes: number;
  readonly paramBytes: number;
}

export function compile(
  module: Module,
  kernel: PtxFunction,
  dynamicSharedBytes: number,
  globals: ReadonlyMap<Variable, number>,
): Program {
  const placement = placeVariables(module, kernel, dynamicSharedBytes, globals);
  const binder = new Binder(placement.addresses, new Set(kernel.params));
  const steps: Step[] = [];
  new Expansion(module, binder, steps, []).expand(kernel);
  const { sharedBytes, localBytes, paramBytes } = placement;
  return { steps, binder, sharedBytes, localBytes, paramBytes };
}

class Expansion {
  readonly #module: Module;
  readonly #binder: Binder;
  readonly #steps: Step[];
  readonly #callers: readonly string[];

  constructor(module: Module, binder: Binder, steps: Step[], callers: readonly string[]) {
    this.#module = module;
    this.#binder = binder;
    this.#steps = steps;
    this.#callers = callers;
  }

  expand(func: PtxFunction): void {
    if (this.#callers.includes(func.name)) throw new PtxError(`${func.name} calls itself`);
    const outer = this.#binder.frame;
    this.#binder.frame = new Map();
    const startOf: number[] = [];
    const branches: { action: Extract<Action, { kind: 'branch' | 'table' }>; labels: Label[] | undefined }[] = [];
    for (const instruction of func.instructions) {
      startOf.push(this.#steps.length);
      this.#binder.line = instruction.line;
      const op = new Operation(instruction, this.#binder);
      const guard =
        instruction.guard === undefined
          ? undefined
          : this.#binder.predicate(
              instruction.guard.negated
                ? { kind: 'not', operand: instruction.guard.predicate }
                : instruction.guard.predicate,
            );
      const add = (action: Action): void => {
        this.#steps.push({ line: instruction.line, opcode: opcode(instruction), guard, action });
      };
      const name = instruction.words[0];
      if (name === 'call') {
        this.#call(func.name, instruction, add);
      } else if (name === 'ret' && !func.isKernel) {
        const action = { kind: 'branch', target: -1 } as const;
        add(action);
        branches.push({ action, labels: undefined });
      } else {
        const action = controlAction(op) ?? { kind: 'lanes', run: handlerOf(op)(op) };
        add(action);
        if (action.kind === 'branch') branches.push({ action, labels: [op.operand(0) as Label] });
        if (action.kind === 'table') {
          const targets = op.operand(1);
          if (targets?.kind !== 'targets') throw op.error('expected a list of targets');
          branches.push({ action, labels: targets.labels });
        }
      }
    }
    const end = this.#steps.length;
    startOf.push(end);
    for (const { action, labels } of branches) {
      const targets = labels?.map((label) => {
        if (label.kind !== 'label' || label.at < 0) throw new PtxError(`${label.name} is no label`);
        return startOf[label.at]!;
      }) ?? [end];
      if (action.kind === 'branch') action.target = targets[0]!;
      else action.targets = targets;
    }
    this.#binder.frame = outer;
    // What returns from an inlined function goes on after it, so there must be a step.
    const none: Action = func.isKernel ? { kind: 'exit' } : { kind: 'lanes', run: () => {} };
    this.#steps.push({ line: this.#binder.line, opcode: 'end', guard: undefined, action: none });
  }

  /** call (results), name, (arguments): values go through the param variables of both sides. */
  #call(caller: string, instruction: Instruction, add: (action: Action) => void): void {
    const { operands } = instruction;
    const at = operands.findIndex((o) => o.kind === 'function');
    const name = (operands[at] as FunctionName | undefined)?.name;
    const callee = name === undefined ? undefined : this.#module.functions.get(name);
    if (callee === undefined) throw this.#binder.error(`call of ${name ?? 'an address'}, which has no body here`);
    if (instruction.guard !== undefined) throw this.#binder.error('a call under a predicate');
    const list = (operand: Operand | undefined) => (operand?.kind === 'list' ? operand.elements : []);
    const results = at > 0 ? list(operands[0]) : [];
    const args = list(operands[at + 1]);
    for (const [i, param] of callee.params.entries()) add(this.#copy(param, args[i]));
    new Expansion(this.#module, this.#binder, this.#steps, [...this.#callers, caller]).expand(callee);
    this.#binder.line = instruction.line;
    for (const [i, result] of results.entries()) add(this.#copy(result, callee.results[i]));
  }

  #copy(to: Operand, from: Operand | undefined): Action {
    if (to.kind !== 'variable' || from?.kind !== 'variable') throw this.#binder.error('arguments must be variables');
    const target: AddressRef = this.#binder.address({ kind: 'address', base: to, offset: 0 });
    const source: AddressRef = this.#binder.address({ kind: 'address', base: from, offset: 0 });
    const place: Place = { region: nowhere, offset: 0 };
    const run: Execute = (warp, mask) => {
      for (let lane = 0; lane < 32; lane++) {
        if (((mask >>> lane) & 1) === 0) continue;
        warp.locate('local', warp.address(source, lane), from.bytes, 1, lane, place);
        const bytes = place.region.u8.slice(place.offset, place.offset + from.bytes);
        warp.locate('local', warp.address(target, lane), to.bytes, 1, lane, place);
        place.region.u8.set(bytes, place.offset);
      }
    };
    return { kind: 'lanes', run };
  }
}
