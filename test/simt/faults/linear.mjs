// Faults in linear's products on tensor cores and in what makes codes of its rows.
const mma = { file: 'csrc/backends/cuda/gemm_mma.cuh', unit: 'csrc/backends/cuda/linear.cu' };
const anySchedule = 'linear has the same bits under every schedule*';
const sums = "linear equals the scalar level's sums*";
const small = 'linear keeps its threads in order*';

export default [
  {
    ...mma,
    name: 'a warp fills a buffer that another still reads',
    class: 'missing barrier',
    text: "      __syncthreads();  // the step's bytes are there",
    replacement: "      // the step's bytes are there",
    tests: small,
    mode: 'thread',
    reason: /data race/,
  },
  {
    ...mma,
    name: 'the sums are stored where others still multiply',
    class: 'missing barrier',
    text: '    __syncthreads();  // the ring becomes the tile\n',
    replacement: '',
    tests: anySchedule,
    mode: 'plain',
    reason: /linear_test\.cpp:\d+: ERROR/,
  },
  {
    ...mma,
    name: 'a step begins while its copies are under way',
    class: 'weak wait count',
    text: 'ptx::cp_async_wait<kStages - 2>();',
    replacement: 'ptx::cp_async_wait<kStages - 1>();',
    tests: anySchedule,
    mode: 'plain',
    reason: /linear_test\.cpp:\d+: ERROR/,
  },
  {
    ...mma,
    name: 'the next step lands in the buffer of this one',
    class: 'buffer reused too soon',
    text: 'step + kStages - 1, buffer(step + kStages - 1));',
    replacement: 'step + kStages - 1, buffer(step));',
    tests: sums,
    mode: 'plain',
    reason: /linear_test\.cpp:\d+: ERROR/,
  },
  {
    ...mma,
    name: 'fragments of two columns change places',
    class: 'fragment transposed',
    text: 'b[j][0] = r[0], b[j][1] = r[1], b[j + 1][0] = r[2]',
    replacement: 'b[j][0] = r[0], b[j][1] = r[2], b[j + 1][0] = r[1]',
    tests: sums,
    mode: 'plain',
    reason: /linear_test\.cpp:\d+: ERROR/,
  },
  {
    ...mma,
    name: 'threads begin 8 bytes apart',
    class: 'misaligned copy',
    text: 'k = thread % kChunksA * 8, column',
    replacement: 'k = thread % kChunksA * 4, column',
    tests: sums,
    mode: 'plain',
    reason: /thread .* csrc\/backends\/cuda\/gemm_mma\.cuh:\d+: misaligned address of cp\.async's source/,
  },
  {
    ...mma,
    name: 'what lies behind a row is not filled with zeros',
    class: 'uninitialised shared memory',
    text: '      ptx::cp_async_16(to + row * kRowBytesA, copies.a + k + int64_t{row} * o.a_stride, in_row && row < copies.rows);',
    replacement:
      '      if (in_row && row < copies.rows) ptx::cp_async_16(to + row * kRowBytesA, copies.a + k + int64_t{row} * o.a_stride);',
    tests: sums,
    mode: 'plain',
    reason: /linear_test\.cpp:\d+: ERROR[\s\S]*nan/i,
  },
  {
    ...mma,
    name: 'the last rows are read beyond the activations',
    class: 'out of a tensor',
    text: 'in_row && row < copies.rows);',
    replacement: 'in_row);',
    tests: sums,
    mode: 'address',
    reason: /gemm_mma\.cuh:\d+: cp\.async's source reads memory that belongs to nobody/,
  },
];
