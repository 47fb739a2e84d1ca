// The time of one kernel on a GPU, from what it computes, moves and keeps on its way.
import { assumed } from './machines.mjs';

/**
 * @param gpu an entry of machines.mjs
 * @param kernel flops: tensor-core operations as executed, and the `share` of the rate that they reach; dram: bytes that
 *   have to come from or go to memory; l2: bytes that blocks read and write in all; blocks, and blocksPerSm that share a
 *   multiprocessor; inFlight: bytes that a block has requested at a time
 * @returns seconds, and what bounds them: compute, memory, l2, latency (too few bytes on their way) or ramp
 */
export function kernelTime(gpu, { flops = 0, share = 1, dram = 0, l2 = dram, blocks, blocksPerSm, inFlight }) {
  if (blocks === 0) return { seconds: 0, bound: 'ramp' };
  const busiest = Math.ceil(blocks / gpu.multiprocessors); // blocks of the multiprocessor that has most
  const resident = Math.min(blocksPerSm, busiest);
  const rateOfSm = (gpu.tensor * gpu.tensorReached * share) / gpu.multiprocessors;
  const onTheirWay = (Math.min(blocks, gpu.multiprocessors) * resident * inFlight) / gpu.latency;
  const parts = {
    compute: ((flops / blocks) * busiest) / rateOfSm,
    memory: dram / (gpu.dram * assumed.dramShare),
    l2: l2 / gpu.l2,
    latency: l2 / onTheirWay,
  };
  const bound = Object.keys(parts).reduce((most, name) => (parts[name] > parts[most] ? name : most));
  const seconds = parts[bound];
  return { seconds: seconds + assumed.ramp, bound: seconds < assumed.ramp ? 'ramp' : bound };
}
