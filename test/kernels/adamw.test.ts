import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { Adamw, type AdamwHyper } from './reference-rows.ts';
import { check, describeLevels, expectBits, expectClose, Random, seeds, withScope } from './support.ts';

interface Case extends AdamwHyper {
  count: number;
  /** Of the gradients. */
  scale: number;
  seed: number;
}

const steps = 5;

/** Gradients of each step; every eighth is 0, as of weights that a step did not use. */
function gradients({ count, scale, seed }: Case): Float32Array[] {
  const random = new Random(seed + 1);
  return Array.from({ length: steps }, () =>
    random.floats(count, 'f32', scale).map((g) => (random.below(8) === 0 ? 0 : g)),
  );
}

const initial = ({ count, seed }: Case) => new Random(seed).floats(count);

function run(device: Device, of: Case) {
  return withScope(device, (s) => {
    const shape = [of.count];
    const [x, m, v] = [s.floats(initial(of), shape), s.floats(new Float32Array(of.count), shape), s.out(shape)];
    v.set(new Float32Array(of.count));
    const [grad, squares] = [s.out(shape), s.out([1])];
    const reference = new Adamw(initial(of));
    for (const gradient of gradients(of)) {
      grad.set(gradient);
      const hyper = reference.hyper(of);
      ops.sync.sum_squares({ x: grad, out: squares });
      ops.sync.adamw({ hyper: s.floats(hyper, [8]), squares, grad, m, v, x });
      reference.step(hyper, gradient);
      expectBits(grad.toFloat32Array(), new Float32Array(of.count), 'gradient afterwards');
    }
    return { reference, x: x.toFloat32Array(), m: m.toFloat32Array(), v: v.toFloat32Array() };
  });
}

function compare(device: Device, oneThread: Device, of: Case): void {
  const { reference, x, m, v } = run(device, of);
  expectClose(m, reference.m, (i) => reference.mBound(i), 'm');
  expectClose(v, reference.v, (i) => reference.vBound(i), 'v');
  expectClose(x, reference.x, (i) => reference.bounds[i]!, 'x');
  const alone = run(oneThread, of);
  expectBits(alone.x, x, 'x on one thread');
  expectBits(alone.m, m, 'm on one thread');
  expectBits(alone.v, v, 'v on one thread');
}

const usual: Case = {
  lr: 2e-4,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  decay: 0.1,
  clip: 1,
  count: 1000,
  scale: 1,
  seed: 7,
};

describeLevels('adamw', (device, oneThread) => {
  it('equals the reference over five steps, with and without decay and clipping', () =>
    check(
      fc.record({
        lr: fc.constantFrom(0, 1e-4, 1e-2),
        beta1: fc.constantFrom(0, 0.5, 0.9),
        beta2: fc.constantFrom(0.9, 0.999),
        eps: fc.constantFrom(1e-8, 1e-3),
        decay: fc.constantFrom(0, 0.1),
        clip: fc.constantFrom(1e-2, 1, Number.POSITIVE_INFINITY),
        count: fc.constantFrom(1, 2, 15, 16, 17, 63, 64, 65, 300),
        scale: fc.constantFrom(1e-3, 1, 1e3),
        seed: seeds,
      }),
      (of) => compare(device, oneThread, of),
    ));

  it.each([16383, 16384, 16385, 50001])('takes pieces of %i parameters', (count) =>
    compare(device, oneThread, { ...usual, count }),
  );

  it('clips a gradient to the norm, and leaves a shorter one', () =>
    withScope(device, (s) => {
      const moments = (clip: number) => {
        const m = s.floats([0, 0], [2]);
        ops.sync.adamw({
          hyper: s.floats([0.1, 0.5, 0.5, 1e-8, 0, 0.5, 0.5, clip], [8]),
          squares: s.floats([25], [1]),
          grad: s.floats([3, 4], [2]),
          m,
          v: s.floats([0, 0], [2]),
          x: s.floats([0, 0], [2]),
        });
        return [...m.toFloat32Array()];
      };
      expect(moments(2.5)).toEqual([0.75, 1]);
      expect(moments(5)).toEqual([1.5, 2]);
      expect(moments(50)).toEqual([1.5, 2]);
      expect(moments(Number.POSITIVE_INFINITY)).toEqual([1.5, 2]);
    }));

  it('leaves parameters and moments where the norm is NaN or infinite, and drops the gradient', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e30])
      withScope(device, (s) => {
        const gradient = new Float32Array(37).fill(1);
        gradient[20] = bad;
        const [x, m, v] = [1, 2, 3].map((seed) => new Random(seed).floats(37).map(Math.abs));
        const state = { x: s.floats(x!, [37]), m: s.floats(m!, [37]), v: s.floats(v!, [37]) };
        const [grad, squares] = [s.floats(gradient, [37]), s.out([1])];
        ops.sync.sum_squares({ x: grad, out: squares });
        const hyper = s.floats(new Adamw([0]).hyper(usual), [8]);
        ops.sync.adamw({ hyper, squares, grad, ...state });
        expectBits(state.x.toFloat32Array(), x!, 'x');
        expectBits(state.m.toFloat32Array(), m!, 'm');
        expectBits(state.v.toFloat32Array(), v!, 'v');
        expectBits(grad.toFloat32Array(), new Float32Array(37), 'gradient');
      });
  });
});
