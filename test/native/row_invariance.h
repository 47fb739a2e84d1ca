// Bits of an output row must not depend on the rows beside it nor on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "level_device.h"

namespace swiftkv::test {

// Calls f(device, first row, rows) over [0, rows) in chunks of several sizes and with all thread_counts(); after(what)
// follows each complete pass and compares the output with that of the first pass, which took all rows at once.
template <class F, class After>
void for_each_chunking(cpu::CpuLevel level, int64_t rows, F&& f, After&& after) {
  for (int threads : thread_counts()) {
    const LevelDevice device(level, threads);
    for (int64_t chunk : {rows, int64_t{1}, int64_t{2}, int64_t{5}, int64_t{7}, int64_t{16}, int64_t{33}}) {
      if (chunk > rows || chunk < 1) continue;
      INFO("threads ", threads, ", chunks of ", chunk, " of ", rows, " rows");
      for (int64_t row = 0; row < rows; row += chunk) f(device, row, std::min(chunk, rows - row));
      after();
    }
  }
}

}  // namespace swiftkv::test
