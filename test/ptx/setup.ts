// Builds the programs that the tests compare with, once for all files.

import { buildProgram, nvcc } from './toolkit.ts';

export function setup(): void {
  if (nvcc === undefined) {
    console.warn('skipped: no nvcc in PATH or /usr/local/cuda/bin, so there is no PTX to interpret (docs/ptx.md)');
    return;
  }
  for (const program of ['swiftkv_ptx_self', 'swiftkv_ptx_replay']) buildProgram(program);
}
