// Faults in how keys and values become heads and reach their pages.
const heads = { file: 'csrc/backends/cuda/finish_heads.cuh', unit: 'csrc/backends/cuda/heads_product.cu' };
const pages = { file: 'csrc/backends/cuda/kv_page.cuh', unit: 'csrc/backends/cuda/heads_product.cu' };
const stored = 'qkv_rope_cache stores what the scalar level stores*';
const inOrder = 'qkv_rope_cache keeps its threads in order*';

export default [
  {
    ...heads,
    name: 'a rotation reads pairs that other lanes have not scaled',
    class: 'missing __syncwarp',
    text: '    __syncwarp();  // pairs and vectors cross lanes\n',
    replacement: '',
    tests: inOrder,
    mode: 'thread',
    reason: /data race[\s\S]*HeadsFinish::finish/,
  },
  {
    ...pages,
    name: 'half of a block goes to the block before',
    class: 'page off by one',
    text: 'kv_head(cache, slot / kBlockTokens, head, part);\n  const int offset',
    replacement: 'kv_head(cache, (slot - 8) / kBlockTokens, head, part);\n  const int offset',
    tests: stored,
    mode: 'plain',
    reason: /qkv_rope_cache_test\.cpp:\d+: ERROR/,
  },
  {
    ...pages,
    name: 'scales of values lie where those of keys do',
    class: 'wrong scale column',
    text: '+ (v ? kBlockTokens : 0);',
    replacement: '+ (v ? 0 : 0);',
    tests: stored,
    mode: 'plain',
    reason: /qkv_rope_cache_test\.cpp:\d+: ERROR/,
  },
  {
    ...pages,
    name: 'rows without a slot leave before the maximum of a head',
    class: 'lane exited in mask',
    text: '  float most = 0.0f;\n  if (cache.scales',
    replacement: '  if (slot < 0) return;\n  float most = 0.0f;\n  if (cache.scales',
    tests: stored,
    mode: 'plain',
    reason:
      /kv_page\.cuh:\d+: (the mask 0xffffffff of __shfl_xor_sync names lane \d+, which has exited|lane \d+ exited though|divergent collective)/,
  },
];
