// Who owns which block of the KV cache. Pure bookkeeping: memory is native, a block is an index into the pool.

import { SwiftKVError } from '../errors.ts';

/** Tokens in one block of the paged cache. */
export const blockTokens = 16;

export function blocksFor(tokens: number): number {
  return Math.ceil(tokens / blockTokens);
}

/** The blocks of one sequence, in order of position; one table serves every layer. Written by the BlockManager only. */
export class BlockTable {
  /** [blocksFor(maxTokens)], the first `count` are valid. */
  readonly blocks: Int32Array;
  count = 0;
  /** Changes whenever blocks that were here are given back: copies of the table are then stale. */
  version = 0;

  constructor(maxTokens: number) {
    this.blocks = new Int32Array(blocksFor(maxTokens));
  }

  /** Where the token at `position` lies in the pool: block * 16 + offset. */
  slot(position: number): number {
    return this.blocks[position >> 4]! * blockTokens + (position & 15);
  }
}

/**
 * Blocks are reference counted (sequences may come to share them). Between `beginStep` and `endStep` a step may be
 * reading any block, so a block given back meanwhile is handed out again only after `endStep`.
 */
export class BlockManager {
  readonly numBlocks: number;
  /** [numBlocks] tables that hold the block. */
  private readonly refCount: Int32Array;
  /** Stack of free blocks; the first `numFree` are valid. */
  private readonly free: Int32Array;
  private freeCount: number;
  /** Blocks given back while a step was running. */
  private readonly deferred: Int32Array;
  private deferredCount = 0;
  private stepRunning = false;

  constructor(numBlocks: number) {
    this.numBlocks = numBlocks;
    this.refCount = new Int32Array(numBlocks);
    this.free = new Int32Array(numBlocks);
    this.deferred = new Int32Array(numBlocks);
    this.freeCount = numBlocks;
    // Lowest blocks on top: pages of a lone sequence are neighbours.
    for (let i = 0; i < numBlocks; i++) this.free[i] = numBlocks - 1 - i;
  }

  /** Blocks that can be handed out now. */
  get numFree(): number {
    return this.freeCount;
  }

  /** Whether an empty table can get room for `tokens`, with `spare` blocks left over. */
  canAllocate(tokens: number, spare = 0): boolean {
    return blocksFor(tokens) + spare <= this.freeCount;
  }

  /** Gives an empty table room for `tokens`. */
  allocate(table: BlockTable, tokens: number): void {
    if (table.count !== 0) throw defect(`allocate on a table of ${table.count} blocks`);
    this.grow(table, blocksFor(tokens));
  }

  /** Whether the table can get room for `tokens`, what it has included. */
  canAppend(table: BlockTable, tokens: number): boolean {
    return blocksFor(tokens) - table.count <= this.freeCount;
  }

  /** Gives the table room for `tokens`, what it has included. */
  append(table: BlockTable, tokens: number): void {
    const blocks = blocksFor(tokens);
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
      else this.free[this.freeCount++] = block;
    }
    table.count = 0;
    table.version++;
  }

  beginStep(): void {
    if (this.stepRunning) throw defect('a step began during another');
    this.stepRunning = true;
  }

  endStep(): void {
    if (!this.stepRunning) throw defect('a step ended that had not begun');
    this.stepRunning = false;
    while (this.deferredCount > 0) this.free[this.freeCount++] = this.deferred[--this.deferredCount]!;
  }

  /**
   * Recounts everything from the tables of all live sequences.
   * @throws ERR_INTERNAL naming the first contradiction
   */
  checkIntegrity(tables: Iterable<BlockTable>): void {
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
    const idle = new Uint8Array(this.numBlocks);
    const markIdle = (list: Int32Array, count: number, name: string) => {
      for (let i = 0; i < count; i++) {
        const block = list[i]!;
        if (idle[block] !== 0) throw defect(`block ${block} is ${name} and free or deferred already`);
        idle[block] = 1;
      }
    };
    markIdle(this.free, this.freeCount, 'free');
    markIdle(this.deferred, this.deferredCount, 'deferred');
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

  private grow(table: BlockTable, blocks: number): void {
    if (blocks > table.blocks.length) throw defect(`a table of ${table.blocks.length} blocks was to hold ${blocks}`);
    if (blocks - table.count > this.freeCount) {
      throw defect(`${blocks - table.count} blocks wanted and ${this.freeCount} free`);
    }
    while (table.count < blocks) {
      const block = this.free[--this.freeCount]!;
      this.refCount[block] = 1;
      table.blocks[table.count++] = block;
    }
  }
}

function defect(what: string): SwiftKVError {
  return new SwiftKVError('ERR_INTERNAL', `Block manager: ${what}`);
}
