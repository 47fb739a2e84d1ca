// A thread block: its memories and its place in the grid.

import type { Mbarriers } from './mbarrier.ts';
import type { GlobalMemory, Region } from './memory.ts';

export type Dimensions = readonly [x: number, y: number, z: number];

export interface Block {
  readonly global: GlobalMemory;
  readonly shared: Region;
  readonly params: Region;
  readonly mbarriers: Mbarriers;
  /** blockIdx. */
  readonly at: Dimensions;
  readonly grid: Dimensions;
  readonly block: Dimensions;
}
