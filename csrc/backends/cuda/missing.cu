// Ops that have no kernel yet; shrinks to nothing.
#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status embed(const EmbedParams&, const Context&) {
  return fail(Code::unsupported, "embed has no kernel yet");
}
Status rms_norm(const RmsNormParams&, const Context&) {
  return fail(Code::unsupported, "rms_norm has no kernel yet");
}
Status silu_mul(const SiluMulParams&, const Context&) {
  return fail(Code::unsupported, "silu_mul has no kernel yet");
}
Status gather_rows(const GatherRowsParams&, const Context&) {
  return fail(Code::unsupported, "gather_rows has no kernel yet");
}
Status logprobs(const LogprobsParams&, const Context&) {
  return fail(Code::unsupported, "logprobs has no kernel yet");
}
Status sample(const SampleParams&, const Context&) {
  return fail(Code::unsupported, "sample has no kernel yet");
}
Status rope_table(const RopeTableParams&, const Context&) {
  return fail(Code::unsupported, "rope_table has no kernel yet");
}
Status copy_rows(const CopyRowsParams&, const Context&) {
  return fail(Code::unsupported, "copy_rows has no kernel yet");
}
size_t logprobs_scratch(const LogprobsParams&, const DeviceLimits&) {
  return 0;
}
size_t sample_scratch(const SampleParams&, const DeviceLimits&) {
  return 0;
}

}  // namespace swiftkv::cuda
