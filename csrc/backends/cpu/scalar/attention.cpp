// Attention over pages, one row and head at a time, for decode and prefill alike. Keys are walked in splits at absolute
// positions and merged in ascending order, so that a row's bits do not depend on the rows beside it.
#include <algorithm>
#include <cmath>

#include "backends/cpu/attention_select.h"
#include "backends/cpu/cache_layout.h"
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/worker_scratch.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

namespace {

// Partial softmax over some keys: values weighted by exp(score - max), not yet divided by sum.
struct Partial {
  float max;
  float sum;
  float* values;  // [hd]
};

template <class F>
Status visit_cache(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16{});
    case DType::fp8_e4m3: return f(fp8_e4m3{});
    default:
      return fail(Code::unsupported, "Expected f32, bf16 or fp8_e4m3 for the cache but received %s", dtype_name(dtype));
  }
}

// Keys [begin, end) of one split. Slots outside are never read: they may hold anything, NaN included.
template <class Q, class T>
void attend_split(const AttentionParams& p, const int32_t* blocks, const Q* q, int64_t kv_head, int64_t begin,
                  int64_t end, float* scores, Partial& out) {
  const int64_t hd = p.cache.head_dim;
  out.max = -INFINITY;
  for (int64_t key = begin; key < end; ++key) {
    const HeadBlock block = head_block(p.cache, blocks[key / kBlockTokens], kv_head);
    const int64_t offset = key % kBlockTokens;
    const T* k = reinterpret_cast<const T*>(block.k) + offset * hd;
    float dot = 0.0f;
    for (int64_t i = 0; i < hd; ++i) dot += to_f32(q[i]) * to_f32(k[i]);
    const float score = dot * (p.scale * stored_k_scale(p.cache, block, kv_head, offset));
    scores[key - begin] = score;
    out.max = std::max(out.max, score);
  }
  out.sum = 0.0f;
  std::fill(out.values, out.values + hd, 0.0f);
  for (int64_t key = begin; key < end; ++key) {
    const HeadBlock block = head_block(p.cache, blocks[key / kBlockTokens], kv_head);
    const int64_t offset = key % kBlockTokens;
    const T* v = reinterpret_cast<const T*>(block.v) + offset * hd;
    const float probability = std::exp(scores[key - begin] - out.max);
    out.sum += probability;
    const float weight = probability * stored_v_scale(p.cache, block, kv_head, offset);
    for (int64_t i = 0; i < hd; ++i) out.values[i] += weight * to_f32(v[i]);
  }
}

// total <- total merged with the split that follows it. The first merge starts from max = -inf, sum = 0.
void merge(Partial& total, const Partial& split, int64_t hd) {
  const float max = std::max(total.max, split.max);
  const float keep = total.sum == 0.0f ? 0.0f : std::exp(total.max - max);
  const float add = std::exp(split.max - max);
  total.sum = total.sum * keep + split.sum * add;
  for (int64_t i = 0; i < hd; ++i) total.values[i] = total.values[i] * keep + split.values[i] * add;
  total.max = max;
}

size_t scratch_floats(const AttentionParams& p) {
  return static_cast<size_t>(kAttentionSplit) + 2 * static_cast<size_t>(p.cache.head_dim);
}

template <class Q, class T, class O>
void attention_rows(const AttentionParams& p, const Context& c) {
  const RowsView& half = p.half;
  const Q* q = static_cast<const Q*>(p.q.data);
  O* o = static_cast<O*>(p.o.data);
  const int64_t hd = p.cache.head_dim, hq = p.num_heads, group = hq / p.cache.num_kv_heads;
  c.parallel_for(half.rows * hq, [&](int64_t piece, int worker) {
    const int64_t row = piece / hq, head = piece % hq;
    const int64_t b =
        std::upper_bound(half.query_start, half.query_start + half.num_seqs + 1, row) - half.query_start - 1;
    if (b >= half.num_seqs || !selected(p.select, half.query_start[b + 1] - half.query_start[b])) return;
    const int32_t* blocks = half.block_tables + int64_t{half.table_row[b]} * half.table_stride;
    float* scores = worker_floats(c, worker, scratch_floats(p));
    Partial total{-INFINITY, 0.0f, scores + kAttentionSplit}, split{0.0f, 0.0f, scores + kAttentionSplit + hd};
    std::fill(total.values, total.values + hd, 0.0f);
    const int64_t keys = int64_t{half.positions[row]} + 1;
    for (int64_t begin = 0; begin < keys; begin += kAttentionSplit) {
      const int64_t end = std::min<int64_t>(keys, begin + kAttentionSplit);
      attend_split<Q, T>(p, blocks, q + piece * hd, head / group, begin, end, scores, split);
      merge(total, split, hd);
    }
    for (int64_t i = 0; i < hd; ++i) o[piece * hd + i] = from_f32<O>(total.values[i] / total.sum);
  });
}

}  // namespace

size_t attention_scratch(const AttentionParams& p, int threads) {
  return worker_bytes(threads, scratch_floats(p));
}

Status attention(const AttentionParams& p, const Context& c) {
  return visit_float(p.q.dtype, "q", [&]<class Q>(Q) {
    return visit_cache(p.cache.dtype, [&]<class T>(T) {
      return visit_float(p.o.dtype, "o", [&]<class O>(O) {
        attention_rows<Q, T, O>(p, c);
        return Status{};
      });
    });
  });
}

}  // namespace swiftkv::cpu::scalar
