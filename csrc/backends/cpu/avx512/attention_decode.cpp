// Attention of single query rows against long contexts: parallel over (row, split of its keys, KV head), in waves whose
// partial results fit a bounded scratch; after each wave the rows are merged in ascending order of their splits.
#include "backends/cpu/avx512/attention.h"
#include "backends/cpu/avx512/ops.h"

namespace swiftkv::cpu::avx512 {

namespace {

// Partial results of one wave aim at this, so that they stay in the last-level cache; but every thread gets pieces.
constexpr int64_t kWaveBytes = 2 << 20;
constexpr int64_t kPiecesPerThread = 8;

// A thread takes several pieces in a row where there are many, and fetches each one's first pages during the one
// before.
constexpr int64_t kRunPieces = 8;

// An unfinished row: the group's states and outputs.
struct Partial {
  SoftmaxState* states;  // [rows]
  float* out;            // [rows, out_width]
};

Partial take_partial(Carver& c, const AttentionShape& s, int64_t rows) {
  Partial p;
  p.states = c.take<SoftmaxState>(rows);
  p.out = c.take<float>(rows * s.out_width);
  return p;
}

struct Plan {
  AttentionShape shape;
  int64_t max_rows;     // rows that can be selected
  int64_t wave_pieces;  // pieces of a wave
  size_t header_bytes, partial_bytes, carry_bytes, worker_bytes;
};

Plan plan(const AttentionParams& p, int threads) {
  Plan plan;
  plan.shape = attention_shape(p);
  const int64_t group = plan.shape.group;
  plan.shape.rows_of_v = f32_rows(p) && plan.shape.head_dim % 32 == 0 && group <= kTileRows;
  plan.max_rows = p.select == QuerySelect::one_row ? least(p.half.rows, p.half.num_seqs) : p.half.rows;
  Carver partial{nullptr}, carry{nullptr}, worker{nullptr}, header{nullptr};
  take_partial(partial, plan.shape, group);
  take_partial(carry, plan.shape, p.num_heads);
  take_work(worker, p, plan.shape, group);
  header.take<int64_t>(plan.max_rows + 1);
  header.take<int32_t>(plan.max_rows);
  header.take<int32_t>(plan.max_rows);
  plan.header_bytes = header.used;
  plan.partial_bytes = partial.used;
  plan.carry_bytes = carry.used;
  plan.worker_bytes = worker.used;
  const int64_t fitting = kWaveBytes / static_cast<int64_t>(partial.used), least_pieces = kPiecesPerThread * threads;
  plan.wave_pieces = fitting > least_pieces ? fitting : least_pieces;
  return plan;
}

// The selected rows, each with its sequence and its first piece; a row has (splits x KV heads) pieces, heads fastest.
struct Rows {
  int64_t count;
  int64_t* first_piece;  // [count + 1]
  int32_t* row;          // [count]
  int32_t* sequence;     // [count]

  int64_t of_piece(int64_t piece) const {
    int64_t low = 0, high = count;
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (first_piece[middle] <= piece ? low : high) = middle;
    }
    return low;
  }
};

Rows select_rows(const AttentionParams& p, int64_t max_rows, Carver header) {
  Rows rows;
  rows.first_piece = header.take<int64_t>(max_rows + 1);
  rows.row = header.take<int32_t>(max_rows);
  rows.sequence = header.take<int32_t>(max_rows);
  rows.count = 0;
  rows.first_piece[0] = 0;
  for (int32_t b = 0; b < p.half.num_seqs; ++b) {
    const int32_t begin = p.half.query_start[b], end = p.half.query_start[b + 1];
    if (!selected(p.select, end - begin)) continue;
    for (int32_t row = begin; row < end; ++row, ++rows.count) {
      const int64_t splits = p.half.positions[row] / kAttentionSplit + 1;
      rows.row[rows.count] = row;
      rows.sequence[rows.count] = b;
      rows.first_piece[rows.count + 1] = rows.first_piece[rows.count] + splits * p.cache.num_kv_heads;
    }
  }
  return rows;
}

class Decode {
 public:
  Decode(const AttentionParams& p, const Context& c)
      : p_(p), c_(c), plan_(plan(p, c.threads)), rows_(select_rows(p, plan_.max_rows, Carver{c.scratch})) {}

  void run() const {
    const int64_t pieces = rows_.first_piece[rows_.count];
    for (int64_t begin = 0; begin < pieces; begin += plan_.wave_pieces) {
      const int64_t end = least(begin + plan_.wave_pieces, pieces);
      const int64_t length = least(ceil_div(end - begin, kPiecesPerThread * c_.threads), kRunPieces);
      c_.parallel_for(ceil_div(end - begin, length), [&](int64_t i, int worker) {
        const int64_t from = begin + i * length;
        attend(from, least(from + length, end), from - begin, worker);
      });
      const int64_t first = rows_.of_piece(begin), last = rows_.of_piece(end - 1);
      const int64_t heads = p_.cache.num_kv_heads;
      c_.parallel_for((last - first + 1) * heads,
                      [&](int64_t i, int) { finish(first + i / heads, i % heads, begin, end); });
    }
  }

 private:
  Carver partials() const { return Carver{c_.scratch + plan_.header_bytes}; }

  Partial partial(int64_t slot) const {
    Carver at{partials().base + static_cast<size_t>(slot) * plan_.partial_bytes};
    return take_partial(at, plan_.shape, plan_.shape.group);
  }

  // Rows that reach over the end of a wave, one head's part. Only one row does; two places take turns, as a wave may
  // both finish such a row and leave another.
  Partial carry(int64_t wave, int64_t kv_head) const {
    Carver at{partials().base + static_cast<size_t>(plan_.wave_pieces) * plan_.partial_bytes +
              static_cast<size_t>(wave % 2) * plan_.carry_bytes};
    Partial p = take_partial(at, plan_.shape, p_.num_heads);
    p.states += kv_head * plan_.shape.group;
    p.out += kv_head * plan_.shape.group * plan_.shape.out_width;
    return p;
  }

  struct Piece {
    int64_t row, kv_head;
    SplitKeys keys;
  };

  Piece piece_at(int64_t piece) const {
    const int64_t index = rows_.of_piece(piece), row = rows_.row[index];
    const int64_t within = piece - rows_.first_piece[index];
    const int64_t split = within / p_.cache.num_kv_heads, kv_head = within % p_.cache.num_kv_heads;
    return {row, kv_head, split_keys(p_.half, rows_.sequence[index], split, p_.half.positions[row], kv_head)};
  }

  // Pieces [begin, end), whose partial results go to consecutive slots.
  void attend(int64_t begin, int64_t end, int64_t slot, int worker) const {
    visit_attention(p_, [&]<class Dot, class T>(Dot, T) { attend_run<Dot, T>(begin, end, slot, worker); });
  }

  template <class Dot, class T>
  void attend_run(int64_t begin, int64_t end, int64_t slot, int worker) const {
    const AttentionShape& s = plan_.shape;
    Carver memory{partials().base + static_cast<size_t>(plan_.wave_pieces) * plan_.partial_bytes +
                  2 * plan_.carry_bytes + static_cast<size_t>(worker) * plan_.worker_bytes};
    const AttentionWork work = take_work(memory, p_, s, s.group);
    const SplitAttention<Dot, T> attention(p_, s, work);
    Piece piece = piece_at(begin);
    attention.begin(piece.keys);
    for (int64_t i = begin; i < end; ++i, ++slot) {
      const Piece next = i + 1 < end ? piece_at(i + 1) : piece;
      for (int64_t r = 0; r < s.group; ++r) work.keys[r] = static_cast<int32_t>(piece.keys.keys);
      take_q<Dot, T>(p_, s, piece.row, piece.kv_head, work.q);
      const Partial to = partial(slot);
      attention.run(piece.keys, next.keys, s.group, to.states, to.out);
      piece = next;
    }
  }

  // Merges the splits of one row and KV head that the wave [begin, end) holds, and writes the row after its last.
  void finish(int64_t index, int64_t kv_head, int64_t begin, int64_t end) const {
    const AttentionShape& s = plan_.shape;
    const int64_t heads = p_.cache.num_kv_heads, wave = begin / plan_.wave_pieces;
    const int64_t first = rows_.first_piece[index] + kv_head;
    const int64_t last = rows_.first_piece[index + 1] - heads + kv_head;
    int64_t piece = first;
    Partial total = carry(wave + 1, kv_head);  // from the wave before
    if (first >= begin) {
      total = partial(first - begin);
      piece += heads;
      if (first >= end) return;
    } else {
      piece += ceil_div(begin - first, heads) * heads;
    }
    for (; piece <= last && piece < end; piece += heads) {
      const Partial next = partial(piece - begin);
      for (int64_t r = 0; r < s.group; ++r)
        merge(total.states[r], total.out + r * s.out_width, next.states[r], next.out + r * s.out_width, s.columns);
    }
    if (piece <= last) {
      const Partial kept = carry(wave, kv_head);
      for (int64_t r = 0; r < s.group; ++r) kept.states[r] = total.states[r];
      __builtin_memcpy(kept.out, total.out, static_cast<size_t>(s.group * s.out_width) * sizeof(float));
      return;
    }
    for (int64_t r = 0; r < s.group; ++r) {
      if (s.rows_of_v) order_row(total.out + r * s.out_width, s.columns);
      write_row(p_, s, rows_.row[index], kv_head * s.group + r, total.states[r], total.out + r * s.out_width);
    }
  }

  const AttentionParams& p_;
  const Context& c_;
  const Plan plan_;
  const Rows rows_;
};

}  // namespace

size_t attention_decode_scratch(const AttentionParams& p, int threads) {
  const Plan plan_ = plan(p, threads);
  return plan_.header_bytes + static_cast<size_t>(plan_.wave_pieces) * plan_.partial_bytes + 2 * plan_.carry_bytes +
         static_cast<size_t>(threads) * plan_.worker_bytes;
}

Status attention_decode(const AttentionParams& p, const Context& c) {
  if (p.half.rows > 0) Decode(p, c).run();
  return {};
}

}  // namespace swiftkv::cpu::avx512
