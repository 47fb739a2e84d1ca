// Operands of ops in memory of exactly their size, so that a sanitizer sees one byte too many. What nobody has written
// is filled with 0xff: NaN in f32, bf16 and fp8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/ops.h"
#include "generators.h"

namespace swiftkv::test {

// 64-byte aligned bytes, all 0xff.
class Bytes {
 public:
  explicit Bytes(size_t size);
  Bytes(const Bytes& other);
  Bytes(Bytes&& other) noexcept;
  Bytes& operator=(Bytes other) noexcept;
  ~Bytes();
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A dense tensor of f32 or bf16.
struct Tensor {
  Tensor(DType dtype, int64_t count);
  // Rounded to dtype.
  Tensor(DType dtype, const std::vector<float>& values);

  Activation activation() const { return {memory.data(), dtype}; }
  Activation activation_at(int64_t element) const { return {memory.data() + element * dtype_bytes(dtype), dtype}; }
  float* f32() const { return reinterpret_cast<float*>(memory.data()); }
  // Exact values.
  std::vector<float> floats() const;

  DType dtype;
  int64_t count;
  Bytes memory;
};

// A weight matrix in one of the layouts, packed by the backend.
struct Weights {
  Weights(DType dtype, Layout layout, int64_t n, int64_t k, const std::vector<float>& row_major);

  Bytes memory;
  Matrix matrix;
  std::vector<float> values;  // [n, k] after rounding to dtype
};

struct CacheShape {
  DType dtype;
  KvScales scales;
  int32_t num_kv_heads, head_dim;
};

// f32, bf16, fp8 with dynamic scales, fp8 with a scale per head.
struct CacheKind {
  DType dtype;
  KvScales scales;
  const char* name;
};
inline const std::vector<CacheKind> kCacheKinds{
    {DType::f32, KvScales::none, "f32"},
    {DType::bf16, KvScales::none, "bf16"},
    {DType::fp8_e4m3, KvScales::dynamic, "fp8 dynamic"},
    {DType::fp8_e4m3, KvScales::per_head, "fp8 per head"},
};

// One paged cache, unwritten.
struct Cache {
  Cache(const CacheShape& shape, int32_t num_blocks);
  KvCache view() const;

  CacheShape shape;
  int32_t num_blocks;
  std::vector<float> k_scale, v_scale;  // [Hk]
  Bytes memory;
};

// A sequence of a half: its last `query_rows` tokens are in this step.
struct Sequence {
  int32_t context_len;
  int32_t query_rows;
};

// The half's arrays over scattered blocks. Table entries past the context are -1: reading them leads nowhere good.
struct Half {
  // Blocks are drawn without repetition from [0, num_blocks).
  Half(const std::vector<Sequence>& sequences, int32_t num_blocks, Rng& rng);
  RowsView view() const;
  int32_t slot(int64_t sequence, int64_t position) const;
  // Slots of the half's rows.
  std::vector<int32_t> slots() const;

  std::vector<Sequence> sequences;
  std::vector<int32_t> positions, query_start, context_len, table_row, block_tables;
  int32_t table_stride;
};

int32_t blocks_needed(const std::vector<Sequence>& sequences);

}  // namespace swiftkv::test
