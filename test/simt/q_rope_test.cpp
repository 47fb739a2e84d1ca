// q_rope on the host's executor: exact heads, row invariance over all tiles, and agreement with qkv_rope_cache.
#include <doctest/doctest.h>

#include "projections.h"

namespace swiftkv::test {
namespace {

QRopeParams query_params(const Qkv& p, const Matrix& w, const Tensor& q, int64_t first, int64_t count) {
  return {count,
          p.heads.num_heads,
          p.heads.head_dim,
          p.a.activation_at(first * p.d),
          w,
          p.bias.data(),
          p.rope.data(),
          p.positions.data() + first,
          q.activation_at(first * p.heads.num_heads * p.heads.head_dim),
          false,
          p.normed ? p.q_norm.data() : nullptr,
          kEps};
}

Status run(const SimtDevice& device, const QRopeParams& params) {
  return device.run(&cuda::q_rope, params, &cuda::q_rope_scratch);
}

Weights query_weights(const Qkv& p) {
  const int64_t n = int64_t{p.heads.num_heads} * p.heads.head_dim;
  return {p.w.matrix.dtype, Layout::panels, n, p.d, {p.w.values.begin(), p.w.values.begin() + n * p.d}};
}

TEST_CASE("q_rope equals double sums, and its rows have the same bits in any call") {
  for (const HeadShape& heads : kTileHeadShapes)
    for (const auto& [types, normed] : with_and_without_norms()) {
      Qkv p(heads, kCacheKinds[0], types, heads.head_dim == 64 ? 71 : 18, 50 + heads.head_dim % 7, 1);
      p.normed = normed;
      INFO("Hq ", heads.num_heads, " hd ", heads.head_dim, " ", text(types), " normed ", normed);
      const Weights w = query_weights(p);
      const DeviceWeights device_w(w);
      CHECK(why(run(SimtDevice(chip_of(1)), query_params(p, device_w.matrix(), p.q, 0, p.rows))) == "");
      const ExactHeads exact = exact_heads(p.a.floats(), w, p.bias.data(), 0, heads.num_heads, heads.head_dim,
                                           p.positions, p.rope.data(), normed ? p.q_norm.data() : nullptr, kEps);
      const std::vector<float> whole = p.q.floats();
      CHECK(difference(whole, exact.values, rounded_tolerance(exact, types.q)) == "");
      if (!normed) continue;
      p.clear();
      for_each_row_chunking(
          p.rows,
          [&](const SimtDevice& device, int64_t first, int64_t count) {
            CHECK(why(run(device, query_params(p, device_w.matrix(), p.q, first, count))) == "");
          },
          [&] {
            CHECK(bit_difference(p.q.floats(), whole) == "");
            p.clear();
          });
    }
}

TEST_CASE("q_rope and qkv_rope_cache give the same bits for the same query weights") {
  for (const ProjectionTypes& types : {kProjectionTypes[0], kProjectionTypes[1], kProjectionTypes[2]}) {
    Qkv p({4, 2, 80}, kCacheKinds[0], types, 18, 100, 5);
    p.normed = true;
    const DeviceWeights all(p.w);
    QkvRopeCacheParams params = p.params(0, p.rows);
    params.w = all.matrix();
    CHECK(why(SimtDevice().run(&cuda::qkv_rope_cache, params, &cuda::qkv_rope_cache_scratch)) == "");
    const DeviceWeights w(query_weights(p));
    const Tensor q(types.q, p.q.count);
    CHECK(why(run(SimtDevice(), query_params(p, w.matrix(), q, 0, p.rows))) == "");
    CHECK(bit_difference(q.floats(), p.q.floats()) == "");
  }
}

}  // namespace
}  // namespace swiftkv::test
