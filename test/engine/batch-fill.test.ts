// The arrays of a step, field by field, and the copies of block tables that must never be stale.

import { describe, expect, it } from 'vitest';
import { BatchWriter } from '../../lib/engine/batch-fill.ts';
import { BlockManager } from '../../lib/engine/block-manager.ts';
import { StepPlan } from '../../lib/engine/step-plan.ts';
import { FakeRunner } from './fake-runner.ts';
import { sequence } from './harness.ts';

function setUp() {
  const runner = new FakeRunner({ maxRows: 64, maxSeqs: 4, maxModelLen: 128 });
  const blocks = new BlockManager(32);
  const admit = (length: number, slot: number, more = {}) => {
    const s = sequence(length, 20, more);
    blocks.allocate(s.table, length);
    return Object.assign(s, { slot, state: 'running' as const });
  };
  return { batch: runner.batches[0], writer: new BatchWriter(runner.batches[0]), blocks, admit };
}

describe('BatchWriter', () => {
  it('describes all rows and the surviving rows, with scored rows first among the logit rows', () => {
    const { batch, writer, admit } = setUp();
    const decode = admit(20, 3);
    decode.numComputed = 19;
    const unfinished = admit(40, 0);
    unfinished.numComputed = 16;
    const full = admit(6, 1, { fullDepth: true });
    const scored = admit(3, 2, { scoring: 'logits' });
    const plan = new StepPlan(8);
    plan.add(decode, 1);
    plan.add(unfinished, 10);
    plan.add(full, 6);
    plan.add(scored, 3);
    plan.seal();
    writer.write(plan);
    const take = (array: Int32Array, count: number) => Array.from(array.subarray(0, count));
    expect(take(batch.counts, 7)).toEqual([20, 10, 5, 4, 3, 0, 0]);
    expect(take(batch.queryStartT, 5)).toEqual([0, 1, 11, 17, 20]);
    expect(take(batch.contextLenT, 4)).toEqual([20, 26, 6, 3]);
    expect(take(batch.tableRowT, 4)).toEqual([3, 0, 1, 2]);
    const positions = [19, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 0, 1, 2, 3, 4, 5, 0, 1, 2];
    expect(take(batch.positionsT, 20)).toEqual(positions);
    expect(take(batch.ids, 2)).toEqual([decode.tokens[19], unfinished.tokens[16]]);
    expect(take(batch.slotsT, 2)).toEqual([decode.table.slot(19), unfinished.table.blocks[1]! * 16]);
    expect(take(batch.survivors, 10)).toEqual([0, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    expect(take(batch.positionsS, 10)).toEqual([19, 0, 1, 2, 3, 4, 5, 0, 1, 2]);
    expect(take(batch.queryStartS, 4)).toEqual([0, 1, 7, 10]);
    expect(take(batch.contextLenS, 3)).toEqual([20, 6, 3]);
    expect(take(batch.tableRowS, 3)).toEqual([3, 1, 2]);
    expect(take(batch.logitRows, 5)).toEqual([7, 8, 9, 0, 6]);
    expect(take(batch.samplerSlots, 5)).toEqual([2, 2, 2, 3, 1]);
    const stride = batch.capacity.maxBlocksPerSeq;
    expect(batch.blockTables[3 * stride + 1]).toBe(decode.table.blocks[1]);
    expect(take(batch.blockTables, 3)).toEqual(take(unfinished.table.blocks, 3));
  });

  it('writes a table anew when its sequence comes back with other blocks, and adds blocks that it gains', () => {
    const { batch, writer, blocks, admit } = setUp();
    const s = admit(32, 0);
    const write = () => {
      const plan = new StepPlan(8);
      plan.add(s, 1);
      plan.seal();
      writer.write(plan);
      return Array.from(batch.blockTables.subarray(0, s.table.count));
    };
    expect(write()).toEqual([0, 1]);
    blocks.append(s.table, 33);
    expect(write()).toEqual([0, 1, 2]);
    blocks.release(s.table);
    const other = admit(5, 1);
    expect(other.table.blocks[0]).toBe(0);
    blocks.allocate(s.table, 32);
    expect(write()).toEqual([1, 2]);
  });

  it('writes the table of the next sequence in the same slot', () => {
    const { batch, writer, admit } = setUp();
    const [a, b] = [admit(32, 0), admit(40, 0)];
    for (const s of [a, b]) {
      const plan = new StepPlan(8);
      plan.add(s, 8);
      plan.seal();
      writer.write(plan);
      expect(batch.blockTables.subarray(0, s.table.count)).toEqual(s.table.blocks.subarray(0, s.table.count));
    }
  });

  it('writes the copies of this step only, up to as many as the batch holds', () => {
    const { batch, writer, admit } = setUp();
    const s = admit(32, 0);
    const plan = new StepPlan(batch.capacity.maxCopies);
    const write = (copies: readonly (readonly [number, number])[]) => {
      plan.reset();
      plan.add(s, 1);
      for (const [source, destination] of copies) plan.addCopy(source, destination, s);
      plan.seal();
      writer.write(plan);
      const pairs = Array.from({ length: batch.counts[6]! }, (_, i) => [
        batch.copySources[i],
        batch.copyDestinations[i],
      ]);
      expect(pairs).toEqual(copies);
    };
    expect(batch.capacity.maxCopies).toBe(4);
    for (const count of [1, 4, 0, 3]) write(Array.from({ length: count }, (_, i) => [7, 8 + i] as const));
  });
});
