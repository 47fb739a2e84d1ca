// Chunks fit the time they are given, on machines of any speed, and one odd measurement does not derail them.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CostModel,
  chunkRows,
  initialCost,
  observeStep,
  stepUnits,
  workUnits,
} from '../../lib/engine/cost-model.ts';
import { StepPlan } from '../../lib/engine/step-plan.ts';
import type { ModelConfig } from '../../lib/model/config.ts';
import { fakeConfig } from './fake-model.ts';
import { sequence } from './harness.ts';

const small = fakeConfig(97, []);
/** The shape of Llama-3.1-8B with half of its layers skipped. */
const large: ModelConfig = {
  ...small,
  vocabSize: 128256,
  hiddenSize: 4096,
  intermediateSize: 14336,
  numLayers: 32,
  numHeads: 32,
  numKvHeads: 8,
  headDim: 128,
  numKvLayers: 16,
  groupSize: 1,
  maxPositions: 131072,
};

function planOf(rows: number, chunk: boolean): StepPlan {
  const plan = new StepPlan(8);
  const item = plan.add(sequence(rows + 1, 1), rows);
  if (chunk) plan.numChunks = 1;
  else item.survivors = 0;
  return plan;
}

/** The longest chunk of a step of `ms` in which `used` units are taken. */
function rowsIn(cost: CostModel, ms: number, used: number, start: number, fullDepth: boolean): number {
  return chunkRows(cost.shape, stepUnits(cost.state, ms) - used, start, fullDepth);
}

/** A machine: a fixed time and a time per unit. */
const trueMs = (cost: CostModel, machine: { fixedMs: number; msPerUnit: number }, start: number, count: number) =>
  machine.fixedMs + machine.msPerUnit * workUnits(cost.shape, start, count, 0, 0);

describe('workUnits', () => {
  it('counts one row through one layer as about one, and skipped layers as nothing', () => {
    const { shape } = initialCost(small);
    const early = workUnits({ ...shape, key: 0, project: 0 }, 0, 10, 1, 0);
    expect(early).toBe(10 * 2 + 1 * 4);
    expect(workUnits({ ...shape, key: 0, project: 0 }, 0, 10, 0, 0)).toBe(20);
    expect(workUnits({ ...shape, key: 0, project: 0 }, 0, 10, 10, 0)).toBe(60);
  });

  it('does not depend on how rows are cut into chunks', () => {
    const { shape } = initialCost(large);
    fc.assert(
      fc.property(fc.nat(5000), fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 500 }), (start, a, b) => {
        const whole = workUnits(shape, start, a + b, 0, 0);
        const parts = workUnits(shape, start, a, 0, 0) + workUnits(shape, start + a, b, 0, 0);
        expect(Math.abs(whole - parts)).toBeLessThan(1e-9 * whole);
      }),
    );
  });

  it('takes the later layers of an 8B model as half of it', () => {
    const { shape } = initialCost(large);
    const ratio = workUnits(shape, 0, 1000, 1, 1) / workUnits(shape, 0, 1000, 1000, 1);
    expect(ratio).toBeGreaterThan(0.45);
    expect(ratio).toBeLessThan(0.58);
  });
});

describe('chunkRows', () => {
  it('gives the longest chunk whose believed time fits', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(small, large),
        fc.nat(100_000),
        fc.double({ min: 1e-4, max: 10, noNaN: true }),
        fc.double({ min: 0, max: 100, noNaN: true }),
        fc.boolean(),
        (config, start, msPerUnit, fixedMs, fullDepth) => {
          const cost = { shape: initialCost(config).shape, state: { fixedMs: Math.max(fixedMs, 0.01), msPerUnit } };
          const count = rowsIn(cost, 250, 0, start, fullDepth);
          const ms = (rows: number) =>
            cost.state.fixedMs + msPerUnit * workUnits(cost.shape, start, rows, fullDepth ? rows : 0, 0);
          expect(ms(count)).toBeLessThanOrEqual(250 * (1 + 1e-9));
          expect(ms(count + 1)).toBeGreaterThan(250 * (1 - 1e-9));
        },
      ),
    );
  });

  it('leaves no time where other rows have taken it', () => {
    const cost = initialCost(small);
    cost.state = { fixedMs: 10, msPerUnit: 1 };
    expect(rowsIn(cost, 100, 90, 0, false)).toBe(0);
    expect(rowsIn(cost, 100, 500, 0, false)).toBe(0);
    expect(rowsIn(cost, 100, 45, 0, false)).toBeLessThan(rowsIn(cost, 100, 0, 0, false));
  });

  it('spends as long on rows as on reading the weights where those take most of the step', () => {
    const cost = initialCost(large);
    cost.state = { fixedMs: 1000, msPerUnit: 1 };
    const rows = rowsIn(cost, 250, 0, 0, false);
    expect(workUnits(cost.shape, 0, rows, 0, 0)).toBeGreaterThan(900);
    expect(workUnits(cost.shape, 0, rows, 0, 0)).toBeLessThanOrEqual(1000);
  });
});

describe('observeStep', () => {
  it('comes within a tenth of maxStepMs on machines from 100 times slower to 100 times faster than guessed', () => {
    for (const config of [small, large]) {
      for (const speed of [0.01, 0.1, 1, 10, 100]) {
        const cost = initialCost(config);
        const machine = { fixedMs: 3, msPerUnit: cost.state.msPerUnit * speed };
        const decodes = planOf(1, false);
        let last = 0;
        for (let i = 0; i < 40; i++) {
          cost.state = observeStep(cost, decodes, trueMs(cost, machine, 1, 1));
          const rows = Math.max(1, rowsIn(cost, 250, 0, 0, false));
          last = trueMs(cost, machine, 0, rows);
          if (rows > 100_000) break;
          const plan = planOf(rows, true);
          cost.state = observeStep(cost, plan, last);
        }
        const single = trueMs(cost, machine, 0, 1);
        expect(last).toBeLessThan(Math.max(275, single * 1.1));
        expect(last + single).toBeGreaterThan(225);
      }
    }
  });

  it('changes by a factor of at most 2 in one step, whatever was measured', () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.integer({ min: 1, max: 500 }),
        fc.constantFrom(0, 1e-9, 0.1, 1, 100, 1e4, 1e9),
        (chunk, rows, ms) => {
          const cost = initialCost(small);
          const before = cost.state;
          const after = observeStep(cost, planOf(rows, chunk), ms);
          const ratio = after.msPerUnit / before.msPerUnit;
          expect(ratio).toBeGreaterThanOrEqual(0.5);
          expect(ratio).toBeLessThanOrEqual(2);
          expect(after.fixedMs).toBeGreaterThan(0);
          expect(after.fixedMs).toBeLessThanOrEqual(2 * before.fixedMs);
          expect(observeStep(cost, planOf(rows, chunk), ms)).toEqual(after);
        },
      ),
    );
  });

  it('forgets a single stall', () => {
    const cost = initialCost(small);
    const machine = { fixedMs: 1, msPerUnit: 0.5 };
    const run = (ms?: number) => {
      const rows = Math.max(16, rowsIn(cost, 250, 0, 0, false));
      cost.state = observeStep(cost, planOf(rows, true), ms ?? trueMs(cost, machine, 0, rows));
      return rows;
    };
    for (let i = 0; i < 20; i++) run();
    const before = run();
    run(20_000);
    expect(run()).toBeGreaterThan(before / 2.5);
    for (let i = 0; i < 6; i++) run();
    expect(run()).toBeGreaterThan(before * 0.9);
  });
});
