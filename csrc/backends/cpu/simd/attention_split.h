// One split of the keys of one sequence against some query rows of one KV head: all that decode and prefill compute.
#pragma once

#include "backends/cpu/cache_layout.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd/attention_panels.h"
#include "backends/cpu/simd/product.h"
#include "backends/cpu/simd/softmax.h"

namespace swiftkv::cpu::simd {

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

// Query positions [begin, end) of one sequence; with a KV head, rows = positions x heads of the group.
struct QueryBlock {
  int32_t sequence, begin, end;
};

// Sizes that follow from the shapes alone.
struct AttentionShape {
  int64_t head_dim;   // hd
  int64_t group;      // query heads per KV head
  int64_t out_width;  // floats of a row of unfinished outputs
};

static inline AttentionShape attention_shape(const AttentionParams& p) {
  const int64_t hd = p.cache.head_dim;
  return {hd, p.num_heads / p.cache.num_kv_heads, (hd + kColumnGroup - 1) / kColumnGroup * kColumnGroup};
}

// Unfinished rows: of one split, or of all splits so far.
struct Partial {
  SoftmaxState* states;  // [rows]
  float* out;            // [rows, out_width]
};

static inline Partial take_partial(Carver& c, const AttentionShape& s, int64_t rows) {
  Partial p;
  p.states = c.take<SoftmaxState>(rows);
  p.out = c.take<float>(rows * s.out_width);
  return p;
}

// One worker's memory for `rows` query rows.
struct AttentionWork {
  float* q;         // [rows, hd]
  int64_t* keys;    // [rows] keys of the split that the row sees; 0 when it is masked whole
  float* scores;    // [rows, 256] and then, in place, weights
  float* k_factor;  // [256] scale * s_k
  float* v_factor;  // [256] s_v
  float* panel;     // one panel of 64 keys, K or V
};

static inline AttentionWork take_work(Carver& c, const AttentionShape& s, int64_t rows) {
  const int64_t k_rows = k_panel_rows(s.head_dim);
  AttentionWork w;
  w.q = c.take<float>(rows * s.head_dim);
  w.keys = c.take<int64_t>(rows);
  w.scores = c.take<float>(rows * kAttentionSplit);
  w.k_factor = c.take<float>(kAttentionSplit);
  w.v_factor = c.take<float>(kAttentionSplit);
  w.panel = c.take<float>(kPanelKeys * (k_rows > s.out_width ? k_rows : s.out_width));
  return w;
}

template <class V, class T>
class SplitAttention {
 public:
  SplitAttention(const AttentionParams& p, const AttentionShape& s, const AttentionWork& w) : p_(p), s_(s), w_(w) {}

  // Copies the block's rows of q, widened.
  void take_q(const QueryBlock& b, int64_t kv_head) const {
    for (int64_t i = b.begin; i < b.end; ++i) {
      const int64_t first = (i * p_.num_heads + kv_head * s_.group) * s_.head_dim, count = s_.group * s_.head_dim;
      float* out = w_.q + (i - b.begin) * count;
      for (int64_t j = 0; j < count; j += V::kLanes) {
        const int64_t n = count - j;
        store_first<V>(out + j, n,
                       p_.q.dtype == DType::bf16 ? load_first<V>(static_cast<const bf16*>(p_.q.data) + first + j, n)
                                                 : load_first<V>(static_cast<const float*>(p_.q.data) + first + j, n));
      }
    }
  }

  // State and output of every row from the keys of one split that it sees. Rows that see none get no state, and 0 in
  // w.keys. Some row sees keys of the split.
  void run(const QueryBlock& b, int64_t split, int64_t kv_head, const Partial& to) const {
    const int64_t begin = split * kAttentionSplit, rows = (b.end - b.begin) * s_.group;
    int64_t most = 0;  // keys from the split's first one on that some row sees
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t keys = p_.half.positions[b.begin + r / s_.group] + 1 - begin;
      most = keys > most ? keys : most;
      w_.keys[r] = clamp(keys, kAttentionSplit);
    }
    const int32_t* blocks = p_.half.block_tables + int64_t{p_.half.table_row[b.sequence]} * p_.half.table_stride;
    const Pages pages{p_.cache, blocks + begin / kBlockTokens,
                      (clamp(most, kAttentionSplit) + kBlockTokens - 1) / kBlockTokens,
                      (most + kBlockTokens - 1) / kBlockTokens, kv_head};
    for (int64_t i = 0; i < kPanelBlocks; ++i) fetch(pages, i);
    take_factors(pages);
    for (int64_t first = 0; first < pages.count; first += kPanelBlocks) {
      for (int64_t i = first; i < first + kPanelBlocks && i < pages.count; ++i) {
        pack_k<V>(reinterpret_cast<const T*>(pages.at(i).k), s_.head_dim, w_.panel + (i - first) * kBlockTokens);
      }
      const Fetch next = parts_from(pages, first + kPanelBlocks);
      for (int64_t r = 0; r < rows; r += kRowTile)
        score(r, clamp(rows - r, kRowTile), first * kBlockTokens, r == 0 ? next.parts : nullptr);
    }
    for (int64_t r = 0; r < rows; ++r) {
      if (w_.keys[r] > 0)
        to.states[r] = softmax_split<V>(w_.scores + r * kAttentionSplit, w_.k_factor, w_.v_factor, w_.keys[r]);
    }
    for (int64_t first = 0; first < pages.count; first += kPanelBlocks) {
      for (int64_t i = first; i < first + kPanelBlocks && i < pages.count; ++i) {
        pack_v<V>(reinterpret_cast<const T*>(pages.at(i).v), s_.head_dim, s_.out_width,
                  w_.panel + (i - first) * kBlockTokens * s_.out_width);
      }
      const Fetch next = parts_from(pages, pages.count + first + kPanelBlocks);
      for (int64_t r = 0; r < rows; r += kRowTile)
        weigh(r, clamp(rows - r, kRowTile), first * kBlockTokens, to.out + r * s_.out_width,
              r == 0 ? next.parts : nullptr);
    }
  }

 private:
  // The blocks that some row sees: those of this split, and all from its first one on.
  struct Pages {
    const KvCache& cache;
    const int32_t* blocks;  // [all]
    int64_t count, all, kv_head;

    HeadBlock at(int64_t i) const { return head_block(cache, blocks[i], kv_head); }
  };

  // x within [0, most]
  static int64_t clamp(int64_t x, int64_t most) { return x < 0 ? 0 : x < most ? x : most; }

  int64_t part_bytes() const { return kBlockTokens * s_.head_dim * static_cast<int64_t>(sizeof(T)); }

  // A part, counted in the order in which run() walks them: K of every block, V of every block, then K of the split
  // that follows; null behind the last one.
  const std::byte* part(const Pages& pages, int64_t i) const {
    if (i < pages.count) return pages.at(i).k;
    if (i - pages.count >= pages.all) return nullptr;
    const HeadBlock b = pages.at(i - pages.count);
    return i < 2 * pages.count ? b.v : b.k;
  }

  void fetch(const Pages& pages, int64_t i) const {
    const std::byte* from = part(pages, i);
    for (int64_t at = 0; from != nullptr && at < part_bytes(); at += 64) __builtin_prefetch(from + at);
  }

  // The parts of a panel, one for each of a product's first column groups. Block tables hide the order of pages from
  // the hardware; fetched a line a step, they do not make the product wait.
  struct Fetch {
    const std::byte* parts[kMaxHeadDim / kColumnGroup];
  };

  Fetch parts_from(const Pages& pages, int64_t first) const {
    Fetch f;
    for (int64_t g = 0; g < s_.out_width / kColumnGroup || g < kPanelBlocks; ++g) {
      const std::byte* from = g < kPanelBlocks ? part(pages, first + g) : nullptr;
      f.parts[g] = from == nullptr ? reinterpret_cast<const std::byte*>(w_.panel) : from;
    }
    return f;
  }

  void take_factors(const Pages& pages) const {
    for (int64_t i = 0; i < pages.count; ++i) {
      const HeadBlock b = pages.at(i);
      for (int64_t j = 0; j < kBlockTokens; ++j) {
        w_.k_factor[i * kBlockTokens + j] = p_.scale * stored_k_scale(p_.cache, b, pages.kv_head, j);
        w_.v_factor[i * kBlockTokens + j] = stored_v_scale(p_.cache, b, pages.kv_head, j);
      }
    }
  }

  const uint32_t* panel_row(int64_t row, int64_t stride) const {
    return reinterpret_cast<const uint32_t*>(w_.panel + row * stride);
  }

  // Raw scores of a tile of rows with the panel of keys from `begin` on, as far as any row of the tile sees.
  void score(int64_t row, int64_t rows, int64_t begin, const std::byte* const* next) const {
    int64_t keys = 0;
    for (int64_t r = row; r < row + rows; ++r) keys = w_.keys[r] > keys ? w_.keys[r] : keys;
    keys = clamp(keys - begin, kPanelKeys);
    if (keys == 0) return;
    multiply<DotF32<V>>(rows, (keys + kColumnGroup - 1) / kColumnGroup * kColumnGroup,
                        {.a = w_.q + row * s_.head_dim,
                         .a_stride = s_.head_dim,
                         .b = panel_row(0, 0),
                         .b_stride = kPanelKeys,
                         .out = w_.scores + row * kAttentionSplit + begin,
                         .out_stride = kAttentionSplit,
                         .steps = s_.head_dim,
                         .add = false,
                         .fetch = next,
                         .fetch_stride = next == nullptr ? 0 : part_bytes() / s_.head_dim});
  }

  // Adds the panel's V, weighted, to a tile of outputs (the first panel starts them). A row takes its own keys and not
  // one more, not even with weight 0: a later key may hold anything.
  void weigh(int64_t row, int64_t rows, int64_t begin, float* out, const std::byte* const* next) const {
    int64_t shared = kPanelKeys;
    for (int64_t r = row; r < row + rows; ++r) shared = clamp(w_.keys[r] - begin, shared);
    Product<DotF32<V>> p{.a = w_.scores + row * kAttentionSplit + begin,
                         .a_stride = kAttentionSplit,
                         .b = panel_row(0, 0),
                         .b_stride = s_.out_width,
                         .out = out,
                         .out_stride = s_.out_width,
                         .steps = shared,
                         .add = begin > 0,
                         .fetch = next,
                         .fetch_stride = next == nullptr ? 0 : part_bytes() / kPanelKeys};
    if (shared > 0 || !p.add) multiply(rows, s_.out_width, p);
    p.b = panel_row(shared, s_.out_width);
    p.add = true;
    p.fetch = nullptr;
    p.fetch_stride = 0;
    for (int64_t r = 0; r < rows; ++r) {
      p.a = w_.scores + (row + r) * kAttentionSplit + begin + shared;
      p.out = out + r * s_.out_width;
      p.steps = clamp(w_.keys[row + r] - begin, kPanelKeys) - shared;
      if (p.steps > 0) multiply(1, s_.out_width, p);
    }
  }

  const AttentionParams& p_;
  const AttentionShape& s_;
  const AttentionWork& w_;
};

}  // namespace swiftkv::cpu::simd
