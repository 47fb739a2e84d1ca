// The blocks of the KV cache that one sequence has.

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
  /** Blocks from the first one on whose content the prefix cache was told. */
  chainLength = 0;
  /** Resets of the prefix cache before the first block came: what is older than a reset is never registered after it. */
  epoch = 0;

  constructor(maxTokens: number) {
    this.blocks = new Int32Array(blocksFor(maxTokens));
  }

  /** Where the token at `position` lies in the pool: block * 16 + offset. */
  slot(position: number): number {
    return this.blocks[position >> 4]! * blockTokens + (position & 15);
  }
}
