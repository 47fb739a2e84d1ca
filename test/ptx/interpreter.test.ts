// The interpreter on PTX written by hand: values from the PTX ISA and from exact arithmetic, control flow, and what it must
// call an error. Needs no nvcc.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fmaF32, fmaF64 } from './interpreter/float-math.ts';
import { e4m3ToNumber, f16ToNumber, numberToBf16, numberToE4m3, numberToF16 } from './interpreter/formats.ts';
import { launch } from './interpreter/launch.ts';
import { GlobalMemory } from './interpreter/memory.ts';
import { parseModule } from './interpreter/parse.ts';

/** Runs a body on `threads` threads of one block. %out is the address of the thread's own 8 bytes. */
function execute(body: string, threads = 32): { words: Uint32Array; wide: BigUint64Array } {
  const text = `
.version 9.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 k_param_0)
{
  .reg .pred %p<10>;
  .reg .b16 %rs<10>;
  .reg .b32 %r<20>;
  .reg .f32 %f<10>;
  .reg .f64 %fd<10>;
  .reg .b64 %rd<10>;
  .reg .b64 %out;
  .reg .b32 %tid;
  .shared .align 16 .b8 data[1024];
  ld.param.u64 %out, [k_param_0];
  mov.u32 %tid, %tid.x;
  mad.wide.u32 %out, %tid, 8, %out;
${body}
  ret;
}`;
  const memory = new GlobalMemory();
  const out = memory.allocate('out', new Uint8Array(8 * threads));
  const params = new Uint8Array(BigUint64Array.of(BigInt(out)).buffer);
  launch({ module: parseModule(text), kernel: 'k', grid: [1, 1, 1], block: [threads, 1, 1], params, memory });
  const bytes = memory.bytes(out).slice(0, 8 * threads);
  return { words: new Uint32Array(bytes.buffer), wide: new BigUint64Array(bytes.buffer) };
}

/** The 32-bit results of the threads. */
function results(body: string, threads = 32): number[] {
  return [...execute(body, threads).words].filter((_, i) => i % 2 === 0);
}

function value32(body: string): number {
  return results(`${body}\n  st.global.u32 [%out], %r1;`)[0]!;
}

function value64(body: string): bigint {
  return execute(`${body}\n  st.global.u64 [%out], %rd1;`).wide[0]!;
}

describe('integers', () => {
  it.each([
    ['cvt.u32.s32 %r1, %rd1;', '%r1', (tid: number) => tid * 3],
    ['cvt.s64.s32 %rd2, %rd1; cvt.u32.u64 %r1, %rd2;', '%r1', (tid: number) => tid * 3],
    ['cvt.u32.u8 %r1, %rd1;', '%r1', (tid: number) => (tid * 3) % 256],
    ['cvt.s64.s32 %rd2, %rd1; shr.u64 %rd2, %rd2, 32; cvt.u32.u64 %r1, %rd2;', '%r1', () => 0],
  ])('%s takes the low word of its own lane', (body, out, expected) => {
    // The high words are large, and no two lanes have the same low word.
    const wide = 'mul.lo.s32 %r2, %tid, 3; mov.b64 %rd1, {%r2, 0x77777777};';
    const actual = results(`${wide} ${body} st.global.u32 [%out], ${out};`);
    expect(actual).toEqual(Array.from({ length: 32 }, (_, tid) => expected(tid)));
  });

  it.each([
    ['prmt.b32 %r1, 0x44332211, 0x88776655, 0x5140;', 0x66225511],
    ['prmt.b32 %r1, 0x00800000, 0, 0xA;', 0xff | 0x00],
    ['lop3.b32 %r1, 0xf0f0f0f0, 0xcccccccc, 0xaaaaaaaa, 0x96;', 0x96969696],
    ['bfe.u32 %r1, 0x12345678, 8, 12;', 0x456],
    ['bfe.s32 %r1, 0x00000f00, 8, 4;', 0xffffffff],
    ['bfi.b32 %r1, 0xab, 0xffff0000, 4, 8;', 0xffff0ab0],
    ['shf.l.wrap.b32 %r1, 0x80000000, 1, 1;', 3],
    ['shf.r.clamp.b32 %r1, 1, 0x12345678, 40;', 0x12345678],
    ['shr.s32 %r1, 0x80000000, 99;', 0xffffffff],
    ['shl.b32 %r1, 1, 32;', 0],
    ['brev.b32 %r1, 1;', 0x80000000],
    ['clz.b32 %r1, 1;', 31],
    ['popc.b32 %r1, 0xf0f0;', 8],
    ['mul.hi.u32 %r1, 0xffffffff, 0xffffffff;', 0xfffffffe],
    ['mul.hi.s32 %r1, -1, 5;', 0xffffffff],
    ['dp4a.s32.s32 %r1, 0xff02ff01, 0x01010101, 10;', 11],
    ['div.s32 %r1, -7, 2;', 0xfffffffd],
    ['mov.b16 %rs1, -1; mov.b16 %rs2, 2; add.s16 %rs3, %rs1, %rs2; cvt.u32.u16 %r1, %rs3;', 1],
    ['mov.b16 %rs1, -2; cvt.s32.s16 %r1, %rs1;', 0xfffffffe],
  ])('%s', (body, expected) => {
    expect(value32(`  ${body}`)).toBe(expected >>> 0);
  });

  it.each([
    ['mul.wide.s32 %rd1, -3, 5;', -15n],
    ['mul.wide.u32 %rd1, 0xffffffff, 0xffffffff;', 0xfffffffe00000001n],
    ['mov.b64 %rd2, 0xffffffff; mad.wide.u32 %rd1, 1, 1, %rd2;', 0x100000000n],
    ['mov.b64 %rd2, 0; sub.s64 %rd1, %rd2, 1;', -1n],
    ['mov.b64 %rd2, 0x00000001ffffffff; add.s64 %rd1, %rd2, 1;', 0x200000000n],
    ['mov.b64 %rd1, {7, 9};', 0x900000007n],
    [
      'add.cc.u32 %r1, 0xffffffff, 1; addc.cc.u32 %r2, 0xffffffff, 0; addc.u32 %r3, 0, 5; mov.b64 %rd1, {%r2, %r3};',
      6n << 32n,
    ],
    ['mov.b64 %rd2, -1; shr.s64 %rd3, %rd2, 70; shl.b64 %rd1, %rd3, 63;', -(1n << 63n)],
  ])('%s', (body, expected) => {
    expect(value64(`  ${body}`)).toBe(BigInt.asUintN(64, expected));
  });
});

describe('floats', () => {
  it('rounds a multiply-add once', () => {
    const nearOne = 1 + 2 ** -12;
    // The exact sum lies just above a tie of f32, which the rounding to f64 would hide.
    expect(fmaF32(nearOne, nearOne, 2 ** -80, 'rn')).toBe(Math.fround(nearOne * nearOne + 2 ** -30));
    expect(fmaF32(1, 1, 2 ** -40, 'rp')).toBe(1 + 2 ** -23);
    expect(fmaF32(1, 1, -(2 ** -40), 'rm')).toBe(1 - 2 ** -24);
    expect(fmaF32(1, -1, 2 ** -40, 'rz')).toBe(-(1 - 2 ** -24));
    expect(fmaF64(1 + 2 ** -52, 1 - 2 ** -52, -1)).toBe(-(2 ** -104));
    expect(fmaF64(2 ** -600, 2 ** -474, 0)).toBe(2 ** -1074);
  });

  it('agrees with exact integers', () => {
    const integer = fc.integer({ min: -(2 ** 24), max: 2 ** 24 });
    fc.assert(
      fc.property(integer, integer, integer, (a, b, c) => {
        const exact = BigInt(a) * BigInt(b) + BigInt(c);
        // 49 bits are exact in f64.
        expect(fmaF32(a, b, c, 'rn')).toBe(Math.fround(Number(exact)) + 0);
        expect(fmaF64(a, b, c)).toBe(Number(exact) + 0);
      }),
    );
  });

  it('has all codes of the small formats, and ties go to even', () => {
    for (let code = 0; code < 0x7c00; code++) {
      const x = f16ToNumber(code);
      const tie = (x + f16ToNumber(code + 1)) / 2;
      expect(numberToF16(x)).toBe(code);
      expect(numberToF16(-x)).toBe(code | 0x8000);
      if (code < 0x7bff) expect(numberToF16(tie)).toBe(code + (code & 1));
    }
    for (let code = 0; code < 0x7e; code++) {
      const x = e4m3ToNumber(code);
      expect(numberToE4m3(x)).toBe(code);
      expect(numberToE4m3((x + e4m3ToNumber(code + 1)) / 2)).toBe(code + (code & 1));
    }
    expect([numberToF16(65519), numberToF16(65520), numberToE4m3(1e9), numberToE4m3(Number.NaN)]).toEqual([
      0x7bff, 0x7c00, 0x7e, 0x7f,
    ]);
    expect([numberToBf16(1), numberToBf16(1 + 2 ** -8), numberToBf16(1 + 3 * 2 ** -8)]).toEqual([
      0x3f80, 0x3f80, 0x3f82,
    ]);
  });

  it.each([
    ['mov.f32 %f1, 0f40200000; cvt.rni.s32.f32 %r1, %f1;', 2],
    ['mov.f32 %f1, 0fC0200000; cvt.rmi.s32.f32 %r1, %f1;', -3],
    ['mov.f32 %f1, 0f7FC00000; cvt.rzi.s32.f32 %r1, %f1;', 0],
    ['mov.f32 %f1, 0f4F800000; cvt.rzi.u32.f32 %r1, %f1;', -1],
    ['cvt.rn.f32.u32 %f1, 0xffffffff; mov.b32 %r1, %f1;', 0x4f800000],
    ['cvt.rz.f32.u32 %f1, 0xffffffff; mov.b32 %r1, %f1;', 0x4f7fffff],
    ['mov.f32 %f1, 0f7FC00000; min.f32 %f2, %f1, 0f3F800000; mov.b32 %r1, %f2;', 0x3f800000],
    ['mov.f32 %f1, 0fFFC12345; neg.f32 %f2, %f1; mov.b32 %r1, %f2;', 0x7fc12345],
    ['mov.f32 %f1, 0f80000000; max.f32 %f2, %f1, 0f00000000; mov.b32 %r1, %f2;', 0],
    ['mov.f64 %fd1, 0d3FF0000010000000; cvt.rn.f32.f64 %f1, %fd1; mov.b32 %r1, %f1;', 0x3f800000],
  ])('%s', (body, expected) => {
    expect(value32(`  ${body}`)).toBe(expected >>> 0);
  });
});

describe('control flow', () => {
  it('lets lanes loop as often as each needs and meet again', () => {
    const body = `
  mov.u32 %r1, 0;
  mov.u32 %r2, 0;
loop:
  add.u32 %r2, %r2, 3;
  add.u32 %r1, %r1, 1;
  setp.le.u32 %p1, %r1, %tid;
  @%p1 bra loop;
  shfl.sync.bfly.b32 %r3, %r2, 31, 31, -1;
  st.global.u32 [%out], %r3;`;
    expect(results(body)).toEqual(Array.from({ length: 32 }, (_, lane) => 3 * (32 - lane)));
  });

  it('brings lanes together for a collective that one side reaches by another way', () => {
    const body = `
  setp.lt.u32 %p1, %tid, 16;
  @%p1 bra low;
  mov.u32 %r1, 7;
  bra both;
low:
  mov.u32 %r1, 5;
both:
  redux.sync.add.u32 %r2, %r1, -1;
  st.global.u32 [%out], %r2;`;
    expect(new Set(results(body))).toEqual(new Set([16 * 12]));
  });

  it('passes shared memory on at a barrier', () => {
    const body = `
  mov.u32 %r1, data;
  mad.lo.u32 %r2, %tid, 4, %r1;
  st.shared.u32 [%r2], %tid;
  bar.sync 0;
  sub.u32 %r3, 63, %tid;
  mad.lo.u32 %r4, %r3, 4, %r1;
  ld.shared.u32 %r5, [%r4];
  st.global.u32 [%out], %r5;`;
    expect(results(body, 64)).toEqual(Array.from({ length: 64 }, (_, t) => 63 - t));
  });

  it('calls functions by inlining them', () => {
    const text = `
.version 9.0
.target sm_80
.address_size 64
.func (.param .b32 result) twice(.param .b32 x)
{
  .reg .b32 %r<4>;
  .reg .pred %p<2>;
  ld.param.u32 %r1, [x];
  setp.eq.u32 %p1, %r1, 3;
  @%p1 bra three;
  add.u32 %r2, %r1, %r1;
  st.param.b32 [result], %r2;
  ret;
three:
  st.param.b32 [result], 33;
  ret;
}
.visible .entry k(.param .u64 k_param_0)
{
  .reg .b32 %r<4>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [k_param_0];
  mov.u32 %r1, %tid.x;
  mad.wide.u32 %rd2, %r1, 4, %rd1;
  {
  .param .b32 a;
  .param .b32 b;
  st.param.b32 [a], %r1;
  call.uni (b), twice, (a);
  ld.param.b32 %r2, [b];
  }
  st.global.u32 [%rd2], %r2;
  ret;
}`;
    const memory = new GlobalMemory();
    const out = memory.allocate('out', 128);
    const params = new Uint8Array(BigUint64Array.of(BigInt(out)).buffer);
    launch({ module: parseModule(text), kernel: 'k', grid: [1, 1, 1], block: [32, 1, 1], params, memory });
    const words = new Uint32Array(memory.bytes(out).slice(0, 128).buffer);
    expect([...words]).toEqual(Array.from({ length: 32 }, (_, i) => (i === 3 ? 33 : 2 * i)));
  });
});

describe('errors', () => {
  it.each([
    ['an instruction that is not known', 'frobnicate.u32 %r1, %r2;', /line 19: frobnicate\.u32: unknown instruction/],
    ['a modifier that is not known', 'ld.global.sideways.u32 %r1, [%out];', /\.sideways is not supported/],
    ['a name that is not declared', 'mov.u32 %r1, %nobody;', /%nobody is not declared/],
    ['a store past the end', 'st.global.u32 [%out+256], %tid;', /line 19: lane 0: nothing is at/],
    ['a store across the end', 'st.global.v4.u32 [%out+248], {%r1, %r1, %r1, %r1};', /16 bytes at 248 of out/],
    ['a misaligned load', 'ld.global.u32 %r1, [%out+2];', /offset 2 of out is not a multiple of 4/],
    ['shared memory that is not there', 'ld.shared.u32 %r1, [data+1024];', /4 bytes at 1024 of shared memory/],
    ['a trap', 'trap;', /line 19: trap/],
    [
      'a collective that some lanes never reach',
      'setp.lt.u32 %p1, %tid, 9; @%p1 bra end; vote.sync.ballot.b32 %r1, %p1, -1; end: bar.sync 0;',
      /vote\.sync\.ballot\.b32 waits for lanes that do not come.*lanes 0x1ff at/,
    ],
    [
      'a mask that names lanes that have exited',
      'setp.lt.u32 %p1, %tid, 9; @%p1 exit; vote.sync.ballot.b32 %r1, %p1, -1;',
      /the mask names lanes 0x1ff, which have exited/,
    ],
    ['a barrier that others never reach', 'bar.sync 1, 64;', /no warp can go on: warp 0/],
  ])('%s', (_, body, message) => {
    expect(() => execute(body)).toThrow(message);
  });
});
