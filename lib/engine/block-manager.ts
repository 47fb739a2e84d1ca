// Who owns which block of the KV cache. Pure bookkeeping: memory is native, a block is an index into the pool. Only
// checkIntegrity allocates.

import { SwiftKVError } from '../errors.ts';
import { type BlockTable, blocksFor, blockTokens } from './block-table.ts';
import { type NodeHash, PrefixCache } from './prefix-cache.ts';

export { BlockTable, blocksFor, blockTokens } from './block-table.ts';

export interface BlockManagerOptions {
  /** Keep full blocks that nobody holds any more, until their room is needed, for prompts that begin like theirs. */
  prefixCaching?: boolean;
  /** For tests. */
  hash?: NodeHash;
}

/** Over the whole lifetime. */
export interface PrefixStats {
  /** Tokens of the sequences that were admitted and could share blocks, and how many of them were in shared ones. */
  queryTokens: number;
  hitTokens: number;
  /** Blocks kept for hits whose room was needed. */
  evictions: number;
}

/**
 * Blocks are reference counted: sequences with a common beginning share its full blocks. Between `beginStep` and
 * `endStep` a step may be reading any block, so a block given back meanwhile is handed out again only after `endStep`.
 * A table's last block is given back first, so that of what is kept for hits the ends of chains are given up before
 * their beginnings.
 */
export class BlockManager {
  readonly numBlocks: number;
  readonly prefixStats: PrefixStats = { queryTokens: 0, hitTokens: 0, evictions: 0 };
  private readonly cache: PrefixCache | null;
  /** Resets of the prefix cache. */
  private epoch = 0;
  /** [numBlocks] tables that hold the block. */
  private readonly refCount: Int32Array;
  /** Stack of free blocks that nothing is known of; the first `freeCount` are valid. */
  private readonly free: Int32Array;
  private freeCount: number;
  /** Blocks given back while a step was running. */
  private readonly deferred: Int32Array;
  private deferredCount = 0;
  private stepRunning = false;

  constructor(numBlocks: number, { prefixCaching = false, hash }: BlockManagerOptions = {}) {
    this.numBlocks = numBlocks;
    this.cache = prefixCaching ? new PrefixCache(numBlocks, hash) : null;
    this.refCount = new Int32Array(numBlocks);
    this.free = new Int32Array(numBlocks);
    this.deferred = new Int32Array(numBlocks);
    this.freeCount = numBlocks;
    // Lowest blocks on top: pages of a lone sequence are neighbours.
    for (let i = 0; i < numBlocks; i++) this.free[i] = numBlocks - 1 - i;
  }

  /** Blocks that can be handed out now, those kept for hits included. */
  get numFree(): number {
    return this.freeCount + this.numCached;
  }

  /** Blocks that nobody holds and whose content is kept for hits. */
  get numCached(): number {
    return this.cache?.idle.length ?? 0;
  }

  /**
   * Gives an empty table room for `length` tokens, if at least `spare` blocks stay free. Full blocks that are cached are
   * shared, but the last token is always left to compute.
   * @param root where the chain begins (`rootOf`, negative); 0: nothing is looked up
   * @returns tokens that need no computing, a multiple of 16; -1 when there is no room, and nothing has changed
   */
  tryAdmit(table: BlockTable, tokens: Int32Array, length: number, root: number, spare: number): number {
    this.expectEmpty(table, 'tryAdmit');
    const { cache, refCount } = this;
    const { blocks } = table;
    let hits = 0;
    let idleHits = 0;
    const limit = cache === null || root === 0 ? 0 : (length - 1) >> 4;
    for (let parent = root; hits < limit; hits++) {
      const block = cache!.find(parent, tokens, hits * blockTokens);
      if (block < 0) break;
      parent = cache!.nodeOf(block);
      blocks[hits] = block;
      if (refCount[block] === 0) idleHits++;
    }
    const needed = blocksFor(length);
    if (needed - hits + idleHits + spare > this.numFree) return -1;
    for (let i = 0; i < hits; i++) {
      const block = blocks[i]!;
      if (refCount[block]!++ === 0) cache!.idle.remove(block);
    }
    table.count = hits;
    table.chainLength = hits;
    table.epoch = this.epoch;
    this.grow(table, needed);
    if (cache !== null && root !== 0) {
      this.prefixStats.queryTokens += length;
      this.prefixStats.hitTokens += hits * blockTokens;
    }
    return hits * blockTokens;
  }

  /**
   * Gives an empty table room for `length` tokens, if at least `spare` blocks stay free, of which `parent` has computed
   * the first length - 1: the full blocks among those are shared. Where they end within a block, its content is for the
   * caller to copy, from parent.blocks[(length - 1) >> 4] to table.blocks[(length - 1) >> 4].
   * @returns length - 1; -1 when there is no room, and nothing has changed
   */
  tryFork(table: BlockTable, parent: BlockTable, length: number, spare: number): number {
    this.expectEmpty(table, 'tryFork');
    if (parent.count < blocksFor(length - 1))
      throw defect(`a parent of ${parent.count} blocks has not ${length - 1} tokens`);
    const shared = (length - 1) >> 4;
    const needed = blocksFor(length);
    if (needed - shared + spare > this.numFree) return -1;
    for (let i = 0; i < shared; i++) {
      const block = parent.blocks[i]!;
      table.blocks[i] = block;
      this.refCount[block]!++;
    }
    table.count = shared;
    table.chainLength = Math.min(parent.chainLength, shared);
    table.epoch = parent.epoch;
    this.grow(table, needed);
    return length - 1;
  }

  /**
   * Lets the blocks that became full be found, after a step that computed positions [from, to) has succeeded.
   * @param tokens of the sequence, at least the first `to`
   * @param root where its chain begins; the one that the table was admitted with, if that was not 0
   */
  register(table: BlockTable, tokens: Int32Array, from: number, to: number, root: number): void {
    const { cache } = this;
    if (cache === null || root === 0 || table.epoch !== this.epoch) return;
    if (table.chainLength !== from >> 4) {
      throw defect(`a chain of ${table.chainLength} blocks goes on with position ${from}`);
    }
    const full = to >> 4;
    if (full > table.count) throw defect(`${to} tokens computed in a table of ${table.count} blocks`);
    for (let i = table.chainLength; i < full; i++) {
      const parent = i === 0 ? root : cache.nodeOf(table.blocks[i - 1]!);
      cache.register(table.blocks[i]!, parent, tokens, i * blockTokens);
    }
    table.chainLength = full;
  }

  /** Nothing computed so far is found from now on, also of sequences that run. At any time. */
  resetPrefixCache(): void {
    const { cache } = this;
    if (cache === null) return;
    this.epoch++;
    for (let block = 0; block < this.numBlocks; block++) cache.forget(block);
    for (let block = cache.idle.oldest; block >= 0; block = cache.idle.oldest) {
      cache.idle.remove(block);
      this.free[this.freeCount++] = block;
    }
  }

  /** Whether an empty table can get room for `tokens`, with `spare` blocks left over. */
  canAllocate(tokens: number, spare = 0): boolean {
    return blocksFor(tokens) + spare <= this.numFree;
  }

  /** Gives an empty table room for `tokens`. */
  allocate(table: BlockTable, tokens: number): void {
    this.expectEmpty(table, 'allocate');
    table.epoch = this.epoch;
    this.grow(table, blocksFor(tokens));
  }

  /** Whether the table can get room for `tokens`, what it has included. */
  canAppend(table: BlockTable, tokens: number): boolean {
    return blocksFor(tokens) - table.count <= this.numFree;
  }

  /** Gives the table room for `tokens`, what it has included. */
  append(table: BlockTable, tokens: number): void {
    const blocks = blocksFor(tokens);
    if (table.count === 0) table.epoch = this.epoch;
    if (blocks > table.count) this.grow(table, blocks);
  }

  /** Gives back everything the table holds. */
  release(table: BlockTable): void {
    for (let i = table.count - 1; i >= 0; i--) {
      const block = table.blocks[i]!;
      const count = --this.refCount[block]!;
      if (count < 0) throw defect(`block ${block} given back twice`);
      if (count > 0) continue;
      if (this.stepRunning) this.deferred[this.deferredCount++] = block;
      else this.giveBack(block);
    }
    table.count = 0;
    table.chainLength = 0;
    table.version++;
  }

  beginStep(): void {
    if (this.stepRunning) throw defect('a step began during another');
    this.stepRunning = true;
  }

  endStep(): void {
    if (!this.stepRunning) throw defect('a step ended that had not begun');
    this.stepRunning = false;
    for (let i = 0; i < this.deferredCount; i++) this.giveBack(this.deferred[i]!);
    this.deferredCount = 0;
  }

  /**
   * Recounts everything from the tables of all live sequences.
   * @throws ERR_INTERNAL naming the first contradiction
   */
  checkIntegrity(tables: readonly BlockTable[]): void {
    const counted = new Int32Array(this.numBlocks);
    for (const table of tables) {
      if (table.count > table.blocks.length) throw defect(`a table of ${table.blocks.length} holds ${table.count}`);
      const own = new Set<number>();
      for (let i = 0; i < table.count; i++) {
        const block = table.blocks[i]!;
        if (block < 0 || block >= this.numBlocks) throw defect(`block ${block} of ${this.numBlocks} in a table`);
        if (own.has(block)) throw defect(`block ${block} twice in one table`);
        own.add(block);
        counted[block]!++;
      }
    }
    this.checkCache(tables, counted);
    const idle = new Uint8Array(this.numBlocks);
    const markIdle = (list: ArrayLike<number>, count: number, name: string) => {
      for (let i = 0; i < count; i++) {
        const block = list[i]!;
        if (idle[block] !== 0) throw defect(`block ${block} is ${name} and already free, deferred or cached`);
        idle[block] = 1;
      }
    };
    markIdle(this.free, this.freeCount, 'free');
    markIdle(this.deferred, this.deferredCount, 'deferred');
    const cached = this.cache?.idle.members() ?? [];
    markIdle(cached, cached.length, 'cached');
    if (!this.stepRunning && this.deferredCount > 0)
      throw defect(`${this.deferredCount} blocks deferred without a step`);
    for (let block = 0; block < this.numBlocks; block++) {
      if (counted[block] !== this.refCount[block]) {
        throw defect(`block ${block} is held ${counted[block]} times but counted ${this.refCount[block]}`);
      }
      if ((counted[block] === 0) !== (idle[block] === 1)) {
        throw defect(`block ${block} is held ${counted[block]} times and ${idle[block] === 1 ? '' : 'not '}free`);
      }
    }
  }

  private checkCache(tables: readonly BlockTable[], counted: Int32Array): void {
    const { cache } = this;
    if (cache === null) return;
    cache.checkIntegrity(counted);
    for (let i = 0; i < this.freeCount; i++) {
      const block = this.free[i]!;
      if (cache.nodeOf(block) !== 0) throw defect(`block ${block} is free and has the content of a node`);
    }
    for (const table of tables) {
      if (table.chainLength > table.count) {
        throw defect(`a chain of ${table.chainLength} blocks in a table of ${table.count}`);
      }
      if (table.epoch === this.epoch) cache.checkChain(table.blocks, table.chainLength);
    }
  }

  private expectEmpty(table: BlockTable, what: string): void {
    if (table.count !== 0) throw defect(`${what} on a table of ${table.count} blocks`);
    // What was given back during a step may be read by it, so that it is neither free nor to be found.
    if (this.stepRunning) throw defect(`${what} during a step`);
  }

  private giveBack(block: number): void {
    const { cache } = this;
    if (cache?.isRegistered(block)) cache.idle.add(block);
    else {
      cache?.forget(block);
      this.free[this.freeCount++] = block;
    }
  }

  /** A free block, if there is one: the one kept longest for hits only when nothing else is free. */
  private take(): number {
    if (this.freeCount > 0) return this.free[--this.freeCount]!;
    const cache = this.cache!;
    const block = cache.idle.oldest;
    cache.idle.remove(block);
    cache.forget(block);
    this.prefixStats.evictions++;
    return block;
  }

  private grow(table: BlockTable, blocks: number): void {
    if (blocks > table.blocks.length) throw defect(`a table of ${table.blocks.length} blocks was to hold ${blocks}`);
    if (blocks - table.count > this.numFree) {
      throw defect(`${blocks - table.count} blocks wanted and ${this.numFree} free`);
    }
    while (table.count < blocks) {
      const block = this.take();
      this.refCount[block] = 1;
      table.blocks[table.count++] = block;
    }
  }
}

function defect(what: string): SwiftKVError {
  return new SwiftKVError('ERR_INTERNAL', `Block manager: ${what}`);
}
