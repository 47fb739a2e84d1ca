// Attention problems and their exact answers, for the tests of every backend.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "backends/cpu/scalar/ops.h"
#include "compare.h"
#include "fixtures.h"
#include "reference.h"

namespace swiftkv::test {

// K and V of whole sequences, contiguous, as they will be stored.
struct Contents {
  std::vector<std::vector<float>> k, v;  // per sequence [context, Hk, hd]
};

inline Contents random_contents(const std::vector<Sequence>& sequences, const HeadShape& heads, Rng& rng) {
  Contents c;
  for (const Sequence& s : sequences) {
    const int64_t count = int64_t{s.context_len} * heads.num_kv_heads * heads.head_dim;
    c.k.push_back(random_values(rng, count, 1.5f));
    c.v.push_back(random_values(rng, count));
  }
  return c;
}

// Writes positions [from, to) of every sequence to its pages; the other slots keep what they hold.
inline void write_pages(const Cache& cache, const Half& half, const Contents& contents, int64_t from = 0,
                        int64_t to = INT64_MAX) {
  const int64_t width = int64_t{cache.shape.num_kv_heads} * cache.shape.head_dim;
  for (size_t b = 0; b < half.sequences.size(); ++b) {
    const int64_t begin = std::min<int64_t>(from, half.sequences[b].context_len);
    const int64_t end = std::min<int64_t>(to, half.sequences[b].context_len);
    std::vector<int32_t> slots;
    for (int64_t p = begin; p < end; ++p) slots.push_back(half.slot(static_cast<int64_t>(b), p));
    const KvQuantizeParams p{end - begin, contents.k[b].data() + begin * width, contents.v[b].data() + begin * width,
                             slots.data(), cache.view()};
    run_reference(&cpu::scalar::kv_quantize, p);
  }
}

// What the pages hold, decoded.
inline Contents read_pages(const Cache& cache, const Half& half) {
  Contents c;
  for (size_t b = 0; b < half.sequences.size(); ++b) {
    const int64_t context = half.sequences[b].context_len;
    std::vector<int32_t> slots;
    for (int64_t p = 0; p < context; ++p) slots.push_back(half.slot(static_cast<int64_t>(b), p));
    const auto count = static_cast<size_t>(context * cache.shape.num_kv_heads * cache.shape.head_dim);
    c.k.emplace_back(count);
    c.v.emplace_back(count);
    const KvDequantizeParams p{context, slots.data(), cache.view(), c.k.back().data(), c.v.back().data()};
    run_reference(&cpu::scalar::kv_dequantize, p);
  }
  return c;
}

struct AttentionCase {
  AttentionCase(const HeadShape& h, const CacheKind& kind, DType type, const std::vector<Sequence>& sequences,
                uint64_t seed)
      : rng(seed),
        heads(h),
        half(sequences, blocks_needed(sequences) + 3, rng),
        cache({kind.dtype, kind.scales, h.num_kv_heads, h.head_dim}, blocks_needed(sequences) + 3),
        contents(random_contents(sequences, h, rng)),
        q(type, random_values(rng, rows() * h.num_heads * h.head_dim, 1.5f)),
        o(type, rows() * h.num_heads * h.head_dim) {
    write_pages(cache, half, contents);
  }

  int64_t rows() const { return half.view().rows; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(heads.head_dim)); }

  AttentionParams params() const {
    return {half.view(), QuerySelect::all, heads.num_heads, q.activation(), cache.view(), scale(), o.activation()};
  }

  Rng rng;
  HeadShape heads;
  Half half;
  Cache cache;
  Contents contents;
  Tensor q, o;
};

struct Exact {
  std::vector<float> o;
  std::vector<double> allowed;
};

// Softmax over the decoded cache in double. Errors: a score of hd terms is off by delta = sqrt(hd) roundings of its
// magnitude, which scales each probability by exp(+-delta); sums over the keys walk sqrt(keys) roundings; with bf16
// compute, probabilities and the output are rounded to bf16 once each. `part` is the rounding unit of f32 queries and
// probabilities where products take them in fewer bits; errors of the queries walk as well: four times the root of
// their squares.
inline Exact exact(const AttentionCase& p, double part) {
  Exact e;
  const Contents stored = read_pages(p.cache, p.half);
  const std::vector<float> q = p.q.floats();
  const int64_t hd = p.heads.head_dim, hq = p.heads.num_heads, hk = p.heads.num_kv_heads;
  const bool bf16_compute = p.q.dtype == DType::bf16;
  if (bf16_compute) part = 0.0;
  for (size_t b = 0; b < p.half.sequences.size(); ++b)
    for (int64_t row = p.half.query_start[b]; row < p.half.query_start[b + 1]; ++row)
      for (int64_t h = 0; h < hq; ++h) {
        const int64_t keys = p.half.positions[static_cast<size_t>(row)] + 1, kv = h / (hq / hk);
        const auto at = [&](int64_t key, int64_t i) { return static_cast<size_t>((key * hk + kv) * hd + i); };
        std::vector<double> score(static_cast<size_t>(keys));
        double magnitude = 0.0, walk = 0.0, max = -INFINITY, sum = 0.0;
        for (int64_t key = 0; key < keys; ++key) {
          double s = 0.0, terms = 0.0, squares = 0.0;
          for (int64_t i = 0; i < hd; ++i) {
            const double term = static_cast<double>(q[static_cast<size_t>((row * hq + h) * hd + i)]) *
                                static_cast<double>(stored.k[b][at(key, i)]);
            s += term;
            terms += std::fabs(term);
            squares += term * term;
          }
          walk = std::max(walk, std::sqrt(squares) * static_cast<double>(p.scale()));
          score[static_cast<size_t>(key)] = s * static_cast<double>(p.scale());
          magnitude = std::max(magnitude, terms * static_cast<double>(p.scale()));
          max = std::max(max, score[static_cast<size_t>(key)]);
        }
        for (double& s : score) sum += s = std::exp(s - max);
        const double delta = 4.0 * (std::sqrt(static_cast<double>(hd)) * kUnit * magnitude + part * walk);
        const double relative = 2.0 * delta + (8.0 * std::sqrt(static_cast<double>(keys)) + 16.0) * kUnit +
                                (bf16_compute ? 2.0 * kUnitBf16 : 0.0) + part;
        for (int64_t i = 0; i < hd; ++i) {
          double value = 0.0, terms = 0.0;
          for (int64_t key = 0; key < keys; ++key) {
            const double term = score[static_cast<size_t>(key)] / sum * static_cast<double>(stored.v[b][at(key, i)]);
            value += term;
            terms += std::fabs(term);
          }
          e.o.push_back(static_cast<float>(value));
          e.allowed.push_back(relative * terms + (bf16_compute ? kUnitBf16 : kUnit) * std::fabs(value));
        }
      }
  return e;
}

// Decode, prefill, both, chunks, empty sequences; contexts at the edges of blocks and splits.
inline const std::vector<std::vector<Sequence>> kBatches{
    {{1, 1}},
    {{17, 17}},
    {{16, 1}, {15, 15}, {17, 2}},
    {{257, 1}, {256, 1}, {255, 1}},
    {{40, 0}, {33, 33}, {1, 1}, {40, 0}},
    {{300, 44}, {513, 1}},
    {{600, 3}},
};

}  // namespace swiftkv::test
