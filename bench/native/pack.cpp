// How fast weights are packed: bytes of source a second and a thread, for every dtype that a matrix is kept in.
//
// Usage: bench_pack [repeats]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "backends/cpu/memory.h"
#include "backends/cpu/pack.h"

namespace {

using namespace swiftkv;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Rows of a source that stays in the second-level cache, into a matrix that does not.
void run(DType source_type, DType dtype, int64_t k, int repeats) {
  constexpr int64_t kRows = 64, kPieces = 64;
  const int64_t n = kRows * kPieces;
  std::vector<float> values(static_cast<size_t>(kRows * k));
  uint32_t r = 1;
  for (float& x : values) {
    r = r * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int32_t>(r)) * 0x1p-31f;
  }
  std::vector<uint16_t> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    halves[i] = source_type == DType::bf16 ? to_bf16(values[i]).bits : to_f16(values[i]).bits;
  const void* source = source_type == DType::f32 ? static_cast<const void*>(values.data()) : halves.data();

  const size_t bytes = cpu::matrix_bytes(dtype, Layout::panels, n, k);
  void* memory = nullptr;
  check(cpu::allocate(bytes, &memory));
  cpu::touch(memory, bytes);
  const Matrix matrix{memory, dtype, Layout::panels, n, k};
  std::vector<double> times;
  for (int i = 0; i <= repeats; ++i) {
    const double start = seconds();
    for (int64_t piece = 0; piece < kPieces; ++piece)
      check(cpu::pack({source, source_type, kRows, piece * kRows, matrix}));
    if (i > 0) times.push_back(seconds() - start);
  }
  cpu::release(memory, bytes);
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  std::printf("%-4s -> %-8s k %5lld  %6.2f GB/s of source, %5.2f ns an element\n", dtype_name(source_type),
              dtype_name(dtype), static_cast<long long>(k),
              static_cast<double>(n * k * dtype_bytes(source_type)) / median * 1e-9,
              median / static_cast<double>(n * k) * 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::atoi(argv[1]) : 5;
  for (DType source : {DType::bf16, DType::f16, DType::f32})
    for (DType dtype : {DType::f32, DType::bf16, DType::fp8_e4m3, DType::int8, DType::int4})
      run(source, dtype, 2048, repeats);
}
