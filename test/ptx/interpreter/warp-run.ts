// Runs a warp. Its lanes may be at several places, the paths; the one that is furthest behind runs, so that paths meet
// again where control flow does (code is laid out so that a loop's exit follows its body). What needs lanes together
// waits for them, wherever they are.

import type { Barrier, Program, Step } from './program.ts';
import { PtxError } from './syntax.ts';
import type { Warp } from './warp.ts';

interface Path {
  at: number;
  lanes: number;
  /** `lanes`: for other lanes of a collective; `barrier`: for other warps. */
  waits: 'nothing' | 'lanes' | 'barrier';
}

export type Outcome = 'exited' | 'barrier' | 'yield';

/** Warp instructions between two looks at the other warps, so that one that waits in a loop lets them run. */
const slice = 20_000;

export class WarpRun {
  readonly warp: Warp;
  readonly #steps: Step[];
  #paths: Path[];
  #instructions = 0;
  /** How often each opcode was executed, of all warps. */
  readonly #counts: Map<string, number>;
  /** Called for `arrive`, which does not wait. */
  readonly #arrive: (barrier: Barrier, run: WarpRun) => void;

  constructor(
    warp: Warp,
    program: Program,
    counts: Map<string, number>,
    arrive: (barrier: Barrier, run: WarpRun) => void,
  ) {
    this.#counts = counts;
    this.warp = warp;
    this.#steps = program.steps;
    this.#paths = [{ at: 0, lanes: warp.lanes, waits: 'nothing' }];
    this.#arrive = arrive;
  }

  /** Lanes that have not exited. */
  get live(): number {
    return this.#paths.reduce((lanes, path) => lanes | path.lanes, 0);
  }

  /** The barrier at which the whole warp waits. */
  get barrier(): Barrier {
    const action = this.#steps[this.#paths[0]!.at]!.action;
    if (action.kind !== 'barrier') throw new Error('the warp is at no barrier');
    return action;
  }

  release(): void {
    for (const path of this.#paths) {
      path.at++;
      path.waits = 'nothing';
    }
  }

  describe(): string {
    const of = (p: Path) => `lanes 0x${(p.lanes >>> 0).toString(16)} at line ${this.#steps[p.at]!.line}`;
    return `warp ${this.warp.index}: ${this.#paths.map(of).join(', ')}`;
  }

  run(): Outcome {
    const end = this.#instructions + slice;
    while (this.#paths.length > 0) {
      const path = this.#paths.length === 1 ? this.#paths[0]! : this.#behind();
      if (path === undefined || path.waits !== 'nothing') return this.#allWait();
      if (this.#instructions >= end) return 'yield';
      const step = this.#steps[path.at]!;
      this.#instructions++;
      this.#counts.set(step.opcode, (this.#counts.get(step.opcode) ?? 0) + 1);
      try {
        const yields = this.#step(path, step);
        if (this.#paths.length > 1) this.#merge(path);
        if (yields) return 'yield';
      } catch (error) {
        if (!(error instanceof PtxError)) throw error;
        throw new PtxError(`${error.message} (${step.opcode}, ${this.describe()})`, step.line);
      }
    }
    return 'exited';
  }

  #behind(): Path | undefined {
    let found: Path | undefined;
    for (const path of this.#paths) {
      if (path.waits === 'nothing' && (found === undefined || path.at < found.at)) found = path;
    }
    return found;
  }

  #allWait(): Outcome {
    const stuck = this.#paths.find((p) => p.waits === 'lanes');
    if (stuck !== undefined) {
      const { line, opcode } = this.#steps[stuck.at]!;
      throw new PtxError(`${opcode} waits for lanes that do not come; ${this.describe()}`, line);
    }
    if (this.#paths.length > 1) throw new PtxError(`lanes of one warp at different barriers; ${this.describe()}`);
    return 'barrier';
  }

  #merge(path: Path): void {
    for (const other of this.#paths) {
      if (other === path || other.at !== path.at || other.lanes === 0) continue;
      path.lanes |= other.lanes;
      path.waits = 'nothing';
      other.lanes = 0;
    }
    this.#paths = this.#paths.filter((p) => p.lanes !== 0);
  }

  /** True where other warps should run. */
  #step(path: Path, { guard, action }: Step): boolean {
    const active = guard === undefined ? path.lanes : path.lanes & this.warp.predicate(guard);
    switch (action.kind) {
      case 'lanes':
        if (active !== 0) action.run(this.warp, active);
        path.at++;
        return this.#yields();
      case 'branch':
        this.#branch(path, active, action.target);
        return false;
      case 'table':
        this.#table(path, active, action.index.at, action.targets);
        return false;
      case 'exit':
        path.lanes &= ~active;
        path.at++;
        if (path.lanes === 0) this.#paths = this.#paths.filter((p) => p !== path);
        return false;
      case 'collective':
        if (active !== 0 && !this.#together(active, action)) path.waits = 'lanes';
        else path.at++;
        return false;
      case 'yield':
        path.at++;
        return true;
      case 'barrier':
        if (active !== path.lanes) throw new PtxError('a barrier under a predicate');
        if (action.arriveOnly) {
          this.#arrive(action, this);
          path.at++;
        } else {
          path.waits = 'barrier';
        }
        return false;
    }
  }

  #yields(): boolean {
    const yields = this.warp.yields;
    this.warp.yields = false;
    return yields;
  }

  #branch(path: Path, taken: number, target: number): void {
    if (taken === path.lanes) {
      path.at = target;
    } else if (taken === 0) {
      path.at++;
    } else {
      this.#paths.push({ at: target, lanes: taken, waits: 'nothing' });
      path.lanes &= ~taken;
      path.at++;
    }
  }

  #table(path: Path, active: number, index: number, targets: number[]): void {
    const lanesOf = new Map<number, number>();
    for (let lane = 0; lane < 32; lane++) {
      if (((active >>> lane) & 1) === 0) continue;
      const target = targets[this.warp.u32[index + lane]!];
      if (target === undefined) throw new PtxError(`lane ${lane} branches past the list of targets`);
      lanesOf.set(target, (lanesOf.get(target) ?? 0) | (1 << lane));
    }
    path.lanes &= ~active;
    path.at++;
    for (const [at, lanes] of lanesOf) this.#paths.push({ at, lanes, waits: 'nothing' });
    if (path.lanes === 0) this.#paths = this.#paths.filter((p) => p !== path);
  }

  /** Runs a collective for every group of lanes that is complete; false if one is not. */
  #together(active: number, { run, members }: Extract<Step['action'], { kind: 'collective' }>): boolean {
    if (members === undefined) {
      if (active !== -1 && active >>> 0 !== 0xffffffff) {
        if (this.live >>> 0 !== 0xffffffff) throw new PtxError('needs all lanes, of which some have exited');
        return false;
      }
      run(this.warp, -1);
      return true;
    }
    const groups: number[] = [];
    for (let rest = active; rest !== 0; ) {
      const lane = 31 - Math.clz32(rest & -rest);
      const named = this.warp.u32[members.at + lane]!;
      if (((named >>> lane) & 1) === 0) throw new PtxError(`lane ${lane} is not in its own mask`);
      const exited = named & ~this.live;
      if (exited !== 0) throw new PtxError(`the mask names lanes 0x${(exited >>> 0).toString(16)}, which have exited`);
      if ((named & ~active) !== 0) return false;
      groups.push(named);
      rest &= ~named;
    }
    for (const group of groups) run(this.warp, group);
    return true;
  }
}
