// Blocks neither leak nor serve two sequences, and an aborted one's are not handed out under a running step.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockManager, BlockTable, blocksFor } from '../../lib/engine/block-manager.ts';

describe('BlockManager', () => {
  it('gives as many blocks as tokens need, at the edges', () => {
    expect([0, 1, 15, 16, 17, 32, 33].map(blocksFor)).toEqual([0, 1, 1, 1, 2, 2, 3]);
    const blocks = new BlockManager(4);
    const table = new BlockTable(64);
    expect(blocks.canAllocate(64)).toBe(true);
    expect(blocks.canAllocate(65)).toBe(false);
    expect(blocks.canAllocate(48, 1)).toBe(true);
    expect(blocks.canAllocate(49, 1)).toBe(false);
    blocks.allocate(table, 17);
    expect([table.count, blocks.numFree]).toEqual([2, 2]);
    blocks.append(table, 32);
    expect(table.count).toBe(2);
    blocks.append(table, 33);
    expect(table.count).toBe(3);
    expect(blocks.canAppend(table, 64)).toBe(true);
    const other = new BlockTable(16);
    blocks.allocate(other, 16);
    expect(blocks.canAppend(table, 48)).toBe(true);
    expect(blocks.canAppend(table, 49)).toBe(false);
    blocks.checkIntegrity([table, other]);
    blocks.release(table);
    blocks.release(other);
    expect(blocks.numFree).toBe(4);
    blocks.checkIntegrity([]);
  });

  it('hands out a block given back during a step only after it', () => {
    const blocks = new BlockManager(2);
    const table = new BlockTable(32);
    blocks.allocate(table, 32);
    blocks.beginStep();
    blocks.release(table);
    expect(blocks.numFree).toBe(0);
    expect(blocks.canAllocate(1)).toBe(false);
    blocks.checkIntegrity([table]);
    blocks.endStep();
    expect(blocks.numFree).toBe(2);
    blocks.checkIntegrity([table]);
  });

  it('refuses what would corrupt it', () => {
    const blocks = new BlockManager(2);
    const table = new BlockTable(16);
    blocks.allocate(table, 16);
    expect(() => blocks.allocate(table, 1)).toThrow(/allocate on a table/);
    expect(() => blocks.append(table, 17)).toThrow(/table of 1 blocks/);
    expect(() => blocks.allocate(new BlockTable(64), 64)).toThrow(/4 blocks wanted and 1 free/);
    blocks.beginStep();
    expect(() => blocks.beginStep()).toThrow(/during another/);
    blocks.endStep();
    expect(() => blocks.endStep()).toThrow(/had not begun/);
  });

  it('finds each kind of damage', () => {
    const damage: [RegExp, (blocks: BlockManager, a: BlockTable, b: BlockTable) => BlockTable[]][] = [
      [/held 0 times but counted 1/, (_, a) => [a]],
      [/held 2 times but counted 1/, (_, a, b) => [a, b, b]],
      [/twice in one table/, (_, a, b) => [a, set(b, 1, b.blocks[0]!)]],
      [/block 99/, (_, a, b) => [a, set(b, 0, 99)]],
      [/times (but counted|and)/, (_, a, b) => [a, set(b, 1, a.blocks[0]!)]],
      [/of 2 holds 5/, (_, a, b) => [a, Object.assign(b, { count: 5 })]],
      [
        /already free, deferred or cached/,
        (blocks, a, b) => {
          const copy = Object.assign(new BlockTable(32), { count: 2 });
          copy.blocks.set(b.blocks);
          (blocks as unknown as { refCount: Int32Array }).refCount.fill(1);
          blocks.release(copy);
          blocks.release(Object.assign(copy, { count: 0 }));
          const state = blocks as unknown as { free: Int32Array; freeCount: number };
          state.free[state.freeCount++] = copy.blocks[0]!;
          return [a];
        },
      ],
    ];
    for (const [message, break_] of damage) {
      const blocks = new BlockManager(8);
      const [a, b] = [new BlockTable(32), new BlockTable(32)];
      blocks.allocate(a, 32);
      blocks.allocate(b, 32);
      blocks.checkIntegrity([a, b]);
      expect(() => blocks.checkIntegrity(break_(blocks, a, b))).toThrow(message);
    }
  });

  it('stays whole under any order of calls', () => {
    const step = fc.record({
      table: fc.nat(4),
      action: fc.constantFrom('grow', 'release', 'begin', 'end'),
      tokens: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const blocks = new BlockManager(6);
        const tables = Array.from({ length: 5 }, () => new BlockTable(96));
        const lengths = [0, 0, 0, 0, 0];
        let running = false;
        for (const { table: i, action, tokens } of steps) {
          const table = tables[i]!;
          if (action === 'grow') {
            const length = Math.min(96, lengths[i]! + tokens);
            if (!blocks.canAppend(table, length)) continue;
            blocks.append(table, length);
            lengths[i] = length;
          } else if (action === 'release') {
            blocks.release(table);
            lengths[i] = 0;
          } else if (action === 'begin' && !running) {
            blocks.beginStep();
            running = true;
          } else if (action === 'end' && running) {
            blocks.endStep();
            running = false;
          }
          blocks.checkIntegrity(tables);
        }
        if (running) blocks.endStep();
        for (const table of tables) blocks.release(table);
        expect(blocks.numFree).toBe(6);
        blocks.checkIntegrity(tables);
      }),
    );
  });
});

function set(table: BlockTable, index: number, block: number): BlockTable {
  table.blocks[index] = block;
  return table;
}
