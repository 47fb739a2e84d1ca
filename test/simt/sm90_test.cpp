// Hopper's instructions on the executor: products of warpgroups in every layout of shared memory, and a pipeline of
// bulk copies, compared with plain loops; then what goes wrong with them.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "backends/cuda/ptx_sm90.h"
#include "compare.h"
#include "generators.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

using namespace swiftkv::cuda;
using ptx::Swizzle;

constexpr int kM = 64, kN = 128, kK = 128;

constexpr int row_bytes(Swizzle s) {
  return s == Swizzle::bytes_128 ? 128 : s == Swizzle::bytes_64 ? 64 : s == Swizzle::bytes_32 ? 32 : 16;
}

// Where the 16 bytes at (row, 8 chunk..) of a K-major tile of `rows` rows lie: panels of one swizzled row's width.
__device__ inline int place(Swizzle s, int rows, int row, int chunk) {
  const int width = row_bytes(s), per_row = width / 16;
  const int offset = chunk / per_row * rows * width + row * width + chunk % per_row * 16;
  const int mask = per_row - 1;
  return offset ^ ((offset >> 7 & mask) << 4);
}

template <Swizzle kSwizzle>
__device__ inline uint64_t descriptor(const unsigned char* tile, int rows, int k) {
  constexpr int kWidth = row_bytes(kSwizzle);
  const int chunk = k / 8, per_row = kWidth / 16;
  const unsigned char* start = tile + chunk / per_row * rows * kWidth + chunk % per_row * 16;
  return ptx::wgmma_descriptor(ptx::shared_address(start), static_cast<uint32_t>(rows * kWidth), 8 * kWidth, kSwizzle);
}

struct Mistake {
  bool no_proxy_fence, no_wgmma_fence, no_wait, other_descriptor;
};

// C [64, 128] = A [64, 128] B^T, B [128, 128] K-major, through cp.async.
template <Swizzle kSwizzle>
__global__ void wgmma_gemm(const bf16* a, const bf16* b, float* c, Mistake mistake) {
  SWIFTKV_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char *tile_a = shared, *tile_b = shared + kM * kK * 2;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kM * kK / 8; i += 128)
    ptx::cp_async_16(tile_a + place(kSwizzle, kM, i / (kK / 8), i % (kK / 8)), a + i * 8);
  for (int i = thread; i < kN * kK / 8; i += 128)
    ptx::cp_async_16(tile_b + place(kSwizzle, kN, i / (kK / 8), i % (kK / 8)), b + i * 8);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  if (!mistake.no_proxy_fence) ptx::proxy_fence();
  __syncthreads();
  float d[kN / 2];
  if (!mistake.no_wgmma_fence) ptx::wgmma_fence();
  for (int k = 0; k < kK; k += 16) {
    const int at = mistake.other_descriptor && thread == 77 ? 0 : k;
    ptx::wgmma_bf16<kN>(d, descriptor<kSwizzle>(tile_a, kM, at), descriptor<kSwizzle>(tile_b, kN, k), k > 0);
  }
  ptx::wgmma_commit();
  if (!mistake.no_wait) ptx::wgmma_wait<0>();
  const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  for (int i = 0; i < kN / 2; ++i) c[(row + i / 2 % 2 * 8) * kN + i / 4 * 8 + column + i % 2] = d[i];
}

// The same with A in registers and B [k, n] as it is in memory: MN-major, 128-byte swizzle, two panels of 64 columns.
__global__ void wgmma_registers(const bf16* a, const bf16* b, float* c) {
  SWIFTKV_DYNAMIC_SHARED(unsigned char, shared);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kK * kN / 8; i += 128) {
    const int k = i / (kN / 8), chunk = i % (kN / 8);
    const int offset = chunk / 8 * kK * 128 + k * 128 + chunk % 8 * 16;
    *reinterpret_cast<uint4*>(shared + (offset ^ ((offset >> 7 & 7) << 4))) =
        *reinterpret_cast<const uint4*>(b + i * 8);
  }
  ptx::proxy_fence();
  __syncthreads();
  const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  float d[kN / 2] = {};
  for (int k = 0; k < kK; k += 16) {
    uint32_t fragment[4];
    for (int i = 0; i < 4; ++i)
      fragment[i] = *reinterpret_cast<const uint32_t*>(a + (row + i % 2 * 8) * kK + k + column + i / 2 * 8);
    ptx::wgmma_fence();
    ptx::wgmma_bf16<kN, true>(d, fragment,
                              ptx::wgmma_descriptor(ptx::shared_address(shared) + static_cast<uint32_t>(k * 128),
                                                    kK * 128, 1024, Swizzle::bytes_128),
                              true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
  }
  for (int i = 0; i < kN / 2; ++i) c[(row + i / 2 % 2 * 8) * kN + i / 4 * 8 + column + i % 2] = d[i];
}

struct Matrices {
  std::vector<bf16> a, b, b_transposed;  // [M, K], [N, K], [K, N]
  std::vector<float> c;
};

Matrices matrices() {
  Rng rng(4);
  Matrices m;
  for (float x : random_values(rng, kM * kK)) m.a.push_back(to_bf16(x));
  for (float x : random_values(rng, kN * kK)) m.b.push_back(to_bf16(x));
  m.b_transposed.resize(m.b.size());
  for (int n = 0; n < kN; ++n) {
    for (int k = 0; k < kK; ++k) m.b_transposed[static_cast<size_t>(k * kN + n)] = m.b[static_cast<size_t>(n * kK + k)];
  }
  for (int i = 0; i < kM; ++i) {
    for (int n = 0; n < kN; ++n) {
      double sum = 0;
      for (int k = 0; k < kK; ++k)
        sum += double{to_f32(m.a[static_cast<size_t>(i * kK + k)])} * to_f32(m.b[static_cast<size_t>(n * kK + k)]);
      m.c.push_back(static_cast<float>(sum));
    }
  }
  return m;
}

// K sums of magnitude up to K, each rounded once.
constexpr double kAllowed = kK * kUnit * kK;

using GemmKernel = void (*)(const bf16*, const bf16*, float*, Mistake);
constexpr size_t kGemmShared = (kM + kN) * kK * 2;

TEST_CASE("wgmma multiplies tiles in every swizzle [race]") {
  const Matrices m = matrices();
  for_each_schedule([&] {
    for (GemmKernel kernel : {&wgmma_gemm<Swizzle::bytes_128>, &wgmma_gemm<Swizzle::bytes_64>,
                              &wgmma_gemm<Swizzle::bytes_32>, &wgmma_gemm<Swizzle::none>}) {
      std::vector<float> c(kM * kN);
      CHECK(why(launch("wgmma_gemm", kernel, dim3(1), dim3(128), kGemmShared, nullptr, m.a.data(), m.b.data(), c.data(),
                       Mistake{})) == "");
      CHECK(difference(c, m.c, kAllowed, 0) == "");
    }
  });
}

TEST_CASE("wgmma takes A from registers and B transposed [race]") {
  const Matrices m = matrices();
  for_each_schedule([&] {
    std::vector<float> c(kM * kN);
    CHECK(why(launch("wgmma_registers", &wgmma_registers, dim3(1), dim3(128), kN * kK * 2, nullptr, m.a.data(),
                     m.b_transposed.data(), c.data())) == "");
    CHECK(difference(c, m.c, kAllowed, 0) == "");
  });
}

TEST_CASE("what is forgotten around wgmma is found") {
  const Matrices m = matrices();
  const auto run = [&](Mistake mistake, std::vector<float>& c) {
    return why(launch("wgmma_gemm", GemmKernel{&wgmma_gemm<Swizzle::bytes_128>}, dim3(1), dim3(128), kGemmShared,
                      nullptr, m.a.data(), m.b.data(), c.data(), mistake));
  };
  for_each_schedule([&] {
    std::vector<float> c(kM * kN);
    CHECK(run({true, false, false, false}, c).find(" by cp.async without a proxy_fence") != std::string::npos);
    CHECK(run({false, true, false, false}, c).find("wgmma without a wgmma_fence") != std::string::npos);
    CHECK(run({false, false, false, true}, c).find("thread 77 of the warpgroup gives wgmma other operands") !=
          std::string::npos);
  });
  const simt::ScopedSchedule late({simt::Order::in_order, simt::Landing::late, 0});
  std::vector<float> c(kM * kN);
  CHECK(run({false, false, true, false}, c) == "");
  for (float x : c) REQUIRE(x != x);
}

// out[i] = sum over the tiles of x: one producer thread, a ring of two buffers, 64 consumers.
struct Pipeline {
  bool no_wait, no_empty_wait, too_few_bytes, no_init_fence;
};

__global__ void sum_tiles(const float* x, float* out, int tiles, Pipeline mistake) {
  SWIFTKV_DYNAMIC_SHARED(unsigned char, shared);
  constexpr int kTile = 64, kStages = 2;
  auto* buffer = reinterpret_cast<float*>(shared);
  auto* full = reinterpret_cast<uint64_t*>(shared + kStages * kTile * 4);
  uint64_t* empty = full + kStages;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int s = 0; s < kStages; ++s) {
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, kTile);
    }
    if (!mistake.no_init_fence) ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (thread >= kTile) {
    if (thread == kTile) {
      for (int t = 0; t < tiles; ++t) {
        const int s = t % kStages;
        const uint32_t round = static_cast<uint32_t>(t / kStages);
        while (!mistake.no_empty_wait && !ptx::mbarrier_try_wait(empty + s, (round & 1u) ^ 1u)) {
        }
        ptx::mbarrier_arrive_expect(full + s, kTile * 4 + (mistake.too_few_bytes ? 16 : 0));
        ptx::bulk_copy(buffer + s * kTile, x + t * kTile, kTile * 4, full + s);
      }
    }
    return;
  }
  float sum = 0.0f;
  for (int t = 0; t < tiles; ++t) {
    const int s = t % kStages;
    while (!mistake.no_wait && !ptx::mbarrier_try_wait(full + s, static_cast<uint32_t>(t / kStages) & 1u)) {
    }
    sum += buffer[s * kTile + thread];
    ptx::mbarrier_arrive(empty + s);
  }
  out[thread] = sum;
}

constexpr int kTiles = 7;

struct TileSums {
  alignas(16) float x[kTiles * 64];
  std::vector<float> expected;

  TileSums() : expected(64) {
    for (int i = 0; i < kTiles * 64; ++i) {
      x[i] = static_cast<float>(i % 37);
      expected[static_cast<size_t>(i % 64)] += x[i];
    }
  }
  std::string run(Pipeline mistake, std::vector<float>& out) const {
    out.assign(64, 0.0f);
    return why(
        launch("sum_tiles", &sum_tiles, dim3(1), dim3(96), 2 * 64 * 4 + 32, nullptr, x, out.data(), kTiles, mistake));
  }
};

TEST_CASE("bulk copies feed a pipeline through mbarriers [race]") {
  const TileSums sums;
  for_each_schedule([&] {
    std::vector<float> out;
    CHECK(sums.run({}, out) == "");
    CHECK(out == sums.expected);
  });
}

TEST_CASE("what is forgotten in a pipeline is found") {
  const TileSums sums;
  std::vector<float> out;
  int found = 0;
  for_each_schedule([&] {
    const std::string stuck = sums.run({false, false, true, false}, out);
    CHECK(stuck.find("deadlock, nobody can run: ") != std::string::npos);
    CHECK(stuck.find("at an mbarrier test/simt/sm90_test.cpp:") != std::string::npos);
    CHECK(sums.run({false, false, false, true}, out).find("initialised and not fenced") != std::string::npos);
    // The producer runs ahead of the consumers: more arrivals than the phase expects, or tiles lost.
    found += sums.run({false, true, false, false}, out) != "" || out != sums.expected;
  });
  CHECK(found > 0);
  const simt::ScopedSchedule late({simt::Order::in_order, simt::Landing::late, 0});
  sums.run({true, false, false, false}, out);
  CHECK(out != sums.expected);
}

__global__ void use_without_init(int*) {
  SWIFTKV_DYNAMIC_SHARED(uint64_t, barrier);
  ptx::mbarrier_arrive(barrier);
}

__global__ void copy_and_leave(const float* x) {
  SWIFTKV_DYNAMIC_SHARED(uint64_t, barrier);
  ptx::mbarrier_init(barrier, 1);
  ptx::mbarrier_init_fence();
  ptx::mbarrier_arrive_expect(barrier, 16);
  ptx::bulk_copy(barrier + 2, x, 16, barrier);
}

// Two warps hand a value to two others.
__global__ void hand_over(int* out) {
  SWIFTKV_DYNAMIC_SHARED(int, shared);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 64) {
    shared[thread] = thread;
    ptx::named_barrier_arrive(3, 128);
  } else {
    ptx::named_barrier_sync(3, 128);
    out[thread - 64] = shared[127 - thread];
  }
}

TEST_CASE("named barriers join some of a block [race]") {
  for_each_schedule([] {
    std::vector<int> out(64);
    CHECK(why(launch("hand_over", &hand_over, dim3(1), dim3(128), 256, nullptr, out.data())) == "");
    for (int i = 0; i < 64; ++i) CHECK(out[static_cast<size_t>(i)] == 63 - i);
  });
}

TEST_CASE("bulk copies want to be waited for") {
  const TileSums sums;
  const simt::ScopedSchedule late({simt::Order::in_order, simt::Landing::late, 0});
  CHECK(why(launch("copy_and_leave", &copy_and_leave, dim3(1), dim3(1), 32, nullptr, sums.x))
            .find("nobody has waited for this bulk copy, and the block ends") != std::string::npos);
}

TEST_CASE("mbarriers want to be initialised") {
  std::vector<int> out(64);
  CHECK(why(launch("use_without_init", &use_without_init, dim3(1), dim3(32), 64, nullptr, out.data()))
            .find("the mbarrier was not initialised") != std::string::npos);
}

}  // namespace
}  // namespace swiftkv::test
