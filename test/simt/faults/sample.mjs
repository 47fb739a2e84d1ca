// Faults in what sample and logprobs do together over a row of the vocabulary. The tests that must find them are in
// test/simt/sample_test.cpp.
const block = 'csrc/backends/cuda/vocab_block.cuh';
const cut = 'csrc/backends/cuda/vocab_cut.cuh';
const adjust = 'csrc/backends/cuda/sample_adjust.cuh';
const tests = 'sample adjusts and draws in the right order*';
const unit = 'csrc/backends/cuda/sample.cu';

export default [
  {
    name: 'partial results are read before all warps have written theirs',
    class: 'missing barrier',
    file: block,
    text: '  if (w.lane == 0) warps[w.index] = x;\n  __syncthreads();',
    replacement: '  if (w.lane == 0) warps[w.index] = x;',
    unit,
    tests,
    mode: 'thread',
    reason: /data race/,
  },
  {
    name: 'bins are counted before they are cleared',
    class: 'missing barrier',
    file: cut,
    text: '    if (t == 0) s.found = -1;\n    __syncthreads();\n',
    replacement: '    if (t == 0) s.found = -1;\n',
    unit,
    tests,
    mode: 'thread',
    reason: /data race/,
  },
  {
    name: 'a second bias of an id is added before the first',
    class: 'missing barrier',
    file: adjust,
    text: '    each([&](int32_t, int32_t id) { atomicExch(&turn[id], INT32_MAX); });\n    __syncthreads();\n',
    replacement: '    each([&](int32_t, int32_t id) { atomicExch(&turn[id], INT32_MAX); });\n',
    unit,
    tests,
    mode: 'thread',
    reason: /data race/,
  },
  {
    name: 'the last token of a tie is one too many',
    class: 'off by one',
    file: cut,
    text: 'return rest - 1; }',
    replacement: 'return rest; }',
    unit,
    tests: 'sample: ties at the edge of top-k*',
    mode: 'plain',
    reason: /CHECK\( support/,
  },
  {
    name: 'a search stops where the sum reaches the border and does not pass it',
    class: 'off by one',
    file: block,
    text: 'before + x > target);',
    replacement: 'before + x >= target);',
    unit,
    tests: 'sample: ties at the edge of top-k*',
    mode: 'plain',
    reason: /CHECK\( support/,
  },
];
