// The registry of model families.

import type { Architecture } from './architecture.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';

const families: readonly Architecture[] = [llama, qwen2, qwen3, mistral];

/** By `model_type`. */
export const architectures: ReadonlyMap<string, Architecture> = new Map(
  families.flatMap((family) => family.modelTypes.map((type) => [type, family] as const)),
);
