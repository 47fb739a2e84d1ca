// Ops on the scalar level of the cpu backend, the reference of every backend.
#pragma once

#include <doctest/doctest.h>

#include "backends/cpu/kernels.h"
#include "core/thread_pool.h"
#include "fixtures.h"

namespace swiftkv::test {

template <class Params>
void run_reference(Status (*op)(const Params&, const cpu::Context&), const Params& params, size_t scratch_bytes = 0) {
  static ThreadPool pool(1);
  const Bytes scratch(scratch_bytes);
  REQUIRE(op(params, {&pool, 1, scratch.data(), scratch_bytes}).ok());
}

template <class Params>
void run_reference(Status (*op)(const Params&, const cpu::Context&), const Params& params,
                   size_t (*scratch)(const Params&, int threads)) {
  run_reference(op, params, scratch(params, 1));
}

}  // namespace swiftkv::test
