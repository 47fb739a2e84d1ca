// What a step will cost, so that chunks of prompts can be cut to fit maxStepMs. Work is counted in units of one row
// through one layer; two numbers turn it into milliseconds and follow the measured steps. Pure functions.

import { type ModelConfig, numDistinctCaches } from '../model/config.ts';
import type { PlanItem, StepPlan } from './step-plan.ts';

/** A model's work, in units of one row through one layer without attention over other tokens. */
export interface CostShape {
  /** n: layers that every row takes. */
  firstLayers: number;
  /** L - n: layers that only surviving rows take. */
  laterLayers: number;
  /** K and V of all later layers for one row. */
  project: number;
  /** The head for one row. */
  head: number;
  /** One row looking at one key in one layer. */
  key: number;
}

/** What is believed of the machine. */
export interface CostState {
  /** Part of a step that does not depend on its rows: reading the weights, mostly. */
  fixedMs: number;
  msPerUnit: number;
}

export interface CostModel {
  shape: CostShape;
  state: CostState;
}

// First guesses, on the slow side: a first chunk that is too small costs little, one that is too long stalls others.
const guessedBytesPerMs = 10e6;
const guessedFlopsPerMs = 20e6;
/** An operation of attention takes about this many times as long as one of a matrix product. */
const attentionSlowness = 2;
/** A measurement may say this many times more or less than the belief; what it says beyond is not believed. */
const maxSurprise = 4;
const minMs = 1e-3;

export function initialCost(c: ModelConfig): CostModel {
  const attentionWidth = c.numHeads * c.headDim;
  const kvWidth = 2 * c.numKvHeads * c.headDim;
  const layerMacs = c.hiddenSize * (2 * attentionWidth + kvWidth + 3 * c.intermediateSize);
  const laterGroups = numDistinctCaches(c) - c.numKvLayers;
  const headMacs = c.hiddenSize * c.vocabSize;
  return {
    shape: {
      firstLayers: c.numKvLayers,
      laterLayers: c.numLayers - c.numKvLayers,
      project: (laterGroups * kvWidth * c.hiddenSize) / layerMacs,
      head: headMacs / layerMacs,
      key: (attentionSlowness * 2 * attentionWidth) / layerMacs,
    },
    state: {
      fixedMs: (2 * (layerMacs * c.numLayers + headMacs)) / guessedBytesPerMs,
      msPerUnit: (2 * layerMacs) / guessedFlopsPerMs,
    },
  };
}

/** Units of `count` rows from position `start`, of which the last `survivors` take every layer. */
export function workUnits(
  shape: CostShape,
  start: number,
  count: number,
  survivors: number,
  logitRows: number,
): number {
  const end = start + count;
  const keys = count * start + (count * (count + 1)) / 2;
  const survivorKeys = survivors * end - (survivors * (survivors - 1)) / 2;
  return (
    shape.firstLayers * (count + shape.key * keys) +
    shape.project * count +
    shape.laterLayers * (survivors + shape.key * survivorKeys) +
    shape.head * logitRows
  );
}

export function itemUnits(shape: CostShape, item: PlanItem): number {
  return workUnits(shape, item.start, item.count, item.count - item.survivors, item.logitRows);
}

/**
 * Units that a step of `ms` has time for. Where the fixed part alone takes up most of it, rows may take as long as it does:
 * smaller chunks would pay it more often for less.
 */
export function stepUnits({ fixedMs, msPerUnit }: CostState, ms: number): number {
  return Math.max(ms - fixedMs, fixedMs) / msPerUnit;
}

/** The longest chunk from `start` that takes at most so many units; may be 0. */
export function chunkRows(shape: CostShape, units: number, start: number, fullDepth: boolean): number {
  if (units <= 0) return 0;
  // Solve a c^2 + b c = units for the chunk's length c.
  const layers = shape.firstLayers + (fullDepth ? shape.laterLayers : 0);
  const a = (layers * shape.key) / 2;
  const b = layers * (1 + shape.key * (start + 0.5)) + shape.project;
  return Math.floor((2 * units) / (b + Math.sqrt(b * b + 4 * a * units)));
}

/**
 * The belief after a measured step: a geometric moving average, by a factor within [1/2, 2] a step. Steps without chunks
 * tell of the fixed part, steps with chunks of the rows; and no step takes less than the fixed part.
 */
export function observeStep({ shape, state }: CostModel, plan: StepPlan, ms: number): CostState {
  let { fixedMs, msPerUnit } = state;
  const measured = Math.max(ms, minMs);
  const units = planUnits(shape, plan);
  if (plan.numChunks === 0) {
    const rest = Math.max(measured - units * msPerUnit, measured / 10);
    fixedMs *= step(rest / fixedMs);
  } else {
    fixedMs = Math.min(fixedMs, measured);
    const rest = Math.max(measured - fixedMs, measured / 10);
    msPerUnit *= step(rest / (units * msPerUnit));
  }
  return { fixedMs, msPerUnit };
}

function planUnits(shape: CostShape, plan: StepPlan): number {
  let units = 0;
  for (let i = 0; i < plan.size; i++) units += itemUnits(shape, plan.items[i]!);
  return units;
}

function step(ratio: number): number {
  return Math.sqrt(Math.min(Math.max(ratio, 1 / maxSurprise), maxSurprise));
}
