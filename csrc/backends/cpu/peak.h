// Times a level's peak loops on the pool.
#pragma once

#include "backends/cpu/kernels.h"
#include "core/backend.h"

namespace swiftkv::cpu {

// Operations or bytes a second of `threads` threads.
Status measure_peak(const PeakLoops& loops, const PeakParams& params, ThreadPool& pool, int threads,
                    double* per_second);

}  // namespace swiftkv::cpu
