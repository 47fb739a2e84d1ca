// The op registry: what fits binds to the right params, what does not is said in words made from the checked values.
#include <doctest/doctest.h>
#include <cmath>
#include <string>
#include <vector>

#include "core/op_registry.h"
#include "core_operands.h"

using namespace swiftkv;
using namespace swiftkv::test;

namespace {

const Attrs kEps = {{"eps", 1e-5}};
const Attrs kAccumulate = {{"accumulate", true}};
const Attrs kPlain = {{"accumulate", false}};
const Attrs kHeads = {{"numHeads", 4.0}};

Operands rms_norm() {
  return {{"x", f32({3, 7})}, {"w", f32({7})}, {"out", bf16_view({3, 7})}};
}

Operands linear() {
  return {{"a", f32({3, 8})}, {"w", packed(DType::f32, 5, 8)}, {"bias", f32({5})}, {"y", f32({3, 5})}};
}

Operands qkv(const KvCache& cache) {
  return {{"a", f32({3, 10})},         {"w", packed(DType::f32, (4 + 2 * 2) * 6, 10)},
          {"rope", f32({20, 6})},      {"positions", i32({3})},
          {"slots", i32({3})},         {"q", f32({3, 4, 6})},
          {"cache", CacheView{&cache}}};
}

Operands attention(const KvCache& cache) {
  return {{"q", f32({3, 4, 6})},        {"cache", CacheView{&cache}}, {"positions", i32({3})},
          {"queryStart", i32({3})},     {"contextLen", i32({2})},     {"tableRow", i32({2})},
          {"blockTables", i32({4, 9})}, {"o", f32({3, 24})}};
}

}  // namespace

TEST_CASE("registry: every op has a spec under its own kind and name") {
  for (int i = 0; i < kOpCount; ++i) {
    const auto kind = static_cast<OpKind>(i);
    const OpSpec& spec = op_spec(kind);
    CHECK(spec.kind == kind);
    CHECK(find_op(spec.name) == kind);
    CHECK(spec.operands.size() <= kMaxOperands);
    CHECK(spec.attrs.size() <= kMaxAttrs);
  }
  CHECK_FALSE(find_op("rms_nrom").has_value());
  CHECK_THROWS_AS(op_spec(OpKind::count), Error);
}

TEST_CASE("registry: shapes that do not fit are named with what was expected and from where") {
  CHECK(bind_error(OpKind::rms_norm, rms_norm(), kEps) == "");
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "w", f32({5})), kEps) ==
        "rms_norm: operand w has shape [5], expected [d] with d = 7 from x");
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "out", f32({3, 7, 1})), kEps) ==
        "rms_norm: operand out has shape [3, 7, 1], expected [rows, d] with rows = 3 from x, d = 7 from x");
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "x", f32({})), kEps) ==
        "rms_norm: operand x has shape [], expected [rows, d]");
  CHECK(bind_error(OpKind::linear, with(linear(), "w", packed(DType::f32, 5, 9)), kPlain) ==
        "linear: operand w has shape [5, 9], expected [n, k] with k = 8 from a");
  CHECK(bind_error(OpKind::linear, with(linear(), "bias", f32({6})), kPlain) ==
        "linear: operand bias has shape [6], expected [n] with n = 5 from w");
  const KvCache cache = cache_of(8, 2, 6);
  CHECK(bind_error(OpKind::qkv_rope_cache, qkv(cache), kHeads) == "");
  CHECK(bind_error(OpKind::qkv_rope_cache, with(qkv(cache), "w", packed(DType::f32, 47, 10)), kHeads) ==
        "qkv_rope_cache: operand w has shape [47, 10], expected [(Hq + 2*Hk)*hd, d] with Hq = 4 from numHeads, "
        "Hk = 2 from cache, hd = 6 from cache, d = 10 from a");
  CHECK(bind_error(OpKind::attention, with(attention(cache), "queryStart", i32({2})), {{"scale", 0.4}}) ==
        "attention: operand queryStart has shape [2], expected [B + 1] with B = 2 from contextLen");
  const Operands silu = {{"gateUp", f32({2, 9})}, {"out", f32({2, 4})}};
  CHECK(bind_error(OpKind::silu_mul, silu) ==
        "silu_mul: operand gateUp has shape [2, 9], expected [rows, 2*ff] with rows = 2 from out, ff = 4 from out");
}

TEST_CASE("registry: dtypes, layouts and kinds") {
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "x", bf16_view({3, 7})), kEps) ==
        "rms_norm: operand x is bf16, expected f32");
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "out", i32({3, 7})), kEps) ==
        "rms_norm: operand out is i32, expected f32 or bf16");
  CHECK(bind_error(OpKind::linear, with(linear(), "w", packed(DType::bf16, 5, 8)), kPlain) ==
        "linear: operand w is bf16, expected f32 like a");
  CHECK(bind_error(OpKind::linear, with(linear(), "w", f32({5, 8})), kPlain) ==
        "linear: operand w has layout row_major, expected panels");
  CHECK(bind_error(OpKind::linear, with(linear(), "a", packed(DType::f32, 3, 8)), kPlain) ==
        "linear: operand a has layout panels, expected row_major");
  CHECK(bind_error(OpKind::linear, with(linear(), "y", bf16_view({3, 5})), kAccumulate) ==
        "linear: operand y is bf16, expected f32 with accumulate");
  CHECK(bind_error(OpKind::linear, with(linear(), "y", bf16_view({3, 5})), kPlain) == "");
  const KvCache cache = cache_of(8, 2, 6);
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "w", CacheView{&cache}), kEps) ==
        "rms_norm: Expected a tensor for operand w but received a cache");
  CHECK(bind_error(OpKind::qkv_rope_cache, with(qkv(cache), "cache", f32({1})), kHeads) ==
        "qkv_rope_cache: Expected a cache for operand cache but received a tensor");
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (Layout layout : {Layout::row_major, Layout::panels}) {
      const Operands embed = {
          {"ids", i32({2})}, {"table", TensorView::of(nullptr, dtype, {9, 4}, layout)}, {"x", f32({2, 4})}};
      CHECK(bind_error(OpKind::embed, embed) == "");
    }
  }
}

TEST_CASE("registry: missing, unknown and repeated names") {
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "w", {}), kEps) == "rms_norm: operand w is missing");
  CHECK(bind_error(OpKind::rms_norm, with(rms_norm(), "weight", f32({7})), kEps) ==
        "rms_norm: Expected operands x, w, out but received weight");
  Operands twice = rms_norm();
  twice.push_back(twice.front());
  CHECK(bind_error(OpKind::rms_norm, twice, kEps) == "rms_norm: operand x is given twice");
  CHECK(bind_error(OpKind::rms_norm, rms_norm()) == "rms_norm: attribute eps is missing");
  CHECK(bind_error(OpKind::rms_norm, rms_norm(), {{"eps", 1e-5}, {"epsilon", 1.0}}) ==
        "rms_norm: Expected attributes eps but received epsilon");
  CHECK(bind_error(OpKind::rms_norm, rms_norm(), {{"eps", true}}) == "rms_norm: Expected a number for attribute eps");
  CHECK(bind_error(OpKind::rms_norm, rms_norm(), {{"eps", NAN}}) ==
        "rms_norm: Expected a finite number for attribute eps");
  CHECK(bind_error(OpKind::linear, linear(), {{"accumulate", 1.0}}) ==
        "linear: Expected a boolean for attribute accumulate");
  const KvCache cache = cache_of(8, 2, 6);
  CHECK(bind_error(OpKind::qkv_rope_cache, qkv(cache), {{"numHeads", 3.5}}).find("Expected an integer") !=
        std::string::npos);
  CHECK(bind_error(OpKind::qkv_rope_cache, qkv(cache), {{"numHeads", 1e30}}).find("Expected an integer") !=
        std::string::npos);
}

TEST_CASE("registry: norms of heads need weights of the head's width and an eps") {
  const KvCache cache = cache_of(8, 2, 6);
  const AttrValue heads = 4.0;
  const Operands normed = with(with(qkv(cache), "qNorm", f32({6})), "kNorm", f32({6}));
  CHECK(bind_error(OpKind::qkv_rope_cache, normed, {{"numHeads", heads}, {"eps", 1e-6}}) == "");
  CHECK(bind_error(OpKind::qkv_rope_cache, normed, {{"numHeads", heads}}) ==
        "qkv_rope_cache: Expected a number above 0 for attribute eps with operand qNorm");
  CHECK(bind_error(OpKind::qkv_rope_cache, with(normed, "kNorm", f32({7})), {{"numHeads", heads}, {"eps", 1e-6}})
            .find("operand kNorm has shape [7], expected [hd] with hd = 6 from cache") != std::string::npos);
}

TEST_CASE("registry: heads, head widths and caches must agree") {
  const KvCache cache = cache_of(8, 2, 6);
  const KvCache three = cache_of(8, 3, 6);
  Operands odd_group = with(attention(cache), "cache", CacheView{&three});
  CHECK(bind_error(OpKind::attention, odd_group, {{"scale", 0.4}}) ==
        "attention: Expected query heads to be a multiple of the 3 KV heads but received 4");
  const KvCache wide = cache_of(8, 2, 8);
  CHECK(bind_error(OpKind::attention, with(attention(cache), "cache", CacheView{&wide}), {{"scale", 0.4}})
            .find("operand q has shape [3, 4, 6], expected [rows, Hq, hd] with hd = 8 from cache") !=
        std::string::npos);
  const Operands rope = {{"table", f32({4, 7})}, {"invFreq", f32({4})}};
  CHECK(bind_error(OpKind::rope_table, rope) == "rope_table: Expected an even head width hd up to 512 but received 7");
}

TEST_CASE("registry: swiftkv_project takes distinct caches of one geometry, as many as the weight has groups") {
  std::byte blocks[3] = {};
  std::vector<KvCache> caches = {cache_of(8, 2, 6, &blocks[0]), cache_of(8, 2, 6, &blocks[1]),
                                 cache_of(8, 2, 6, &blocks[2])};
  const auto operands = [&](int32_t count) -> Operands {
    return {{"x", f32({3, 10})},
            {"norm", f32({10})},
            {"w", packed(DType::bf16, 3 * 2 * 2 * 6, 10)},
            {"rope", f32({20, 6})},
            {"positions", i32({3})},
            {"slots", i32({3})},
            {"caches", CacheListView{caches.data(), count}}};
  };
  CHECK(bind_error(OpKind::swiftkv_project, operands(3), kEps) == "");
  CHECK(bind_error(OpKind::swiftkv_project, operands(2), kEps)
            .find("expected [groups*2*Hk*hd, d] with groups = 2 from caches") != std::string::npos);
  CHECK(bind_error(OpKind::swiftkv_project, operands(0), kEps).find("at least one cache") != std::string::npos);
  caches[1] = caches[2];
  CHECK(bind_error(OpKind::swiftkv_project, operands(3), kEps).find("operand caches[2] is the same cache as [1]") !=
        std::string::npos);
  caches[1] = cache_of(8, 4, 6, &blocks[1]);
  CHECK(bind_error(OpKind::swiftkv_project, operands(3), kEps)
            .find("operand caches[1] has 4 heads of 6, expected 2 heads of 6 like the first") != std::string::npos);
  caches[1] = cache_of(9, 2, 6, &blocks[1]);
  CHECK(bind_error(OpKind::swiftkv_project, operands(3), kEps).find("has 9 blocks, expected 8") != std::string::npos);
}

TEST_CASE("registry: sizes of zero are for rows only") {
  const Operands none = {{"x", f32({0, 7})}, {"w", f32({7})}, {"out", f32({0, 7})}};
  CHECK(bind_error(OpKind::rms_norm, none, kEps) == "");
  const Operands empty = {{"x", f32({3, 0})}, {"w", f32({0})}, {"out", f32({3, 0})}};
  CHECK(bind_error(OpKind::rms_norm, empty, kEps) == "rms_norm: Expected at least 1 but received d = 0 from x");
}

TEST_CASE("registry: logprobs takes both top outputs or neither, and no more than the vocabulary") {
  const Operands base = {{"logits", f32({2, 5})}, {"ids", i32({2})}, {"chosen", f32({2})}, {"rank", i32({2})}};
  CHECK(bind_error(OpKind::logprobs, base) == "");
  CHECK(bind_error(OpKind::logprobs, with(base, "topIds", i32({2, 3}))).find("together") != std::string::npos);
  const Operands top = with(with(base, "topIds", i32({2, 6})), "topLogprobs", f32({2, 6}));
  CHECK(bind_error(OpKind::logprobs, top).find("at most V = 5") != std::string::npos);
  const Operands sample = {{"logits", f32({2, 33})}, {"samplers", SamplersView{nullptr, 4, 33}},
                           {"slots", i32({2})},      {"outputPositions", i32({2})},
                           {"bitmask", i32({2, 1})}, {"ids", i32({2})}};
  CHECK(bind_error(OpKind::sample, sample).find("expected [masks, V/32] with V = 33 from logits") != std::string::npos);
  CHECK(bind_error(OpKind::sample, with(sample, "bitmask", i32({2, 2}))) == "");
}

TEST_CASE("registry: params carry sizes, pointers and attributes to the right fields") {
  float a[24], bias[5], y[15];
  const Operands operands = {
      {"y", f32({3, 5}, y)}, {"a", f32({3, 8}, a)}, {"bias", f32({5}, bias)}, {"w", packed(DType::f32, 5, 8)}};
  const OpParams params = make_params(bind_op(OpKind::linear, operands, kAccumulate));
  const auto& p = std::get<LinearParams>(params);
  CHECK(params_data(params) == &p);
  CHECK(p.rows == 3);
  CHECK(p.a.data == a);
  CHECK(p.bias == bias);
  CHECK(p.y.data == y);
  CHECK(p.accumulate);
  CHECK(p.w.n == 5);
  CHECK(p.w.k == 8);
  CHECK(p.w.layout == Layout::panels);
  const OpParams plain = make_params(bind_op(OpKind::linear, with(operands, "bias", {}), kPlain));
  CHECK(std::get<LinearParams>(plain).bias == nullptr);
  CHECK_FALSE(std::get<LinearParams>(plain).accumulate);

  const KvCache cache = cache_of(8, 2, 6);
  const OpParams half = make_params(bind_op(OpKind::attention_prefill, attention(cache), Attrs{{"scale", 0.25}}));
  const auto& at = std::get<AttentionParams>(half);
  CHECK(at.half.rows == 3);
  CHECK(at.half.num_seqs == 2);
  CHECK(at.half.table_stride == 9);
  CHECK(at.num_heads == 4);
  CHECK(at.scale == 0.25f);
  CHECK(at.select == QuerySelect::all);
  CHECK(at.cache.num_blocks == 8);
}

TEST_CASE("registry: results that share memory with another operand are refused") {
  float memory[64] = {};
  const auto error = [&](float* x, float* out) {
    const Operands operands = {{"x", f32({2, 4}, x)}, {"w", f32({4}, memory + 60)}, {"out", f32({2, 4}, out)}};
    return message_of([&] { check_overlap(bind_op(OpKind::rms_norm, operands, kEps)); });
  };
  CHECK(error(memory, memory + 8) == "");
  CHECK(error(memory + 8, memory) == "");
  CHECK(error(memory, memory) ==
        "rms_norm: operand out shares memory with operand x: results need memory of their own");
  CHECK(error(memory, memory + 7) != "");
  CHECK(error(memory + 7, memory) != "");
  std::vector<std::byte> blocks(static_cast<size_t>(cache_of(1, 1, 2).block_bytes));
  const KvCache cache = cache_of(1, 1, 2, blocks.data());
  const Operands read = {{"cache", CacheView{&cache}},
                         {"slots", i32({1}, memory)},
                         {"k", f32({1, 1, 2}, blocks.data() + 16)},
                         {"v", f32({1, 1, 2}, memory + 8)}};
  CHECK(message_of([&] { check_overlap(bind_op(OpKind::kv_dequantize, read, {})); }).find("operand k shares") !=
        std::string::npos);
}

TEST_CASE("registry: a result right behind a matrix of 4-bit codes shares nothing with it") {
  constexpr int64_t kBytes = 64 * 2 * 18;  // 64 rows of two groups: 16 bytes of codes and a scale each
  alignas(64) std::byte memory[kBytes + 1024] = {};
  const auto error = [&](std::byte* y) {
    const TensorView w = TensorView::of(memory, DType::int4, {64, 64}, Layout::panels);
    const Operands operands = {{"a", f32({1, 64}, memory + kBytes + 512)}, {"w", w}, {"y", f32({1, 64}, y)}};
    return message_of([&] { check_overlap(bind_op(OpKind::linear, operands, kAccumulate)); });
  };
  CHECK(error(memory + kBytes) == "");
  CHECK(error(memory + 1024) != "");
}

TEST_CASE("registry: row axes must agree, capacities alone do not") {
  TensorView x = f32({16, 7});
  x.shape[0].axis = Axis::T;
  TensorView out = f32({16, 7});
  out.shape[0].axis = Axis::S;
  const Operands mixed = {{"x", x}, {"w", f32({7})}, {"out", out}};
  CHECK(bind_error(OpKind::rms_norm, mixed, kEps) ==
        "rms_norm: operand out has shape [S (16), 7], expected [rows, d] with rows = T (16) from x, d = 7 from x");
  out.shape[0].axis = Axis::T;
  const BoundOp op = bind_op(OpKind::rms_norm, Operands{{"x", x}, {"w", f32({7})}, {"out", out}}, kEps);
  CHECK(op.sizes[static_cast<size_t>(Sym::rows)].axis == Axis::T);

  const KvCache cache = cache_of(8, 2, 6);
  Operands half = attention(cache);
  for (const char* name : {"q", "positions", "o"}) {
    for (NamedOperand& o : half) {
      if (o.name == name) std::get<TensorView>(o.view).shape[0].axis = Axis::T;
    }
  }
  for (NamedOperand& o : half) {
    if (o.name == "contextLen" || o.name == "tableRow" || o.name == "queryStart") {
      std::get<TensorView>(o.view).shape[0].axis = Axis::BS;
      std::get<TensorView>(o.view).shape[0].plus = o.name == "queryStart" ? 1 : 0;
    }
  }
  CHECK(bind_error(OpKind::attention, half, {{"scale", 0.4}}) ==
        "attention: Expected the sequences of rows on axis T but received sequences on axis BS");
}
