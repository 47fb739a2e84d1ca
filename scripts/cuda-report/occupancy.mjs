// How many blocks of a kernel share a multiprocessor, by the rules of the toolkit's cuda_occupancy.h.

const roundUp = (value, unit) => Math.ceil(value / unit) * unit;

/** `arch`: an entry of architectures.mjs; `shared`: bytes of a block, static and dynamic. `limit` names what is short. */
export function occupancy(arch, { threads, registers, shared }) {
  const warps = Math.ceil(threads / 32);
  const warpRegisters = roundUp(registers * 32, arch.registerUnit);
  const partitionWarps = Math.floor(arch.registers / arch.partitions / Math.max(warpRegisters, 1));
  const fits = {
    blocks: arch.blocks,
    threads: Math.floor(arch.warps / warps),
    registers: registers === 0 ? arch.blocks : Math.floor((partitionWarps * arch.partitions) / warps),
    'shared memory':
      shared > arch.sharedBlock ? 0 : Math.floor(arch.shared / roundUp(shared + arch.sharedReserved, arch.sharedUnit)),
  };
  const blocks = Math.min(...Object.values(fits));
  const limit = Object.keys(fits).find((name) => fits[name] === blocks);
  return { blocks, warps: blocks * warps, fraction: (blocks * warps) / arch.warps, limit };
}
