// Ops called alone: no number in a user's tensor may lead a kernel out of its operands.
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "core/index_checks.h"
#include "core/op_call.h"
#include "core_fake_backend.h"
#include "core_operands.h"

using namespace swiftkv;
using namespace swiftkv::test;

namespace {

std::string index_error(OpKind kind, const Operands& operands, const Attrs& attrs = {}) {
  const BoundOp op = bind_op(kind, operands, attrs);
  const Status s = check_indices(op);
  CHECK((s.ok() || s.code == Code::invalid_argument));
  return s.message;
}

// A half of two sequences: rows 0..2 of table row 1 at positions 15..17, row 3 of table row 0 at position 0.
struct Half {
  std::vector<int32_t> positions = {15, 16, 17, 0};
  std::vector<int32_t> query_start = {0, 3, 4};
  std::vector<int32_t> context_len = {18, 1};
  std::vector<int32_t> table_row = {1, 0};
  std::vector<int32_t> block_tables = {4, -1, 2, 0};  // -1: beyond the context, not read
  KvCache cache = cache_of(5, 2, 6);

  std::string error(OpKind kind = OpKind::attention) const {
    const Operands operands = {{"q", f32({4, 4, 6})},
                               {"cache", CacheView{&cache}},
                               {"positions", i32({4}, positions.data())},
                               {"queryStart", i32({3}, query_start.data())},
                               {"contextLen", i32({2}, context_len.data())},
                               {"tableRow", i32({2}, table_row.data())},
                               {"blockTables", i32({2, 2}, block_tables.data())},
                               {"o", f32({4, 24})}};
    return index_error(kind, operands, {{"scale", 0.4}});
  }
};

Tensor tensor_of(const std::shared_ptr<OpenDevice>& device, const std::vector<int32_t>& values) {
  Tensor t = make_tensor(device, DType::i32, {static_cast<int64_t>(values.size())}, Layout::row_major);
  write_bytes(t, 0, values.data(), values.size() * sizeof(int32_t));
  return t;
}

std::string run_error(OpCall& call) {
  return message_of([&] { call.run(); });
}

}  // namespace

TEST_CASE("index checks: token ids, slots, rows and blocks are held within their operands") {
  const KvCache cache = cache_of(3, 1, 4);
  const auto embed = [&](std::vector<int32_t> ids) {
    return index_error(OpKind::embed, {{"ids", i32({2}, ids.data())}, {"table", f32({9, 4})}, {"x", f32({2, 4})}});
  };
  CHECK(embed({0, 8}) == "");
  CHECK(embed({0, 9}) == "embed: ids[1] is 9, expected 0 to 8");
  CHECK(embed({-1, 0}) == "embed: ids[0] is -1, expected 0 to 8");

  const auto quantize = [&](int32_t slot) {
    return index_error(
        OpKind::kv_quantize,
        {{"cache", CacheView{&cache}}, {"slots", i32({1}, &slot)}, {"k", f32({1, 1, 4})}, {"v", f32({1, 1, 4})}});
  };
  CHECK(quantize(-1) == "");
  CHECK(quantize(47) == "");
  CHECK(quantize(48) == "kv_quantize: slots[0] is 48, expected -1 to 47");
  CHECK(quantize(-2) != "");
  const auto dequantize = [&](int32_t slot) {
    return index_error(
        OpKind::kv_dequantize,
        {{"cache", CacheView{&cache}}, {"slots", i32({1}, &slot)}, {"k", f32({1, 1, 4})}, {"v", f32({1, 1, 4})}});
  };
  CHECK(dequantize(47) == "");
  CHECK(dequantize(-1) != "");

  const auto gather = [&](int32_t row) {
    return index_error(OpKind::gather_rows, {{"x", f32({5, 4})}, {"index", i32({1}, &row)}, {"out", f32({1, 4})}});
  };
  CHECK(gather(4) == "");
  CHECK(gather(5) == "gather_rows: index[0] is 5, expected 0 to 4");
}

TEST_CASE("index checks: positions beyond the RoPE table and samplers beyond theirs") {
  const auto q_rope = [&](int32_t position) {
    return index_error(OpKind::q_rope, {{"a", f32({1, 8})},
                                        {"w", packed(DType::f32, 12, 8)},
                                        {"rope", f32({20, 6})},
                                        {"positions", i32({1}, &position)},
                                        {"q", f32({1, 2, 6})}});
  };
  CHECK(q_rope(19) == "");
  CHECK(q_rope(20) == "q_rope: positions[0] is 20, expected 0 to 19");
  const auto sample = [&](int32_t slot, int32_t position) {
    return index_error(OpKind::sample, {{"logits", f32({1, 8})},
                                        {"samplers", SamplersView{nullptr, 4, 8}},
                                        {"slots", i32({1}, &slot)},
                                        {"outputPositions", i32({1}, &position)},
                                        {"ids", i32({1})}});
  };
  CHECK(sample(3, 2147483647) == "");
  CHECK(sample(4, 0) == "sample: slots[0] is 4, expected 0 to 3");
  CHECK(sample(0, -1) != "");
}

TEST_CASE("index checks: block copies may not race") {
  std::byte memory[2] = {};
  const std::vector<KvCache> caches = {cache_of(6, 1, 4, &memory[0]), cache_of(6, 2, 8, &memory[1])};
  const auto copy = [&](std::vector<int32_t> from, std::vector<int32_t> to) {
    return index_error(
        OpKind::copy_blocks,
        {{"from", i32({2}, from.data())}, {"to", i32({2}, to.data())}, {"caches", CacheListView{caches.data(), 2}}});
  };
  CHECK(copy({0, 0}, {1, 2}) == "");
  CHECK(copy({0, 6}, {1, 2}) == "copy_blocks: from[1] is 6, expected 0 to 5");
  CHECK(copy({0, 1}, {2, -1}) == "copy_blocks: to[1] is -1, expected 0 to 5");
  CHECK(copy({0, 1}, {2, 2}) == "copy_blocks: block 2 is written twice by copies");
  CHECK(copy({0, 1}, {1, 2}) == "copy_blocks: block 1 is both read and written by copies");
}

TEST_CASE("index checks: every number that attention follows") {
  for (OpKind kind : {OpKind::attention, OpKind::attention_decode, OpKind::attention_prefill}) {
    CHECK(Half{}.error(kind) == "");
  }
  const auto broken = [](auto&& change) {
    Half half;
    change(half);
    return half.error();
  };
  CHECK(broken([](Half& h) { h.query_start = {0, 3, 5}; }) ==
        "attention: query starts go from 0 to 5, expected 0 to the 4 rows");
  CHECK(broken([](Half& h) { h.query_start = {1, 3, 4}; }) != "");
  CHECK(broken([](Half& h) { h.query_start = {0, 7, 4}; }) ==
        "attention: query start 1 is 7 after 0, expected them to ascend to 4");
  CHECK(broken([](Half& h) { h.query_start = {0, -1, 4}; }) != "");
  CHECK(broken([](Half& h) { h.positions[2] = 18; }) ==
        "attention: position of row 2 is 18, expected less than 18: the context of its sequence 0");
  CHECK(broken([](Half& h) { h.positions[3] = -1; }) != "");
  CHECK(broken([](Half& h) { h.context_len[0] = 33; }) ==
        "attention: context length of sequence 0 is 33, expected 0 to 32");
  CHECK(broken([](Half& h) { h.context_len[0] = -1; }) != "");
  CHECK(broken([](Half& h) { h.table_row[1] = 2; }) ==
        "attention: block table row of sequence 1 is 2, expected 0 to 1");
  CHECK(broken([](Half& h) { h.table_row[1] = -1; }) != "");
  CHECK(broken([](Half& h) { h.block_tables[3] = 5; }) ==
        "attention: block 1 of sequence 0 (table row 1) is 5, expected 0 to 4");
  CHECK(broken([](Half& h) { h.block_tables[0] = -1; }) != "");
  // Exactly at the block edge the second block is no longer read.
  CHECK(broken([](Half& h) {
          h.context_len[0] = 16;
          h.positions = {13, 14, 15, 0};
          h.block_tables[3] = 99;
        }) == "");
}

TEST_CASE("op call: the kernel reads the indices that were checked, not what is written meanwhile") {
  const auto device = open_fake();
  const Tensor ids = tensor_of(device, {1, 2});
  const Tensor table = make_tensor(device, DType::f32, {9, 4}, Layout::row_major);
  const Tensor x = make_tensor(device, DType::f32, {2, 4}, Layout::row_major);
  OpCall call(device, "embed", {{"ids", ids}, {"table", table}, {"x", x}}, {});
  fake(*device).on_op = [&](OpKind, const void* params) {
    const auto& p = *static_cast<const EmbedParams*>(params);
    CHECK(p.ids != ids.view.data);
    const int32_t bad[2] = {1000000, -1000000};
    write_bytes(ids, 0, bad, sizeof bad);
    CHECK(p.ids[0] == 1);
    CHECK(p.ids[1] == 2);
    CHECK(p.table.data == table.view.data);
    return Status{};
  };
  const size_t before = device->allocated_bytes();
  call.run();
  CHECK(fake(*device).ops.size() == 1);
  CHECK(device->allocated_bytes() == before);  // copies are gone, and scratch does not count
  CHECK(run_error(call) == "embed: ids[0] is 1000000, expected 0 to 8");
  CHECK(fake(*device).ops.size() == 1);
}

TEST_CASE("op call: no rows, no kernel; failures carry the op's name and code") {
  const auto device = open_fake();
  const auto call_on = [&](int64_t rows) {
    const Tensor in = make_tensor(device, DType::bf16, {rows, 4}, Layout::row_major);
    const Tensor out = make_tensor(device, DType::f32, {rows, 4}, Layout::row_major);
    return std::make_unique<OpCall>(device, "copy_rows", OperandList{{"in", in}, {"out", out}}, AttrList{});
  };
  call_on(0)->run();
  CHECK(fake(*device).ops.empty());
  fake(*device).on_op = [](OpKind, const void*) { return fail(Code::numeric, "row %d is odd", 1); };
  CHECK(run_error(*call_on(2)) == "copy_rows: row 1 is odd");
  CHECK_THROWS_AS(OpCall(device, "copy_cows", {}, {}), Error);
}

TEST_CASE("op call: operands of another device, and of a closed one, are refused") {
  const auto device = open_fake();
  const auto other = open_fake();
  const Tensor in = make_tensor(other, DType::f32, {1, 4}, Layout::row_major);
  const Tensor out = make_tensor(device, DType::f32, {1, 4}, Layout::row_major);
  CHECK(message_of([&] { OpCall(device, "copy_rows", {{"in", in}, {"out", out}}, {}); }) ==
        "copy_rows: operand in: Expected operands of one device but received one of another");
  const Tensor mine = make_tensor(device, DType::f32, {1, 4}, Layout::row_major);
  OpCall call(device, "copy_rows", {{"in", mine}, {"out", out}}, {});
  device->close();
  CHECK(run_error(call) == "the fake device has been closed");
  CHECK(message_of([&] { OpCall(device, "copy_rows", {{"in", mine}, {"out", out}}, {}); }).find("closed") !=
        std::string::npos);
}

TEST_CASE("op call: it owns its operands") {
  const auto device = open_fake();
  std::unique_ptr<OpCall> call;
  {
    const auto pool = KvPool::create(
        device, 2, {{1, 4, DType::f32, KvScales::none, {}, {}}, {2, 8, DType::bf16, KvScales::none, {}, {}}});
    const std::vector<CacheRef> caches = {{pool, 0}, {pool, 1}};
    call = std::make_unique<OpCall>(
        device, "copy_blocks",
        OperandList{{"from", tensor_of(device, {0})}, {"to", tensor_of(device, {1})}, {"caches", caches}}, AttrList{});
  }
  fake(*device).on_op = [](OpKind, const void* params) {
    const auto& p = *static_cast<const CopyBlocksParams*>(params);
    CHECK(p.num_caches == 2);
    CHECK(p.caches[1].num_kv_heads == 2);
    p.caches[1].data[p.caches[1].block_bytes * 2 - 1] = std::byte{1};
    return Status{};
  };
  call->run();
  call.reset();
  CHECK(device->allocated_bytes() == 0);
}
