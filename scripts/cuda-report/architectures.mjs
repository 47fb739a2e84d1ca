// The architectures that are shipped as machine code, and what a multiprocessor of each has. From the table of technical
// specifications by compute capability in NVIDIA's CUDA C++ Programming Guide.

const common = {
  registers: 65_536, // of 32 bits
  registerUnit: 256, // a warp's registers are handed out in multiples of this
  partitions: 4, // each has its share of the registers and of the warps
  sharedUnit: 128, // bytes; a block's shared memory is rounded up to this
  sharedReserved: 1024, // bytes of every block that the system keeps
};

export const architectures = {
  sm_80: { ...common, virtual: 'compute_80', warps: 64, blocks: 32, shared: 164 * 1024, sharedBlock: 163 * 1024 },
  sm_89: { ...common, virtual: 'compute_89', warps: 48, blocks: 24, shared: 100 * 1024, sharedBlock: 99 * 1024 },
  sm_90a: { ...common, virtual: 'compute_90a', warps: 64, blocks: 32, shared: 228 * 1024, sharedBlock: 227 * 1024 },
  sm_100: { ...common, virtual: 'compute_100', warps: 64, blocks: 32, shared: 228 * 1024, sharedBlock: 227 * 1024 },
};
