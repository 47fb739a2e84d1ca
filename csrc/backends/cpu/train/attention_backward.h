// Gradients of causal attention. A piece is a KV head of a sequence: its K and V are read from the pages once, its
// query heads are walked in ascending order and their rows in blocks, and the gradients of K and V are summed in
// scratch; so every sum has one order. For a block of queries, the scores of all its keys exist at once, in panels of
// kKeys keys: passes over them make scores, their exponentials, and all gradients.
//
// Where q and the cache are bf16 and the level multiplies pairs of it, all products do: probabilities, their gradients
// and dout are rounded to bf16 for that, sums stay f32.
#pragma once

#include "backends/cpu/simd/visit_float.h"
#include "backends/cpu/train/attention_scratch.h"
#include "backends/cpu/whole_sequences.h"

namespace swiftkv::cpu::train {

// Up to kKeys query rows of one head. They see keys of `panels` panels: all of those before the last, and row r of the
// block keys 0 .. r of that.
struct QueryBlock {
  int64_t rows, panels;
  float means[kKeys];    // dout o of each row: the mean of dout v over its probabilities
  float inverse[kKeys];  // 1 / the sum of a row's exponentials
};

// tile(r, column) for every tile of a product of `rows` rows (padded to whole tiles) and `columns` columns.
template <class Tile, class F>
[[gnu::always_inline]] static inline void for_tiles(int64_t rows, int64_t columns, F&& tile) {
  for (int64_t column = 0; column < columns; column += Tile::kColumns)
    for (int64_t r = 0; r < rows; r += Tile::kRows) tile(r, column);
}

// Scores of the block, and exponentials of those less their row's maximum.
template <class Units>
static void exponentials(const AttentionScratch& s, int64_t hd, float scale, QueryBlock& block) {
  using V = typename Units::Vec;
  using Tile = ProductTile<Units>;
  using F32 = typename V::F32;
  const int64_t units = hd / Units::kElements, row_units = s.width / Units::kElements;
  for (int64_t panel = 0; panel < block.panels; ++panel) {
    float* const scores = s.scores + panel * kTile;
    for_tiles<Tile>(block.rows, kKeys, [&](int64_t r, int64_t column) {
      Tile t;
      t.clear();
      t.add(s.q + r * row_units, row_units, 1, s.k_columns + panel * kKeys * units + column, kKeys, units);
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

// Probabilities of a panel, and dscores = probabilities (dout v - mean) scale.
template <class Units>
static void score_gradients(const AttentionScratch& s, int64_t hd, float scale, const QueryBlock& block,
                            int64_t panel) {
  using V = typename Units::Vec;
  using Tile = ProductTile<Units>;
  using Element = typename Units::Element;
  const int64_t units = hd / Units::kElements, row_units = s.width / Units::kElements;
  for_tiles<Tile>(block.rows, kKeys, [&](int64_t r, int64_t column) {
    Tile t;
    t.clear();
    t.add(s.dout + r * row_units, row_units, 1, s.v_columns + panel * kKeys * units + column, kKeys, units);
    const float* const exps = s.scores + panel * kTile + r * kKeys + column;
    Element* const probabilities = reinterpret_cast<Element*>(s.probabilities) + r * kKeys + column;
    Element* const dscores = reinterpret_cast<Element*>(s.dscores) + r * kKeys + column;
#pragma GCC unroll 8
    for (int i = 0; i < Tile::kRows; ++i) {
      const float mean = block.means[r + i], inverse = block.inverse[r + i];
#pragma GCC unroll 4
      for (int v = 0; v < Tile::kVectors; ++v) {
        const int64_t at = i * kKeys + v * V::kLanes;
        const typename V::F32 probability = simd::load<V>(exps + at) * inverse;
        Units::store(probabilities + at, probability);
        Units::store(dscores + at, probability * (t.sums[i][v] - mean) * scale);
      }
    }
  });
}

// sums += weights^T rows, of one panel; weights and rows are pairs of the block's queries.
template <class Units>
static void add_to_keys(const float* weights, const float* rows, int64_t width, const QueryBlock& block, bool diagonal,
                        float* sums) {
  using Tile = ProductTile<Units>;
  for_tiles<Tile>(kKeys, width, [&](int64_t key, int64_t column) {
    // On the diagonal, rows before the key do not see it.
    const int64_t r = diagonal ? key : 0;
    if (r >= block.rows) return;
    const int64_t first = r / Units::kElements, end = (block.rows + Units::kElements - 1) / Units::kElements;
    Tile t;
    t.load(sums + key * width + column, width);
    t.add(weights + first * kKeys + key, 1, kKeys, rows + first * width + column, width, end - first);
    t.store(sums + key * width + column, width);
  });
}

// dv += probabilities^T dout, dk += dscores^T q, dq += dscores k, of one panel.
template <class Units>
static void add_gradients(const AttentionScratch& s, const QueryBlock& block, int64_t panel) {
  using Tile = ProductTile<Units>;
  const bool diagonal = panel == block.panels - 1;
  const int64_t at = panel * kKeys * s.width;
  const float* q = Units::kElements == 1 ? s.q : s.q_pairs;
  const float* dout = Units::kElements == 1 ? s.dout : s.dout_pairs;
  const float* probabilities = to_pairs<Units>(s.probabilities, kKeys, s.pairs);
  add_to_keys<Units>(probabilities, dout, s.width, block, diagonal, s.dv + at);
  const float* dscores = to_pairs<Units>(s.dscores, kKeys, s.pairs);
  add_to_keys<Units>(dscores, q, s.width, block, diagonal, s.dk + at);
  const float* k = s.k_pairs + at / Units::kElements;
  constexpr int64_t kRowUnits = kKeys / Units::kElements;
  for_tiles<Tile>(block.rows, s.width, [&](int64_t r, int64_t column) {
    Tile t;
    t.load(s.dq + r * s.width + column, s.width);
    const int64_t keys = diagonal ? r + Tile::kRows : kKeys;
    t.add(s.dscores + r * kRowUnits, kRowUnits, 1, k + column, s.width, keys / Units::kElements);
    t.store(s.dq + r * s.width + column, s.width);
  });
}

// A head's rows of the block: q and dout in scratch, and their means. Rows from block.rows on are zero.
template <class Units, class Q, class O>
static void load_queries(const Q* q, const O* o, const float* dout, int64_t stride, int64_t hd,
                         const AttentionScratch& s, QueryBlock& block) {
  using V = typename Units::Vec;
  using F32 = typename V::F32;
  using Element = typename Units::Element;
  load_rows<Units>(q, stride, block.rows, hd, kKeys, s.width, reinterpret_cast<Element*>(s.q));
  load_rows<Units>(dout, stride, block.rows, hd, kKeys, s.width, reinterpret_cast<Element*>(s.dout));
  to_pairs<Units>(s.q, s.width, s.q_pairs);
  to_pairs<Units>(s.dout, s.width, s.dout_pairs);
  for (int64_t r = 0; r < block.rows; ++r) {
    // Of dout as the products have it, so that the mean is that of what it is subtracted from.
    const Element* const row = reinterpret_cast<const Element*>(s.dout) + r * s.width;
    F32 sum{};
    for (int64_t i = 0; i < hd; i += V::kLanes)
      sum = V::fmadd(simd::load<V>(row + i), simd::load_first<V>(o + r * stride + i, hd - i), sum);
    block.means[r] = simd::sum_lanes<V>(sum);
  }
  for (int64_t r = block.rows; r < kKeys; ++r) block.means[r] = block.inverse[r] = 0.0f;
  for (int64_t i = 0; i < kKeys * s.width; i += V::kLanes) simd::store<V>(s.dq + i, F32{});
}

template <class Units>
static void kv_head_backward(const AttentionBackwardParams& p, int64_t b, int64_t head, const Context& c, int worker) {
  using V = typename Units::Vec;
  const RowsView& half = p.half;
  const int64_t hd = p.cache.head_dim, hk = p.cache.num_kv_heads, hq = p.num_heads, group = hq / hk;
  const int64_t start = half.query_start[b], length = half.query_start[b + 1] - start;
  if (length == 0) return;
  const AttentionScratch s = attention_scratch<Units>(p, c, worker, length);
  simd::visit_float(p.cache.dtype, [&]<class T>(T) {
    const int32_t* blocks = half.block_tables + int64_t{half.table_row[b]} * half.table_stride;
    gather_keys<Units, T>(p.cache, blocks, head, length, s);
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
          load_queries<Units>(static_cast<const Q*>(p.q.data) + at, static_cast<const O*>(p.o.data) + at, p.dout + at,
                              hq * hd, hd, s, block);
        });
      });
      exponentials<Units>(s, hd, p.scale, block);
      for (int64_t panel = 0; panel < block.panels; ++panel) {
        score_gradients<Units>(s, hd, p.scale, block, panel);
        add_gradients<Units>(s, block, panel);
      }
      write_rows<V>(s.dq, s.width, block.rows, hd, false, p.dq + at, hq * hd);
    }
  }
  float* const dkv = p.dkv + start * p.dkv_width + (2 * p.group * hk + head) * hd;
  write_rows<V>(s.dk, s.width, length, hd, p.accumulate, dkv, p.dkv_width);
  write_rows<V>(s.dv, s.width, length, hd, p.accumulate, dkv + hk * hd, p.dkv_width);
}

template <class V>
static size_t attention_backward_scratch(const AttentionBackwardParams& p, int threads) {
  return static_cast<size_t>(threads) * attention_scratch_floats<F32Units<V>>(p) * sizeof(float);
}

template <class V>
static Status attention_backward(const AttentionBackwardParams& p, const Context& c) {
  if (Status s = check_whole_sequences(p.half); !s.ok()) return s;
  const auto run = [&]<class Units>(Units) {
    const int64_t hk = p.cache.num_kv_heads;
    c.parallel_for(p.half.num_seqs * hk,
                   [&](int64_t piece, int worker) { kv_head_backward<Units>(p, piece / hk, piece % hk, c, worker); });
  };
  if constexpr (requires { &V::add_pair_products; }) {
    if (p.q.dtype == DType::bf16 && p.cache.dtype == DType::bf16) {
      run(Bf16Units<V>{});
      return {};
    }
  }
  run(F32Units<V>{});
  return {};
}

}  // namespace swiftkv::cpu::train
