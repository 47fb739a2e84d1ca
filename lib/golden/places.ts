// Where tests run: a place is an ISA level of the cpu, or another device by its name.

import type { DeviceName } from '../kernels/backend.ts';
import { native } from '../native/load.ts';

/** Of `cpu`: every level that this build has and this machine can run, the reference first. */
export function placesOf(devices: readonly string[]): string[] {
  return devices.flatMap((device) => (device === 'cpu' ? native().cpuInfo().levels : [device]));
}

/** The options that lead there. */
export function optionsOf(place: string): { device: DeviceName; isa?: string } {
  return /^(cuda|simt)/.test(place) ? { device: place as DeviceName } : { device: 'cpu', isa: place };
}
