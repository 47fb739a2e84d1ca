// Blocks neither leak nor serve two sequences that write to them, and an aborted one's are not handed out under a running
// step. What is found in a cache of prefixes is in prefix-cache.test.ts.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockManager, BlockTable, blocksFor } from '../../lib/engine/block-manager.ts';
import type { PrefixCache } from '../../lib/engine/prefix-cache.ts';

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

const root = -1;

/** A manager that knows the first `length` tokens of `tokens`, and nobody who holds them. */
function warm(numBlocks: number, tokens: Int32Array, length: number): BlockManager {
  const blocks = new BlockManager(numBlocks, { prefixCaching: true });
  const table = new BlockTable(length);
  blocks.tryAdmit(table, tokens, length, root, 0);
  blocks.register(table, tokens, 0, length, root);
  blocks.release(table);
  return blocks;
}

describe('tryAdmit', () => {
  const tokens = Int32Array.from({ length: 200 }, (_, i) => i);

  it('leaves the last token to compute, whatever is cached', () => {
    const blocks = warm(20, tokens, 64);
    expect([blocks.numFree, blocks.numCached]).toEqual([20, 4]);
    for (const [length, hit] of [
      [1, 0],
      [16, 0],
      [17, 16],
      [32, 16],
      [33, 32],
      [64, 48],
      [65, 64],
      [80, 64],
      [200, 64],
    ] as const) {
      const table = new BlockTable(200);
      expect([length, blocks.tryAdmit(table, tokens, length, root, 0)]).toEqual([length, hit]);
      expect(table.count).toBe(blocksFor(length));
      blocks.checkIntegrity([table]);
      blocks.release(table);
    }
  });

  it('counts hits that nobody holds as taken from what is free', () => {
    // 6 blocks, 4 of them kept: a sequence of 5 blocks that hits 4 takes 5.
    for (const [spare, admitted] of [
      [0, 64],
      [1, 64],
      [2, -1],
    ] as const) {
      const blocks = warm(6, tokens, 64);
      const table = new BlockTable(200);
      expect(blocks.tryAdmit(table, tokens, 80, root, spare)).toBe(admitted);
      expect([blocks.numFree, blocks.numCached]).toEqual(admitted < 0 ? [6, 4] : [1, 0]);
      blocks.checkIntegrity([table]);
    }
  });

  it('counts hits that others hold as nothing', () => {
    const blocks = warm(6, tokens, 64);
    const [a, b, c] = [new BlockTable(80), new BlockTable(80), new BlockTable(80)];
    expect(blocks.tryAdmit(a, tokens, 80, root, 0)).toBe(64);
    expect(blocks.tryAdmit(b, tokens, 70, root, 1)).toBe(-1);
    expect(blocks.tryAdmit(b, tokens, 70, root, 0)).toBe(64);
    expect(blocks.tryAdmit(c, tokens, 70, root, 0)).toBe(-1);
    expect([b.count, c.count, blocks.numFree]).toEqual([5, 0, 0]);
    expect(b.blocks.subarray(0, 4)).toEqual(a.blocks.subarray(0, 4));
    blocks.checkIntegrity([a, b, c]);
    blocks.release(a);
    expect([blocks.numFree, blocks.numCached]).toEqual([1, 0]);
    blocks.release(b);
    expect([blocks.numFree, blocks.numCached]).toEqual([6, 4]);
    expect(blocks.prefixStats).toEqual({ queryTokens: 64 + 80 + 70, hitTokens: 128, evictions: 0 });
  });

  it('neither looks up nor keeps anything for root 0, or without a cache', () => {
    const kept = warm(8, tokens, 64);
    const table = new BlockTable(128);
    expect(kept.tryAdmit(table, tokens, 80, 0, 0)).toBe(0);
    kept.register(table, tokens, 0, 80, 0);
    kept.release(table);
    // Of the 4 that were kept, one had to go for it.
    expect([kept.numCached, kept.prefixStats]).toEqual([3, { queryTokens: 64, hitTokens: 0, evictions: 1 }]);
    const blocks = new BlockManager(8);
    for (let k = 0; k < 2; k++) {
      expect(blocks.tryAdmit(table, tokens, 80, root, 0)).toBe(0);
      blocks.register(table, tokens, 0, 80, root);
      blocks.checkIntegrity([table]);
      blocks.release(table);
    }
    blocks.resetPrefixCache();
    expect([blocks.numCached, blocks.prefixStats.queryTokens]).toEqual([0, 0]);
  });

  it('shares nothing between salts', () => {
    const blocks = warm(20, tokens, 64);
    const table = new BlockTable(200);
    expect(blocks.tryAdmit(table, tokens, 80, -2, 0)).toBe(0);
    blocks.register(table, tokens, 0, 80, -2);
    blocks.release(table);
    expect(blocks.numCached).toBe(9);
    blocks.checkIntegrity([]);
  });

  it('gives up the ends of chains before their beginnings, the longest unused first', () => {
    const blocks = warm(8, tokens, 64);
    const other = Int32Array.from(tokens, (t) => t + 1000);
    const table = new BlockTable(64);
    blocks.tryAdmit(table, other, 64, root, 0);
    blocks.register(table, other, 0, 64, root);
    blocks.release(table);
    // Both fill the cache; what is left of them when `count` blocks were needed for something else:
    const { cache } = blocks as unknown as { cache: PrefixCache };
    const lengthOf = (t: Int32Array) => {
      let length = 0;
      for (let parent = root; length < 64; length += 16) {
        const block = cache.find(parent, t, length);
        if (block < 0) break;
        parent = cache.nodeOf(block);
      }
      return length;
    };
    for (const [count, left, leftOfOther] of [
      [1, 48, 64],
      [3, 16, 64],
      [4, 0, 64],
      [6, 0, 32],
    ] as const) {
      const full = new BlockTable(128);
      blocks.tryAdmit(full, tokens, count * 16, 0, 0);
      expect([lengthOf(tokens), lengthOf(other)]).toEqual([left, leftOfOther]);
      blocks.release(full);
    }
  });

  it('registers a step that began before a reset under nothing', () => {
    const blocks = new BlockManager(8, { prefixCaching: true });
    const [a, b] = [new BlockTable(128), new BlockTable(128)];
    blocks.tryAdmit(a, tokens, 40, root, 0);
    blocks.register(a, tokens, 0, 20, root);
    blocks.beginStep();
    blocks.resetPrefixCache();
    blocks.register(a, tokens, 20, 40, root);
    blocks.endStep();
    blocks.checkIntegrity([a]);
    expect(blocks.tryAdmit(b, tokens, 40, root, 0)).toBe(0);
    // The new one's blocks are found, the old one's are not, nor its forks'.
    const fork = new BlockTable(128);
    expect(blocks.tryFork(fork, a, 11, 0)).toBe(10);
    blocks.register(fork, tokens, 10, 16, root);
    blocks.checkIntegrity([a, b, fork]);
    blocks.release(a);
    blocks.release(fork);
    expect(blocks.numCached).toBe(0);
    blocks.register(b, tokens, 0, 40, root);
    blocks.release(b);
    expect(blocks.numCached).toBe(2);
    blocks.checkIntegrity([a, b, fork]);
  });

  it('keeps what a sequence that left in mid-step had registered, after the step', () => {
    const blocks = new BlockManager(4, { prefixCaching: true });
    const table = new BlockTable(64);
    blocks.tryAdmit(table, tokens, 40, root, 0);
    blocks.register(table, tokens, 0, 35, root);
    blocks.beginStep();
    blocks.release(table);
    expect([blocks.numFree, blocks.numCached]).toEqual([1, 0]);
    blocks.checkIntegrity([table]);
    expect(() => blocks.tryAdmit(table, tokens, 1, root, 0)).toThrow(/during a step/);
    blocks.endStep();
    expect([blocks.numFree, blocks.numCached]).toEqual([4, 2]);
    blocks.checkIntegrity([table]);
    expect(blocks.tryAdmit(table, tokens, 40, root, 0)).toBe(32);
  });
});

describe('tryFork', () => {
  const tokens = Int32Array.from({ length: 100 }, (_, i) => i);

  it('shares the full blocks before the last token and gives the rest anew, at the edges', () => {
    for (const [length, shared, fresh] of [
      [1, 0, 1],
      [2, 0, 1],
      [16, 0, 1],
      [17, 1, 1],
      [18, 1, 1],
      [32, 1, 1],
      [33, 2, 1],
    ] as const) {
      for (const spare of [0, 2]) {
        const blocks = new BlockManager(5 + fresh + spare, { prefixCaching: true });
        const [parent, child, other] = [new BlockTable(80), new BlockTable(80), new BlockTable(80)];
        blocks.tryAdmit(parent, tokens, 80, root, 0);
        blocks.register(parent, tokens, 0, 40, root);
        expect(blocks.tryFork(child, parent, length, spare)).toBe(length - 1);
        expect([child.count, blocks.numFree]).toEqual([shared + fresh, spare]);
        for (let i = 0; i < child.count; i++) expect(child.blocks[i] === parent.blocks[i]).toBe(i < shared);
        expect(blocks.tryFork(other, parent, length, spare)).toBe(-1);
        blocks.checkIntegrity([parent, child, other]);
        // The child goes on in a chain of its own after the parent has gone.
        blocks.release(parent);
        blocks.append(child, 64);
        blocks.register(
          child,
          Int32Array.from(tokens, (t, i) => (i < length - 1 ? t : 99)),
          length - 1,
          64,
          root,
        );
        blocks.checkIntegrity([parent, child, other]);
        blocks.release(child);
        expect(blocks.numFree).toBe(blocks.numBlocks);
        blocks.checkIntegrity([parent, child, other]);
      }
    }
  });

  it('shares without a prefix cache', () => {
    const blocks = new BlockManager(6);
    const [parent, child] = [new BlockTable(80), new BlockTable(80)];
    blocks.tryAdmit(parent, tokens, 50, 0, 0);
    expect(blocks.tryFork(child, parent, 50, 1)).toBe(49);
    blocks.register(child, tokens, 49, 50, 0);
    expect(blocks.numFree).toBe(1);
    blocks.release(parent);
    blocks.checkIntegrity([child]);
    expect(blocks.numFree).toBe(2);
  });

  it('refuses what would corrupt it', () => {
    const blocks = new BlockManager(8, { prefixCaching: true });
    const [parent, child] = [new BlockTable(80), new BlockTable(80)];
    blocks.tryAdmit(parent, tokens, 30, root, 0);
    expect(() => blocks.tryFork(child, parent, 34, 0)).toThrow(/parent of 2 blocks/);
    expect(() => blocks.tryFork(parent, parent, 10, 0)).toThrow(/tryFork on a table of 2/);
    expect(() => blocks.tryAdmit(parent, tokens, 10, root, 0)).toThrow(/tryAdmit on a table of 2/);
    expect(() => blocks.register(parent, tokens, 16, 30, root)).toThrow(/chain of 0 blocks/);
    expect(() => blocks.register(parent, tokens, 0, 80, root)).toThrow(/80 tokens computed/);
    blocks.beginStep();
    expect(() => blocks.tryFork(child, parent, 10, 0)).toThrow(/during a step/);
    blocks.checkIntegrity([parent, child]);
  });
});

describe('checkIntegrity of a prefix cache', () => {
  type Internals = {
    node: Float64Array;
    registered: Uint8Array;
    parent: Float64Array;
    tokens: Int32Array;
    places: Int32Array;
    idle: { older: Int32Array; newer: Int32Array; length: number };
  };
  // Blocks 0 and 1 are held, 0 is registered; 3 and 4 are idle; the rest is free.
  const damage: [RegExp, (cache: Internals, table: BlockTable) => void][] = [
    [/list of idle blocks is broken/, (c) => c.idle.length--],
    [/list of idle blocks is broken/, (c) => c.idle.newer.copyWithin(0, 1)],
    [/kept for hits and not registered/, (c) => (c.registered[3] = 0)],
    [/is node/, (c) => (c.node[4] = c.node[3]!)],
    [/is node 99/, (c) => (c.node[4] = 99)],
    [/follows node/, (c) => (c.parent[0] = 98)],
    [/was sought and/, (c) => c.tokens[3]!++],
    [/was sought and/, (c) => c.places.fill(0)],
    [/free and has the content of a node/, (c) => (c.node[7] = 1)],
    [/chain of 9 blocks/, (_, table) => (table.chainLength = 9)],
    [/in a chain has no node/, (_, table) => (table.chainLength = 2)],
    [/can be found and is not registered/, (c) => (c.registered[0] = 0)],
  ];

  it.each(damage)('finds damage: %s', (message, break_) => {
    const tokens = Int32Array.from({ length: 64 }, (_, i) => i);
    const blocks = new BlockManager(8, { prefixCaching: true });
    const [held, gone] = [new BlockTable(64), new BlockTable(64)];
    blocks.tryAdmit(held, tokens, 30, root, 0);
    blocks.tryAdmit(gone, tokens, 60, root, 0);
    blocks.register(held, tokens, 0, 20, root);
    blocks.register(gone, tokens, 0, 60, root);
    blocks.release(gone);
    blocks.checkIntegrity([held, gone]);
    break_((blocks as unknown as { cache: Internals }).cache, held);
    expect(() => blocks.checkIntegrity([held, gone])).toThrow(message);
  });
});

function set(table: BlockTable, index: number, block: number): BlockTable {
  table.blocks[index] = block;
  return table;
}
