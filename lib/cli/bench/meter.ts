// Times a synchronous function with tinybench, in slices between which the machine's peaks are measured.

import { Bench } from 'tinybench';
import type { Device } from '../../kernels/device.ts';
import { Tensor } from '../../kernels/tensor.ts';
import type { PeakKind } from '../../native/binding.ts';
import { median } from './statistics.ts';

/** Peaks are taken before, between and after them. */
const maxSlices = 3;
/** Calls that take so many times the time there is are made once. */
const slowFactor = 3;
/** Time for one measurement of a peak; less where the calls have less. */
const peakMs = 4;

export interface Timing {
  /** Milliseconds of every call. */
  samples: number[];
  /** Operations a second; null where nothing is multiplied. */
  peak: number | null;
  /** Bytes a second read from memory. */
  bandwidth: number;
}

export class Meter implements Disposable {
  readonly device: Device;
  readonly #memory: Tensor;
  readonly #peaks: ReadonlySet<PeakKind>;

  private constructor(device: Device, memory: Tensor, peaks: ReadonlySet<PeakKind>) {
    this.device = device;
    this.#memory = memory;
    this.#peaks = peaks;
  }

  /** @param bytes of the block whose reading gives the bandwidth; more than the caches of the processor */
  static async open(device: Device, bytes: number): Promise<Meter> {
    const memory = Tensor.zeros(device, [bytes], { dtype: 'u8' });
    await device.native.touch();
    const peaks = new Set<PeakKind>();
    for (const kind of ['fma_f32', 'dot_bf16', 'dot_int8'] as const) {
      const known = await device.native.measurePeak(kind, 0).catch((error: { code?: string }) => {
        if (error.code === 'ERR_UNSUPPORTED') return null;
        throw error;
      });
      if (known !== null) peaks.add(kind);
    }
    return new Meter(device, memory, peaks);
  }

  /** The first of some instructions that the level has. */
  choose(kinds: readonly PeakKind[]): PeakKind | null {
    return kinds.find((kind) => this.#peaks.has(kind)) ?? null;
  }

  async bandwidth(): Promise<number> {
    return (await this.device.native.measurePeak('read', 0, this.#memory.native)).perSecond;
  }

  async peak(kind: PeakKind, ms = peakMs): Promise<number> {
    return (await this.device.native.measurePeak(kind, ms)).perSecond;
  }

  /** About `timeMs` of calls of `fn`, and the peaks meanwhile. */
  async time(fn: () => void, kind: PeakKind | null, timeMs: number): Promise<Timing> {
    const samples: number[] = [];
    const peaks: number[] = [];
    const bandwidths: number[] = [];
    const measurePeaks = async () => {
      if (kind !== null) peaks.push(await this.peak(kind, Math.min(peakMs, timeMs / maxSlices)));
      bandwidths.push(await this.bandwidth());
    };
    const start = performance.now();
    fn();
    const first = performance.now() - start;
    const slices = first > slowFactor * timeMs ? 1 : maxSlices;
    await measurePeaks();
    for (let slice = 0; slice < slices; slice++) {
      for (const sample of timeSlice(fn, timeMs / slices)) samples.push(sample);
      await measurePeaks();
    }
    return { samples, peak: kind === null ? null : median(peaks), bandwidth: median(bandwidths) };
  }

  dispose(): void {
    this.#memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Milliseconds of each call. The first one counts for nothing where there is time for more: it follows a peak, which
 * leaves other data behind.
 */
export function timeSlice(fn: () => void, timeMs: number): readonly number[] {
  const start = performance.now();
  fn();
  const ms = performance.now() - start;
  if (ms > timeMs) return [ms];
  const bench = new Bench({ time: timeMs, iterations: 2, warmup: false, retainSamples: true, throws: true });
  bench.add('', fn);
  const result = bench.runSync()[0]!.result;
  if (result.state !== 'completed') throw new Error(`tinybench ended ${result.state}`);
  return result.latency.samples!;
}
