// Instructions that are more than a function of the active lanes: branches, barriers, and what needs lanes together.

import { handlerOf } from './handlers.ts';
import type { Operation } from './operation.ts';
import type { Action, BarrierReduction } from './program.ts';
import { PtxError } from './syntax.ts';

/** Undefined for all others. */
export function controlAction(op: Operation): Action | undefined {
  switch (op.words[0]) {
    case 'bra':
      return { kind: 'branch', target: -1 };
    case 'brx':
      return { kind: 'table', index: op.binder.slot(op.operand(0)), targets: [] };
    case 'ret':
    case 'exit':
      return { kind: 'exit' };
    case 'trap':
      return { kind: 'lanes', run: () => fail('trap') };
    case 'nanosleep':
      return { kind: 'yield' };
    case 'bar':
    case 'barrier':
      return barrier(op);
    case 'fence':
    case 'membar':
      return fence(op);
    case 'shfl':
    case 'vote':
    case 'redux': {
      const members = op.binder.slot(op.instruction.operands.at(-1));
      return { kind: 'collective', run: handlerOf(op)(op), members };
    }
    case 'ldmatrix':
    case 'stmatrix':
    case 'mma':
    case 'wgmma':
      return { kind: 'collective', run: handlerOf(op)(op), members: undefined };
  }
  return undefined;
}

/** Memory is in order here, so fences do nothing; but only those that are known. */
const fences = new Set([
  'membar.cta',
  'membar.gl',
  'membar.sys',
  'fence.acq_rel.cta',
  'fence.acq_rel.gpu',
  'fence.sc.cta',
  'fence.sc.gpu',
  'fence.proxy.async.shared::cta',
  'fence.mbarrier_init.release.cluster',
]);

function fence(op: Operation): Action {
  if (!fences.has(op.words.join('.'))) throw op.error('not supported');
  return { kind: 'lanes', run: () => {} };
}

function fail(message: string): never {
  throw new PtxError(message);
}

function barrier(op: Operation): Action {
  const { binder } = op;
  if (op.has('warp')) return { kind: 'collective', run: () => {}, members: binder.slot(op.operand(0)) };
  op.allow('sync', 'aligned', 'cta', 'arrive', 'red', 'popc', 'and', 'or');
  if (!op.has('red')) {
    const count = op.operand(1);
    return {
      kind: 'barrier',
      id: binder.slot(op.operand(0)),
      count: count === undefined ? undefined : binder.slot(count),
      arriveOnly: op.has('arrive'),
      reduction: undefined,
    };
  }
  const operation = (['popc', 'and', 'or'] as const).find((name) => op.has(name))!;
  const target = op.operand(0);
  const isPopc = operation === 'popc';
  const reduction: BarrierReduction = {
    operation,
    target: isPopc ? binder.slot(target).at : binder.predicate(target).at,
    source: binder.predicate(op.instruction.operands.at(-1)),
  };
  const count = op.instruction.operands.length === 4 ? binder.slot(op.operand(2)) : undefined;
  return { kind: 'barrier', id: binder.slot(op.operand(1)), count, arriveOnly: false, reduction };
}
