// Attention of sequences with many query rows: parallel over (sequence, block of query rows, KV head); each piece walks
// the splits of its keys in order.
#include "backends/cpu/avx512/attention.h"
#include "backends/cpu/avx512/ops.h"

namespace swiftkv::cpu::avx512 {

namespace {

// Query rows (positions x heads of the group) of one piece. Enough that packing K and V, about as long as 8 rows of
// products on Zen 5, is a small part; few enough that scores and outputs stay in L2.
constexpr int64_t kBlockRows = 96;

struct Plan {
  AttentionShape shape;
  int64_t positions;  // query positions of a piece
  int64_t rows;       // query rows of a piece
  size_t header_bytes;
  size_t worker_bytes;
};

// The memory of one worker beside AttentionWork.
struct Rows {
  AttentionWork work;
  SoftmaxState* states;       // [rows]
  float* out;                 // [rows, out_width]
  SoftmaxState* next_states;  // [rows], of the split at hand
  float* next_out;
};

Rows take_rows(Carver& c, const AttentionParams& p, const AttentionShape& s, int64_t rows) {
  Rows r;
  r.work = take_work(c, p, s, rows);
  r.states = c.take<SoftmaxState>(rows);
  r.out = c.take<float>(rows * s.out_width);
  r.next_states = c.take<SoftmaxState>(rows);
  r.next_out = c.take<float>(rows * s.out_width);
  return r;
}

Plan plan(const AttentionParams& p) {
  Plan plan;
  plan.shape = attention_shape(p);
  plan.positions = kBlockRows / plan.shape.group > 1 ? kBlockRows / plan.shape.group : 1;
  plan.rows = plan.positions * plan.shape.group;
  Carver header{nullptr}, worker{nullptr};
  header.take<int64_t>(p.half.num_seqs + 1);
  take_rows(worker, p, plan.shape, plan.rows);
  plan.header_bytes = header.used;
  plan.worker_bytes = worker.used;
  return plan;
}

// Query positions [begin, end) of one sequence, for one KV head.
struct Piece {
  int64_t sequence, begin, end, kv_head;
};

template <class Dot, class T>
void attend(const AttentionParams& p, const Plan& plan, const Piece& piece, Carver memory) {
  const AttentionShape& s = plan.shape;
  const Rows r = take_rows(memory, p, s, plan.rows);
  const int64_t rows = (piece.end - piece.begin) * s.group;
  for (int64_t i = piece.begin; i < piece.end; ++i)
    take_q<Dot, T>(p, s, i, piece.kv_head, r.work.q + (i - piece.begin) * s.group * s.q_words);

  const SplitAttention<Dot, T> attention(p, s, r.work);
  const int64_t last = p.half.positions[piece.end - 1];
  for (int64_t split = 0; split * kAttentionSplit <= last; ++split) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t keys = p.half.positions[piece.begin + row / s.group] + 1 - split * kAttentionSplit;
      r.work.keys[row] = static_cast<int32_t>(keys < 0 ? 0 : least(keys, kAttentionSplit));
    }
    const SplitKeys keys = split_keys(p.half, piece.sequence, split, last, piece.kv_head);
    const bool more = (split + 1) * kAttentionSplit <= last;
    const SplitKeys next = more ? split_keys(p.half, piece.sequence, split + 1, last, piece.kv_head) : keys;
    if (split == 0) {
      attention.run(keys, next, rows, r.states, r.out);
      continue;
    }
    attention.run(keys, next, rows, r.next_states, r.next_out);
    for (int64_t row = 0; row < rows; ++row) {
      if (r.work.keys[row] > 0)
        merge(r.states[row], r.out + row * s.out_width, r.next_states[row], r.next_out + row * s.out_width, s.columns);
    }
  }
  for (int64_t row = 0; row < rows; ++row)
    write_row(p, s, piece.begin + row / s.group, piece.kv_head * s.group + row % s.group, r.states[row],
              r.out + row * s.out_width);
}

}  // namespace

size_t attention_prefill_scratch(const AttentionParams& p, int threads) {
  const Plan plan_ = plan(p);
  return plan_.header_bytes + static_cast<size_t>(threads) * plan_.worker_bytes;
}

Status attention_prefill(const AttentionParams& p, const Context& c) {
  const Plan plan_ = plan(p);
  const RowsView& half = p.half;
  const int64_t kv_heads = p.cache.num_kv_heads;
  Carver header{c.scratch};
  int64_t* first_piece = header.take<int64_t>(half.num_seqs + 1);  // of each sequence
  first_piece[0] = 0;
  for (int64_t b = 0; b < half.num_seqs; ++b) {
    const int32_t rows = half.query_start[b + 1] - half.query_start[b];
    const int64_t blocks = selected(p.select, rows) ? ceil_div(rows, plan_.positions) : 0;
    first_piece[b + 1] = first_piece[b] + blocks * kv_heads;
  }

  c.parallel_for(first_piece[half.num_seqs], [&](int64_t index, int worker) {
    int64_t b = 0;
    while (first_piece[b + 1] <= index) ++b;
    // The last rows see the most keys: they go first, so that no long piece is left for the end.
    const int64_t block = (first_piece[b + 1] - 1 - index) / kv_heads;
    const int64_t begin = half.query_start[b] + block * plan_.positions;
    const Piece piece{b, begin, least(begin + plan_.positions, half.query_start[b + 1]), index % kv_heads};
    const Carver memory{c.scratch + plan_.header_bytes + static_cast<size_t>(worker) * plan_.worker_bytes};
    visit_attention(p, [&]<class Dot, class T>(Dot, T) { attend<Dot, T>(p, plan_, piece, memory); });
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
