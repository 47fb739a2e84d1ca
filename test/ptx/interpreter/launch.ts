// Runs a grid, block after block; the warps of a block take turns at barriers.

import type { Landing } from './async-copy.ts';
import type { Block, Dimensions } from './block.ts';
import { Mbarriers } from './mbarrier.ts';
import type { GlobalMemory } from './memory.ts';
import { Region } from './memory.ts';
import { type Barrier, compile, type Program } from './program.ts';
import { type Module, PtxError, type PtxFunction, type Variable } from './syntax.ts';
import { Warp } from './warp.ts';
import { WarpRun } from './warp-run.ts';

export interface Launch {
  readonly module: Module;
  /** The mangled name. */
  readonly kernel: string;
  readonly grid: Dimensions;
  readonly block: Dimensions;
  readonly sharedBytes?: number;
  /** The parameters' bytes, laid out as the kernel declares them. */
  readonly params: Uint8Array;
  readonly memory: GlobalMemory;
  /** When asynchronous copies land; late by default. */
  readonly landing?: Landing;
  /** Which warp of a block goes first. */
  readonly order?: 'ascending' | 'descending';
}

/** How often warps executed each opcode. */
export type OpcodeCounts = ReadonlyMap<string, number>;

export function launch(options: Launch): OpcodeCounts {
  const { module, memory, grid, block } = options;
  const kernel = module.functions.get(options.kernel);
  if (kernel === undefined) throw new PtxError(`no kernel ${options.kernel}`);
  const program = compile(module, kernel, options.sharedBytes ?? 0, placeGlobals(module, kernel, memory));
  if (program.paramBytes !== options.params.byteLength) {
    throw new PtxError(
      `${kernel.name} has ${program.paramBytes} bytes of parameters, not ${options.params.byteLength}`,
    );
  }
  const params = new Region('the parameters', program.paramBytes);
  params.u8.set(options.params);
  const counts = new Map<string, number>();
  for (let z = 0; z < grid[2]; z++) {
    for (let y = 0; y < grid[1]; y++) {
      for (let x = 0; x < grid[0]; x++) {
        const shared = new Region('shared memory', program.sharedBytes);
        const mbarriers = new Mbarriers(options.landing ?? 'late');
        const state: Block = { global: memory, shared, params, mbarriers, at: [x, y, z], grid, block };
        try {
          runBlock(program, state, options, counts);
        } catch (error) {
          if (!(error instanceof PtxError)) throw error;
          throw new PtxError(`${error.message}; block (${x}, ${y}, ${z}) of ${kernel.name}`);
        }
      }
    }
  }
  return counts;
}

/** Variables of the module are global memory that every launch begins anew. */
function placeGlobals(module: Module, kernel: PtxFunction, memory: GlobalMemory): Map<Variable, number> {
  const addresses = new Map<Variable, number>();
  for (const variable of [...module.variables, ...kernel.variables]) {
    if (variable.space !== 'global' && variable.space !== 'const') continue;
    addresses.set(variable, memory.allocate(variable.name, variable.data ?? variable.bytes));
  }
  return addresses;
}

/** Rounds in which warps only yield before the block counts as hanging; a slice of a long loop is one. */
const most_idle_rounds = 5000;

/** Warps that have come to a barrier, and threads that only arrived. */
interface Arrivals {
  readonly waiting: Set<WarpRun>;
  arrived: number;
}

function runBlock(program: Program, block: Block, options: Launch, counts: Map<string, number>): void {
  const threads = block.block[0] * block.block[1] * block.block[2];
  const barriers = new Map<number, Arrivals>();
  const at = (barrier: Barrier, run: WarpRun): Arrivals => {
    const id = run.warp.u32[barrier.id.at]!;
    let arrivals = barriers.get(id);
    if (arrivals === undefined) {
      arrivals = { waiting: new Set(), arrived: 0 };
      barriers.set(id, arrivals);
    }
    return arrivals;
  };
  const arrive = (barrier: Barrier, run: WarpRun) => {
    at(barrier, run).arrived += 32;
  };
  const runs: WarpRun[] = [];
  for (let index = 0; index * 32 < threads; index++) {
    const count = Math.min(32, threads - 32 * index);
    const lanes = count === 32 ? -1 : (1 << count) - 1;
    const landing = options.landing ?? 'late';
    const warp = new Warp(block, index, lanes, program.binder.words, program.localBytes, landing);
    fillConstants(program, warp);
    runs.push(new WarpRun(warp, program, counts, arrive));
  }
  const isWaiting = (run: WarpRun) => [...barriers.values()].some((b) => b.waiting.has(run));
  let running = options.order === 'descending' ? runs.toReversed() : runs;
  let idleRounds = 0;
  while (running.length > 0) {
    let moved = false;
    const exited = new Set<WarpRun>();
    for (const run of running) {
      if (isWaiting(run)) continue;
      const outcome = run.run();
      if (outcome === 'exited') exited.add(run);
      if (outcome === 'barrier') at(run.barrier, run).waiting.add(run);
      if (outcome !== 'yield') moved = true;
    }
    running = running.filter((run) => !exited.has(run));
    for (const [id, arrivals] of barriers) {
      if (!isComplete(arrivals, running)) continue;
      release(arrivals);
      barriers.delete(id);
      moved = true;
    }
    idleRounds = moved || block.mbarriers.landOne() ? 0 : idleRounds + 1;
    if (idleRounds > most_idle_rounds || (running.length > 0 && running.every(isWaiting))) {
      throw new PtxError(`no warp can go on: ${running.map((r) => r.describe()).join('; ')}`);
    }
  }
}

function isComplete({ waiting, arrived }: Arrivals, running: readonly WarpRun[]): boolean {
  const [first] = waiting;
  if (first === undefined) return false;
  const { count } = first.barrier;
  if (count !== undefined) return waiting.size * 32 + arrived >= first.warp.u32[count.at]!;
  return running.every((run) => waiting.has(run));
}

function release({ waiting }: Arrivals): void {
  const reductions = [...waiting].map((run) => ({ run, reduction: run.barrier.reduction }));
  let votes = 0;
  let threads = 0;
  for (const { run, reduction } of reductions) {
    if (reduction === undefined) continue;
    const bits = run.warp.predicate(reduction.source) & run.live;
    for (let lane = 0; lane < 32; lane++) {
      votes += (bits >>> lane) & 1;
      threads += (run.live >>> lane) & 1;
    }
  }
  for (const { run, reduction } of reductions) {
    if (reduction !== undefined) {
      const { u32 } = run.warp;
      if (reduction.operation === 'popc') u32.fill(votes, reduction.target, reduction.target + 32);
      else u32[reduction.target] = (reduction.operation === 'or' ? votes > 0 : votes === threads) ? 0xffffffff : 0;
    }
    run.release();
  }
}

function fillConstants({ binder }: Program, warp: Warp): void {
  for (const { slot, bits } of binder.constants) {
    for (let lane = 0; lane < 32; lane++) {
      if (slot.words === 1) warp.u32[slot.at + lane] = Number(bits);
      else warp.u64[slot.at / 2 + lane] = bits;
    }
  }
  for (const [name, slot] of binder.specials) {
    for (let lane = 0; lane < 32; lane++) {
      if (slot.words === 1) warp.u32[slot.at + lane] = special(name, warp, lane);
      else warp.u64[slot.at / 2 + lane] = 0n;
    }
  }
}

function special(name: string, warp: Warp, lane: number): number {
  const { block, at, grid } = warp.block;
  const thread = 32 * warp.index + lane;
  const axis = 'xyz'.indexOf(name.at(-1)!);
  if (name.startsWith('%tid.')) {
    return [thread % block[0], Math.floor(thread / block[0]) % block[1], Math.floor(thread / (block[0] * block[1]))][
      axis
    ]!;
  }
  if (name.startsWith('%ntid.')) return block[axis]!;
  if (name.startsWith('%ctaid.')) return at[axis]!;
  if (name.startsWith('%nctaid.')) return grid[axis]!;
  switch (name) {
    case '%laneid':
      return lane;
    case '%warpid':
      return warp.index;
    case '%nwarpid':
      return Math.ceil((block[0] * block[1] * block[2]) / 32);
    case '%lanemask_eq':
      return 1 << lane;
    case '%lanemask_lt':
      return 2 ** lane - 1;
    case '%lanemask_le':
      return 2 ** (lane + 1) - 1;
    case '%lanemask_gt':
      return ~(2 ** (lane + 1) - 1);
    case '%lanemask_ge':
      return ~(2 ** lane - 1);
    case '%dynamic_smem_size':
    case '%total_smem_size':
      return warp.block.shared.bytes;
    default:
      return 0;
  }
}
