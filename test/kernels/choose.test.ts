import { expect, it } from 'vitest';
import { chooseLevel, chooseThreads } from '../../lib/kernels/choose.ts';

const cpu = { levels: ['scalar', 'avx2'], builtLevels: ['scalar', 'avx2', 'avx512'], model: 'Some CPU' };

it('the level is the best that the machine has, or exactly the one asked for', () => {
  expect(chooseLevel(cpu)).toBe('avx2');
  expect(chooseLevel(cpu, 'best')).toBe('avx2');
  expect(chooseLevel(cpu, 'scalar')).toBe('scalar');
  expect(() => chooseLevel(cpu, 'avx512')).toThrow(/Some CPU does not have it/);
  expect(() => chooseLevel(cpu, 'neon')).toThrow(/this build does not have it/);
});

it('threads follow affinity and quota, whichever is smaller, and never fall to 0', () => {
  expect(chooseThreads({ affinity: 8, quota: null })).toBe(8);
  expect(chooseThreads({ affinity: 8, quota: 2.5 })).toBe(2);
  expect(chooseThreads({ affinity: 2, quota: 6 })).toBe(2);
  expect(chooseThreads({ affinity: 4, quota: 0.5 })).toBe(1);
  expect(chooseThreads({ affinity: 4, quota: 1 }, 7)).toBe(7);
  for (const threads of [0, -1, 1.5, Number.NaN, 5000]) {
    expect(() => chooseThreads({ affinity: 4, quota: null }, threads)).toThrow(/threads/);
  }
});
