// The same rows in calls of several sizes, on chips that make plans choose every tile.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simt_device.h"

namespace swiftkv::test {

// A chip of one multiprocessor fills up with any tiles, one of very many never does.
inline cuda::DeviceLimits chip_of(int num_sms) {
  cuda::DeviceLimits limits = limits_of(80);
  limits.num_sms = num_sms;
  return limits;
}

// Calls f(device, first row, rows) over [0, rows), in calls of several sizes that take every tile; after() follows each
// complete pass.
template <class F, class After>
void for_each_row_chunking(int64_t rows, F&& f, After&& after) {
  struct Pass {
    int num_sms;
    std::vector<int64_t> sizes;  // of calls, over and over
  };
  for (const Pass& pass : {Pass{1, {1, 16, 17, 66}}, Pass{1 << 20, {33, 2, 15}}, Pass{1 << 20, {rows}}}) {
    INFO("calls from ", pass.sizes.front(), " rows on, multiprocessors ", pass.num_sms);
    const SimtDevice device(chip_of(pass.num_sms));
    size_t call = 0;
    for (int64_t row = 0; row < rows; ++call) {
      const int64_t count = std::min(pass.sizes[call % pass.sizes.size()], rows - row);
      f(device, row, count);
      row += count;
    }
    after();
  }
}

}  // namespace swiftkv::test
