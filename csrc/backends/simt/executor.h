// Runs CUDA kernels on the host: a block is a set of fibers on one thread of the operating system, blocks run one after
// the other. Kernels reach it through platform.h and ptx.h; tests through schedule.h and this.
//
// This header and those it includes are compiled into kernels, perhaps with a sanitizer; the executor never is. So
// functions in headers are static, and what the executor does to its own state is in its .cpp
// files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

#include "backends/simt/vector_types.h"
#include "core/status.h"

namespace swiftkv::simt {

using Site = std::source_location;  // where in a kernel

struct Grid {
  const char* name;
  dim3 blocks, threads;
  size_t shared_bytes;
  void (*call)(const void* arguments);  // the kernel, in each thread
  const void* arguments;
};

// Runs the grid to its end. A failed check is Code::internal with kernel, block, thread, file and line; last_failure()
// has the whole text where the message of the status is too short for it.
Status run_grid(const Grid& grid);
const std::string& last_failure();

// Dynamic shared memory that a block may have; launches that ask for more fail. The maximum of sm_90 at first. Returns
// what held before.
size_t set_shared_limit(size_t bytes);

// Counted from the last reset_statistics().
struct Statistics {
  uint64_t launches, blocks, block_barriers, warp_collectives, mma, wgmma;
  uint64_t ldmatrix_rows_of_8;       // groups of 8 rows read by ldmatrix
  uint64_t ldmatrix_bank_conflicts;  // further passes that banks hit twice cost: 0 with a good swizzle
  uint64_t async_copies, bulk_copies;
};
const Statistics& statistics();
void reset_statistics();

// ---- what the headers call from a kernel's threads ----

enum class Op : uint8_t {
  sync,
  shuffle_index,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  any,
  all,
  ldmatrix,
  mma,
  wgmma_fence,
  wgmma,
  wgmma_commit,
  wgmma_wait
};

// A lane's part of a collective. The executor reads and writes it while the lane is suspended.
struct Shuffle {
  uint32_t words[2];  // in: the lane's value; out: the value it receives
  int count;          // words used
  int operand;        // lane, delta or lane mask
  int width;
};
struct Vote {
  int predicate;
  uint32_t result;
};
struct LdMatrix {
  const void* row;
  uint32_t* r;
  int matrices;
  bool transposed;
};
struct Mma {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  bool f16;
};

// Waits for the lanes of the mask; the last one to come does the work for all.
void warp_collective(Op op, uint32_t mask, void* argument, const Site& site);

enum class Reduction : uint8_t { none, any, all, count };
// All threads of the block.
int block_barrier(Reduction reduction, int predicate, const Site& site);
// The first `threads` that come to barrier `id`, 1 to 15; a multiple of 32.
void named_barrier(int id, int threads, bool wait, const Site& site);

void copy_async(void* dst, const void* src, int bytes, bool valid, const Site& site);
void copy_async_commit();
void copy_async_wait(uint32_t groups_left);

// The block's dynamic shared memory, and an address's place in it.
unsigned char* shared_memory(size_t alignment, const Site& site);
// A thread comes to the declaration of a static variable in shared memory: the first of its block fills it with NaN.
void static_shared(void* variable, size_t bytes, const Site& site);
uint32_t shared_address(const void* p, const Site& site);

// A trap instruction: the launch fails.
[[noreturn]] void stop(const Site& site, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace swiftkv::simt

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;
