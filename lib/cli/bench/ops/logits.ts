// What is done with logits: choosing a token, and log-probabilities.

import { ops } from '../../../kernels/ops.ts';
import type { SamplerOptions } from '../../../kernels/sampler-table.ts';
import { type CaseOptions, type KernelCase, type KernelGroup, type KernelShape, logitRows } from '../kernel-case.ts';
import { range, type Workbench } from '../workbench.ts';

const samplers: Record<string, SamplerOptions> = {
  greedy: {},
  top_p: { temperature: 0.8, topK: 40, topP: 0.95 },
};
const topTokens = 5;

export function sample(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return Object.entries(samplers).map(([name, options]) =>
    logitsGroup('sample', name, c, o, async (bench, rows, logits) => {
      const table = bench.samplers(rows, c.vocabSize);
      for (let slot = 0; slot < rows; slot++) table.set(slot, { ...options, seed: slot });
      const indices = bench.ints(range(rows));
      const operands = { logits, samplers: table, slots: indices, outputPositions: indices };
      const ids = bench.zeros('i32', [rows]);
      return () => ops.sync.sample({ ...operands, ids });
    }),
  );
}

export function logprobs(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return [
    logitsGroup('logprobs', `top_${topTokens}`, c, o, async (bench, rows, logits) => {
      const operands = {
        logits,
        ids: bench.ints(range(rows)),
        chosen: bench.zeros('f32', [rows]),
        rank: bench.zeros('i32', [rows]),
        topIds: bench.zeros('i32', [rows, topTokens]),
        topLogprobs: bench.zeros('f32', [rows, topTokens]),
      };
      return () => ops.sync.logprobs(operands);
    }),
  ];
}

type Logits = Awaited<ReturnType<Workbench['random']>>;

function logitsGroup(
  op: 'sample' | 'logprobs',
  name: string,
  c: KernelShape,
  o: CaseOptions,
  make: (bench: Workbench, rows: number, logits: Logits) => Promise<() => void>,
): KernelGroup {
  const open = async (bench: Workbench) => {
    const cases: KernelCase[] = [];
    for (const rows of logitRows(o.rows)) {
      const logits = await bench.random('f32', [rows, c.vocabSize], 'row_major', 10);
      cases.push({ rows, flops: 0, bytes: logits.byteLength, run: await make(bench, rows, logits) });
    }
    return cases;
  };
  return { op, name, dtype: 'f32', peaks: [], open };
}
