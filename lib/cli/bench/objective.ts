// A stated objective, and whether a request met it: what goodput counts.

import { InvalidArgumentError } from 'commander';
import type { RequestRecord } from './throughput-pass.ts';

const names = ['ttft', 'tpot', 'e2e'] as const;

/** Milliseconds that a request may take, by name; what is not named does not count. */
export type Objective = Partial<Record<(typeof names)[number], number>>;

/** `ttft=500,tpot=50,e2e=10000`, milliseconds. */
export function parseObjective(text: string): Objective {
  const objective: Objective = {};
  for (const part of text.split(',')) {
    const [, name = '', ms = ''] = /^\s*(\w+)=(\d+(?:\.\d+)?)\s*$/.exec(part) ?? [];
    if (!(names as readonly string[]).includes(name) || Object.hasOwn(objective, name)) {
      throw new InvalidArgumentError(`Expected ${names.map((n) => `${n}=MS`).join(', ')}, each at most once.`);
    }
    objective[name as keyof Objective] = Number(ms);
  }
  return objective;
}

/** An answer of one token has no time between tokens: that part is met. */
export function meetsObjective(record: RequestRecord, objective: Objective): boolean {
  const taken = { ttft: record.ttftMs, tpot: record.tpotMs ?? 0, e2e: record.e2eMs };
  return names.every((name) => objective[name] === undefined || taken[name] <= objective[name]);
}
