// Inverse frequencies of the rotary embedding, in the f32 steps of the reference classes.

import type { ModelConfig, RopeScaling } from './config.ts';

const f32 = Math.fround;

/** f_i for i < hd/2; the angle of position p is p f_i. */
export function inverseFrequencies(config: Pick<ModelConfig, 'headDim' | 'rope'>): Float32Array {
  const { headDim, rope } = config;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = f32(1 / f32(rope.theta ** f32((2 * i) / headDim)));
    return rope.scaling === null ? frequency : scale(frequency, rope.scaling);
  });
}

function scale(frequency: number, scaling: RopeScaling): number {
  if (scaling.type === 'linear') return f32(frequency / scaling.factor);
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  const wavelength = f32((2 * Math.PI) / frequency);
  if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
  const slow = f32(frequency / factor);
  if (wavelength > originalMaxPositions / lowFreqFactor) return slow;
  const smooth = f32(f32(f32(originalMaxPositions / wavelength) - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
  return f32(f32(f32(1 - smooth) * slow) + f32(smooth * frequency));
}
