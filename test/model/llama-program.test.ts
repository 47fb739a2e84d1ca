// The forward pass as data: which rows go where, before any kernel runs.

import { describe, expect, it } from 'vitest';
import { architectures } from '../../lib/model/architectures.ts';
import { parseConfig } from '../../lib/model/parse-config.ts';
import { bufferBytes, buildForward } from '../../lib/model/program.ts';
import type { Program } from '../../lib/model/program-builder.ts';

const json = {
  model_type: 'llama_swiftkv',
  vocab_size: 100,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 5,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_key_value_layers: 1,
  key_value_group_size: 2,
};

function build(fields: object = {}, taps: string[] = []): Program {
  const config = parseConfig({ ...json, ...fields });
  const options = { config, dtype: 'bf16', sample: true, fp8Activations: false } as const;
  return buildForward(architectures.get(config.modelType)!, options, taps);
}

/** Ops by layer, each with the axis of the rows that it writes or reads. */
function listing(program: Program): string[] {
  return program.steps.map((step) => {
    if ('layer' in step) return `layer ${step.layer} ${step.axis}`;
    const operand =
      step.operands['y'] ?? step.operands['out'] ?? step.operands['o'] ?? step.operands['q'] ?? step.operands['x'];
    const tensor = operand === undefined ? undefined : program.tensors[operand]!;
    return tensor?.kind === 'buffer' ? `${step.op} ${String(tensor.shape[0])}` : step.op;
  });
}

describe('the forward pass of SwiftKV', () => {
  it('runs early layers on all rows, the projection on all rows, later layers on survivors, the head on logit rows', () => {
    const later = [
      'rms_norm S',
      'q_rope S',
      'attention S',
      'linear S',
      'rms_norm S',
      'linear S',
      'silu_mul S',
      'linear S',
    ];
    expect(listing(build())).toEqual([
      'copy_blocks',
      'embed T',
      ...['layer 0 T', 'rms_norm T', 'qkv_rope_cache T', 'attention T', 'linear T'],
      ...['rms_norm T', 'linear T', 'silu_mul T', 'linear T'],
      'swiftkv_project T',
      'gather_rows S',
      ...['layer 1 S', ...later],
      ...['layer 2 S', ...later],
      ...['layer 3 S', ...later],
      ...['layer 4 S', ...later],
      ...['gather_rows R', 'rms_norm R', 'linear R', 'sample', 'logprobs'],
    ]);
  });

  it('reads one cache per group and writes each once', () => {
    const { tensors, steps } = build();
    const caches = steps.flatMap((step) =>
      'op' in step && step.op === 'attention' ? [tensors[step.operands['cache']!]] : [],
    );
    expect(caches.map((cache) => (cache?.kind === 'cache' ? cache.index : null))).toEqual([0, 1, 1, 2, 2]);
    const project = steps.find((step) => 'op' in step && step.op === 'swiftkv_project') as {
      operands: Record<string, number>;
    };
    expect(tensors[project.operands['caches']!]).toEqual({ kind: 'caches', first: 1, count: 2 });
  });

  it('copies blocks in all caches, before any op reads or writes one', () => {
    const { tensors, steps } = build();
    const [first] = steps as unknown as [{ op: string; operands: Record<string, number> }];
    expect(first.op).toBe('copy_blocks');
    expect(tensors[first.operands['from']!]).toEqual({ kind: 'batch', field: 'copySources' });
    expect(tensors[first.operands['to']!]).toEqual({ kind: 'batch', field: 'copyDestinations' });
    expect(tensors[first.operands['caches']!]).toEqual({ kind: 'caches', first: 0, count: 3 });
  });

  it('uses the same buffers in every layer', () => {
    const buffers = (fields: object) => build(fields).tensors.filter(({ kind }) => kind === 'buffer').length;
    expect(buffers({ num_hidden_layers: 41 })).toBe(buffers({}));
  });

  it('binds biases only where the config has them', () => {
    const biased = (fields: object) =>
      build(fields).steps.filter((step) => 'op' in step && 'bias' in step.operands).length;
    expect(biased({})).toBe(0);
    // qkv, 4 q, 5 o, the projection; gate_up and down of 5 layers.
    expect(biased({ attention_bias: true })).toBe(11);
    expect(biased({ mlp_bias: true })).toBe(10);
  });
});

describe('a plain Llama', () => {
  it('is n = L: nothing runs on survivors but the way to the head', () => {
    const steps = listing(build({ model_type: 'llama', num_hidden_layers: 1 }));
    expect(steps.filter((step) => step.endsWith(' S'))).toEqual(['gather_rows S']);
    expect(steps).not.toContain('swiftkv_project T');
  });

  it('is what a SwiftKV model with n = L is', () => {
    expect(build({ num_key_value_layers: 5, key_value_group_size: 1 })).toEqual(build({ model_type: 'llama' }));
  });
});

describe('taps', () => {
  it('are copied out where asked for, and cost nothing else', () => {
    const plain = build();
    const tapped = build({}, ['hidden.1', 'hidden.5']);
    expect([...tapped.outputs.keys()].sort()).toEqual(['hidden.1', 'hidden.5', 'logits']);
    expect(tapped.steps.length).toBe(plain.steps.length + 2);
    expect(plain.steps.some((step) => 'op' in step && step.op === 'copy_rows')).toBe(false);
  });

  it('are refused where there is no such tensor', () => {
    expect(() => build({}, ['hidden.6'])).toThrow(/hidden\.6/);
  });

  it('exist for every layer boundary, plain models included', () => {
    for (const fields of [{}, { model_type: 'llama' }, { num_key_value_layers: 5, key_value_group_size: 1 }]) {
      expect(() =>
        build(
          fields,
          [0, 1, 2, 3, 4, 5].map((l) => `hidden.${l}`),
        ),
      ).not.toThrow();
    }
  });
});

it('counts its buffers at capacity', () => {
  const capacity = {
    maxRows: 10,
    maxSeqs: 2,
    maxLogitRows: 3,
    maxBlocksPerSeq: 1,
    numLayers: 5,
    vocabSize: 100,
    maxTopLogprobs: 20,
    maxCopies: 2,
  };
  const half = 10 * (32 * 2 + 32 * 4 + 32 * 2 + 96 * 4 + 48 * 2 + 32 * 4);
  expect(bufferBytes(build(), capacity)).toBe(2 * half + 3 * (32 * 4 + 32 * 2 + 100 * 4));
});
