// What a worker of attention_backward keeps of its piece, and how it gets there: K and V out of the pages, q and dout
// out of the rows. Operands of products lie in units along the dimension that is summed (product_tile.h): `rows` have
// them along the head or the keys, `columns` too but keys beside each other, `pairs` along queries or keys. In f32 a
// unit is an element, so rows serve as pairs.
#pragma once

#include "backends/cpu/cache_layout.h"
#include "backends/cpu/simd/vec.h"
#include "backends/cpu/train/product_tile.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

// Queries of a block and keys of a panel. They are equal, so that only a block's last panel crosses the diagonal.
inline constexpr int64_t kKeys = 32;
inline constexpr int64_t kTile = kKeys * kKeys;

static constexpr int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

// Sizes are in floats. Rows are padded with zeros to `width`, keys to whole panels.
struct AttentionScratch {
  int64_t width;
  float* k_pairs;        // [keys / elements, width]
  float* k_columns;      // [panels, hd / elements, kKeys]
  float* v_columns;      // [panels, hd / elements, kKeys]
  float* dk;             // [keys, width]
  float* dv;             // [keys, width]
  float* scores;         // [panels, kKeys queries, kKeys]: then exponentials of them
  float* q;              // [kKeys, width / elements]: rows of a block of queries
  float* q_pairs;        // [kKeys / elements, width]
  float* dout;           // [kKeys, width / elements]
  float* dout_pairs;     // [kKeys / elements, width]
  float* dq;             // [kKeys, width]
  float* probabilities;  // [kKeys queries, kKeys / elements] of one panel
  float* dscores;        // [kKeys queries, kKeys / elements]
  float* pairs;          // [kKeys / elements, kKeys]: of probabilities, then of dscores
};

template <class Units>
static int64_t scratch_width(const AttentionBackwardParams& p) {
  return round_up(p.cache.head_dim, ProductTile<Units>::kColumns);
}

// Enough for either kind of units.
template <class Units>
static size_t attention_scratch_floats(const AttentionBackwardParams& p) {
  const int64_t keys = round_up(p.half.rows, kKeys), hd = p.cache.head_dim, width = scratch_width<Units>(p);
  return static_cast<size_t>(keys * (3 * width + 2 * hd + kKeys) + 5 * kKeys * width + 3 * kTile);
}

template <class Units>
static AttentionScratch attention_scratch(const AttentionBackwardParams& p, const Context& c, int worker,
                                          int64_t length) {
  const int64_t keys = round_up(length, kKeys), hd = p.cache.head_dim, width = scratch_width<Units>(p);
  float* next = reinterpret_cast<float*>(c.scratch) + static_cast<size_t>(worker) * attention_scratch_floats<Units>(p);
  const auto take = [&](int64_t floats) {
    float* const start = next;
    next += floats;
    return start;
  };
  AttentionScratch s;
  s.width = width;
  s.k_pairs = take(keys * width);
  s.k_columns = take(keys * hd);
  s.v_columns = take(keys * hd);
  s.dk = take(keys * width);
  s.dv = take(keys * width);
  s.scores = take(keys * kKeys);
  s.q = take(kKeys * width);
  s.q_pairs = take(kKeys * width);
  s.dout = take(kKeys * width);
  s.dout_pairs = take(kKeys * width);
  s.dq = take(kKeys * width);
  s.probabilities = take(kTile);
  s.dscores = take(kTile);
  s.pairs = take(kTile);
  return s;
}

// Rows of hd elements, `stride` apart, to `count` rows of `width` elements, of which those from `rows` on are zero.
template <class Units, class T>
static void load_rows(const T* from, int64_t stride, int64_t rows, int64_t hd, int64_t count, int64_t width,
                      typename Units::Element* to) {
  using V = typename Units::Vec;
  using F32 = typename V::F32;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; i += V::kLanes)
      Units::store(to + r * width + i, i < hd ? simd::load_first<V>(from + r * stride + i, hd - i) : F32{});
  for (int64_t i = rows * width; i < count * width; i += V::kLanes) Units::store(to + i, F32{});
}

// kKeys rows of `width` elements as pairs, in `to`. In f32 they are that already.
template <class Units>
static float* to_pairs(float* rows, int64_t width, float* to) {
  if constexpr (Units::kElements == 1) return rows;
  for (int64_t r = 0; r < kKeys; r += 2) {
    const auto* even = reinterpret_cast<const bf16*>(rows) + r * width;
    auto* out = reinterpret_cast<uint32_t*>(to) + r / 2 * width;
    for (int64_t i = 0; i < width; ++i) out[i] = even[i].bits | uint32_t{even[width + i].bits} << 16;
  }
  return to;
}

// columns[i][key] = rows[key][i]
static inline void transpose_panel(const float* rows, int64_t row_units, int64_t units, float* columns) {
  for (int64_t i = 0; i < units; ++i)
    for (int64_t key = 0; key < kKeys; ++key) columns[i * kKeys + key] = rows[key * row_units + i];
}

// K and V of one head out of its pages. Slots behind the keys are never read: they may hold anything.
template <class Units, class T>
static void gather_keys(const KvCache& cache, const int32_t* blocks, int64_t head, int64_t length,
                        const AttentionScratch& s) {
  using Element = typename Units::Element;
  static_assert(kKeys % kBlockTokens == 0);
  const int64_t hd = cache.head_dim, units = hd / Units::kElements, row_units = s.width / Units::kElements;
  for (int64_t first = 0; first < length; first += kKeys) {
    float* const pairs = s.k_pairs + first * row_units;
    float* const k = Units::kElements == 1 ? pairs : s.q;
    for (int64_t i = 0; i < kKeys; i += kBlockTokens) {
      const int64_t left = length - first - i, rows = left < 0 ? 0 : left < kBlockTokens ? left : kBlockTokens;
      const HeadBlock block = rows > 0 ? head_block(cache, blocks[(first + i) / kBlockTokens], head) : HeadBlock{};
      const auto load = [&](const std::byte* from, float* to) {
        load_rows<Units>(reinterpret_cast<const T*>(from), hd, rows, hd, kBlockTokens, s.width,
                         reinterpret_cast<Element*>(to) + i * s.width);
      };
      load(block.k, k);
      load(block.v, s.dout);
    }
    to_pairs<Units>(k, s.width, pairs);
    transpose_panel(k, row_units, units, s.k_columns + first * units);
    transpose_panel(s.dout, row_units, units, s.v_columns + first * units);
  }
}

// `rows` rows of sums to where they belong.
template <class V>
static void write_rows(const float* sums, int64_t width, int64_t rows, int64_t hd, bool accumulate, float* to,
                       int64_t stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < hd; i += V::kLanes) {
      float* const out = to + r * stride + i;
      const typename V::F32 sum = simd::load<V>(sums + r * width + i);
      simd::store_first<V>(out, hd - i, accumulate ? simd::load_first<V>(out, hd - i) + sum : sum);
    }
}

}  // namespace swiftkv::cpu::train
