// The same rows in calls of several sizes, on chips that make plans choose every tile.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

#include "simt_device.h"

namespace swiftkv::test {

// A chip of one multiprocessor fills up with any tiles, one of very many never does.
inline cuda::DeviceLimits chip_of(int num_sms) {
  cuda::DeviceLimits limits = limits_of(80);
  limits.num_sms = num_sms;
  return limits;
}

// Calls f(device, first row, rows) over [0, rows) in chunks; after() follows each complete pass.
template <class F, class After>
void for_each_row_chunking(int64_t rows, F&& f, After&& after) {
  for (const int num_sms : {1, 1 << 20})
    for (const int64_t chunk : {rows, int64_t{1}, int64_t{16}, int64_t{17}, int64_t{70}}) {
      // Few rows have one tile on any chip.
      if (chunk > rows || (num_sms > 1 && chunk <= 16)) continue;
      INFO("chunks of ", chunk, " of ", rows, " rows, multiprocessors ", num_sms);
      const SimtDevice device(chip_of(num_sms));
      for (int64_t row = 0; row < rows; row += chunk) f(device, row, std::min(chunk, rows - row));
      after();
    }
}

}  // namespace swiftkv::test
