// swiftkv_project on the host's executor: pages of all groups, skipped rows, and row invariance over all tiles.
#include <doctest/doctest.h>

#include "projections.h"

namespace swiftkv::test {
namespace {

// The problem with its weights on the device.
struct DeviceProject {
  explicit DeviceProject(const Project& p) : problem(p), w(p.w) {}

  Status run(const SimtDevice& device, int64_t first, int64_t count) const {
    SwiftkvProjectParams params = problem.params(first, count);
    params.w = w.matrix();
    params.fp8_activations = fp8_activations;
    params.bf16_activations = bf16_activations;
    return device.run(&cuda::swiftkv_project, params, &cuda::swiftkv_project_scratch);
  }

  const Project& problem;
  DeviceWeights w;
  bool fp8_activations = false, bf16_activations = false;
};

struct ProjectTypes {
  DType weights;
  bool fp8_activations = false, bf16_activations = false;
};
const ProjectTypes kProjectTypes[] = {
    {DType::f32},  {DType::bf16}, {DType::fp8_e4m3}, {DType::fp8_e4m3, false, true}, {DType::fp8_e4m3, true, true},
    {DType::int8}, {DType::int4},
};

std::string text(const ProjectTypes& t) {
  return std::string(dtype_name(t.weights)) + (t.fp8_activations ? " in fp8" : "") +
         (t.bf16_activations ? " bf16" : "");
}

void check_stored(const Project& p, const Project& reference, double sums_error) {
  for (size_t g = 0; g < p.caches.size(); ++g) {
    INFO("group ", g);
    std::vector<float> k, v, expected_k, expected_v;
    read_pages(p.caches[g], p.slots, k, v);
    read_pages(reference.caches[g], p.slots, expected_k, expected_v);
    const DType dtype = p.caches[g].shape.dtype;
    CHECK(difference(k, expected_k, stored_tolerance(expected_k, dtype, sums_error)) == "");
    CHECK(difference(v, expected_v, stored_tolerance(expected_v, dtype, sums_error)) == "");
  }
}

// What a z that rounds to the next value of its type, or to the next code, may move a sum by, of the largest sum.
double sums_error(const ProjectTypes& t) {
  switch (t.weights) {
    case DType::bf16: return 4 * kUnitBf16 / 8;
    case DType::fp8_e4m3: return t.fp8_activations ? 0x1p-6 : t.bf16_activations ? 4 * kUnitBf16 / 8 : 200 * kUnit;
    case DType::int8:
    case DType::int4: return 1.0 / 127;
    default: return 200 * kUnit;
  }
}

TEST_CASE("swiftkv_project writes keys and values of all groups as the scalar level does") {
  for (const HeadShape& heads : kTileHeadShapes)
    for (const ProjectTypes& types : kProjectTypes) {
      const CacheKind& kind =
          kCacheKinds[static_cast<size_t>(heads.head_dim / 2 + static_cast<int>(types.weights)) % 4];
      const int32_t groups = 1 + heads.num_heads % 3;
      const int64_t rows = heads.head_dim % 3 == 0 ? 35 : 9;
      INFO("Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " groups ", groups, " cache ", std::string(kind.name),
           " rows ", rows, " w ", text(types));
      Project p(heads, kind, types.weights, groups, rows, 41 + heads.head_dim % 3 * 31, 1);
      p.normed = heads.num_heads % 2 == 0;
      Project reference = p;
      reference.refresh();
      SwiftkvProjectParams expected = reference.params(0, rows);
      expected.fp8_activations = types.fp8_activations;
      expected.bf16_activations = types.bf16_activations;
      run_reference(&cpu::scalar::swiftkv_project, expected, &cpu::scalar::swiftkv_project_scratch);
      p.refresh();
      DeviceProject device(p);
      device.fp8_activations = types.fp8_activations;
      device.bf16_activations = types.bf16_activations;
      CHECK(why(device.run(SimtDevice(), 0, rows)) == "");
      check_stored(p, reference, sums_error(types));
    }
}

TEST_CASE("swiftkv_project: more groups than one launch takes") {
  Project p({1, 1, 8}, kCacheKinds[1], DType::bf16, 131, 5, 24, 2);
  p.normed = true;
  Project reference = p;
  reference.refresh();
  run_reference(&cpu::scalar::swiftkv_project, reference.params(0, 5), &cpu::scalar::swiftkv_project_scratch);
  p.refresh();
  CHECK(why(DeviceProject(p).run(SimtDevice(), 0, 5)) == "");
  check_stored(p, reference, sums_error({DType::bf16}));
}

TEST_CASE("swiftkv_project: pages have the same bytes in any call, with any tile") {
  for (const HeadShape& heads : {HeadShape{4, 2, 64}, HeadShape{3, 3, 24}, HeadShape{1, 1, 256}, HeadShape{1, 1, 264}})
    for (const ProjectTypes& types : kProjectTypes) {
      const CacheKind& kind =
          kCacheKinds[static_cast<size_t>(heads.num_kv_heads + static_cast<int>(types.weights)) % 4];
      INFO("hd ", heads.head_dim, " cache ", std::string(kind.name), " w ", text(types));
      Project p(heads, kind, types.weights, 2, heads.head_dim == 64 ? 70 : 35, 66, 3);
      p.normed = heads.head_dim != 64;
      DeviceProject on_device(p);
      on_device.fp8_activations = types.fp8_activations;
      on_device.bf16_activations = types.bf16_activations;
      CHECK(why(on_device.run(SimtDevice(chip_of(1)), 0, p.rows)) == "");
      const std::vector<Bytes> whole = p.pages();
      p.clear();
      for_each_row_chunking(
          p.rows,
          [&](const SimtDevice& device, int64_t first, int64_t count) {
            CHECK(why(on_device.run(device, first, count)) == "");
          },
          [&] {
            // All bytes: what belongs to no row must still be as it was.
            for (size_t g = 0; g < whole.size(); ++g)
              CHECK(bit_difference(p.caches[g].memory.data(), whole[g].data(), whole[g].size(), 1) == "");
            p.clear();
          });
    }
}

TEST_CASE("swiftkv_project has the same bytes under every schedule") {
  for (const HeadShape& heads : {HeadShape{2, 2, 64}, HeadShape{1, 1, 272}})
    for (const ProjectTypes& types : {kProjectTypes[1], kProjectTypes[3], kProjectTypes[4]}) {
      INFO("hd ", heads.head_dim, " w ", text(types));
      Project p(heads, kCacheKinds[2], types.weights, heads.num_kv_heads, 20, 136, 4);
      DeviceProject on_device(p);
      on_device.fp8_activations = types.fp8_activations;
      on_device.bf16_activations = types.bf16_activations;
      CHECK(why(on_device.run(SimtDevice(), 0, p.rows)) == "");
      const std::vector<Bytes> first = p.pages();
      for_each_schedule([&] {
        p.clear();
        CHECK(why(on_device.run(SimtDevice(), 0, p.rows)) == "");
        for (size_t g = 0; g < first.size(); ++g)
          CHECK(bit_difference(p.caches[g].memory.data(), first[g].data(), first[g].size(), 1) == "");
      });
    }
}

}  // namespace
}  // namespace swiftkv::test
