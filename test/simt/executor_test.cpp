// The executor on small kernels whose results are known: indices, barriers, collectives, copies, fragments.
#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "backends/cuda/convert.h"
#include "backends/cuda/ptx.h"
#include "backends/cuda/warp.h"
#include "compare.h"
#include "generators.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

using namespace swiftkv::cuda;

__global__ void write_indices(int* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<int>(block * 1000 + thread);
}

TEST_CASE("every thread of every block runs once") {
  for_each_schedule([] {
    std::vector<int> out(2 * 3 * 5 * 64, -1);
    CHECK(why(launch("write_indices", &write_indices, dim3(2, 3, 5), dim3(8, 4, 2), 0, nullptr, out.data())) == "");
    for (size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == static_cast<int>(i / 64 * 1000 + i % 64));
  });
}

// Rotates through shared memory: right only if every barrier is kept.
__global__ void rotate(int* data, int rounds) {
  SWIFTKV_DYNAMIC_SHARED(int, shared);
  const unsigned i = threadIdx.x, n = blockDim.x;
  int value = data[i];
  for (int round = 0; round < rounds; ++round) {
    shared[i] = value;
    __syncthreads();
    value = shared[(i + 1) % n];
    __syncthreads();
  }
  data[i] = value;
}

TEST_CASE("barriers hold every thread [race]") {
  for_each_schedule([] {
    std::vector<int> data(160), expected(160);
    std::iota(data.begin(), data.end(), 0);
    for (size_t i = 0; i < data.size(); ++i) expected[i] = static_cast<int>((i + 7) % data.size());
    CHECK(why(launch("rotate", &rotate, dim3(1), dim3(160), 160 * sizeof(int), nullptr, data.data(), 7)) == "");
    CHECK(data == expected);
  });
}

__global__ void leave_something(float* found) {
  SWIFTKV_SHARED(float, left, [3]);
  if (threadIdx.x == 0) found[blockIdx.x] = left[2];
  __syncthreads();
  left[threadIdx.x % 3] = 1.0f;
}

TEST_CASE("a static variable in shared memory holds nothing of the block before") {
  for_each_schedule([] {
    std::vector<float> found(4, 0.0f);
    CHECK(why(launch("leave_something", &leave_something, dim3(4), dim3(64), 0, nullptr, found.data())) == "");
    for (const float x : found) CHECK(std::isnan(x));
  });
}

__global__ void reduce(const float* x, float* sums, int n) {
  SWIFTKV_SHARED(float, partial, [8]);
  float sum = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += x[i];
  sum = block_sum(sum, partial);
  sums[threadIdx.x] = sum;
}

TEST_CASE("block_sum gives every thread the same bits [race]") {
  Rng rng(1);
  const std::vector<float> x = random_values(rng, 1000);
  const double expected = std::accumulate(x.begin(), x.end(), 0.0);
  std::vector<float> first;
  for_each_schedule([&] {
    std::vector<float> sums(256);
    CHECK(why(launch("reduce", &reduce, dim3(1), dim3(256), 0, nullptr, x.data(), sums.data(), 1000)) == "");
    CHECK(difference(sums, std::vector<float>(256, static_cast<float>(expected)), 1000 * kUnit * 10, 0) == "");
    if (first.empty()) first = sums;
    CHECK(sums == first);
  });
}

__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int* row = out + threadIdx.x * 8;
  row[0] = __shfl_sync(kAllLanes, lane, 5);
  row[1] = __shfl_sync(kAllLanes, lane, 1, 8);
  row[2] = __shfl_up_sync(kAllLanes, lane, 3, 16);
  row[3] = __shfl_down_sync(kAllLanes, lane, 2);
  row[4] = __shfl_xor_sync(kAllLanes, lane, 16);
  row[5] = static_cast<int>(__ballot_sync(kAllLanes, lane % 3 == 0));
  row[6] = __any_sync(kAllLanes, lane == 31) * 2 + __all_sync(kAllLanes, lane < 31);
  const double wide = __shfl_xor_sync(kAllLanes, lane + 0.5, 1);
  if (lane < 8) __syncwarp(0xffu);
  row[7] = static_cast<int>(2 * wide);
}

TEST_CASE("shuffles and votes of a warp [race]") {
  for_each_schedule([] {
    std::vector<int> out(64 * 8);
    CHECK(why(launch("shuffles", &shuffles, dim3(1), dim3(64), 0, nullptr, out.data())) == "");
    for (int thread = 0; thread < 64; ++thread) {
      const int lane = thread % 32;
      const std::vector<int> row(out.begin() + thread * 8, out.begin() + thread * 8 + 8);
      CHECK(row == std::vector<int>{5, lane / 8 * 8 + 1, lane % 16 < 3 ? lane : lane - 3, lane < 30 ? lane + 2 : lane,
                                    lane ^ 16, 0x49249249, 2, 2 * (lane ^ 1) + 1});
    }
  });
}

TEST_CASE("several threads of the process launch") {
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&wrong] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<int> data(64);
        std::iota(data.begin(), data.end(), 0);
        const Status s = launch("rotate", &rotate, dim3(1), dim3(64), 64 * sizeof(int), nullptr, data.data(), 3);
        wrong += !s.ok() || data[0] != 3 || data[63] != 2;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
}

// C [16 m, 8 n] = A [16 m, k] B [k, 8 n], a warp per tile; a ring of two buffers of A and of B transposed (Bt [8 n,
// k]).
template <bool kTransposed>
__global__ void small_gemm(const bf16* a, const bf16* b, float* c, int n, int k) {
  SWIFTKV_DYNAMIC_SHARED(bf16, shared);
  constexpr int kStride = 24;  // elements of a row of 16, padded so that ldmatrix meets no bank twice
  bf16* tile_a = shared;
  bf16* tile_b = shared + 2 * 16 * kStride;
  const int lane = static_cast<int>(threadIdx.x), tile_row = static_cast<int>(blockIdx.x) * 16,
            tile_column = static_cast<int>(blockIdx.y) * 8;
  const auto fetch = [&](int step) {
    if (step * 16 < k) {
      bf16* to_a = tile_a + step % 2 * 16 * kStride;
      bf16* to_b = tile_b + step % 2 * 16 * kStride;
      ptx::cp_async_16(to_a + lane / 2 * kStride + lane % 2 * 8,
                       a + (tile_row + lane / 2) * int64_t{k} + step * 16 + lane % 2 * 8);
      if (kTransposed) {  // B [k, n]: 16 rows of 8
        if (lane < 16) ptx::cp_async_16(to_b + lane * kStride, b + (step * 16 + lane) * int64_t{n} + tile_column);
      } else if (lane < 16) {  // Bt [n, k]: 8 rows of 16
        ptx::cp_async_16(to_b + lane / 2 * kStride + lane % 2 * 8,
                         b + (tile_column + lane / 2) * int64_t{k} + step * 16 + lane % 2 * 8);
      }
    }
    ptx::cp_async_commit();
  };
  float d[4] = {};
  fetch(0);
  for (int step = 0; step * 16 < k; ++step) {
    fetch(step + 1);
    ptx::cp_async_wait<1>();
    __syncwarp();
    uint32_t fa[4], fb[2];
    const bf16* from_a = tile_a + step % 2 * 16 * kStride;
    const bf16* from_b = tile_b + step % 2 * 16 * kStride;
    ptx::ldmatrix_x4(fa, from_a + lane % 16 * kStride + lane / 16 * 8);
    if (kTransposed)
      ptx::ldmatrix_x2_trans(fb, from_b + lane % 16 * kStride);
    else
      ptx::ldmatrix_x2(fb, from_b + lane % 8 * kStride + lane / 8 % 2 * 8);
    ptx::mma_bf16(d, fa, fb);
    __syncwarp();
  }
  const int row = tile_row + lane / 4, column = tile_column + lane % 4 * 2;
  c[row * n + column] = d[0];
  c[row * n + column + 1] = d[1];
  c[(row + 8) * n + column] = d[2];
  c[(row + 8) * n + column + 1] = d[3];
}

TEST_CASE("cp.async, ldmatrix and mma make a matrix product [race]") {
  constexpr int kM = 32, kN = 24, kK = 80;
  Rng rng(2);
  const auto a = random_values(rng, kM * kK), b = random_values(rng, kK * kN);
  std::vector<bf16> ha, hb(kK * kN), hbt(kK * kN);
  for (float x : a) ha.push_back(to_bf16(x));
  for (int k = 0; k < kK; ++k) {
    for (int n = 0; n < kN; ++n) {
      hb[static_cast<size_t>(k * kN + n)] = to_bf16(b[static_cast<size_t>(k * kN + n)]);
      hbt[static_cast<size_t>(n * kK + k)] = hb[static_cast<size_t>(k * kN + n)];
    }
  }
  std::vector<float> expected;
  for (int m = 0; m < kM; ++m) {
    for (int n = 0; n < kN; ++n) {
      double sum = 0;
      for (int k = 0; k < kK; ++k)
        sum += double{to_f32(ha[static_cast<size_t>(m * kK + k)])} * to_f32(hb[static_cast<size_t>(k * kN + n)]);
      expected.push_back(static_cast<float>(sum));
    }
  }
  for_each_schedule([&] {
    for (const bool transposed : {false, true}) {
      std::vector<float> c(kM * kN);
      simt::reset_statistics();
      CHECK(why(launch("small_gemm", transposed ? &small_gemm<true> : &small_gemm<false>, dim3(kM / 16, kN / 8),
                       dim3(32), 4 * 16 * 24 * sizeof(bf16), nullptr, ha.data(), transposed ? hb.data() : hbt.data(),
                       c.data(), kN, kK)) == "");
      CHECK(difference(c, expected, kK * kUnit * kK, 0) == "");
      CHECK(simt::statistics().mma == uint64_t{kM / 16 * kN / 8 * kK / 16});
      CHECK(simt::statistics().ldmatrix_bank_conflicts == 0);
    }
  });
}

TEST_CASE("conversions have the bits of core/dtype.h") {
  for (int code = 0; code < 256; ++code) {
    const fp8_e4m3 x{static_cast<uint8_t>(code)};
    if (std::isnan(to_f32(x)))
      CHECK(std::isnan(load_f32(x)));
    else
      CHECK(load_f32(x) == to_f32(x));
  }
  Rng rng(3);
  for (int i = 0; i < 100000; ++i) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(rng.next()));
    if (std::isnan(x)) continue;
    REQUIRE(store_as<bf16>(x).bits == to_bf16(x).bits);
    REQUIRE(store_as<f16>(x).bits == to_f16(x).bits);
    REQUIRE(store_as<fp8_e4m3>(x).bits == to_fp8_e4m3(x).bits);
  }
}

}  // namespace
}  // namespace swiftkv::test
