// Problems of the ops that project to heads, for tests of every backend: qkv_rope_cache, q_rope and swiftkv_project.
#pragma once

#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "projection_fixture.h"

namespace swiftkv::test {

inline constexpr int64_t kPositions = 300;
inline constexpr float kEps = 1e-5f;

// Distinct slots in shuffled order; every fifth row is padding.
inline std::vector<int32_t> scattered_slots(int64_t rows, int32_t num_blocks, Rng& rng) {
  std::vector<int32_t> free, slots;
  for (int32_t i = 0; i < num_blocks * kBlockTokens; ++i) free.push_back(i);
  for (int64_t row = 0; row < rows; ++row) {
    const auto pick = static_cast<size_t>(rng.below(static_cast<int64_t>(free.size())));
    slots.push_back(row % 5 == 4 ? -1 : free[pick]);
    free.erase(free.begin() + static_cast<std::ptrdiff_t>(pick));
  }
  return slots;
}

inline std::vector<int32_t> random_positions(int64_t rows, Rng& rng) {
  std::vector<int32_t> positions;
  for (int64_t row = 0; row < rows; ++row) positions.push_back(static_cast<int32_t>(rng.below(kPositions)));
  return positions;
}

// Exact values with padding rows zeroed, as read_slots returns them.
inline void skip_padding(ExactHeads& e, const std::vector<int32_t>& slots) {
  const size_t width = slots.empty() ? 0 : e.values.size() / slots.size();
  for (size_t i = 0; i < e.values.size(); ++i)
    if (slots[i / width] < 0) e.values[i] = 0.0f;
}

struct ProjectionTypes {
  DType weights, q;
  DType a = weights;
};
inline const ProjectionTypes kProjectionTypes[] = {{DType::f32, DType::f32},
                                                   {DType::bf16, DType::bf16},
                                                   {DType::bf16, DType::f32},
                                                   {DType::fp8_e4m3, DType::bf16, DType::bf16},
                                                   {DType::fp8_e4m3, DType::f32, DType::f32}};
// Their activations are quantized: sums are those of linear, whose test says what they are.
inline const ProjectionTypes kIntegerProjectionTypes[] = {{DType::int8, DType::bf16, DType::bf16},
                                                          {DType::int4, DType::f32, DType::f32}};

struct NormedTypes {
  ProjectionTypes types;
  bool normed;
};

inline std::vector<NormedTypes> with_and_without_norms() {
  std::vector<NormedTypes> all;
  for (const ProjectionTypes& types : kProjectionTypes)
    for (const bool normed : {false, true}) all.push_back({types, normed});
  return all;
}

inline std::vector<ProjectionTypes> all_types() {
  std::vector<ProjectionTypes> types(std::begin(kProjectionTypes), std::end(kProjectionTypes));
  types.insert(types.end(), std::begin(kIntegerProjectionTypes), std::end(kIntegerProjectionTypes));
  return types;
}

struct Qkv {
  Qkv(const HeadShape& h, const CacheKind& kind, const ProjectionTypes& types, int64_t num_rows, int64_t width,
      uint64_t seed)
      : rng(seed),
        heads(h),
        rows(num_rows),
        d(width),
        a(types.a, random_values(rng, rows * d)),
        w(types.weights, Layout::panels, (h.num_heads + 2 * h.num_kv_heads) * h.head_dim, d,
          random_values(rng, (h.num_heads + 2 * h.num_kv_heads) * h.head_dim * d)),
        bias(random_values(rng, w.matrix.n)),
        rope(rope_rows(kPositions, h.head_dim)),
        positions(random_positions(rows, rng)),
        slots(scattered_slots(rows, blocks(), rng)),
        q(types.q, rows * h.num_heads * h.head_dim),
        cache({kind.dtype, kind.scales, h.num_kv_heads, h.head_dim}, blocks()),
        q_norm(random_values(rng, h.head_dim)),
        k_norm(random_values(rng, h.head_dim)) {}

  int32_t blocks() const { return static_cast<int32_t>(rows / kBlockTokens + 2); }

  QkvRopeCacheParams params(int64_t first, int64_t count) const {
    return {count,
            heads.num_heads,
            heads.num_kv_heads,
            heads.head_dim,
            a.activation_at(first * d),
            w.matrix,
            bias.data(),
            rope.data(),
            positions.data() + first,
            slots.data() + first,
            q.activation_at(first * heads.num_heads * heads.head_dim),
            cache.view(),
            false,
            normed ? q_norm.data() : nullptr,
            normed ? k_norm.data() : nullptr,
            kEps};
  }

  void clear() {
    q = Tensor(q.dtype, q.count);
    cache = Cache(cache.shape, cache.num_blocks);
  }

  Rng rng;
  HeadShape heads;
  int64_t rows, d;
  Tensor a;
  Weights w;
  std::vector<float> bias, rope;
  std::vector<int32_t> positions, slots;
  Tensor q;
  Cache cache;
  std::vector<float> q_norm, k_norm;
  bool normed = false;
};

struct Project {
  Project(const HeadShape& h, const CacheKind& kind, DType weights, int32_t num_groups, int64_t num_rows, int64_t width,
          uint64_t seed)
      : rng(seed),
        heads(h),
        groups(num_groups),
        rows(num_rows),
        d(width),
        x(random_values(rng, rows * d, 2.0f)),
        norm(random_values(rng, d)),
        w(weights, Layout::panels, groups * 2 * h.num_kv_heads * h.head_dim, d,
          random_values(rng, groups * 2 * h.num_kv_heads * h.head_dim * d)),
        bias(random_values(rng, w.matrix.n)),
        rope(rope_rows(kPositions, h.head_dim)),
        positions(random_positions(rows, rng)),
        slots(scattered_slots(rows, blocks(), rng)),
        k_norm(random_values(rng, groups * h.head_dim)) {
    for (int32_t g = 0; g < groups; ++g)
      caches.emplace_back(CacheShape{kind.dtype, kind.scales, h.num_kv_heads, h.head_dim}, blocks());
    refresh();
  }

  int32_t blocks() const { return static_cast<int32_t>(rows / kBlockTokens + 2); }

  void refresh() {
    views.clear();
    for (const Cache& c : caches) views.push_back(c.view());
  }

  void clear() {
    for (Cache& c : caches) c = Cache(c.shape, c.num_blocks);
    refresh();
  }

  std::vector<Bytes> pages() const {
    std::vector<Bytes> all;
    for (const Cache& c : caches) all.push_back(c.memory);
    return all;
  }

  SwiftkvProjectParams params(int64_t first, int64_t count) const {
    return {count,
            d,
            groups,
            heads.num_kv_heads,
            heads.head_dim,
            x.data() + first * d,
            norm.data(),
            kEps,
            w.matrix,
            bias.data(),
            rope.data(),
            positions.data() + first,
            slots.data() + first,
            views.data(),
            false,
            false,
            normed ? k_norm.data() : nullptr};
  }

  Rng rng;
  HeadShape heads;
  int32_t groups;
  int64_t rows, d;
  std::vector<float> x, norm;
  Weights w;
  std::vector<float> bias, rope;
  std::vector<int32_t> positions, slots;
  std::vector<float> k_norm;
  bool normed = false;
  std::vector<Cache> caches;
  std::vector<KvCache> views;
};

}  // namespace swiftkv::test
