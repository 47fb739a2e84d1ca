#include "fixtures.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>

#include "backends/cpu/pack.h"

namespace swiftkv::test {

Bytes::Bytes(size_t size) : size_(size) {
  void* data = nullptr;
  if (posix_memalign(&data, 64, size == 0 ? 1 : size) != 0) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(data);
  std::memset(data_, 0xff, size);
}

Bytes::Bytes(const Bytes& other) : Bytes(other.size_) {
  std::memcpy(data_, other.data_, size_);
}

Bytes::Bytes(Bytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Bytes& Bytes::operator=(Bytes other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Bytes::~Bytes() {
  std::free(data_);
}

Tensor::Tensor(DType type, int64_t n) : dtype(type), count(n), memory(static_cast<size_t>(n * dtype_bytes(type))) {}

Tensor::Tensor(DType type, const std::vector<float>& values) : Tensor(type, static_cast<int64_t>(values.size())) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32)
      f32()[i] = values[i];
    else
      reinterpret_cast<bf16*>(memory.data())[i] = to_bf16(values[i]);
  }
}

std::vector<float> Tensor::floats() const {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = dtype == DType::f32 ? f32()[i] : to_f32(reinterpret_cast<const bf16*>(memory.data())[i]);
  return values;
}

Weights::Weights(DType dtype, Layout layout, int64_t n, int64_t k, const std::vector<float>& row_major)
    : memory(cpu::matrix_bytes(dtype, layout, n, k)),
      matrix{memory.data(), dtype, layout, n, k},
      values(static_cast<size_t>(n * k)) {
  std::memset(memory.data(), 0, memory.size());
  check(cpu::pack({row_major.data(), DType::f32, n, 0, matrix}));
  check(cpu::unpack(matrix, values.data()));
}

Cache::Cache(const CacheShape& s, int32_t blocks)
    : shape(s), num_blocks(blocks), memory(static_cast<size_t>(blocks) * static_cast<size_t>(view().block_bytes)) {
  if (shape.scales != KvScales::per_head) return;
  for (int32_t h = 0; h < shape.num_kv_heads; ++h) {
    k_scale.push_back(0.004f + 0.001f * static_cast<float>(h));
    v_scale.push_back(0.003f + 0.002f * static_cast<float>(h));
  }
}

KvCache Cache::view() const {
  const int64_t head_bytes = 2 * kBlockTokens * shape.head_dim * dtype_bytes(shape.dtype) +
                             (shape.scales == KvScales::dynamic ? 2 * kBlockTokens * 4 : 0);
  const bool per_head = shape.scales == KvScales::per_head;
  return {memory.data(),
          shape.dtype,
          shape.scales,
          num_blocks,
          shape.num_kv_heads,
          shape.head_dim,
          head_bytes,
          head_bytes * shape.num_kv_heads,
          per_head ? k_scale.data() : nullptr,
          per_head ? v_scale.data() : nullptr};
}

int32_t blocks_needed(const std::vector<Sequence>& sequences) {
  int32_t blocks = 0;
  for (const Sequence& s : sequences) blocks += (s.context_len + kBlockTokens - 1) / kBlockTokens;
  return blocks;
}

Half::Half(const std::vector<Sequence>& seqs, int32_t num_blocks, Rng& rng) : sequences(seqs), table_stride(1) {
  std::vector<int32_t> free(static_cast<size_t>(num_blocks));
  std::iota(free.begin(), free.end(), 0);
  for (const Sequence& s : seqs)
    table_stride = std::max(table_stride, (s.context_len + kBlockTokens - 1) / kBlockTokens + 1);
  const size_t stride = static_cast<size_t>(table_stride), count = seqs.size();
  block_tables.assign(count * stride, -1);
  query_start.push_back(0);
  for (size_t b = 0; b < count; ++b) {
    // Tables are used in reverse, so that table_row is not the identity.
    const size_t row = count - 1 - b;
    table_row.push_back(static_cast<int32_t>(row));
    for (int32_t i = 0; i * kBlockTokens < seqs[b].context_len; ++i) {
      const size_t pick = static_cast<size_t>(rng.below(static_cast<int64_t>(free.size())));
      block_tables[row * stride + static_cast<size_t>(i)] = free[pick];
      free.erase(free.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    context_len.push_back(seqs[b].context_len);
    for (int32_t p = seqs[b].context_len - seqs[b].query_rows; p < seqs[b].context_len; ++p) positions.push_back(p);
    query_start.push_back(static_cast<int32_t>(positions.size()));
  }
}

RowsView Half::view() const {
  return {static_cast<int64_t>(positions.size()),
          static_cast<int32_t>(sequences.size()),
          positions.data(),
          query_start.data(),
          context_len.data(),
          table_row.data(),
          block_tables.data(),
          table_stride};
}

int32_t Half::slot(int64_t sequence, int64_t position) const {
  const int64_t row = table_row[static_cast<size_t>(sequence)];
  const int32_t block = block_tables[static_cast<size_t>(row * table_stride + position / kBlockTokens)];
  return block * kBlockTokens + static_cast<int32_t>(position % kBlockTokens);
}

std::vector<int32_t> Half::slots() const {
  std::vector<int32_t> all;
  for (size_t b = 0; b < sequences.size(); ++b)
    for (int32_t i = query_start[b]; i < query_start[b + 1]; ++i)
      all.push_back(slot(static_cast<int64_t>(b), positions[static_cast<size_t>(i)]));
  return all;
}

}  // namespace swiftkv::test
