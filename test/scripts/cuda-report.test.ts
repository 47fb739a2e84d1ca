// The arithmetic and the parsers of scripts/cuda-report.mjs, on texts as the toolkit writes them. Needs no toolkit.

import { describe, expect, it } from 'vitest';

const load = (file: string) => import(`../../scripts/cuda-report/${file}.mjs`);
const { architectures } = await load('architectures');
const { dynamicShared, shortName } = await load('names');
const { occupancy } = await load('occupancy');
const { parsePtx } = await load('parse-ptx');
const { parsePtxas } = await load('parse-ptxas');
const { parseSass } = await load('parse-sass');
const { unusedRules, violations } = await load('thresholds');
const { includedFiles, inTurns, parseLaunches } = await load('toolkit');

describe('occupancy', () => {
  const on = (arch: string, threads: number, registers: number, shared: number) =>
    occupancy(architectures[arch], { threads, registers, shared });

  it('is full for small kernels, where threads are the limit', () => {
    expect(on('sm_80', 256, 32, 0)).toEqual({ blocks: 8, warps: 64, fraction: 1, limit: 'threads' });
    expect(on('sm_89', 256, 40, 0)).toMatchObject({ blocks: 6, fraction: 1 });
  });

  it('hands out registers by warps of a partition, in units of 256', () => {
    // 33 registers of 32 threads are 1,056, so 1,280; 16,384 / 1,280 = 12 warps in each of 4 partitions.
    expect(on('sm_80', 32, 33, 0).blocks).toBe(32); // 48 warps by registers: blocks are the limit
    expect(on('sm_80', 128, 33, 0)).toMatchObject({ blocks: 12, limit: 'registers' });
    expect(on('sm_90a', 128, 255, 0)).toMatchObject({ blocks: 2, warps: 8, fraction: 0.125, limit: 'registers' });
    expect(on('sm_90a', 256, 128, 0)).toMatchObject({ blocks: 2, limit: 'registers' });
    expect(on('sm_90a', 256, 129, 0)).toMatchObject({ blocks: 1, limit: 'registers' });
  });

  it('adds what the system keeps of every block to its shared memory', () => {
    expect(on('sm_80', 128, 32, 81 * 1024)).toMatchObject({ blocks: 2, limit: 'shared memory' });
    expect(on('sm_80', 128, 32, 81 * 1024 + 1)).toMatchObject({ blocks: 1, limit: 'shared memory' });
    expect(on('sm_89', 128, 32, 99 * 1024).blocks).toBe(1);
    expect(on('sm_89', 128, 32, 99 * 1024 + 1)).toMatchObject({ blocks: 0, limit: 'shared memory' });
  });

  it('has at most so many blocks', () => {
    expect(on('sm_89', 32, 16, 0)).toMatchObject({ blocks: 24, fraction: 0.5, limit: 'blocks' });
  });
});

describe('parsePtxas', () => {
  it('reads every kernel, and adds functions that were not inlined to theirs', () => {
    const log = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z3onev' for 'sm_80'
ptxas info    : Function properties for _Z3onev
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 216 registers, used 1 barriers, 552 bytes cmem[0]
ptxas info    : Compiling entry function '_Z3twov' for 'sm_80'
ptxas info    : Function properties for _Z3twov
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 32 registers, used 2 barriers, 16 bytes cumulative stack size, 8464 bytes smem, 400 bytes cmem[0]
ptxas info    : Function properties for helper
    24 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads
`;
    const none = { stack: 0, spillStores: 0, spillLoads: 0 };
    expect(parsePtxas(log)).toEqual([
      { name: '_Z3onev', registers: 216, barriers: 1, staticShared: 0, ...none },
      { name: '_Z3twov', registers: 32, barriers: 2, staticShared: 8464, stack: 24, spillStores: 12, spillLoads: 12 },
    ]);
  });
});

describe('parsePtx', () => {
  const text = `.visible .entry _Z3onev(
	.param .u64 _Z3onev_param_0
)
.maxntid 128, 2, 1
.minnctapersm 2
{
	.reg .pred 	%p<2>;
	mov.u32 	%r1, %tid.x;
	@%p1 bra 	$L__BB0_2;
$L__BB0_1: ld.global.nc.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];
	// begin inline asm
	{ cp.async.cg.shared.global [%r1], [%rd2], 16, %r2; }
	// end inline asm
	cp.async.commit_group;
	@!%p1 mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r2}, {%f1};
	ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r1}, [%r2];
	ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1];
	st.global.v4.f32 [%rd1], {%f1, %f2, %f3, %f4};
	st.global.v2.f32 [%rd1], {%f1, %f2};
	bar.sync 	0;
	ret;
}
.visible .entry _Z3twov()
{
	st.local.u32 	[%rd1], %r1; ld.local.u32 %r1, [%rd1]; // mma.sync
	ret;
}
`;

  it('counts instructions behind labels, predicates and in inline asm, and nothing of comments', () => {
    const [one, two] = parsePtx(text);
    expect(one).toMatchObject({ name: '_Z3onev', maxThreads: 256, minBlocks: 2 });
    expect(one.counts).toEqual({
      mma: 1,
      ldmatrix: 1,
      cpAsync: 1,
      bulk: 0,
      load16: 1,
      store16: 1,
      local: 0,
      barrier: 1,
    });
    expect(two).toMatchObject({ name: '_Z3twov', maxThreads: undefined });
    expect(two.counts).toMatchObject({ mma: 0, local: 2 });
  });
});

describe('parseSass', () => {
  it('counts opcodes of each kernel', () => {
    const text = `	.section	.nv.info._Z3onev,"",@"SHT_CUDA_INFO"
	.section	.text._Z3onev,"ax",@progbits
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @P0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/             @!P1 HMMA.16816.F32.BF16 R4, R8, R10, R4 ;
        /*0030*/                   LDSM.16.M88.4 R8, [R2] ;
.L_x_0:
        /*0040*/                   BRA \`(.L_x_0);
	.section	.nv.shared._Z3onev,"aw",@nobits
`;
    expect(parseSass(text)['_Z3onev']).toMatchObject({ total: 5, HMMA: 1, LDSM: 1, 'LDG.128': 1, LDL: 0 });
    expect(Object.keys(parseSass(text))).toEqual(['_Z3onev']);
  });
});

describe('names', () => {
  it('leaves of a declaration what tells kernels apart', () => {
    const product = 'swiftkv::cuda::MmaProduct<(swiftkv::cuda::GemmTile)3, swiftkv::bf16>';
    const gemm = `void swiftkv::cuda::gemm<${product}, swiftkv::cuda::LinearFinish>(${product}::Operands, int)`;
    expect(shortName(gemm, { 3: 'small' })).toBe('gemm<MmaProduct<small, bf16>, LinearFinish>');
    expect(shortName('swiftkv::cuda::(anonymous namespace)::pad(long)')).toBe('pad');
    expect(shortName('_Z3onev')).toBe('_Z3onev');
  });

  it('finds shared memory by the start of a name', () => {
    const { tiles, shared } = parseLaunches('tile\t3\tsmall\nshared\tgemm<MmaProduct<small, bf16>,\t49152\n');
    expect(tiles).toEqual({ 3: 'small' });
    expect(dynamicShared('gemm<MmaProduct<small, bf16>, LinearFinish>', shared)).toBe(49152);
    expect(dynamicShared('gemm<MmaProduct<large, bf16>, LinearFinish>', shared)).toBeUndefined();
  });
});

describe('thresholds', () => {
  const rules = [
    { match: '^gemm<', maxRegisters: 128, minOccupancy: 0.25, minOccupancyOf: { sm_89: 0.1 }, min: { mma: 4 } },
    { match: '^never$', maxRegisters: 1, minOccupancy: 0 },
  ];
  const clean = { spillStores: 0, spillLoads: 0, stack: 0, occupancy: { fraction: 0.25 } };
  const good = { kernel: 'gemm<a>', arch: 'sm_80', registers: 128, counts: { mma: 4, local: 0 }, ...clean };

  it('passes a kernel at its limits', () => expect(violations(good, rules)).toEqual([]));

  it.each([
    ['a spill', { spillLoads: 4 }, 'spills 0 bytes and loads 4'],
    ['a stack', { stack: 8 }, 'has a stack of 8 bytes'],
    ['local memory', { counts: { mma: 4, local: 1 } }, 'touches local memory in 1 PTX instructions'],
    ['local memory that ptxas made', { sass: { LDL: 1, STL: 1 } }, 'touches local memory in 2 machine instructions'],
    ['a register more', { registers: 129 }, 'needs 129 registers, more than 128'],
    ['few warps', { occupancy: { fraction: 0.2 } }, 'fills 20.0% of the warps, less than 25.0%'],
    ['a missing instruction', { counts: { local: 0, mma: 3 } }, 'has 3 mma instructions, fewer than 4'],
    ['a kernel without a rule', { kernel: 'new' }, 'matches no rule'],
  ])('finds %s', (_, change, message) => expect(violations({ ...good, ...change }, rules)).toEqual([message]));

  it('may ask less of one architecture', () => {
    expect(violations({ ...good, arch: 'sm_89', occupancy: { fraction: 0.1 } }, rules)).toEqual([]);
  });

  it('names rules that nothing falls under', () => expect(unusedRules([good], rules)).toEqual(['^never$']));
});

describe('toolkit', () => {
  it('follows includes of the tree, each once', () => {
    const texts: Record<string, string> = {
      'k.cu': '#include "a.h"\n#include <cstdio>\n',
      'csrc/a.h': '#include "b.h"\n#include "a.h"\n',
      'csrc/b.h': '#include "outside.h"\n',
    };
    const files = includedFiles(
      'k.cu',
      'csrc',
      (path: string) => texts[path],
      (path: string) => path in texts,
    );
    expect([...files.keys()]).toEqual(['k.cu', 'csrc/a.h', 'csrc/b.h']);
  });

  it('works on so many items at a time and keeps their order', async () => {
    let running = 0;
    let most = 0;
    const results = await inTurns([3, 1, 2, 0], 2, async (item: number) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, item));
      running--;
      return item * 10;
    });
    expect(results).toEqual([30, 10, 20, 0]);
    expect(most).toBe(2);
  });
});
