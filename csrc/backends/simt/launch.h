// Launching on the host: the signature of csrc/backends/cuda/launch_nvcc.h. The grid has run when it returns.
#pragma once

#include <tuple>
#include <utility>

#include "backends/simt/observer.h"

struct CUstream_st;

namespace swiftkv::cuda {

template <class... Params, class... Args>
Status launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, CUstream_st*,
              Args... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> params;
  };
  const Call call{kernel, std::tuple<Params...>(static_cast<Params>(args)...)};
  const auto run = [](const void* arguments) {
    const Call& c = *static_cast<const Call*>(arguments);
    std::apply(c.kernel, c.params);
  };
  const auto observed = [&](const auto&... each) {
    const simt::Parameter parameters[] = {{&each, sizeof each}..., {nullptr, 0}};
    return simt::run_observed({{name, grid, block, shared_bytes, run, &call},
                               reinterpret_cast<const void*>(kernel),
                               parameters,
                               sizeof...(each)});
  };
  return std::apply(observed, call.params);
}

}  // namespace swiftkv::cuda
