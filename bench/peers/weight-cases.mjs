// What is compared with what: weights of equal bits.

/**
 * `gguf`: the type of the matrices on llama.cpp's side, `head`: of the embedding, which is the head of a tied model;
 * `ours`: options of Engine.load, by the name in the report. Our heads have 8 bits with int8 and int4, and stay bf16 with
 * fp8. llama.cpp multiplies q8_0 and q4_0 weights with activations rounded to 8 bits in blocks of 32.
 */
export const weightCases = {
  16: { gguf: 'bf16', head: 'bf16', ours: { bf16: { dtype: 'bf16' } } },
  8: {
    gguf: 'q8_0',
    head: 'q8_0',
    ours: { int8: { dtype: 'bf16', weightDtype: 'int8' }, fp8: { dtype: 'bf16', weightDtype: 'fp8' } },
  },
  4: { gguf: 'q4_0', head: 'q8_0', ours: { int4: { dtype: 'bf16', weightDtype: 'int4' } } },
};
