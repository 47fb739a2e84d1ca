// The op table: one params struct per op. Every pointer has its shape beside it; rows are contiguous.
// A kernel takes its struct whole and gets nothing else but a context. Values are complete and checked.
//
// Symbols: rows = rows of this call, d = model width, Hq/Hk = query/KV heads, hd = head width, ff = MLP width,
// V = vocabulary, B = sequences of the half, NB = blocks of a pool.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace swiftkv {

inline constexpr int kBlockTokens = 16;  // tokens in one block of the paged cache
// Head widths are even and at most this, so that a kernel may keep one head on its stack.
inline constexpr int kMaxHeadDim = 512;

// The values are part of the boundary with side libraries.
enum class OpKind : int32_t {
  embed,
  rms_norm,
  linear,
  qkv_rope_cache,
  q_rope,
  swiftkv_project,
  attention,
  attention_decode,
  attention_prefill,
  silu_mul,
  gather_rows,
  logprobs,
  sample,
  kv_quantize,
  kv_dequantize,
  copy_blocks,
  quantize_rows,
  rope_table,
  copy_rows,
  // Training: core/train_ops.h.
  cast_rows,
  rms_norm_backward,
  linear_backward,
  attention_backward,
  rope_backward,
  silu_mul_backward,
  distill_head,
  cross_entropy_head,
  mse,
  embed_backward,
  sum_squares,
  adamw,
  pack_weight,
  count
};
inline constexpr int kOpCount = static_cast<int>(OpKind::count);

// Activations: f32 or bf16, row-major, contiguous.
struct Activation {
  void* data;
  DType dtype;
};

enum class Layout : int32_t {
  row_major = 0,
  // Weight matrices [n, k] of the cpu backend, one layout for all ISA levels: panels of 64 outputs, the last one padded
  // with zero outputs; inside a panel, k is the slow axis.
  //   f32:        [ceil(n/64)][k][64]
  //   bf16, f16:  [ceil(n/64)][ceil(k/2)][64][2]   (pairs along k are adjacent; an odd k is padded with zero)
  //   fp8_e4m3:   [ceil(n/64)][ceil(k/2)][128] codes, then [64 ceil(n/64)] f32, a scale per output. A step's 128 codes
  //               lie in the order [2][4][2][4][2] of (32 outputs, 4 of 16, 16 of 32, 1 of 4, element of the pair), so
  //               that interleaving the bytes of a register with zeros or another register gives pairs in order
  //   int8:       [ceil(n/64)][ceil(k/4)][64][4] bytes q + 128, then scales as for fp8_e4m3; padding is 128 (q = 0)
  //   int4:       [ceil(n/64)][ceil(k/32)] groups of 32 along k: [64] f16, a scale per output, then [4][64][4] bytes;
  //               byte i of step s has q + 8 of k = 8 s + i in its low half, of 8 s + 4 + i in its high half
  panels = 1,
};
inline constexpr int kPanel = 64;

// Elements along k that share a scale: of int4 weights, and of activations that meet int8 or int4 weights.
inline constexpr int64_t kQuantGroup = 32;

// What a group or row of int8 codes counts as 0 below: its reciprocal must be a number.
inline constexpr float kQuantLeast = 0x1p-100f;

// A weight matrix W [n, k]; y = a W^T.
struct Matrix {
  const void* data;
  DType dtype;  // f32, bf16, fp8_e4m3, int8 or int4
  Layout layout;
  int64_t n, k;
};

// What one half of the model (all rows, or the surviving rows) knows of its rows. Built up front, never rewritten.
// Row i of sequence b (query_start[b] <= i < query_start[b+1]) sees keys 0..positions[i] of that sequence.
struct RowsView {
  int64_t rows;
  int32_t num_seqs;             // B
  const int32_t* positions;     // [rows]
  const int32_t* query_start;   // [B+1], ascending, query_start[0] = 0, query_start[B] = rows
  const int32_t* context_len;   // [B] keys of the sequence that exist once this step has written its own
  const int32_t* table_row;     // [B] row of block_tables that the sequence uses
  const int32_t* block_tables;  // [table rows, table_stride] block ids
  int32_t table_stride;
};

enum class KvScales : int32_t {
  none = 0,      // f32 and bf16 caches
  dynamic = 1,   // per token and head, stored in the block: s = max|x| / 448, 1 if max is 0
  per_head = 2,  // static, from a checkpoint; k_scale/v_scale [Hk] (a per-tensor scale is repeated)
};

// One distinct cache of the pool. A block is, per KV head: K[16][hd], V[16][hd] in dtype, then for dynamic scales
// k_scale[16], v_scale[16] in f32. head_bytes = that; block_bytes = Hk * head_bytes. Blocks are contiguous.
struct KvCache {
  std::byte* data;
  DType dtype;  // f32, bf16, fp8_e4m3
  KvScales scales;
  int32_t num_blocks, num_kv_heads, head_dim;
  int64_t head_bytes, block_bytes;
  const float* k_scale;  // [Hk] when scales = per_head
  const float* v_scale;  // [Hk]
};

// x[i] = f32(table[ids[i]])
struct EmbedParams {
  int64_t rows;
  const int32_t* ids;  // [rows]
  Matrix table;        // [V, d], row_major or panels (tied embeddings are stored once, as the head's panels)
  float* x;            // [rows, d]
};

// out = w * (x * rsqrt(mean(x^2) + eps)), f32 inside, one rounding
struct RmsNormParams {
  int64_t rows, dim;
  const float* x;  // [rows, dim]
  const float* w;  // [dim]
  float eps;
  Activation out;  // [rows, dim]
};

// y = a W^T + bias, or y += a W^T + bias with accumulate (y is then the f32 residual stream). Accumulation is f32.
//   bf16, f32 weights  take activations of their own dtype.
//   fp8_e4m3 weights   are widened exactly to the dtype of the activations and multiplied as those are; the finished
//   sum
//                      is multiplied by the output's scale. With fp8_activations a row becomes fp8 codes with a scale
//                      first (quantize_rows), and the sum is multiplied by that scale before the output's.
//   int8, int4 weights quantize activations of either dtype by groups of 32 along k, s = max|a| / 127 and
//                      q = round(a * (127 / max|a|)), ties to even; a group below 2^-100 is 0, one with NaN or
//                      infinity has s = NaN. Products
//                      are summed exactly within a group, then acc = fma(float(isum), s, acc), groups ascending, where
//                      int4 takes s times the weights' scale of the group. int8 multiplies by the output's scale at the
//                      end. So every level gives the same bits before bias and y.
struct LinearParams {
  int64_t rows;
  Activation a;       // [rows, k]
  Matrix w;           // [n, k]
  const float* bias;  // [n] or null
  bool accumulate;
  Activation y;                  // [rows, n]; f32 when accumulate
  bool fp8_activations = false;  // with fp8_e4m3 weights only
};

// Projects q, k, v at once, adds the bias, norms and rotates the heads of q and k, stores q and writes k, v to the
// pages. A head is normed like a row of rms_norm, in f32 and before its rotation, where there are weights for that.
struct QkvRopeCacheParams {
  int64_t rows;
  int32_t num_heads, num_kv_heads, head_dim;
  Activation a;              // [rows, d]
  Matrix w;                  // [(Hq + 2 Hk) hd, d]: q rows, then k, then v
  const float* bias;         // [(Hq + 2 Hk) hd] or null
  const float* rope;         // [max positions, hd]: cos[hd/2], then sin[hd/2]
  const int32_t* positions;  // [rows]
  const int32_t* slots;      // [rows] block * 16 + offset; -1 writes nothing
  Activation q;              // [rows, Hq, hd]
  KvCache cache;
  bool fp8_activations = false;
  const float* q_norm = nullptr;  // [hd] or null
  const float* k_norm = nullptr;  // [hd] or null
  float eps = 0.0f;               // of q_norm and k_norm
};

struct QRopeParams {
  int64_t rows;
  int32_t num_heads, head_dim;
  Activation a;       // [rows, d]
  Matrix w;           // [Hq hd, d]
  const float* bias;  // [Hq hd] or null
  const float* rope;  // [max positions, hd]
  const int32_t* positions;
  Activation q;  // [rows, Hq, hd]
  bool fp8_activations = false;
  const float* q_norm = nullptr;  // [hd] or null, as in QkvRopeCacheParams
  float eps = 0.0f;
};

// z = norm(x) once, then K and V of all later groups in one matrix product; K normed where k_norm is given, and
// rotated; both quantized and scattered. Scratch: z [rows, d] plus tiles; K and V never exist outside pages and tiles.
struct SwiftkvProjectParams {
  int64_t rows, dim;
  int32_t num_groups, num_kv_heads, head_dim;
  const float* x;     // [rows, d]
  const float* norm;  // [d]
  float eps;
  Matrix w;                  // [groups * 2 Hk hd, d]: for each group its k rows, then its v rows
  const float* bias;         // [groups * 2 Hk hd] or null
  const float* rope;         // [max positions, hd]
  const int32_t* positions;  // [rows]
  const int32_t* slots;      // [rows]
  const KvCache* caches;     // [groups]
  bool fp8_activations = false;
  bool bf16_activations = false;  // z is bf16 where the weights are fp8_e4m3; see z_dtype
  const float* k_norm = nullptr;  // [groups, hd] or null: of each group's key heads, with the same eps
};

// Of the normalised rows z. int8 and int4 weights quantize them from f32.
constexpr DType z_dtype(const SwiftkvProjectParams& p) {
  if (p.w.dtype == DType::fp8_e4m3) return p.bf16_activations ? DType::bf16 : DType::f32;
  return p.w.dtype == DType::bf16 ? DType::bf16 : DType::f32;
}

// Which sequences of a half an attention kernel takes, by their number of query rows.
enum class QuerySelect : int32_t { all = 0, one_row = 1, many_rows = 2 };

// o = softmax(q K^T / sqrt(hd)) V over the pages. attention sends sequences with one query row to attention_decode and
// the rest to attention_prefill; the bits of a row are the same in both.
struct AttentionParams {
  RowsView half;
  QuerySelect select;  // sequences with no row or not selected are passed over
  int32_t num_heads;
  Activation q;  // [rows, Hq, hd]
  KvCache cache;
  float scale;   // 1 / sqrt(hd)
  Activation o;  // [rows, Hq hd]
};

// out = silu(gate) * up
struct SiluMulParams {
  int64_t rows, ff;
  Activation gate_up;  // [rows, 2 ff]: gate, then up
  Activation out;      // [rows, ff]
};

// out[i] = x[index[i]]
struct GatherRowsParams {
  int64_t rows, dim;
  const float* x;        // [source rows, dim]
  const int32_t* index;  // [rows]
  float* out;            // [rows, dim]
};

// Log-softmax of each row, reduced: the chosen token's, its rank (tokens strictly more likely, plus 1) and the top k
// (descending, ties by lower id). A chosen id outside [0, V), such as sample's -1, gives chosen = NaN and rank = 0.
struct LogprobsParams {
  int64_t rows, vocab;
  int32_t top_k;         // 0..vocab
  const int32_t* index;  // [rows] source row of row i; null: row i itself, source rows = rows
  const float* logits;   // [source rows, V]
  const int32_t* ids;    // [source rows] chosen tokens
  float* chosen;         // [rows]
  int32_t* rank;         // [rows]
  int32_t* top_ids;      // [rows, top_k] or null when top_k = 0
  float* top_logprobs;   // [rows, top_k]
};

// The tokens that a sequence has had. A number of `counts` says how often the id is among the outputs; its top bit,
// that the prompt has it. Adjusting a row goes through the list and not through the vocabulary.
inline constexpr uint32_t kInPrompt = uint32_t{1} << 31;

// One running sequence's sampler; lives natively from admission on (SamplerTable), written only while no step reads it.
// `counts` and `seen` are the exception: `sample` adds the token that it has drawn.
struct SamplerSlot {
  float temperature;  // 0 = greedy (lowest id among equals)
  float top_p;        // 1 = off
  float min_p;        // 0 = off
  int32_t top_k;      // 0 = off
  uint64_t seed;
  uint32_t choice;  // index of the choice when n > 1
  float repetition_penalty =
      1.0f;                        // of tokens in the prompt or the outputs: positive logits divided, others multiplied
  float presence_penalty = 0.0f;   // of tokens in the outputs: subtracted once
  float frequency_penalty = 0.0f;  // of tokens in the outputs: subtracted times how often
  int32_t min_tokens = 0;          // no end id at an output position below this
  int32_t num_biases = 0, num_end_ids = 0;
  const int32_t* bias_ids = nullptr;  // [num_biases], below V
  const float* biases = nullptr;      // [num_biases] added to the logit; -inf forbids
  const int32_t* end_ids = nullptr;   // [num_end_ids], below V
  uint32_t* counts = nullptr;         // [V], or null without penalties
  int32_t* seen = nullptr;            // [1 + V]: how many ids have a count, then these ids in the order they came
};

// What `sample` answers where there is no token.
inline constexpr int32_t kNoNumbers = -1;       // the row holds NaN or +Inf, or nothing but -Inf
inline constexpr int32_t kNothingAllowed = -2;  // bitmask, biases and ending ids together leave no token of the row

// ids[i] = the next token of row i. A row is adjusted in this order: bitmask, biases, end ids before min_tokens,
// repetition penalty, frequency and presence penalty; then temperature, top-k, top-p, min-p. A forced id is taken as it
// is and reads nothing of the slot. Drawn tokens are counted when all rows are done. The random number is a function of
// (seed, choice, output position) alone.
struct SampleParams {
  int64_t rows, vocab;
  const float* logits;              // [rows, V]
  const SamplerSlot* samplers;      // [slots]
  const int32_t* slots;             // [rows]
  const int32_t* output_positions;  // [rows] index of this token among the sequence's outputs
  const int32_t* forced_ids;        // [rows] or null; -1 = draw
  const uint32_t* bitmask;          // [masks, ceil(V/32)] or null; bit set = allowed
  const int32_t* mask_rows;         // [rows] row of the bitmask, -1 = none; null: row i itself, masks = rows
  int32_t* ids;                     // [rows]
};

// Writes rows of k and v to the pages of one cache (the cache's own dtype and scales).
struct KvQuantizeParams {
  int64_t rows;
  const float* k;        // [rows, Hk, hd]
  const float* v;        // [rows, Hk, hd]
  const int32_t* slots;  // [rows]; -1 skips
  KvCache cache;
};

// Reads rows back: k[i], v[i] from slots[i].
struct KvDequantizeParams {
  int64_t rows;
  const int32_t* slots;  // [rows]
  KvCache cache;
  float* k;  // [rows, Hk, hd]
  float* v;  // [rows, Hk, hd]
};

// For every cache of the pool: block to[i] = block from[i]. One memcpy each.
struct CopyBlocksParams {
  int64_t pairs;
  const int32_t* from;    // [pairs]
  const int32_t* to;      // [pairs]
  const KvCache* caches;  // [num_caches]
  int32_t num_caches;
};

// Per row: scale = max|a| / 448 (1 if max is 0), codes = fp8(a / scale).
struct QuantizeRowsParams {
  int64_t rows, dim;
  Activation a;    // [rows, dim]
  uint8_t* codes;  // [rows, dim] e4m3
  float* scales;   // [rows]
};

// table[p] = cos(p f_i) for i < hd/2, then sin(p f_i); the angle is rounded to f32 first, as the reference does.
struct RopeTableParams {
  int64_t positions;
  int32_t head_dim;
  const float* inv_freq;  // [hd/2]
  float* table;           // [positions, hd]
};

// out = in, converted (reading an intermediate tensor back: a tap).
struct CopyRowsParams {
  int64_t rows, dim;
  Activation in;  // [rows, dim]
  float* out;     // [rows, dim]
};

}  // namespace swiftkv
