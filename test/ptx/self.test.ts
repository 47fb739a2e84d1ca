// One kernel per PTX wrapper: what nvcc makes of it, interpreted, has the bits of the executor's twin. Then planted
// faults in the asm, which only this comparison can see.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Module, PtxError } from './interpreter/syntax.ts';
import {
  difference,
  inInterpreter,
  inputWords,
  listSelfTests,
  moderateWords,
  onExecutor,
  type SelfTest,
} from './self.ts';
import { type Arch, buildFolder, compilePtx, mutatedHeaders, nvcc, root } from './toolkit.ts';

const sources = readdirSync(join(import.meta.dirname, 'self')).filter((f) => f.endsWith('.cu'));
const archs: readonly Arch[] = ['80', '89', '90a'];
const program = join(buildFolder, 'swiftkv_ptx_self');
const tests = nvcc === undefined ? [] : listSelfTests(program);

const modules = new Map<string, Module>();

function moduleOf(test: SelfTest, arch: Arch, include?: string): Module {
  for (const source of sources) {
    const text = readFileSync(join(import.meta.dirname, 'self', source), 'utf8');
    if (!text.includes(` ${test.name}(`)) continue;
    const path = `test/ptx/self/${source}`;
    if (include !== undefined) return compilePtx(path, arch, { include });
    const key = `${source} ${arch}`;
    let module = modules.get(key);
    if (module === undefined) {
      module = compilePtx(path, arch);
      modules.set(key, module);
    }
    return module;
  }
  throw new Error(`no source has ${test.name}`);
}

function inputOf(test: SelfTest, seed: number): Uint32Array {
  return test.name.startsWith('self_mma') ? moderateWords(test.inWords, seed) : inputWords(test.inWords, seed);
}

describe.skipIf(nvcc === undefined)('self-tests of the PTX wrappers', () => {
  for (const arch of archs) {
    for (const test of tests.filter((t) => t.arch <= Number.parseInt(arch, 10))) {
      it(`${test.name} on sm_${arch}`, () => {
        for (const seed of [1, 2, 3]) {
          const input = inputOf(test, seed);
          const { output } = inInterpreter(moduleOf(test, arch), test, input);
          expect(difference(output, onExecutor(program, test, input)), `seed ${seed}`).toBe('');
        }
      });
    }
  }

  // Fences change nothing where memory is in order, so that they are there is all that can be seen.
  it.each([
    ['self_wgmma_64', 'fence.proxy.async.shared::cta'],
    ['self_bulk_copy', 'fence.mbarrier_init.release.cluster'],
  ])('%s executes %s', (name, opcode) => {
    const test = tests.find((t) => t.name === name)!;
    const { counts } = inInterpreter(moduleOf(test, '90a'), test, inputOf(test, 1));
    expect(counts.get(opcode)).toBeGreaterThan(0);
  });

  it('has a kernel for every function of ptx.h and ptx_sm90.h', () => {
    const called = sources.map((f) => readFileSync(join(import.meta.dirname, 'self', f), 'utf8')).join('\n');
    const convert = readFileSync(join(root, 'csrc/backends/cuda/convert.h'), 'utf8');
    for (const header of ['ptx.h', 'ptx_sm90.h']) {
      const text = readFileSync(join(root, 'csrc/backends/cuda', header), 'utf8');
      const names = [...text.matchAll(/^SWIFTKV_DEVICE \S+ (\w+)\(/gm)].map((m) => m[1]!);
      expect(names.length).toBeGreaterThan(10);
      for (const name of names)
        expect(`${called}${convert}`, `${header}: ${name}`).toMatch(new RegExp(`ptx::${name}[<(]`));
    }
  });
});

interface Fault {
  readonly what: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly test: string;
  readonly arch: Arch;
  /** How it shows, where that is not other words in the result. */
  readonly why?: RegExp;
}

const ptx = 'backends/cuda/ptx.h';
const sm90 = 'backends/cuda/ptx_sm90.h';

const faults: readonly Fault[] = [
  {
    what: 'two swapped registers of ldmatrix',
    file: ptx,
    from: 'ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}',
    to: 'ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %2, %1, %3}',
    test: 'self_ldmatrix_x4',
    arch: '80',
  },
  {
    what: 'ldmatrix without .trans',
    file: ptx,
    from: 'ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16',
    to: 'ldmatrix.sync.aligned.m8n8.x2.shared.b16',
    test: 'self_ldmatrix_x2_trans',
    arch: '80',
  },
  {
    what: 'the operands of a packing conversion in the other order',
    file: ptx,
    from: 'asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));',
    to: 'asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(lo), "f"(hi));',
    test: 'self_pack_bf16x2',
    arch: '80',
  },
  {
    what: 'the operands of the fp8 conversion in the other order',
    file: ptx,
    from: 'asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(hi), "f"(lo));',
    to: 'asm("cvt.rn.satfinite.e4m3x2.f32 %0, %2, %1;" : "=h"(r) : "f"(hi), "f"(lo));',
    test: 'self_pack_e4m3x2',
    arch: '89',
  },
  {
    what: 'two swapped registers of A',
    file: ptx,
    from: 'mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}',
    to: 'mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %6, %5, %7}',
    test: 'self_mma_f16',
    arch: '80',
  },
  {
    what: 'a product of another type',
    file: ptx,
    from: 'mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32',
    to: 'mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32',
    test: 'self_mma_bf16',
    arch: '80',
  },
  {
    what: 'a copy that ignores whether it is valid',
    file: ptx,
    from: 'const int bytes = valid ? 4 : 0;',
    to: 'const int bytes = valid ? 4 : 4;',
    test: 'self_cp_async_4',
    arch: '80',
  },
  {
    what: 'a wait for one group too few',
    file: ptx,
    from: 'asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");',
    to: 'asm volatile("cp.async.wait_group %0;" ::"n"(N + 1) : "memory");',
    test: 'self_cp_async_groups',
    arch: '80',
  },
  {
    what: 'transposing the other operand of wgmma',
    file: sm90,
    from: ', %32, %33, p, 1, 1, %35, %36;',
    to: ', %32, %33, p, 1, 1, %36, %35;',
    test: 'self_wgmma_swizzled_32',
    arch: '90a',
  },
  {
    what: 'the parity of an mbarrier turned round',
    file: sm90,
    from: '"r"(shared_address(barrier)), "r"(parity)',
    to: '"r"(shared_address(barrier)), "r"(parity ^ 1u)',
    test: 'self_bulk_copy',
    arch: '90a',
    // Nobody waits for the first phase, so some come to it twice.
    why: /more arrivals than the 64 of the mbarrier/,
  },
];

describe.skipIf(nvcc === undefined)('planted faults in the asm', () => {
  faults.forEach((fault, i) => {
    it(fault.what, () => {
      const test = tests.find((t) => t.name === fault.test)!;
      const folder = mutatedHeaders(`fault-${i}`, fault.file, fault.from, fault.to);
      const input = inputOf(test, 1);
      const expected = onExecutor(program, test, input);
      const outcome = () => {
        try {
          return difference(inInterpreter(moduleOf(test, fault.arch, folder), test, input).output, expected);
        } catch (error) {
          if (!(error instanceof PtxError)) throw error;
          return error.message;
        }
      };
      expect(outcome()).toMatch(fault.why ?? /words differ/);
    });
  });
});
