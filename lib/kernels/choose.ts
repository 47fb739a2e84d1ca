// Choices made once, when a device is opened: pure functions of what the machine offers and what the caller asked for.

import { SwiftKVError } from '../errors.ts';
import type { CpuInfo } from '../native/binding.ts';

/** The ISA level to run: the best this machine has, or exactly the one asked for. Never another one silently. */
export function chooseLevel(cpu: Pick<CpuInfo, 'levels' | 'builtLevels' | 'model'>, requested?: string): string {
  if (requested === undefined || requested === 'best') return cpu.levels.at(-1)!;
  if (cpu.levels.includes(requested)) return requested;
  const why = cpu.builtLevels.includes(requested) ? `${cpu.model} does not have it` : 'this build does not have it';
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${['best', ...cpu.levels].join(', ')} for level but received ${String(requested)}: ${why}`,
  );
}

/** Threads to compute with: what affinity and quota allow (whole CPUs, at least 1), or exactly the number asked for. */
export function chooseThreads(cpu: Pick<CpuInfo, 'affinity' | 'quota'>, requested?: number): number {
  if (requested === undefined) return Math.max(1, Math.min(cpu.affinity, Math.floor(cpu.quota ?? cpu.affinity)));
  if (Number.isInteger(requested) && requested >= 1 && requested <= 1024) return requested;
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected an integer from 1 to 1024 for threads but received ${String(requested)}`,
  );
}
