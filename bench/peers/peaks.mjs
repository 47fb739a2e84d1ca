// What the machine can do at most with some threads: the scale that speeds are read against.

import { chooseLevel } from '../../dist/kernels/choose.js';
import { native } from '../../dist/native/load.js';
import { summary } from './statistics.mjs';

/** Larger than any cache, so that reads come from memory. */
const readBytes = 512 << 20;
const times = 5;
const milliseconds = 100;

/** Reads in GB/s and bf16 products in GFLOP/s (null where the machine has no such instruction): median, min, max. */
export async function measurePeaks(threads) {
  const binding = native();
  const device = binding.openDevice({ backend: 'cpu', threads, level: chooseLevel(binding.cpuInfo()) });
  try {
    const memory = binding.tensor(device, 'bf16', [readBytes / 2 / 1024, 1024], 'row_major');
    await memory.fillRandom(1, 1); // its pages exist then
    const measure = async (kind, operand) => {
      const rates = [];
      for (let i = 0; i < times; i++)
        rates.push((await device.measurePeak(kind, milliseconds, operand)).perSecond / 1e9);
      return summary(rates);
    };
    const read = await measure('read', memory);
    const dot = await measure('dot_bf16').catch((error) => {
      if (error.code === 'ERR_UNSUPPORTED') return null;
      throw error;
    });
    return { threads, read, dot };
  } finally {
    device.close();
  }
}
