// The cuda backend in the place of a level: test/native's tests of row ops and of sampling run on it as they are.
#include "level_device.h"

#include "core/op_visit.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

const SimtDevice& device() {
  static const SimtDevice made;
  return made;
}

struct Launch {
  Status operator()(Op<OpKind::embed>, const EmbedParams& p) const { return device().run(&cuda::embed, p); }
  Status operator()(Op<OpKind::rms_norm>, const RmsNormParams& p) const { return device().run(&cuda::rms_norm, p); }
  Status operator()(Op<OpKind::silu_mul>, const SiluMulParams& p) const { return device().run(&cuda::silu_mul, p); }
  Status operator()(Op<OpKind::gather_rows>, const GatherRowsParams& p) const {
    return device().run(&cuda::gather_rows, p);
  }
  Status operator()(Op<OpKind::copy_rows>, const CopyRowsParams& p) const { return device().run(&cuda::copy_rows, p); }
  Status operator()(Op<OpKind::quantize_rows>, const QuantizeRowsParams& p) const {
    return device().run(&cuda::quantize_rows, p);
  }
  Status operator()(Op<OpKind::rope_table>, const RopeTableParams& p) const {
    return device().run(&cuda::rope_table, p);
  }
  Status operator()(Op<OpKind::logprobs>, const LogprobsParams& p) const {
    return device().run(&cuda::logprobs, p, &cuda::logprobs_scratch);
  }
  Status operator()(Op<OpKind::sample>, const SampleParams& p) const {
    return device().run(&cuda::sample, p, &cuda::sample_scratch);
  }
  template <class AnyOp, class Params>
  Status operator()(AnyOp, const Params&) const {
    return fail(Code::unsupported, "this op has tests of its own on the host");
  }
};

}  // namespace

std::vector<cpu::CpuLevel> levels() {
  return {cpu::CpuLevel::scalar};
}

std::vector<Layout> table_layouts() {
  return {Layout::row_major};
}

std::vector<int> thread_counts() {
  return {1};
}

LevelDevice::LevelDevice(cpu::CpuLevel, int) {}
LevelDevice::~LevelDevice() = default;

Status LevelDevice::run(OpKind kind, const void* params) const {
  return visit_op(kind, [&](auto op) {
    const auto& typed = *static_cast<const typename decltype(op)::Params*>(params);
    if constexpr (requires { typed.rows; }) {
      if (typed.rows == 0) return Status{};  // a program does not run ops of no rows
    }
    const Status status = Launch{}(op, typed);
    CHECK(why(status) == "");
    return status;
  });
}

}  // namespace swiftkv::test
