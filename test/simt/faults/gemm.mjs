// Faults in what follows a product, beyond those of linear.mjs and pages.mjs.
const linear = 'csrc/backends/cuda/linear.cu';
const headsProduct = 'csrc/backends/cuda/heads_product.cu';
const pages = 'qkv_rope_cache: q*equal double sums*';

export default [
  {
    name: 'linear scales outputs by those of the first tile',
    class: 'wrong scale column',
    file: 'csrc/backends/cuda/finish_linear.cuh',
    text: 'w_scales[column] : 1.0f',
    replacement: 'w_scales[first + c] : 1.0f',
    unit: linear,
    tests: "linear equals the scalar level's sums*",
    mode: 'plain',
    reason: /difference\([\s\S]*fp8_e4m3/,
  },
  {
    name: 'scales of groups of activations are never copied',
    class: 'uninitialised shared memory',
    file: 'csrc/backends/cuda/gemm_integer.cuh',
    text: 'thread < kCopiesA + kShape.rows',
    replacement: 'thread < kCopiesA',
    unit: linear,
    tests: "linear with integer weights has the scalar level's bits*",
    mode: 'plain',
    reason: /bit_difference\([\s\S]*is NOT correct/,
  },
  {
    name: 'keys and values go to the token after theirs',
    class: 'page off by one',
    file: 'csrc/backends/cuda/kv_page.cuh',
    text: 'const int offset = slot % kBlockTokens;',
    replacement: 'const int offset = (slot + 1) % kBlockTokens;',
    unit: headsProduct,
    tests: pages,
    mode: 'plain',
    reason: /difference\(stored_k[\s\S]*is NOT correct/,
  },
  {
    name: 'rows without a slot are written',
    class: 'padding written',
    file: 'csrc/backends/cuda/finish_heads.cuh',
    text: 'const int slot = valid && !is_q ? slots[row] : -1;',
    replacement: 'const int slot = valid && !is_q ? slots[row] & 0x7fffffff : -1;',
    unit: headsProduct,
    tests: pages,
    mode: 'address',
    reason: /AddressSanitizer|SEGV/,
  },
];
