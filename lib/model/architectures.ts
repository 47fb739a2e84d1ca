// The registry of model families.

import type { Architecture } from './architecture.ts';
import { llama } from './llama.ts';

const families: readonly Architecture[] = [llama];

/** By `model_type`. */
export const architectures: ReadonlyMap<string, Architecture> = new Map(
  families.flatMap((family) => family.modelTypes.map((type) => [type, family] as const)),
);
