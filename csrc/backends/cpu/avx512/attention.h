// One split of the keys of one sequence against some query rows of one KV head: what attention_decode and
// attention_prefill share, with the memory it needs.
#pragma once

#include "backends/cpu/attention_select.h"
#include "backends/cpu/avx512/attention_panels.h"
#include "backends/cpu/avx512/attention_rows_of_v.h"
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

// Whether q and the weights of V stay f32 against bf16 panels. An fp8 cache has 4 bits of every number: there both are
// rounded to bf16, whose error of 2^-8 is a 16th of the cache's own, and multiplied at twice the rate.
static inline bool f32_rows(const AttentionParams& p) {
  return p.cache.dtype == DType::bf16 && p.q.dtype == DType::f32;
}

// Sizes that follow from the shapes and dtypes alone.
struct AttentionShape {
  int64_t head_dim;   // hd
  int64_t group;      // query heads per KV head
  int64_t pair;       // numbers in a word of a panel
  int64_t k_steps;    // words of a key in a K panel, zeros behind the head's included
  int64_t q_words;    // words of a row of q
  int64_t columns;    // vectors of 16 outputs
  int64_t out_width;  // floats of a row of unfinished outputs
  bool rows_of_v;     // outputs are unfinished as weigh_rows has them; all rows of a piece see the same keys
};

static inline AttentionShape attention_shape(const AttentionParams& p) {
  const int64_t hd = p.cache.head_dim, columns = ceil_div(hd, 16);
  const bool f32_panels = p.cache.dtype == DType::f32;
  const int64_t numbers = p.cache.dtype == DType::fp8_e4m3 ? ceil_div(hd, 4) * 4 : hd, pair = f32_panels ? 1 : 2;
  const int64_t k_steps = numbers / pair, row_words = f32_rows(p) ? 2 : 1;
  return {.head_dim = hd,
          .group = p.num_heads / p.cache.num_kv_heads,
          .pair = pair,
          .k_steps = k_steps,
          .q_words = ceil_div(k_steps * row_words, 16) * 16,
          .columns = columns,
          .out_width = columns * 16,
          .rows_of_v = false};
}

// One worker's memory for `rows` query rows.
struct AttentionWork {
  uint32_t* q;        // [rows, q_words]
  int32_t* keys;      // [rows] keys of the split that the row sees; 0 when it is masked whole
  float* scores;      // [rows, 256] and then, in place, weights
  float* k_factor;    // [256] scale * s_k
  float* v_factor;    // [256] s_v
  uint32_t* panel;    // one panel of 64 keys, K or V
  std::byte* staged;  // 16 rows of whole vectors
};

static inline int64_t panel_words(const AttentionParams& p, const AttentionShape& s) {
  const int64_t v_words = kPanelKeys / s.pair * s.out_width;
  int64_t k_words = 0;
  switch (p.cache.dtype) {
    case DType::fp8_e4m3: k_words = k_panel_words<fp8_e4m3>(s.head_dim) * kPanelKeys; break;
    case DType::bf16: k_words = k_panel_words<bf16>(s.head_dim) * kPanelKeys; break;
    default: k_words = k_panel_words<float>(s.head_dim) * kPanelKeys;
  }
  return k_words > v_words ? k_words : v_words;
}

static inline AttentionWork take_work(Carver& c, const AttentionParams& p, const AttentionShape& s, int64_t rows) {
  AttentionWork w;
  w.q = c.take<uint32_t>(rows * s.q_words);
  w.keys = c.take<int32_t>(rows);
  w.scores = c.take<float>(rows * kAttentionSplit);
  w.k_factor = c.take<float>(kAttentionSplit);
  w.v_factor = c.take<float>(kAttentionSplit);
  w.panel = c.take<uint32_t>(panel_words(p, s));
  w.staged = c.take<std::byte>(kBlockTokens * round_up(s.head_dim * dtype_bytes(p.cache.dtype), 64));
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

// Sixteen numbers of a row of q from number i on, zeros behind its end.
static inline __m512 load_q(const Activation& q, int64_t row_start, int64_t i, int64_t hd) {
  const __mmask16 m = first_lanes(hd - i);
  return q.dtype == DType::bf16 ? load_lanes(static_cast<const bf16*>(q.data) + row_start + i, m)
                                : load_lanes(static_cast<const float*>(q.data) + row_start + i, m);
}

// The group's rows of q for one position, as the words that Dot takes against K panels of T.
template <class Dot, class T>
static inline void take_q(const AttentionParams& p, const AttentionShape& s, int64_t row, int64_t kv_head,
                          uint32_t* out) {
  for (int64_t r = 0; r < s.group; ++r, out += s.q_words) {
    const int64_t first = (row * p.num_heads + kv_head * s.group + r) * s.head_dim;
    for (int64_t i = 0; i < s.head_dim; i += 16) {
      const __m512 v = load_q(p.q, first, i, s.head_dim);
      if constexpr (Dot::kWords == Dot::kPair) {
        _mm512_storeu_ps(out + i, v);
      } else {
        __m256i words = narrow_bf16(v);
        if constexpr (sizeof(T) == 1) words = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xd8), 0xd8);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i / 2), words);
      }
    }
  }
}

template <class Dot, class T>
class SplitAttention {
 public:
  SplitAttention(const AttentionParams& p, const AttentionShape& s, const AttentionWork& w) : p_(p), s_(s), w_(w) {}

  // Fetches what run() reads first; for a split that no run() before it named as next.
  void begin(const SplitKeys& keys) const {
    Parts parts = parts_of(keys, keys);
    parts.fetched = 0;
    fetch_until(parts, least(kAhead, parts.blocks));
  }

  // For each of `rows` rows: state and out [rows, out_width] from the first w.keys[row] keys of the split. Rows that
  // see none get no state. The first pages of `next` (the same split where there is none) are fetched on the way.
  void run(const SplitKeys& keys, const SplitKeys& next, int64_t rows, SoftmaxState* states, float* out) const {
    Parts parts = parts_of(keys, next);
    const int64_t blocks = parts.blocks;
    take_factors(keys, blocks);
    for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
      const int64_t end = least(first + kPanelBlocks, blocks);
      for (int64_t i = first; i < end; ++i) {
        const std::byte* k = part(parts, i);
        pack_k(reinterpret_cast<const T*>(k), s_.head_dim, w_.staged, w_.panel + (i - first) * kBlockTokens,
               i - first < kFetchedByPacking ? next_fetch(parts) : k);
      }
      for (int64_t r = 0; r < rows; r += kTileRows)
        score(r, least(kTileRows, rows - r), first * kBlockTokens, r == 0 ? &parts : nullptr);
    }
    for (int64_t r = 0; r < rows; r += kSoftmaxRows) {
      softmax_rows<Dot>(w_.scores + r * kAttentionSplit, w_.k_factor, w_.v_factor, w_.keys + r,
                        least(kSoftmaxRows, rows - r), states + r);
    }
    if (s_.rows_of_v) {
      weigh_pages(rows, out, parts);
    } else {
      for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
        const int64_t end = least(first + kPanelBlocks, blocks);
        for (int64_t i = first; i < end; ++i) {
          const std::byte* v = part(parts, blocks + i);
          pack_v(reinterpret_cast<const T*>(v), s_.head_dim, s_.out_width,
                 w_.panel + (i - first) * (kBlockTokens / Dot::kPair) * s_.out_width,
                 i - first < kFetchedByPacking ? next_fetch(parts) : v);
        }
        for (int64_t r = 0; r < rows; r += kTileRows)
          weigh(r, least(kTileRows, rows - r), first * kBlockTokens, out + r * s_.out_width, r == 0 ? &parts : nullptr);
      }
    }
    fetch_until(parts, parts.end());
  }

 private:
  // Parts in the order in which run() reads them: K of every block, V of every block, then K of the next split.
  // Memory is fetched in that order, kAhead parts ahead. Packing a panel asks for the first parts of the next one, the
  // product with it for the last two, so that reading never stops.
  static constexpr int64_t kAhead = kPanelBlocks;
  static constexpr int64_t kFetchedByPacking = 2;

  struct Parts {
    const SplitKeys& keys;
    const SplitKeys& next;
    int64_t blocks, next_blocks;
    int64_t fetched;

    int64_t end() const { return 2 * blocks + least(kAhead, next_blocks); }
  };

  static Parts parts_of(const SplitKeys& keys, const SplitKeys& next) {
    const int64_t blocks = ceil_div(keys.keys, kBlockTokens);
    return {keys, next, blocks, ceil_div(next.keys, kBlockTokens), least(kAhead, blocks)};
  }

  const std::byte* part(const Parts& p, int64_t i) const {
    if (i < p.blocks) return head_block(p_.cache, p.keys.blocks[i], p.keys.kv_head).k;
    if (i < 2 * p.blocks) return head_block(p_.cache, p.keys.blocks[i - p.blocks], p.keys.kv_head).v;
    return head_block(p_.cache, p.next.blocks[i - 2 * p.blocks], p.next.kv_head).k;
  }

  int64_t part_bytes() const { return kBlockTokens * s_.head_dim * static_cast<int64_t>(sizeof(T)); }

  // The next part to fetch; behind the end, the last one again.
  const std::byte* next_fetch(Parts& p) const {
    if (p.fetched == p.end()) return part(p, p.fetched - 1);
    return part(p, p.fetched++);
  }

  void fetch_until(Parts& p, int64_t end) const {
    while (p.fetched < end) {
      const std::byte* from = next_fetch(p);
      for (int64_t at = 0; at < part_bytes(); at += 64) prefetch_line(from + at);
    }
  }

  // Lets a product fetch two parts.
  void fetch_during(Product& p, int64_t columns, Parts* parts) const {
    if (parts == nullptr || p.steps == 0) return;
    for (const std::byte*& fetch : p.fetch) fetch = next_fetch(*parts);
    p.fetch_step = ceil_div(part_bytes(), p.steps * strips(columns));
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
  void score(int64_t row, int64_t rows, int64_t begin, Parts* parts) const {
    int64_t keys = 0;
    for (int64_t r = row; r < row + rows; ++r) keys = w_.keys[r] > keys ? w_.keys[r] : keys;
    if (keys <= begin) return;
    const int64_t columns = ceil_div(least(keys - begin, kPanelKeys), 16);
    Product p{.a = w_.q + row * s_.q_words,
              .a_stride = s_.q_words,
              .b = w_.panel,
              .b_stride = kPanelKeys,
              .out = w_.scores + row * kAttentionSplit + begin,
              .out_stride = kAttentionSplit,
              .steps = s_.k_steps,
              .add = false};
    fetch_during(p, columns, parts);
    multiply<Dot>(rows, columns, p);
  }

  // Adds the panel's V, weighted, to a tile of outputs (the first panel starts them). A row takes its own keys and not
  // one more, not even with weight 0: a later key may hold anything.
  void weigh(int64_t row, int64_t rows, int64_t begin, float* out, Parts* parts) const {
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
    fetch_during(p, s_.columns, parts);
    if (p.steps > 0 || !p.add) multiply<Dot>(rows, s_.columns, p);
    p.b += p.steps * p.b_stride;
    p.add = true;
    p.fetch_step = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t rest = seen(row + r, begin) - shared;
      p.a = weights + r * kAttentionSplit + row_words<Dot>(begin + shared);
      p.out = out + r * s_.out_width;
      p.steps = rest / Dot::kPair;
      if (p.steps > 0) multiply<Dot>(1, s_.columns, p);
      if (rest % Dot::kPair != 0) weigh_one(p.a + p.steps * Dot::kWords, p.b + p.steps * p.b_stride, p.out);
    }
  }

  void weigh_pages(int64_t rows, float* out, Parts& parts) const {
    constexpr int64_t kBlocks = kAttentionSplit / kBlockTokens;
    const std::byte *v[kBlocks], *fetch[kBlocks];
    for (int64_t i = 0; i < parts.blocks; ++i) {
      v[i] = part(parts, parts.blocks + i);
      fetch[i] = next_fetch(parts);
    }
    weigh_rows(rows, s_.columns,
               {.weights = w_.scores,
                .v = v,
                .fetch = fetch,
                .fetch_apart = part_bytes() / 2,
                .keys = parts.keys.keys,
                .row_bytes = s_.head_dim * static_cast<int64_t>(sizeof(T)),
                .out = out,
                .out_stride = s_.out_width});
  }

  int64_t seen(int64_t row, int64_t begin) const {
    const int64_t keys = w_.keys[row] - begin;
    return keys < 0 ? 0 : least(keys, kPanelKeys);
  }

  // The first key of a pair whose second the row does not see.
  void weigh_one(const uint32_t* weight, const uint32_t* pairs, float* out) const {
    for (int64_t c = 0; c < s_.columns; ++c) {
      alignas(64) uint32_t first[16];
      _mm512_store_si512(first, _mm512_and_si512(_mm512_loadu_si512(pairs + 16 * c), _mm512_set1_epi32(0xffff)));
      __m512 sum = _mm512_loadu_ps(out + 16 * c);
      for (int w = 0; w < Dot::kWords; ++w)
        sum = Dot::step(sum, _mm512_set1_epi32(static_cast<int32_t>(weight[w])), Dot::column(first, 0, w));
      _mm512_storeu_ps(out + 16 * c, sum);
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
  switch (p.cache.dtype) {
    case DType::fp8_e4m3: return f(DotBf16{}, fp8_e4m3{});
    case DType::bf16: return f32_rows(p) ? f(DotMixed{}, bf16{}) : f(DotBf16{}, bf16{});
    default: return f(DotF32{}, float{});
  }
}

}  // namespace swiftkv::cpu::avx512
