// Faults in attention on tensor cores: masks, splits, pages, and what warps and lanes wait for.
const split = 'csrc/backends/cuda/attention_split.cuh';
const decode = 'csrc/backends/cuda/attention_decode.cuh';
const decoding = 'csrc/backends/cuda/attention_decode.cu';
const prefilling = 'csrc/backends/cuda/attention_prefill.cu';
const edges = 'attention at every edge of blocks*';
const same = 'a decoded row has the bits of the same row in prefill*';
const inOrder = 'attention keeps its threads in order*';
const differs = /attention_test\.cpp:\d+: ERROR: CHECK\( difference\(run\(c, device, op\)/;

export default [
  {
    name: 'a row sees the key behind its own',
    class: 'missing causal mask edge',
    file: split,
    unit: prefilling,
    text: 'key + i % 2 < keys_[i / 2] ? score',
    replacement: 'key + i % 2 <= keys_[i / 2] ? score',
    tests: 'attention never lets a later token*',
    mode: 'plain',
    reason: /attention_test\.cpp:\d+: ERROR: CHECK\( bit_difference\(/,
  },
  {
    name: 'the last key is not seen',
    class: 'missing causal mask edge',
    file: split,
    unit: decoding,
    text: 'key + i % 2 < keys_[i / 2] ? score',
    replacement: 'key + i % 2 < keys_[i / 2] - 1 ? score',
    tests: edges,
    mode: 'plain',
    reason: differs,
  },
  {
    name: 'splits that went apart merge from the last one',
    class: 'wrong merge order',
    file: decode,
    unit: decoding,
    text: '    for (int i = 0; i < kAhead; ++i)\n      if (begin + i < splits) value',
    replacement: '    for (int i = kAhead - 1; i >= 0; --i)\n      if (begin + i < splits) value',
    tests: same,
    mode: 'plain',
    reason: /attention_test\.cpp:\d+: ERROR: CHECK\( bit_difference\(/,
  },
  {
    name: 'a warp does not wait for the copies of its lanes',
    class: 'missing __syncwarp',
    file: split,
    unit: decoding,
    text: '      __syncwarp();\n    else\n      __syncthreads();',
    replacement: '      ;\n    else\n      __syncthreads();',
    tests: inOrder,
    mode: 'thread',
    reason: /data race[\s\S]*(ldmatrix|cp_async)/,
  },
  {
    name: 'keys are read while their copies are under way',
    class: 'weak wait count',
    file: split,
    unit: decoding,
    text: '    ptx::cp_async_wait<0>();\n    barrier();  // K has come',
    replacement: '    ptx::cp_async_wait<1>();\n    barrier();  // K has come',
    tests: 'attention has the same bits under every schedule*',
    mode: 'plain',
    reason: /attention_test\.cpp:\d+: ERROR: CHECK\( bit_difference\(/,
  },
  {
    name: 'a tile takes the blocks of the one before',
    class: 'page off by one',
    file: 'csrc/backends/cuda/attention_tile.cuh',
    unit: decoding,
    text: '? blocks_[block] : -1;',
    replacement: '? blocks_[block > 0 ? block - 1 : 0] : -1;',
    tests: edges,
    mode: 'plain',
    reason: differs,
  },
  {
    name: 'every eighth key has the scale of the first',
    class: 'wrong scale column',
    file: split,
    unit: decoding,
    text: '(n * 8 + static_cast<int>(threadIdx.x) % 4 * 2) * 4);\n  }',
    replacement: '(static_cast<int>(threadIdx.x) % 4 * 2) * 4);\n  }',
    tests: edges,
    mode: 'plain',
    reason: differs,
  },
  {
    name: 'only lanes whose row has keys add up its sum',
    class: 'divergent collective',
    file: split,
    unit: decoding,
    text: '      state_[row].sum += __shfl_xor_sync(kAllLanes, state_[row].sum, 1);',
    replacement: '      if (state_[row].sum > 0.0f) state_[row].sum += __shfl_xor_sync(kAllLanes, state_[row].sum, 1);',
    tests: edges,
    mode: 'plain',
    reason:
      /attention_split\.cuh:\d+: divergent collective: __shfl_xor_sync with mask 0xffffffff here, but lane \d+ waits in/,
  },
];
