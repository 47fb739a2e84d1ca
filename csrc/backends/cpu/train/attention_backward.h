// Gradients of causal attention. A piece is a KV head of a sequence: its K and V are read from the pages once, its
// query heads are walked in ascending order and their rows in blocks, and the gradients of K and V are summed in
// scratch; so every sum has one order. For a block of queries, the scores of all its keys exist at once, in panels of
// kKeys keys: three passes over them make scores, probabilities, and all gradients.
#pragma once

#include "backends/cpu/cache_layout.h"
#include "backends/cpu/simd/vec.h"
#include "backends/cpu/simd/visit_float.h"
#include "backends/cpu/train/product_tile.h"
#include "backends/cpu/train_kernels.h"
#include "backends/cpu/whole_sequences.h"

namespace swiftkv::cpu::train {

// Queries of a block and keys of a panel. They are equal, so that only a block's last panel crosses the diagonal.
inline constexpr int64_t kKeys = 32;
inline constexpr int64_t kTile = kKeys * kKeys;

static constexpr int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

// What a worker keeps of its piece. Rows are padded with zeros to `width`, keys to whole panels.
struct AttentionScratch {
  int64_t width;
  float* k;          // [keys, width]
  float* k_columns;  // [panels, hd, kKeys]
  float* v_columns;  // [panels, hd, kKeys]
  float* dk;         // [keys, width]
  float* dv;         // [keys, width]
  float* scores;     // [panels, kKeys queries, kKeys]: scores, then probabilities
  float* q;          // [kKeys, width]: of a block of queries
  float* dout;       // [kKeys, width]
  float* dq;         // [kKeys, width]
  float* dscores;    // [kKeys queries, kKeys]: of one panel
};

template <class V>
static size_t attention_scratch_floats(const AttentionBackwardParams& p) {
  const int64_t keys = round_up(p.half.rows, kKeys), hd = p.cache.head_dim;
  const int64_t width = round_up(hd, ProductTile<V>::kColumns);
  return static_cast<size_t>(keys * (3 * width + 2 * hd + kKeys) + 3 * kKeys * width + kTile);
}

template <class V>
static size_t attention_backward_scratch(const AttentionBackwardParams& p, int threads) {
  return static_cast<size_t>(threads) * attention_scratch_floats<V>(p) * sizeof(float);
}

template <class V>
static AttentionScratch attention_scratch(const AttentionBackwardParams& p, const Context& c, int worker,
                                          int64_t length) {
  const int64_t keys = round_up(length, kKeys), hd = p.cache.head_dim;
  AttentionScratch s;
  s.width = round_up(hd, ProductTile<V>::kColumns);
  s.k = reinterpret_cast<float*>(c.scratch) + static_cast<size_t>(worker) * attention_scratch_floats<V>(p);
  s.k_columns = s.k + keys * s.width;
  s.v_columns = s.k_columns + keys * hd;
  s.dk = s.v_columns + keys * hd;
  s.dv = s.dk + keys * s.width;
  s.scores = s.dv + keys * s.width;
  s.q = s.scores + keys * kKeys;
  s.dout = s.q + kKeys * s.width;
  s.dq = s.dout + kKeys * s.width;
  s.dscores = s.dq + kKeys * s.width;
  return s;
}

// Rows of hd elements, `stride` apart, to `count` rows of `width` floats, of which those from `rows` on are zero.
template <class V, class T>
static void load_rows(const T* from, int64_t stride, int64_t rows, int64_t hd, int64_t count, int64_t width,
                      float* to) {
  using F32 = typename V::F32;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; i += V::kLanes)
      simd::store<V>(to + r * width + i, i < hd ? simd::load_first<V>(from + r * stride + i, hd - i) : F32{});
  for (int64_t i = rows * width; i < count * width; i += V::kLanes) simd::store<V>(to + i, F32{});
}

// columns[i][key] = rows[key][i]
static inline void transpose_panel(const float* rows, int64_t width, int64_t hd, float* columns) {
  for (int64_t i = 0; i < hd; ++i)
    for (int64_t key = 0; key < kKeys; ++key) columns[i * kKeys + key] = rows[key * width + i];
}

// K and V of one head out of its pages. Slots behind the keys are never read: they may hold anything.
template <class V, class T>
static void gather_keys(const KvCache& cache, const int32_t* blocks, int64_t head, int64_t length,
                        const AttentionScratch& s) {
  static_assert(kKeys % kBlockTokens == 0);
  const int64_t hd = cache.head_dim;
  float* const v = s.dv;  // rows of one panel, before dv begins
  for (int64_t first = 0; first < length; first += kKeys) {
    float* const k = s.k + first * s.width;
    for (int64_t i = 0; i < kKeys; i += kBlockTokens) {
      const int64_t left = length - first - i, rows = left < 0 ? 0 : left < kBlockTokens ? left : kBlockTokens;
      const HeadBlock block = rows > 0 ? head_block(cache, blocks[(first + i) / kBlockTokens], head) : HeadBlock{};
      const auto load = [&](const std::byte* from, float* to) {
        load_rows<V>(reinterpret_cast<const T*>(from), hd, rows, hd, kBlockTokens, s.width, to + i * s.width);
      };
      load(block.k, k);
      load(block.v, v);
    }
    transpose_panel(k, s.width, hd, s.k_columns + first * hd);
    transpose_panel(v, s.width, hd, s.v_columns + first * hd);
  }
}

// Up to kKeys query rows of one head. They see keys of `panels` panels: all of those before the last, and row r of the
// block keys 0 .. r of that.
struct QueryBlock {
  int64_t rows, panels;
  float means[kKeys];    // dout o of each row: the mean of dout v over its probabilities
  float inverse[kKeys];  // 1 / the sum of a row's exponentials
};

// tile(r, column) for every tile of a product of `rows` rows (padded to whole tiles) and `columns` columns.
template <class V, class F>
[[gnu::always_inline]] static inline void for_tiles(int64_t rows, int64_t columns, F&& tile) {
  using Tile = ProductTile<V>;
  for (int64_t column = 0; column < columns; column += Tile::kColumns)
    for (int64_t r = 0; r < rows; r += Tile::kRows) tile(r, column);
}

// Scores of the block, and exponentials of those less their row's maximum.
template <class V>
static void exponentials(const AttentionScratch& s, int64_t hd, float scale, QueryBlock& block) {
  using Tile = ProductTile<V>;
  using F32 = typename V::F32;
  for (int64_t panel = 0; panel < block.panels; ++panel) {
    float* const scores = s.scores + panel * kTile;
    for_tiles<V>(block.rows, kKeys, [&](int64_t r, int64_t column) {
      Tile t;
      t.clear();
      t.add(s.q + r * s.width, s.width, 1, s.k_columns + panel * kKeys * hd + column, kKeys, hd);
      t.scale(scale);
      t.store(scores + r * kKeys + column, kKeys);
    });
  }
  float* const diagonal = s.scores + (block.panels - 1) * kTile;
  for (int64_t r = 0; r < block.rows; ++r)
    for (int64_t key = r + 1; key < kKeys; ++key) diagonal[r * kKeys + key] = -__builtin_inff();
  for (int64_t r = 0; r < block.rows; ++r) {
    float* const row = s.scores + r * kKeys;
    F32 most = simd::set<V>(-__builtin_inff());
    for (int64_t panel = 0; panel < block.panels; ++panel)
      for (int64_t i = 0; i < kKeys; i += V::kLanes) {
        const F32 x = simd::load<V>(row + panel * kTile + i);
        most = x > most ? x : most;
      }
    const F32 max = simd::set<V>(simd::max_lanes<V>(most));
    F32 sum{};
    for (int64_t panel = 0; panel < block.panels; ++panel)
      for (int64_t i = 0; i < kKeys; i += V::kLanes) {
        const F32 e = simd::exp_lanes<V>(simd::load<V>(row + panel * kTile + i) - max);
        simd::store<V>(row + panel * kTile + i, e);
        sum += e;
      }
    block.inverse[r] = 1.0f / simd::sum_lanes<V>(sum);
  }
}

// Exponentials of a panel become probabilities, and dscores = probabilities (dout v - mean) scale.
template <class V>
static void score_gradients(const AttentionScratch& s, int64_t hd, float scale, const QueryBlock& block,
                            int64_t panel) {
  using Tile = ProductTile<V>;
  for_tiles<V>(block.rows, kKeys, [&](int64_t r, int64_t column) {
    Tile t;
    t.clear();
    t.add(s.dout + r * s.width, s.width, 1, s.v_columns + panel * kKeys * hd + column, kKeys, hd);
    float* const scores = s.scores + panel * kTile + r * kKeys + column;
    float* const dscores = s.dscores + r * kKeys + column;
#pragma GCC unroll 8
    for (int i = 0; i < Tile::kRows; ++i) {
      const float mean = block.means[r + i], inverse = block.inverse[r + i];
#pragma GCC unroll 4
      for (int v = 0; v < Tile::kVectors; ++v) {
        const int64_t at = i * kKeys + v * V::kLanes;
        const typename V::F32 probability = simd::load<V>(scores + at) * inverse;
        simd::store<V>(scores + at, probability);
        simd::store<V>(dscores + at, probability * (t.sums[i][v] - mean) * scale);
      }
    }
  });
}

// dv += probabilities^T dout, dk += dscores^T q, dq += dscores k, of one panel.
template <class V>
static void add_gradients(const AttentionScratch& s, const QueryBlock& block, int64_t panel) {
  using Tile = ProductTile<V>;
  const bool diagonal = panel == block.panels - 1;
  const int64_t at = panel * kKeys * s.width;
  const float* const probabilities = s.scores + panel * kTile;
  for_tiles<V>(kKeys, s.width, [&](int64_t key, int64_t column) {
    // On the diagonal, rows before the key do not see it.
    const int64_t r = diagonal ? key : 0;
    if (r >= block.rows) return;
    const auto add = [&](const float* weights, const float* rows, float* sums) {
      Tile t;
      t.load(sums + at + key * s.width + column, s.width);
      t.add(weights + r * kKeys + key, 1, kKeys, rows + r * s.width + column, s.width, block.rows - r);
      t.store(sums + at + key * s.width + column, s.width);
    };
    add(probabilities, s.dout, s.dv);
    add(s.dscores, s.q, s.dk);
  });
  for_tiles<V>(block.rows, s.width, [&](int64_t r, int64_t column) {
    Tile t;
    t.load(s.dq + r * s.width + column, s.width);
    const int64_t keys = diagonal ? r + Tile::kRows : kKeys;
    t.add(s.dscores + r * kKeys, kKeys, 1, s.k + at + column, s.width, keys);
    t.store(s.dq + r * s.width + column, s.width);
  });
}

// A head's rows of the block: q and dout in scratch, and their means. Rows from block.rows on are zero.
template <class V, class Q, class O>
static void load_queries(const Q* q, const O* o, const float* dout, int64_t stride, int64_t hd,
                         const AttentionScratch& s, QueryBlock& block) {
  using F32 = typename V::F32;
  load_rows<V>(q, stride, block.rows, hd, kKeys, s.width, s.q);
  load_rows<V>(dout, stride, block.rows, hd, kKeys, s.width, s.dout);
  for (int64_t r = 0; r < block.rows; ++r) {
    F32 sum{};
    for (int64_t i = 0; i < hd; i += V::kLanes)
      sum = V::fmadd(simd::load<V>(s.dout + r * s.width + i), simd::load_first<V>(o + r * stride + i, hd - i), sum);
    block.means[r] = simd::sum_lanes<V>(sum);
  }
  for (int64_t r = block.rows; r < kKeys; ++r) block.means[r] = block.inverse[r] = 0.0f;
  for (int64_t i = 0; i < kKeys * s.width; i += V::kLanes) simd::store<V>(s.dq + i, F32{});
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

template <class V>
static void kv_head_backward(const AttentionBackwardParams& p, int64_t b, int64_t head, const Context& c, int worker) {
  const RowsView& half = p.half;
  const int64_t hd = p.cache.head_dim, hk = p.cache.num_kv_heads, hq = p.num_heads, group = hq / hk;
  const int64_t start = half.query_start[b], length = half.query_start[b + 1] - start;
  if (length == 0) return;
  const AttentionScratch s = attention_scratch<V>(p, c, worker, length);
  simd::visit_float(p.cache.dtype, [&]<class T>(T) {
    const int32_t* blocks = half.block_tables + int64_t{half.table_row[b]} * half.table_stride;
    gather_keys<V, T>(p.cache, blocks, head, length, s);
  });
  for (int64_t i = 0; i < round_up(length, kKeys) * s.width; i += V::kLanes) {
    simd::store<V>(s.dk + i, typename V::F32{});
    simd::store<V>(s.dv + i, typename V::F32{});
  }
  for (int64_t h = head * group; h < (head + 1) * group; ++h) {
    for (int64_t first = 0; first < length; first += kKeys) {
      QueryBlock block;
      block.rows = length - first < kKeys ? length - first : kKeys;
      block.panels = first / kKeys + 1;
      const int64_t at = ((start + first) * hq + h) * hd;
      simd::visit_float(p.q.dtype, [&]<class Q>(Q) {
        simd::visit_float(p.o.dtype, [&]<class O>(O) {
          load_queries<V>(static_cast<const Q*>(p.q.data) + at, static_cast<const O*>(p.o.data) + at, p.dout + at,
                          hq * hd, hd, s, block);
        });
      });
      exponentials<V>(s, hd, p.scale, block);
      for (int64_t panel = 0; panel < block.panels; ++panel) {
        score_gradients<V>(s, hd, p.scale, block, panel);
        add_gradients<V>(s, block, panel);
      }
      write_rows<V>(s.dq, s.width, block.rows, hd, false, p.dq + at, hq * hd);
    }
  }
  float* const dkv = p.dkv + start * p.dkv_width + (2 * p.group * hk + head) * hd;
  write_rows<V>(s.dk, s.width, length, hd, p.accumulate, dkv, p.dkv_width);
  write_rows<V>(s.dv, s.width, length, hd, p.accumulate, dkv + hk * hd, p.dkv_width);
}

template <class V>
static Status attention_backward(const AttentionBackwardParams& p, const Context& c) {
  if (Status s = check_whole_sequences(p.half); !s.ok()) return s;
  const int64_t hk = p.cache.num_kv_heads;
  c.parallel_for(p.half.num_seqs * hk,
                 [&](int64_t piece, int worker) { kv_head_backward<V>(p, piece / hk, piece % hk, c, worker); });
  return {};
}

}  // namespace swiftkv::cpu::train
