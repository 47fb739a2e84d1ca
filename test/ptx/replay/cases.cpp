#include "cases.h"

#include "backends/cpu/scalar/ops.h"
#include "device_weights.h"
#include "fixtures.h"
#include "reference.h"

namespace swiftkv::test {
namespace {

void record(Recorder& r, const char* name, const Tensor& t) {
  r.memory(name, t.memory.data(), t.memory.size(), t.dtype == DType::bf16 ? "bf16" : "f32");
}

template <class T>
void record(Recorder& r, const char* name, const std::vector<T>& values) {
  r.memory(name, values.data(), values.size() * sizeof(T));
}

void record(Recorder& r, const Cache& c) {
  const char* type = c.shape.dtype == DType::f32 ? "f32" : c.shape.dtype == DType::bf16 ? "bf16" : "bytes";
  r.memory("cache", c.memory.data(), c.memory.size(), type);
  if (c.shape.scales != KvScales::per_head) return;
  record(r, "k_scale", c.k_scale);
  record(r, "v_scale", c.v_scale);
}

void record(Recorder& r, const Half& h) {
  record(r, "positions", h.positions);
  record(r, "query_start", h.query_start);
  record(r, "context_len", h.context_len);
  record(r, "table_row", h.table_row);
  record(r, "block_tables", h.block_tables);
}

void record(Recorder& r, const Matrix& w) {
  r.memory(
      "w", w.data,
      static_cast<size_t>(cuda::matrix_value_bytes(w.dtype, w.n, w.k) + cuda::matrix_scale_bytes(w.dtype, w.n, w.k)));
}

// Rows of which one writes nothing, one is zeros and one has a value that saturates nothing but is alone large.
Status kv_quantize(Recorder& r, int arch, const CacheShape& shape) {
  Rng rng(1);
  constexpr int64_t kRows = 5;
  const int64_t width = int64_t{shape.num_kv_heads} * shape.head_dim;
  std::vector<float> k = random_values(rng, kRows * width, 3.0f), v = random_values(rng, kRows * width, 0.01f);
  for (int64_t i = 0; i < width; ++i) k[static_cast<size_t>(width + i)] = 0.0f;
  v[7] = 1000.0f;
  const std::vector<int32_t> slots{17, 3, -1, 47, 16};
  const Cache cache(shape, 3);
  record(r, "k", k);
  record(r, "v", v);
  record(r, "slots", slots);
  record(r, cache);
  return r.run(arch, &cuda::kv_quantize, KvQuantizeParams{kRows, k.data(), v.data(), slots.data(), cache.view()});
}

// Attention of the sequences' rows over pages that the reference has filled.
Status attention(Recorder& r, int arch, const CacheShape& shape, int32_t num_heads, DType dtype, QuerySelect select,
                 const std::vector<Sequence>& sequences) {
  Rng rng(2);
  const int32_t blocks = blocks_needed(sequences);
  const Half half(sequences, blocks, rng);
  const Cache cache(shape, blocks);
  const int64_t width = int64_t{shape.num_kv_heads} * shape.head_dim;
  for (size_t s = 0; s < sequences.size(); ++s) {
    std::vector<int32_t> slots;
    for (int32_t i = 0; i < sequences[s].context_len; ++i) slots.push_back(half.slot(static_cast<int64_t>(s), i));
    const auto rows = static_cast<int64_t>(slots.size());
    const std::vector<float> k = random_values(rng, rows * width), v = random_values(rng, rows * width);
    run_reference(&cpu::scalar::kv_quantize, KvQuantizeParams{rows, k.data(), v.data(), slots.data(), cache.view()});
  }
  const auto rows = static_cast<int64_t>(half.positions.size());
  const Tensor q(dtype, random_values(rng, rows * num_heads * shape.head_dim));
  const Tensor o(dtype, rows * num_heads * shape.head_dim);
  record(r, half);
  record(r, cache);
  record(r, "q", q);
  record(r, "o", o);
  const AttentionParams p{half.view(), select, num_heads, q.activation(), cache.view(), 1.0f / 8.0f, o.activation()};
  const auto op = select == QuerySelect::one_row ? &cuda::attention_decode : &cuda::attention_prefill;
  return r.run(arch, op, p, &cuda::attention_scratch);
}

// Sequences that end at block and split edges.
Status attention_decode(Recorder& r, int arch, const CacheShape& shape, int32_t num_heads, DType dtype) {
  return attention(r, arch, shape, num_heads, dtype, QuerySelect::one_row, {{1, 1}, {16, 1}, {45, 1}, {300, 1}});
}

// Prompts: a whole one that ends behind a block, one that goes on, and one whose rows cross the edge of a split.
Status attention_prefill(Recorder& r, int arch, const CacheShape& shape, int32_t num_heads, DType dtype) {
  return attention(r, arch, shape, num_heads, dtype, QuerySelect::many_rows, {{17, 17}, {40, 3}, {258, 4}});
}

Status linear(Recorder& r, int arch, DType a_dtype, DType w_dtype, int64_t rows, int64_t n, int64_t k) {
  Rng rng(3);
  const Tensor a(a_dtype, random_values(rng, rows * k)), bias(DType::f32, random_values(rng, n));
  const Weights w(w_dtype, Layout::panels, n, k, random_values(rng, n * k));
  const DeviceWeights device_w(w);
  const Tensor y(DType::f32, random_values(rng, rows * n));
  record(r, "a", a);
  record(r, "bias", bias);
  record(r, device_w.matrix());
  record(r, "y", y);
  const LinearParams p{rows, a.activation(), device_w.matrix(), bias.f32(), true, y.activation()};
  return r.run(arch, &cuda::linear, p, &cuda::linear_scratch);
}

Status quantize_rows(Recorder& r, int arch, DType dtype) {
  Rng rng(5);
  constexpr int64_t kRows = 3, kDim = 200;
  std::vector<float> values = random_values(rng, kRows * kDim, 5.0f);
  for (int64_t i = 0; i < kDim; ++i) values[static_cast<size_t>(kDim + i)] = 0.0f;
  const Tensor a(dtype, values), scales(DType::f32, kRows);
  std::vector<uint8_t> codes(kRows * kDim, 0xff);
  record(r, "a", a);
  record(r, "codes", codes);
  record(r, "scales", scales);
  return r.run(arch, &cuda::quantize_rows, QuantizeRowsParams{kRows, kDim, a.activation(), codes.data(), scales.f32()});
}

Status qkv_rope_cache(Recorder& r, int arch, const CacheShape& shape) {
  Rng rng(6);
  constexpr int64_t kRows = 5, kDim = 96;
  constexpr int32_t kHeads = 4;
  const int64_t n = (kHeads + 2 * int64_t{shape.num_kv_heads}) * shape.head_dim;
  const Tensor a(DType::bf16, random_values(rng, kRows * kDim)), bias(DType::f32, random_values(rng, n));
  const Tensor rope(DType::f32, random_values(rng, 64 * shape.head_dim));
  const Tensor q(DType::bf16, kRows * kHeads * shape.head_dim);
  const Weights w(DType::bf16, Layout::panels, n, kDim, random_values(rng, n * kDim));
  const DeviceWeights device_w(w);
  const std::vector<int32_t> positions{0, 1, 2, 40, 63}, slots{17, 3, -1, 47, 16};
  const Cache cache(shape, 3);
  record(r, "a", a);
  record(r, "bias", bias);
  record(r, "rope", rope);
  record(r, "q", q);
  record(r, device_w.matrix());
  record(r, "positions", positions);
  record(r, "slots", slots);
  record(r, cache);
  const QkvRopeCacheParams p{.rows = kRows,
                             .num_heads = kHeads,
                             .num_kv_heads = shape.num_kv_heads,
                             .head_dim = shape.head_dim,
                             .a = a.activation(),
                             .w = device_w.matrix(),
                             .bias = bias.f32(),
                             .rope = rope.f32(),
                             .positions = positions.data(),
                             .slots = slots.data(),
                             .q = q.activation(),
                             .cache = cache.view()};
  return r.run(arch, &cuda::qkv_rope_cache, p, &cuda::qkv_rope_cache_scratch);
}

Status swiftkv_project(Recorder& r, int arch, DType w_dtype, const CacheShape& shape) {
  Rng rng(4);
  constexpr int64_t kRows = 5, kDim = 96;
  constexpr int32_t kGroups = 2;
  const int64_t n = kGroups * 2 * int64_t{shape.num_kv_heads} * shape.head_dim;
  const Tensor x(DType::f32, random_values(rng, kRows * kDim)), norm(DType::f32, random_values(rng, kDim));
  const Tensor bias(DType::f32, random_values(rng, n)), rope(DType::f32, random_values(rng, 64 * shape.head_dim));
  const Weights w(w_dtype, Layout::panels, n, kDim, random_values(rng, n * kDim));
  const DeviceWeights device_w(w);
  const std::vector<int32_t> positions{0, 1, 2, 40, 63}, slots{17, 3, -1, 47, 16};
  const Cache first(shape, 3), second(shape, 3);
  const KvCache caches[kGroups] = {first.view(), second.view()};
  record(r, "x", x);
  record(r, "norm", norm);
  record(r, "bias", bias);
  record(r, "rope", rope);
  record(r, device_w.matrix());
  record(r, "positions", positions);
  record(r, "slots", slots);
  record(r, first);
  record(r, second);
  const SwiftkvProjectParams p{.rows = kRows,
                               .dim = kDim,
                               .num_groups = kGroups,
                               .num_kv_heads = shape.num_kv_heads,
                               .head_dim = shape.head_dim,
                               .x = x.f32(),
                               .norm = norm.f32(),
                               .eps = 1e-5f,
                               .w = device_w.matrix(),
                               .bias = bias.f32(),
                               .rope = rope.f32(),
                               .positions = positions.data(),
                               .slots = slots.data(),
                               .caches = caches,
                               .bf16_activations = w_dtype == DType::fp8_e4m3};
  return r.run(arch, &cuda::swiftkv_project, p, &cuda::swiftkv_project_scratch);
}

constexpr CacheShape kF32{DType::f32, KvScales::none, 2, 64};
constexpr CacheShape kBf16{DType::bf16, KvScales::none, 2, 64};
constexpr CacheShape kDynamic{DType::fp8_e4m3, KvScales::dynamic, 2, 64};
constexpr CacheShape kPerHead{DType::fp8_e4m3, KvScales::per_head, 2, 64};

}  // namespace

const ReplayCase kReplayCases[] = {
    {"kv_quantize f32 sm_80", [](Recorder& r) { return kv_quantize(r, 80, kF32); }},
    {"kv_quantize bf16 sm_80", [](Recorder& r) { return kv_quantize(r, 80, kBf16); }},
    {"kv_quantize fp8-dynamic sm_80", [](Recorder& r) { return kv_quantize(r, 80, kDynamic); }},
    {"kv_quantize fp8-dynamic sm_89", [](Recorder& r) { return kv_quantize(r, 89, kDynamic); }},
    {"kv_quantize fp8-per-head sm_89", [](Recorder& r) { return kv_quantize(r, 89, kPerHead); }},
    {"attention_decode bf16 sm_80", [](Recorder& r) { return attention_decode(r, 80, kBf16, 8, DType::bf16); }},
    {"attention_decode fp8-dynamic sm_89",
     [](Recorder& r) { return attention_decode(r, 89, kDynamic, 8, DType::bf16); }},
    {"attention_prefill bf16 sm_80", [](Recorder& r) { return attention_prefill(r, 80, kBf16, 8, DType::bf16); }},
    {"attention_prefill fp8-dynamic sm_89",
     [](Recorder& r) { return attention_prefill(r, 89, kDynamic, 8, DType::bf16); }},
    {"linear bf16 sm_80", [](Recorder& r) { return linear(r, 80, DType::bf16, DType::bf16, 17, 80, 96); }},
    {"linear bf16-one-row sm_80", [](Recorder& r) { return linear(r, 80, DType::bf16, DType::bf16, 1, 80, 96); }},
    {"linear fp8 sm_80", [](Recorder& r) { return linear(r, 80, DType::bf16, DType::fp8_e4m3, 17, 80, 96); }},
    {"linear fp8 sm_89", [](Recorder& r) { return linear(r, 89, DType::bf16, DType::fp8_e4m3, 17, 80, 96); }},
    {"linear f32 sm_80", [](Recorder& r) { return linear(r, 80, DType::f32, DType::f32, 3, 70, 96); }},
    {"linear int8 sm_80", [](Recorder& r) { return linear(r, 80, DType::bf16, DType::int8, 3, 70, 96); }},
    {"linear int4 sm_80", [](Recorder& r) { return linear(r, 80, DType::f32, DType::int4, 3, 70, 96); }},
    {"quantize_rows f32 sm_80", [](Recorder& r) { return quantize_rows(r, 80, DType::f32); }},
    {"quantize_rows bf16 sm_89", [](Recorder& r) { return quantize_rows(r, 89, DType::bf16); }},
    {"qkv_rope_cache bf16-to-bf16 sm_80", [](Recorder& r) { return qkv_rope_cache(r, 80, kBf16); }},
    {"qkv_rope_cache bf16-to-fp8 sm_89", [](Recorder& r) { return qkv_rope_cache(r, 89, kDynamic); }},
    {"swiftkv_project bf16-to-bf16 sm_80", [](Recorder& r) { return swiftkv_project(r, 80, DType::bf16, kBf16); }},
    {"swiftkv_project bf16-to-fp8 sm_89", [](Recorder& r) { return swiftkv_project(r, 89, DType::bf16, kDynamic); }},
    {"swiftkv_project fp8-to-fp8 sm_80", [](Recorder& r) { return swiftkv_project(r, 80, DType::fp8_e4m3, kDynamic); }},
};
const int kReplayCaseCount = static_cast<int>(sizeof kReplayCases / sizeof kReplayCases[0]);

}  // namespace swiftkv::test
