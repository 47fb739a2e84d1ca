// One process per test file: the addon's threads and memory die with it, and a native crash is that file's failure.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    isolate: true,
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default'],
    coverage: { provider: 'v8', include: ['lib/**/*.ts'], reporter: ['text-summary', 'lcov'] },
    projects: [
      // The package as a user gets it: packed, installed elsewhere, imported. Needs a build and a package registry.
      { extends: true, test: { name: 'fuzz', include: ['test/fuzz/**/*.fuzz.ts'] } },
      { extends: true, test: { name: 'pack', include: ['test/pack/**/*.test.ts'], testTimeout: 300_000 } },
      // The PTX of the CUDA kernels, interpreted: docs/ptx.md. Without nvcc all of it is skipped.
      { extends: true, test: { name: 'ptx', include: ['test/ptx/**/*.test.ts'], globalSetup: 'test/ptx/setup.ts' } },
      // The same op, golden and engine tests on the cuda kernels, executed on the host: npm run build:simt first.
      {
        extends: true,
        test: {
          name: 'simt',
          include: [
            'test/kernels/*.test.ts',
            'test/golden/golden.test.ts',
            'test/model/forward.test.ts',
            'test/engine/bit-equality.test.ts',
            'test/backends/*.test.ts',
          ],
          // 20,000 draws a case are minutes here; that single draws equal the reference's is in sample.test.ts.
          exclude: ['test/kernels/sample-distribution.test.ts'],
          env: { SWIFTKV_TEST_BACKENDS: 'simt' },
          globalSetup: 'test/backends/require-simt.ts',
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts', 'bench/peers/*.test.mjs'],
          exclude: ['test/pack/**', 'test/ptx/**', 'test/backends/**'],
        },
      },
    ],
  },
});
