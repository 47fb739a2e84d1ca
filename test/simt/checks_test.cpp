// What the executor finds: one small wrong kernel per check, with the words that a developer reads.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "backends/cuda/ptx.h"
#include "backends/cuda/warp.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

using namespace swiftkv::cuda;

alignas(16) float source[256];

__global__ void barrier_for_some(int*) {
  if (threadIdx.x < 32) return;
  __syncthreads();
}
__global__ void barriers_apart(int*) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void barrier_against_shuffle(int* out) {
  if (threadIdx.x == 3) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(kAllLanes, out[threadIdx.x], 1);
}
__global__ void different_collectives(int* out) {
  if (threadIdx.x % 32 < 16)
    out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1, 1);
  else
    __syncwarp();
}
__global__ void different_masks(int* out) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0xffffu : kAllLanes;
  out[threadIdx.x] = __shfl_xor_sync(mask, 1, 1);
}
__global__ void exited_lane(int* out) {
  if (threadIdx.x % 32 == 31) return;
  out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1, 1);
}
__global__ void lane_outside_mask(int* out) {
  out[threadIdx.x] = __shfl_xor_sync(0xfffffffeu, 1, 0);
}
__global__ void source_outside_mask(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}
__global__ void misaligned_copy(int*) {
  SWIFTKV_DYNAMIC_SHARED(float, shared);
  ptx::cp_async_16(shared + threadIdx.x * 4 + 1, source);
}
__global__ void misaligned_source(int*) {
  SWIFTKV_DYNAMIC_SHARED(float, shared);
  ptx::cp_async_16(shared + threadIdx.x * 4, source + 1);
}
__global__ void copy_past_the_end(int*) {
  SWIFTKV_DYNAMIC_SHARED(float, shared);
  ptx::cp_async_16(shared + 4 * blockDim.x, source);
}
__global__ void misaligned_matrix(int*) {
  SWIFTKV_DYNAMIC_SHARED(uint16_t, shared);
  uint32_t r[4];
  ptx::ldmatrix_x4(r, shared + threadIdx.x % 32 * 4);
}
__global__ void matrix_past_the_end(int*) {
  SWIFTKV_DYNAMIC_SHARED(uint16_t, shared);
  uint32_t r[4];
  ptx::ldmatrix_x4(r, shared + threadIdx.x % 32 * 8 + 1024);
}
[[maybe_unused]] __global__ void store_past_the_end(int*) {
  SWIFTKV_DYNAMIC_SHARED(unsigned char, shared);
  volatile unsigned char* p = shared;
  if (threadIdx.x == 0) p[1024] = 1;
}
__global__ void traps(int*) {
  if (threadIdx.x == 7) __trap();
}

struct Wrong {
  const char* name;
  void (*kernel)(int*);
  std::vector<std::string> expected;  // one of these is in the text: which depends on who comes first
  unsigned threads = 64;
};

// Messages begin with "NAME block (0, 0, 0) thread (N, 0, 0) test/simt/checks_test.cpp:LINE: " but for those of a
// block.
const std::vector<Wrong> kWrong{
    {"barrier_for_some", &barrier_for_some, {": __syncthreads, but thread ", ": this thread exited while thread "}},
    {"barriers_apart", &barriers_apart, {"waits at another __syncthreads, test/simt/checks_test.cpp:"}},
    {"different_collectives",
     &different_collectives,
     {": divergent collective: __syncwarp with mask 0xffffffff here, but lane ",
      ": divergent collective: __shfl_xor_sync with mask 0xffffffff here, but lane "}},
    {"different_masks",
     &different_masks,
     {": divergent collective: ", "the mask 0xffffffff of __shfl_xor_sync names lane",
      "exited though the mask 0xffffffff"}},
    {"exited_lane",
     &exited_lane,
     {": the mask 0xffffffff of __shfl_xor_sync names lane 31, which has exited",
      ": lane 31 exited though the mask 0xffffffff of __shfl_xor_sync names it"}},
    {"lane_outside_mask",
     &lane_outside_mask,
     {": the mask 0xfffffffe of __shfl_xor_sync does not name its own lane 0"}},
    {"source_outside_mask",
     &source_outside_mask,
     {": __shfl_sync reads lane 20, which the mask 0x0000ffff does not name"}},
    {"barrier_against_shuffle",
     &barrier_against_shuffle,
     {"; thread 3 at __syncthreads test/simt/checks_test.cpp:"},
     32},
    {"misaligned_copy",
     &misaligned_copy,
     {": misaligned address of cp.async's destination: it must be a multiple of 16, its last bits are 0x"}},
    {"misaligned_source", &misaligned_source, {": misaligned address of cp.async's source"}},
    {"copy_past_the_end",
     &copy_past_the_end,
     {": cp.async's destination reaches byte 1040 of dynamic shared memory, the block has 1024"}},
    {"misaligned_matrix", &misaligned_matrix, {": misaligned address of ldmatrix's row"}},
    {"matrix_past_the_end", &matrix_past_the_end, {": ldmatrix's row reaches byte "}},
    {"traps", &traps, {" thread (7, 0, 0) test/simt/checks_test.cpp:"}},
#if !defined(__SANITIZE_ADDRESS__)  // which ends the process, with a stack
    {"store_past_the_end", &store_past_the_end, {": dynamic shared memory was written 1 bytes past its 1024"}},
#endif
};

bool contains_one(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (text.find(part) != std::string::npos) return true;
  }
  return false;
}

TEST_CASE("a check names kernel, block, thread and line") {
  for (const Wrong& w : kWrong) {
    const std::string name = w.name;
    INFO(name);
    for_each_schedule([&] {
      std::vector<int> out(64);
      const Status s = launch(w.name, w.kernel, dim3(1), dim3(w.threads), 1024, nullptr, out.data());
      CHECK(s.code == Code::internal);
      const std::string text = why(s);
      INFO(text);
      CHECK(text.find(name + " block (0, 0, 0)") == 0);
      CHECK(contains_one(text, w.expected));
    });
  }
  // A failure leaves nothing behind.
  std::vector<int> out(64);
  CHECK(why(launch("nothing", +[](int* p) { p[threadIdx.x] = 1; }, dim3(1), dim3(64), 0, nullptr, out.data())) == "");
  CHECK(out == std::vector<int>(64, 1));
}

__global__ void read_unwritten(float* out) {
  SWIFTKV_DYNAMIC_SHARED(float, shared);
  out[threadIdx.x] = shared[threadIdx.x];
}

TEST_CASE("dynamic shared memory is NaN before it is written, in every block") {
  std::vector<float> out(32);
  CHECK(why(launch("read_unwritten", &read_unwritten, dim3(2), dim3(32), 128, nullptr, out.data())) == "");
  for (float x : out) CHECK(x != x);
}

// Each thread reads its own copy: only the wait is too weak.
template <int kLeft>
__global__ void copy_and_wait(float* out) {
  SWIFTKV_DYNAMIC_SHARED(float, shared);
  const unsigned i = threadIdx.x;
  ptx::cp_async_4(shared + i, source + i);
  ptx::cp_async_commit();
  ptx::cp_async_4(shared + 32 + i, source + i, false);
  ptx::cp_async_commit();
  ptx::cp_async_wait<kLeft>();
  out[i] = shared[i];
}

TEST_CASE("late landing shows a wait that is too weak") {
  for (int i = 0; i < 256; ++i) source[i] = static_cast<float>(i);
  std::vector<float> out(32), expected(source, source + 32);
  for_each_schedule([&] {
    for (auto* kernel : {&copy_and_wait<0>, &copy_and_wait<1>}) {
      CHECK(why(launch("copy_and_wait", kernel, dim3(1), dim3(32), 256, nullptr, out.data())) == "");
      CHECK(out == expected);
    }
  });
  const simt::ScopedSchedule late({simt::Order::in_order, simt::Landing::late, 0});
  CHECK(why(launch("copy_and_wait", &copy_and_wait<2>, dim3(1), dim3(32), 256, nullptr, out.data())) == "");
  for (float x : out) CHECK(x != x);
}

// Every thread hands a value to its neighbour, and the second barrier is missing.
__global__ void no_second_barrier(int* data) {
  SWIFTKV_DYNAMIC_SHARED(int, shared);
  int value = data[threadIdx.x];
  for (int round = 0; round < 3; ++round) {
    shared[threadIdx.x] = value;
    __syncthreads();
    value = shared[(threadIdx.x + 1) % blockDim.x];
  }
  data[threadIdx.x] = value;
}

TEST_CASE("random orders find a missing barrier") {
  int found = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const simt::ScopedSchedule scoped({simt::Order::random, simt::Landing::at_once, seed});
    std::vector<int> data(64), expected(64);
    for (int i = 0; i < 64; ++i) data[static_cast<size_t>(i)] = i, expected[static_cast<size_t>(i)] = (i + 3) % 64;
    CHECK(why(launch("no_second_barrier", &no_second_barrier, dim3(1), dim3(64), 256, nullptr, data.data())) == "");
    found += data != expected;
  }
  CHECK(found == 8);
}

__global__ void rows_of(uint32_t* out, int stride) {
  SWIFTKV_DYNAMIC_SHARED(uint16_t, shared);
  uint32_t r[4];
  ptx::ldmatrix_x4(r, shared + static_cast<int>(threadIdx.x) * stride);
  out[threadIdx.x] = r[0];
}

TEST_CASE("bank conflicts of ldmatrix are counted") {
  std::vector<uint32_t> out(32);
  const auto conflicts = [&](int stride) {
    simt::reset_statistics();
    CHECK(why(launch("rows_of", &rows_of, dim3(1), dim3(32), 32 * 64 * 2, nullptr, out.data(), stride)) == "");
    CHECK(simt::statistics().ldmatrix_rows_of_8 == 4);
    return simt::statistics().ldmatrix_bank_conflicts;
  };
  CHECK(conflicts(8) == 0);    // rows of 16 bytes, one after the other
  CHECK(conflicts(64) == 28);  // all 8 rows of a matrix in the same banks
  CHECK(conflicts(16) == 4);   // two in each
  CHECK(conflicts(24) == 0);
}

TEST_CASE("launches beyond the device's limits fail") {
  std::vector<int> out(1);
  const auto message = [&](dim3 grid, dim3 block, size_t shared) {
    return why(launch("traps", &traps, grid, block, shared, nullptr, out.data()));
  };
  CHECK(message(dim3(0), dim3(32), 0) == "");
  CHECK(message(dim3(1), dim3(1025), 0) == "traps: a block of 1025 x 1 x 1 threads");
  CHECK(message(dim3(1, 65536), dim3(32), 0) == "traps: a grid of 1 x 65536 x 1 blocks");
  CHECK(message(dim3(1), dim3(32), 228 * 1024) ==
        "traps: 233472 bytes of dynamic shared memory, a block may have 232448");
}

TEST_CASE("schedules have names") {
  for (const simt::Schedule& s : schedules()) {
    simt::Schedule read;
    CHECK(simt::parse_schedule(s.name(), read));
    CHECK(read.name() == s.name());
  }
  simt::Schedule kept;
  for (const char* text : {"", "in_order", "in_order/never", "random/late/", "random/late/x", "sideways/late"}) {
    const std::string said = text;
    INFO(said);
    CHECK_FALSE(simt::parse_schedule(text, kept));
  }
}

}  // namespace
}  // namespace swiftkv::test
