// The GPUs that times are predicted for, and what kernels are assumed to get of them. Peaks are those of NVIDIA's data
// sheets (A100 80GB SXM, H100 80GB SXM; dense). What is not in a data sheet is an assumption, and marked as one in
// docs/cuda-predictions.md.

export const gpus = {
  A100: {
    arch: 'sm_80',
    multiprocessors: 108,
    memoryBytes: 80e9,
    dram: 2.039e12, // bytes a second
    tensor: 312e12, // bf16 operations a second, a multiply-add being two
    tensorReached: 1, // of these, by mma.sync
    l2: 4.5e12, // bytes a second, assumed
    latency: 0.7e-6, // of a read under load, seconds, assumed
  },
  H100: {
    arch: 'sm_90a',
    multiprocessors: 132,
    memoryBytes: 80e9,
    dram: 3.35e12,
    tensor: 989e12,
    tensorReached: 0.62, // only wgmma reaches the peak; assumed
    l2: 5.5e12,
    latency: 0.8e-6,
  },
};

export const assumed = {
  dramShare: 0.9, // of the peak that long reads get
  productShare: 0.75, // of tensor-core operations that a matrix product with enough blocks reaches
  attentionShare: 0.5, // the same of attention, whose softmax stands between its two products
  ramp: 1.5e-6, // seconds from the start of a kernel to the first blocks at work, and of its last block's end
  issue: 2.5e-6, // seconds of host time to launch a kernel; a step takes at least so many
  readOfOneBlock: 60e9, // bytes a second that the one block of a row of `sample` reads from the L2 cache
  chunk: 2048, // rows of a prompt in a step
  outputs: 0.1, // output tokens of a request for each of its prompt
};
