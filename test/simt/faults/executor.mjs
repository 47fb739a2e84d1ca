// Faults in the small kernels of the executor's own tests, of classes that no shipped kernel can show yet.
const gemm = 'cp.async*make a matrix product*';

export default [
  {
    name: 'a row of A too many',
    class: 'out of shared memory',
    file: 'test/simt/executor_test.cpp',
    text: 'bf16* tile_b = shared + 2 * 16 * kStride;',
    replacement: 'bf16* tile_b = shared + 4 * 16 * kStride;',
    tests: gemm,
    mode: 'plain',
    reason:
      /executor_test\.cpp:\d+: cp\.async's destination reaches byte \d+ of dynamic shared memory, the block has 3072/,
  },
  {
    name: 'a sum takes in a warp that the block does not have',
    class: 'uninitialised static shared memory',
    file: 'csrc/backends/cuda/warp.h',
    text: '  for (int w = 1; w < warps; ++w) x += partial[w];',
    replacement: '  for (int w = 1; w <= warps; ++w) x += partial[w];',
    unit: 'csrc/backends/cuda/rms_norm.cu',
    tests: 'rms_norm equals double*',
    mode: 'plain',
    reason: /rms_norm_test\.cpp:\d+: ERROR[\s\S]*nan/i,
  },
  {
    name: 'operands stored without a fence for wgmma',
    class: 'missing proxy fence',
    file: 'test/simt/sm90_test.cpp',
    text: '  ptx::proxy_fence();\n  __syncthreads();\n  const int row',
    replacement: '  __syncthreads();\n  const int row',
    tests: 'wgmma takes A from registers*',
    mode: 'plain',
    reason: /sm90_test\.cpp:\d+: wgmma reads byte \d+ of dynamic shared memory, which was stored without a proxy_fence/,
  },
  {
    name: 'consumers do not give a buffer back',
    class: 'stuck mbarrier',
    file: 'test/simt/sm90_test.cpp',
    text: '    ptx::mbarrier_arrive(empty + s);\n',
    replacement: '',
    tests: 'bulk copies feed a pipeline*',
    mode: 'plain',
    reason: /deadlock, nobody can run:.* at an mbarrier test\/simt\/sm90_test\.cpp:\d+/,
  },
  {
    name: 'a value is stored one place behind',
    class: 'out of shared memory',
    file: 'test/simt/executor_test.cpp',
    text: '    shared[i] = value;',
    replacement: '    shared[i + 1] = value;',
    tests: 'barriers hold every thread*',
    mode: 'address',
    reason: /AddressSanitizer: use-after-poison[\s\S]*rotate.* .*executor_test\.cpp/,
  },
];
