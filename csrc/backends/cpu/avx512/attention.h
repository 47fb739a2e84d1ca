// One split of the keys of one sequence against some query rows of one KV head: what attention_decode and
// attention_prefill share, with the memory it needs.
#pragma once

#include "backends/cpu/attention_select.h"
#include "backends/cpu/avx512/attention_panels.h"
#include "backends/cpu/avx512/attention_tile.h"
#include "backends/cpu/kernels.h"

namespace swiftkv::cpu::avx512 {

static inline int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Takes consecutive, cache-line aligned pieces of a byte range; without a base it only counts.
struct Carver {
  std::byte* base;
  size_t used = 0;

  template <class T>
  T* take(int64_t count) {
    T* const p = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

// Sizes that follow from the shapes and dtypes alone.
struct AttentionShape {
  int64_t head_dim;   // hd
  int64_t group;      // query heads per KV head
  int64_t pair;       // numbers in a word of a panel
  int64_t q_words;    // words of a row of q
  int64_t columns;    // vectors of 16 outputs
  int64_t out_width;  // floats of a row of unfinished outputs
};

static inline AttentionShape attention_shape(const AttentionParams& p) {
  const int64_t hd = p.cache.head_dim;
  const int64_t columns = ceil_div(hd, 16);
  const bool f32_panels = p.cache.dtype == DType::f32;
  const bool bf16_rows = p.q.dtype == DType::bf16 && !f32_panels;
  return {hd, p.num_heads / p.cache.num_kv_heads, f32_panels ? 1 : 2, bf16_rows ? hd / 2 : hd, columns, columns * 16};
}

// One worker's memory for `rows` query rows.
struct AttentionWork {
  uint32_t* q;       // [rows, q_words]
  int32_t* keys;     // [rows] keys of the split that the row sees; 0 when it is masked whole
  float* scores;     // [rows, 256] and then, in place, weights
  float* k_factor;   // [256] scale * s_k
  float* v_factor;   // [256] s_v
  uint32_t* panel;   // one panel of 64 keys, K or V
  uint32_t* staged;  // 16 rows of whole vectors
};

static inline AttentionWork take_work(Carver& c, const AttentionShape& s, int64_t rows) {
  const int64_t key_words = s.head_dim / s.pair;
  const int64_t k_panel = ceil_div(key_words, 4) * 4 * kPanelKeys;
  const int64_t v_panel = kPanelKeys / s.pair * s.out_width;
  AttentionWork w;
  w.q = c.take<uint32_t>(rows * s.q_words);
  w.keys = c.take<int32_t>(rows);
  w.scores = c.take<float>(rows * kAttentionSplit);
  w.k_factor = c.take<float>(kAttentionSplit);
  w.v_factor = c.take<float>(kAttentionSplit);
  w.panel = c.take<uint32_t>(k_panel > v_panel ? k_panel : v_panel);
  w.staged = c.take<uint32_t>(kBlockTokens * ceil_div(key_words, 16) * 16);
  return w;
}

// Where a piece of work reads: one KV head of the blocks of one split.
struct SplitKeys {
  const int32_t* blocks;  // [ceil(keys / 16)]
  int64_t keys;           // the most that any row sees, 1..256
  int64_t kv_head;
};

static inline SplitKeys split_keys(const RowsView& half, int64_t sequence, int64_t split, int64_t last_position,
                                   int64_t kv_head) {
  const int64_t begin = split * kAttentionSplit;
  const int32_t* blocks = half.block_tables + int64_t{half.table_row[sequence]} * half.table_stride;
  return {blocks + begin / kBlockTokens, least(last_position + 1 - begin, kAttentionSplit), kv_head};
}

// Copies the group's rows of q for one position, as the words that Dot takes.
template <class Dot>
static inline void take_q(const AttentionParams& p, const AttentionShape& s, int64_t row, int64_t kv_head,
                          uint32_t* out) {
  const int64_t first = (row * p.num_heads + kv_head * s.group) * s.head_dim, count = s.group * s.head_dim;
  if (p.q.dtype == DType::f32) {
    __builtin_memcpy(out, static_cast<const float*>(p.q.data) + first, static_cast<size_t>(count) * sizeof(float));
  } else if constexpr (Dot::kWords < Dot::kPair) {
    __builtin_memcpy(out, static_cast<const bf16*>(p.q.data) + first, static_cast<size_t>(count) * sizeof(bf16));
  } else {
    const bf16* from = static_cast<const bf16*>(p.q.data) + first;
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 m = first_lanes(count - i);
      _mm512_mask_storeu_ps(out + i, m, load_lanes(from + i, m));
    }
  }
}

// Fetches one part (K or V) of a block ahead of its use: block tables hide the order of pages from the hardware.
static inline void prefetch_part(const std::byte* part, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(part + i), _MM_HINT_T0);
}

inline constexpr int64_t kPrefetchBlocks = 3;  // measured on Zen 5: decode gains up to 3, nothing beyond

template <class Dot, class T>
class SplitAttention {
 public:
  SplitAttention(const AttentionParams& p, const AttentionShape& s, const AttentionWork& w) : p_(p), s_(s), w_(w) {}

  // For each of `rows` rows: state and out [rows, out_width] from the first w.keys[row] keys of the split. Rows that
  // see none get no state.
  void run(const SplitKeys& keys, int64_t rows, SoftmaxState* states, float* out) const {
    const int64_t blocks = ceil_div(keys.keys, kBlockTokens);
    for (int64_t i = 0; i < least(kPrefetchBlocks, blocks); ++i) prefetch(keys, i, blocks);
    take_factors(keys, blocks);
    for (int64_t begin = 0; begin < keys.keys; begin += kPanelKeys) {
      for (int64_t i = begin / kBlockTokens; i < least(begin / kBlockTokens + kPanelBlocks, blocks); ++i) {
        prefetch(keys, i + kPrefetchBlocks, blocks);
        const HeadBlock b = head_block(p_.cache, keys.blocks[i], keys.kv_head);
        pack_k(reinterpret_cast<const T*>(b.k), s_.head_dim, w_.staged, w_.panel + i * kBlockTokens - begin);
      }
      for (int64_t r = 0; r < rows; r += kTileRows) score(r, least(kTileRows, rows - r), begin);
    }
    for (int64_t r = 0; r < rows; ++r) {
      if (w_.keys[r] > 0)
        states[r] = softmax_split<Dot>(w_.scores + r * kAttentionSplit, w_.k_factor, w_.v_factor, w_.keys[r]);
    }
    constexpr int64_t kBlockSteps = kBlockTokens / Dot::kPair;
    for (int64_t begin = 0; begin < keys.keys; begin += kPanelKeys) {
      const int64_t first = begin / kBlockTokens;
      for (int64_t i = first; i < least(first + kPanelBlocks, blocks); ++i) {
        prefetch(keys, blocks + i + kPrefetchBlocks, blocks);
        const HeadBlock b = head_block(p_.cache, keys.blocks[i], keys.kv_head);
        pack_v(reinterpret_cast<const T*>(b.v), s_.head_dim, s_.out_width,
               w_.panel + (i - first) * kBlockSteps * s_.out_width);
      }
      for (int64_t r = 0; r < rows; r += kTileRows) weigh(r, least(kTileRows, rows - r), begin, out + r * s_.out_width);
    }
  }

 private:
  // Parts in the order in which run() walks them: K of every block, then V of every block.
  void prefetch(const SplitKeys& keys, int64_t part, int64_t blocks) const {
    if (part >= 2 * blocks) return;
    const bool is_v = part >= blocks;
    const HeadBlock b = head_block(p_.cache, keys.blocks[is_v ? part - blocks : part], keys.kv_head);
    prefetch_part(is_v ? b.v : b.k, kBlockTokens * s_.head_dim * static_cast<int64_t>(sizeof(T)));
  }

  void take_factors(const SplitKeys& keys, int64_t blocks) const {
    for (int64_t i = 0; i < blocks; ++i) {
      const HeadBlock b = head_block(p_.cache, keys.blocks[i], keys.kv_head);
      __m512 k, v;
      if (b.k_scale != nullptr) {
        k = _mm512_loadu_ps(b.k_scale);
        v = _mm512_loadu_ps(b.v_scale);
      } else {
        k = _mm512_set1_ps(stored_k_scale(p_.cache, b, keys.kv_head, 0));
        v = _mm512_set1_ps(stored_v_scale(p_.cache, b, keys.kv_head, 0));
      }
      _mm512_storeu_ps(w_.k_factor + i * kBlockTokens, _mm512_mul_ps(k, _mm512_set1_ps(p_.scale)));
      _mm512_storeu_ps(w_.v_factor + i * kBlockTokens, v);
    }
  }

  // Raw scores of a tile of rows with the panel of keys from `begin` on, as far as any row of the tile sees.
  void score(int64_t row, int64_t rows, int64_t begin) const {
    int64_t keys = 0;
    for (int64_t r = row; r < row + rows; ++r) keys = w_.keys[r] > keys ? w_.keys[r] : keys;
    if (keys <= begin) return;
    multiply<Dot>(rows, ceil_div(least(keys - begin, kPanelKeys), 16),
                  Product{.a = w_.q + row * s_.q_words,
                          .a_stride = s_.q_words,
                          .b = w_.panel,
                          .b_stride = kPanelKeys,
                          .out = w_.scores + row * kAttentionSplit + begin,
                          .out_stride = kAttentionSplit,
                          .steps = s_.head_dim / Dot::kPair,
                          .add = false});
  }

  // Adds the panel's V, weighted, to a tile of outputs (the first panel starts them). A row takes its own keys and not
  // one more, not even with weight 0: a later key may hold anything.
  void weigh(int64_t row, int64_t rows, int64_t begin, float* out) const {
    int64_t shared = kPanelKeys;
    for (int64_t r = row; r < row + rows; ++r) shared = least(shared, seen(r, begin));
    shared -= shared % Dot::kPair;
    const uint32_t* weights = reinterpret_cast<const uint32_t*>(w_.scores + row * kAttentionSplit);
    Product p{.a = weights + row_words<Dot>(begin),
              .a_stride = kAttentionSplit,
              .b = w_.panel,
              .b_stride = s_.out_width,
              .out = out,
              .out_stride = s_.out_width,
              .steps = shared / Dot::kPair,
              .add = begin > 0};
    if (p.steps > 0 || !p.add) multiply<Dot>(rows, s_.columns, p);
    p.b += p.steps * p.b_stride;
    p.add = true;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t rest = seen(row + r, begin) - shared;
      p.a = weights + r * kAttentionSplit + row_words<Dot>(begin + shared);
      p.out = out + r * s_.out_width;
      p.steps = rest / Dot::kPair;
      if (p.steps > 0) multiply<Dot>(1, s_.columns, p);
      if (rest % Dot::kPair != 0) weigh_one(p.a[p.steps * Dot::kWords], p.b + p.steps * p.b_stride, p.out);
    }
  }

  int64_t seen(int64_t row, int64_t begin) const {
    const int64_t keys = w_.keys[row] - begin;
    return keys < 0 ? 0 : least(keys, kPanelKeys);
  }

  // The first key of a pair whose second the row does not see.
  void weigh_one(uint32_t weight, const uint32_t* pairs, float* out) const {
    const __m512i word = _mm512_set1_epi32(static_cast<int32_t>(weight));
    for (int64_t c = 0; c < s_.columns; ++c) {
      const __m512i first =
          Dot::column(_mm512_and_si512(_mm512_loadu_si512(pairs + 16 * c), _mm512_set1_epi32(0xffff)), 0);
      _mm512_storeu_ps(out + 16 * c, Dot::step(_mm512_loadu_ps(out + 16 * c), word, first));
    }
  }

  const AttentionParams& p_;
  const AttentionShape& s_;
  const AttentionWork& w_;
};

// o[row, head] = out / sum for one row.
static inline void write_row(const AttentionParams& p, const AttentionShape& s, int64_t row, int64_t head,
                             const SoftmaxState& state, const float* out) {
  const __m512 inverse = _mm512_set1_ps(1.0f / state.sum);
  const int64_t first = (row * p.num_heads + head) * s.head_dim;
  for (int64_t c = 0; c < s.columns; ++c) {
    const __mmask16 m = first_lanes(s.head_dim - 16 * c);
    const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(out + 16 * c), inverse);
    if (p.o.dtype == DType::bf16)
      store_lanes(static_cast<bf16*>(p.o.data) + first + 16 * c, m, v);
    else
      store_lanes(static_cast<float*>(p.o.data) + first + 16 * c, m, v);
  }
}

// Calls f(Dot, T) with the arithmetic that belongs to q's and the cache's dtypes, and the cache's element type.
template <class F>
static inline void visit_attention(const AttentionParams& p, F&& f) {
  const bool bf16_q = p.q.dtype == DType::bf16;
  switch (p.cache.dtype) {
    case DType::fp8_e4m3: return bf16_q ? f(DotBf16{}, fp8_e4m3{}) : f(DotMixed{}, fp8_e4m3{});
    case DType::bf16: return bf16_q ? f(DotBf16{}, bf16{}) : f(DotMixed{}, bf16{});
    default: return f(DotF32{}, float{});
  }
}

}  // namespace swiftkv::cpu::avx512
