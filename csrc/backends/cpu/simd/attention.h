// Attention over pages, for decode and prefill: parallel over (block of query rows, KV head), each piece walking the
// splits of its keys in order. Where that leaves threads idle, splits are shared out too, in waves whose partial
// results fit a bounded scratch; they are merged in the same order, so the bits are the same.
#pragma once

#include "backends/cpu/attention_select.h"
#include "backends/cpu/simd/attention_split.h"

namespace swiftkv::cpu::simd {

// Query rows (positions x heads of the group) of a block of prefill. Enough that packing K and V, about as long as 4
// rows of products, is a small part; few enough that scores and outputs stay in L2.
inline constexpr int64_t kBlockRows = 48;

// Fewer pieces a thread than this, and splits are shared out; a wave has twice as many.
inline constexpr int64_t kFewPieces = 4;

struct AttentionPlan {
  AttentionShape shape;
  int64_t positions;  // query positions of a block
  int64_t rows;       // query rows of a block
  int64_t max_blocks;
  int64_t few_pieces, wave_pieces;  // at most: totals and partials of waves
  size_t header_bytes, partial_bytes, worker_bytes;

  size_t scratch_bytes(int threads) const {
    return header_bytes + static_cast<size_t>(few_pieces + wave_pieces) * partial_bytes +
           static_cast<size_t>(threads) * worker_bytes;
  }
};

static inline AttentionPlan plan_attention(const AttentionParams& p, int64_t positions, int threads) {
  AttentionPlan plan;
  plan.shape = attention_shape(p);
  plan.positions = positions;
  plan.rows = positions * plan.shape.group;
  plan.max_blocks = p.half.rows / positions + p.half.num_seqs;
  plan.few_pieces = threads > 1 ? kFewPieces * threads : 0;
  plan.wave_pieces = 3 * plan.few_pieces;  // twice as many, rounded up to whole splits of all pieces
  Carver header{nullptr}, partial{nullptr}, worker{nullptr};
  header.take<QueryBlock>(plan.max_blocks);
  take_partial(partial, plan.shape, plan.rows);
  take_work(worker, plan.shape, plan.rows);
  take_partial(worker, plan.shape, plan.rows);
  take_partial(worker, plan.shape, plan.rows);
  plan.header_bytes = header.used;
  plan.partial_bytes = partial.used;
  plan.worker_bytes = worker.used;
  return plan;
}

// The selected rows in blocks.
static inline int64_t cut_blocks(const AttentionParams& p, int64_t positions, QueryBlock* blocks) {
  int64_t count = 0;
  for (int32_t b = 0; b < p.half.num_seqs; ++b) {
    const int64_t begin = p.half.query_start[b], end = p.half.query_start[b + 1];
    if (!selected(p.select, static_cast<int32_t>(end - begin))) continue;
    for (int64_t i = begin; i < end; i += positions)
      blocks[count++] = {b, static_cast<int32_t>(i), static_cast<int32_t>(i + positions < end ? i + positions : end)};
  }
  return count;
}

static inline int64_t splits_of(const AttentionParams& p, const QueryBlock& b) {
  int32_t last = 0;
  for (int64_t i = b.begin; i < b.end; ++i) last = p.half.positions[i] > last ? p.half.positions[i] : last;
  return last / kAttentionSplit + 1;
}

template <class V, class T>
class Attention {
 public:
  Attention(const AttentionParams& p, const AttentionPlan& plan, const Context& c) : p_(p), plan_(plan), c_(c) {
    blocks_ = Carver{c.scratch}.take<QueryBlock>(plan.max_blocks);
    count_ = cut_blocks(p, plan.positions, blocks_);
  }

  void run() const {
    const int64_t pieces = count_ * p_.cache.num_kv_heads;
    int64_t splits = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t own = splits_of(p_, blocks_[i]);
      splits = own > splits ? own : splits;
    }
    if (pieces > 0 && pieces < plan_.few_pieces && splits > 1) return share_splits(pieces, splits);
    c_.parallel_for(pieces, [&](int64_t i, int worker) {
      // The last rows see the most keys: they go first, so that no long piece is left for the end.
      attend(pieces - 1 - i, worker);
    });
  }

 private:
  const QueryBlock& block(int64_t piece) const { return blocks_[piece / p_.cache.num_kv_heads]; }
  int64_t kv_head(int64_t piece) const { return piece % p_.cache.num_kv_heads; }

  Carver worker_memory(int worker) const {
    return {c_.scratch + plan_.scratch_bytes(0) + static_cast<size_t>(worker) * plan_.worker_bytes};
  }

  Partial partial(int64_t index) const {
    Carver at{c_.scratch + plan_.header_bytes + static_cast<size_t>(index) * plan_.partial_bytes};
    return take_partial(at, plan_.shape, plan_.rows);
  }

  void attend(int64_t piece, int worker) const {
    Carver memory = worker_memory(worker);
    const AttentionWork work = take_work(memory, plan_.shape, plan_.rows);
    const Partial total = take_partial(memory, plan_.shape, plan_.rows);
    const Partial next = take_partial(memory, plan_.shape, plan_.rows);
    const SplitAttention<V, T> attention(p_, plan_.shape, work);
    const QueryBlock& b = block(piece);
    attention.take_q(b, kv_head(piece));
    for (int64_t split = 0; split < splits_of(p_, b); ++split) {
      attention.run(b, split, kv_head(piece), split == 0 ? total : next);
      if (split > 0) merge_rows(b, split, total, next);
    }
    write_rows(b, kv_head(piece), total);
  }

  // Every wave computes some splits of all pieces, each to its own place, then merges them in ascending order.
  void share_splits(int64_t pieces, int64_t splits) const {
    const int64_t at_once = (2 * plan_.few_pieces + pieces - 1) / pieces;
    for (int64_t first = 0; first < splits; first += at_once) {
      const int64_t end = first + at_once < splits ? first + at_once : splits;
      c_.parallel_for(pieces * (end - first), [&](int64_t i, int worker) {
        const int64_t piece = i % pieces, split = first + i / pieces;
        if (split >= splits_of(p_, block(piece))) return;
        Carver memory = worker_memory(worker);
        const AttentionWork work = take_work(memory, plan_.shape, plan_.rows);
        const SplitAttention<V, T> attention(p_, plan_.shape, work);
        attention.take_q(block(piece), kv_head(piece));
        attention.run(block(piece), split, kv_head(piece), split == 0 ? partial(piece) : partial(pieces + i));
      });
      c_.parallel_for(pieces, [&](int64_t piece, int) {
        const QueryBlock& b = block(piece);
        const int64_t own = splits_of(p_, b), last = own < end ? own : end;
        for (int64_t split = first > 0 ? first : 1; split < last; ++split)
          merge_rows(b, split, partial(piece), partial(pieces + (split - first) * pieces + piece));
        if (own > first && own <= end) write_rows(b, kv_head(piece), partial(piece));
      });
    }
  }

  // Rows that see nothing of the split stay as they are.
  void merge_rows(const QueryBlock& b, int64_t split, const Partial& total, const Partial& next) const {
    const AttentionShape& s = plan_.shape;
    for (int64_t r = 0; r < (b.end - b.begin) * s.group; ++r) {
      if (p_.half.positions[b.begin + r / s.group] < split * kAttentionSplit) continue;
      merge<V>(total.states[r], total.out + r * s.out_width, next.states[r], next.out + r * s.out_width, s.out_width);
    }
  }

  void write_rows(const QueryBlock& b, int64_t kv_head, const Partial& total) const {
    const AttentionShape& s = plan_.shape;
    for (int64_t r = 0; r < (b.end - b.begin) * s.group; ++r) {
      const int64_t head = (b.begin + r / s.group) * p_.num_heads + kv_head * s.group + r % s.group;
      write_row(head * s.head_dim, 1.0f / total.states[r].sum, total.out + r * s.out_width);
    }
  }

  void write_row(int64_t first, float inverse, const float* out) const {
    for (int64_t d = 0; d < plan_.shape.head_dim; d += V::kLanes) {
      const typename V::F32 v = load<V>(out + d) * inverse;
      const int64_t n = plan_.shape.head_dim - d;
      if (p_.o.dtype == DType::bf16)
        store_first<V>(static_cast<bf16*>(p_.o.data) + first + d, n, v);
      else
        store_first<V>(static_cast<float*>(p_.o.data) + first + d, n, v);
    }
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  const Context& c_;
  QueryBlock* blocks_;
  int64_t count_;
};

template <class V>
static Status attention(const AttentionParams& p, int64_t positions, const Context& c) {
  const AttentionPlan plan = plan_attention(p, positions, c.threads);
  switch (p.cache.dtype) {
    case DType::fp8_e4m3: Attention<V, fp8_e4m3>(p, plan, c).run(); break;
    case DType::bf16: Attention<V, bf16>(p, plan, c).run(); break;
    default: Attention<V, float>(p, plan, c).run();
  }
  return {};
}

static inline int64_t prefill_positions(const AttentionParams& p) {
  const int64_t group = p.num_heads / p.cache.num_kv_heads;
  return group < kBlockRows ? kBlockRows / group : 1;
}

template <class V>
static Status attention_decode(const AttentionParams& p, const Context& c) {
  return attention<V>(p, 1, c);
}

template <class V>
static Status attention_prefill(const AttentionParams& p, const Context& c) {
  return attention<V>(p, prefill_positions(p), c);
}

template <class V>
static size_t attention_decode_scratch(const AttentionParams& p, int threads) {
  return plan_attention(p, 1, threads).scratch_bytes(threads);
}

template <class V>
static size_t attention_prefill_scratch(const AttentionParams& p, int threads) {
  return plan_attention(p, prefill_positions(p), threads).scratch_bytes(threads);
}

}  // namespace swiftkv::cpu::simd
