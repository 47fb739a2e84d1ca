// quantization_config: which schemes of stored weights are read. What a matrix is stored in comes from its own header;
// the config says what the numbers mean, so a scheme that is not known is refused.

import type { ConfigReader } from './config-reader.ts';

const methodsOfFp8 = ['fp8', 'fbgemm_fp8', 'modelopt'];

/**
 * Accepts compressed-tensors "float-quantized" (FP8 with a scale per output or per tensor), and configs that quantize
 * only the KV cache.
 * @throws ERR_MODEL_UNSUPPORTED, naming the field
 */
export function checkQuantization(r: ConfigReader): void {
  const field = r.has('quantization_config') ? 'quantization_config' : 'compression_config';
  const q = r.object(field);
  if (q === null) return;
  const method = q.string('quant_method', field === 'compression_config' ? 'compressed-tensors' : 'unknown');
  if (method !== 'compressed-tensors') {
    q.unsupported(
      'quant_method',
      methodsOfFp8.includes(method)
        ? 'this layout of FP8 weights is not supported; expected compressed-tensors with the format float-quantized'
        : 'these quantized weights are not supported; use an f32, bf16, f16 or compressed-tensors FP8 checkpoint',
    );
  }
  const groups = q.object('config_groups');
  const names = Object.keys(groups?.json ?? {});
  if (names.length === 0) return;
  checkFormat(q);
  for (const name of names) checkGroup(groups!.object(name)!);
}

function checkFormat(q: ConfigReader): void {
  const format = q.string('format', 'float-quantized');
  if (format !== 'float-quantized') q.unsupported('format', 'expected float-quantized (FP8 weights)');
  const status = q.string('quantization_status', 'compressed');
  if (status !== 'compressed') q.unsupported('quantization_status', 'expected compressed: weights stored as codes');
}

function checkGroup(group: ConfigReader): void {
  // A group may quantize activations only.
  const weights = group.object('weights');
  if (weights === null) return;
  const type = weights.string('type', 'int');
  const bits = weights.integer('num_bits', 8);
  if (type !== 'float') weights.unsupported('type', 'expected float: of 8-bit weights only FP8 is read');
  if (bits !== 8) weights.unsupported('num_bits', 'expected 8');
  if (!weights.boolean('symmetric', true)) weights.unsupported('symmetric', 'expected true: FP8 has no zero point');
  if (weights.boolean('dynamic', false)) weights.unsupported('dynamic', 'expected false for stored weights');
  const strategy = weights.string('strategy', 'tensor');
  if (strategy !== 'channel' && strategy !== 'tensor') {
    weights.unsupported('strategy', 'expected channel or tensor: one scale per output or per matrix');
  }
}
