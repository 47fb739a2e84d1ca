// A prefix is found if and only if it is in the cache, whatever collides, is given back, evicted, forked or reset meanwhile.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockManager, BlockTable } from '../../lib/engine/block-manager.ts';
import { LruList } from '../../lib/engine/lru-list.ts';
import { hashNode, type NodeHash, PrefixCache, rootOf } from '../../lib/engine/prefix-cache.ts';
import { prompt } from './harness.ts';
import { type Cell, Reference } from './prefix-reference.ts';

const hashes: [string, NodeHash][] = [
  ['the hash of the engine', hashNode],
  ['a hash that is always the same', () => 7],
  ['a hash that falls on the last place', () => -1],
  ['a hash with two values', (_, tokens, at) => tokens[at + 15]! & 1],
];

describe('rootOf', () => {
  it('is negative, exact, and another one for each salt', () => {
    const salts = ['', ' ', 'a', 'b', 'tenant 1', 'tenant 2', 'ä', 'a'.repeat(10_000)];
    const roots = salts.map(rootOf);
    expect(new Set(roots).size).toBe(salts.length);
    for (const root of roots) expect(root < 0 && Number.isSafeInteger(root)).toBe(true);
    expect(rootOf('a')).toBe(rootOf('a'));
    // The first 6 bytes of the SHA-256 of nothing, e3b0c44298fc.
    expect(rootOf('')).toBe(-1 - 0xe3b0c44298fc);
  });
});

describe('hashNode', () => {
  it('depends on every token and on both halves of the parent', () => {
    const tokens = Int32Array.from(prompt(40));
    const base = hashNode(5, tokens, 8);
    for (let i = 0; i < 40; i++) {
      const other = tokens.slice();
      other[i]! += 1 << 16;
      expect(hashNode(5, other, 8) !== base).toBe(i >= 8 && i < 24);
    }
    for (const parent of [6, 5 + 2 ** 32, -5, rootOf('')]) expect(hashNode(parent, tokens, 8)).not.toBe(base);
  });

  it('spreads blocks that differ by little', () => {
    const places = new Set<number>();
    for (let parent = 1; parent <= 64; parent++) {
      for (let token = 0; token < 64; token++) {
        places.add(hashNode(parent, new Int32Array(16).fill(token), 0) & 0x1fff);
      }
    }
    // 4096 balls into 8192 bins fill 3,223 of them; sigma is below 30.
    expect(places.size).toBeGreaterThan(3223 - 180);
  });
});

describe('LruList', () => {
  it('keeps the order of a plain list', () => {
    const step = fc.record({ member: fc.nat(5), add: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const list = new LruList(6);
        let plain: number[] = [];
        for (const { member, add } of steps) {
          if (add && !list.has(member)) {
            list.add(member);
            plain.push(member);
          } else if (!add && list.has(member)) {
            list.remove(member);
            plain = plain.filter((m) => m !== member);
          }
          expect(list.members()).toEqual(plain);
          expect([list.length, list.oldest]).toEqual([plain.length, plain[0] ?? -1]);
        }
      }),
    );
  });
});

describe.each(hashes)('PrefixCache with %s', (_, hash) => {
  it('finds what a map finds, while entries come and go', () => {
    const numBlocks = 9;
    const step = fc.record({ block: fc.nat(numBlocks - 1), parent: fc.constantFrom(-3, -2), token: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const cache = new PrefixCache(numBlocks, hash);
        const expected = new Map<string, number>();
        const keys = new Map<number, string>();
        const tokensOf = (token: number) => new Int32Array(20).fill(token, 3, 19);
        for (const { block, parent, token } of steps) {
          const key = `${parent} ${token}`;
          if (cache.nodeOf(block) !== 0) {
            cache.forget(block);
            if (expected.get(keys.get(block)!) === block) expected.delete(keys.get(block)!);
          } else {
            cache.register(block, parent, tokensOf(token), 3);
            keys.set(block, key);
            if (!expected.has(key)) expected.set(key, block);
          }
          cache.checkIntegrity(new Int32Array(numBlocks));
          for (const p of [-3, -2, 1]) {
            for (let t = 0; t < 10; t++) expect(cache.find(p, tokensOf(t), 3)).toBe(expected.get(`${p} ${t}`) ?? -1);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});

/** A sequence in both: what the manager has of it and what the reference has. */
interface Live {
  table: BlockTable;
  cells: Cell[];
  tokens: number[];
  computed: number;
  root: number;
  /** Resets before it came: what it holds is not to be found after another. */
  resets: number;
}

const numFamilies = 3;
const maxTokens = 112;
/** Families agree on their first 32, 48, ... tokens. */
function familyTokens(family: number, length: number, tail: number): number[] {
  const base = Array.from({ length }, (_, i) => (i < 32 + 16 * family ? i : 1000 * (family + 1) + i));
  if (tail > 0) base[length - 1] = 5000 + tail;
  return base;
}

class World {
  readonly blocks: BlockManager;
  readonly reference: Reference;
  readonly live: Live[] = [];
  readonly numBlocks: number;
  queryTokens = 0;
  hitTokens = 0;
  resets = 0;
  duplicates = 0;
  /** What a model would find: [numBlocks * 16] root and token of each place. */
  private readonly memory: string[];
  private stepRunning = false;

  constructor(numBlocks: number, hash: NodeHash) {
    this.numBlocks = numBlocks;
    this.blocks = new BlockManager(numBlocks, { prefixCaching: true, hash });
    this.reference = new Reference(numBlocks);
    this.memory = new Array(numBlocks * 16).fill('');
  }

  admit(tokens: number[], root: number, spare: number): void {
    if (this.stepRunning) this.endStep();
    const table = new BlockTable(maxTokens);
    const expected = this.reference.admit(tokens, root, spare);
    const computed = this.blocks.tryAdmit(table, Int32Array.from(tokens), tokens.length, root, spare);
    expect(computed).toBe(expected === null ? -1 : expected.hits * 16);
    if (expected === null) {
      expect(table.count).toBe(0);
      return;
    }
    if (root < 0) {
      this.queryTokens += tokens.length;
      this.hitTokens += computed;
    }
    const live = { table, cells: expected.cells, tokens, computed, root, resets: this.resets };
    this.live.push(live);
    this.checkMemory(live);
  }

  fork(index: number, length: number, spare: number): void {
    if (this.stepRunning) this.endStep();
    const parent = this.live[index % this.live.length];
    if (parent === undefined || length - 1 > parent.computed) return;
    const cells = this.reference.fork(parent.cells, length, spare);
    const table = new BlockTable(maxTokens);
    const computed = this.blocks.tryFork(table, parent.table, length, spare);
    expect(computed).toBe(cells === null ? -1 : length - 1);
    if (cells === null) return;
    for (let i = computed & ~15; i < computed; i++) this.memory[table.slot(i)] = this.memory[parent.table.slot(i)]!;
    const tokens = [...parent.tokens.slice(0, computed), 7777];
    const live = { table, cells, tokens, computed, root: parent.root, resets: parent.resets };
    this.live.push(live);
    this.checkMemory(live);
  }

  /** A step of one sequence, during which another one may be given back. */
  compute(index: number, count: number, leaving: number | null, fails: boolean): void {
    if (this.stepRunning) this.endStep();
    const live = this.live[index % this.live.length];
    if (live === undefined) return;
    const { table, cells, tokens } = live;
    const to = Math.min(live.computed + count, maxTokens);
    while (tokens.length < to) tokens.push(tokens.length + 3000);
    const fits = this.reference.append(cells, to);
    expect(this.blocks.canAppend(table, to)).toBe(fits);
    if (!fits) return;
    this.blocks.append(table, to);
    this.blocks.beginStep();
    this.reference.beginStep();
    this.stepRunning = true;
    for (let i = live.computed; i < to; i++) this.memory[table.slot(i)] = `${live.root} ${tokens[i]}`;
    if (leaving !== null) this.release(leaving);
    if (this.live.includes(live) && !fails) {
      this.blocks.register(table, Int32Array.from(tokens), live.computed, to, live.root);
      if (live.root < 0 && live.resets === this.resets) {
        const registered = this.reference.found.size;
        this.reference.register(cells, tokens, live.computed, to, live.root);
        const full = (to >> 4) - (live.computed >> 4);
        this.duplicates += full - (this.reference.found.size - registered);
      }
      live.computed = to;
    } else if (this.live.includes(live)) this.release(this.live.indexOf(live));
  }

  release(index: number): void {
    if (this.live.length === 0) return;
    const [live] = this.live.splice(index % this.live.length, 1);
    this.blocks.release(live!.table);
    this.reference.release(live!.cells);
  }

  reset(): void {
    this.resets++;
    this.blocks.resetPrefixCache();
    this.reference.reset();
  }

  endStep(): void {
    if (!this.stepRunning) return;
    this.blocks.endStep();
    this.reference.endStep();
    this.stepRunning = false;
  }

  check(): void {
    this.blocks.checkIntegrity(this.live.map((l) => l.table));
    expect([this.blocks.numFree, this.blocks.numCached]).toEqual([
      this.reference.free + this.reference.idle.length,
      this.reference.idle.length,
    ]);
    const { queryTokens, hitTokens } = this;
    expect(this.blocks.prefixStats).toEqual({ queryTokens, hitTokens, evictions: this.reference.evictions });
    for (const live of this.live) this.checkMemory(live);
  }

  /** Every place whose content is not computed anew holds what it should: the token, of the tenant. */
  private checkMemory({ table, tokens, computed, root }: Live): void {
    for (let i = 0; i < computed; i++) {
      const expected = `${root} ${tokens[i]}`;
      if (this.memory[table.slot(i)] !== expected) {
        throw new Error(`position ${i} holds ${this.memory[table.slot(i)]}, not ${expected}`);
      }
    }
  }
}

const family = fc.record({
  family: fc.nat(numFamilies - 1),
  length: fc.oneof(fc.integer({ min: 1, max: maxTokens }), fc.constantFrom(15, 16, 17, 32, 33, 48, 49, 64, 65, 96)),
  tail: fc.nat(2),
});
const index = fc.nat(20);
const spare = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) });

type Action = (world: World) => void;
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(family, fc.constantFrom(0, -5, -5, -5, -5, -6), spare).map(
      ([f, root, s]): Action =>
        (w) =>
          w.admit(familyTokens(f.family, f.length, f.tail), root, s),
    ),
  },
  {
    weight: 8,
    arbitrary: fc.tuple(index, fc.integer({ min: 1, max: 70 }), fc.option(index, { freq: 4 }), fc.nat(12)).map(
      ([i, count, leaving, luck]): Action =>
        (w) =>
          w.compute(i, count, leaving, luck === 0),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(index, fc.integer({ min: 1, max: 80 }), spare).map(
      ([i, length, s]): Action =>
        (w) =>
          w.fork(i, length, s),
    ),
  },
  // Two compute the same at once: the second one's blocks are duplicates, and its chain goes on under the first's nodes.
  {
    weight: 3,
    arbitrary: fc.tuple(family, index).map(
      ([f, i]): Action =>
        (w) => {
          for (let k = 0; k < 2; k++) w.admit(familyTokens(f.family, f.length, f.tail), -5, 0);
          for (let k = 1; k <= 2; k++) if (w.live.length >= k) w.compute(w.live.length - k, 16 + i, null, false);
        },
    ),
  },
  {
    weight: 4,
    arbitrary: index.map(
      (i): Action =>
        (w) =>
          w.release(i),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Action>((w) => w.endStep()) },
  {
    weight: 1,
    arbitrary: fc.nat(4).map(
      (n): Action =>
        (w) =>
          n === 0 && w.reset(),
    ),
  },
);

describe.each(hashes)('sharing with %s', (_, hash) => {
  it('is what a reference of maps and lists does, in any history', () => {
    const seen = { hits: 0, evictions: 0, duplicates: 0, resets: 0 };
    fc.assert(
      fc.property(
        fc.integer({ min: 3, max: 24 }),
        fc.array(action, { minLength: 30, maxLength: 120, size: 'max' }),
        (numBlocks, actions) => {
          const world = new World(numBlocks, hash);
          for (const act of actions) {
            act(world);
            world.check();
          }
          world.endStep();
          while (world.live.length > 0) world.release(0);
          world.check();
          expect(world.blocks.numFree).toBe(numBlocks);
          seen.hits += world.hitTokens;
          seen.evictions += world.reference.evictions;
          seen.duplicates += world.duplicates;
          seen.resets += world.resets;
        },
      ),
      { numRuns: 250 },
    );
    expect(seen.hits).toBeGreaterThan(1000);
    expect(seen.evictions).toBeGreaterThan(100);
    expect(seen.duplicates).toBeGreaterThan(30);
    expect(seen.resets).toBeGreaterThan(30);
  });
});
