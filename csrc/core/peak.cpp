#include "core/peak.h"

namespace swiftkv {

std::optional<PeakKind> find_peak(const std::string& name) {
  for (int i = 0; i < static_cast<int>(PeakKind::count); ++i)
    if (name == peak_name(static_cast<PeakKind>(i))) return static_cast<PeakKind>(i);
  return std::nullopt;
}

double measure_peak(const OpenDevice& device, PeakKind kind, double ms, const Tensor* memory) {
  device.require_open();
  const BackendTable& table = device.table();
  if (table.measure_peak == nullptr)
    throw Error(Code::unsupported, std::string("the ") + table.name + " backend does not measure peaks");
  if ((kind == PeakKind::read) != (memory != nullptr))
    throw Error(Code::invalid_argument, "Expected memory for the peak read, and for no other");
  PeakParams params = {.kind = kind, .ms = ms, .data = nullptr, .bytes = 0};
  if (memory != nullptr) {
    memory->require_alive();
    if (memory->storage->device().get() != &device)
      throw Error(Code::invalid_argument, "Expected memory of the device that is measured");
    params.data = memory->storage->data();
    params.bytes = memory->storage->bytes();
  }
  double per_second = 0;
  check(table.measure_peak(device.handle(), &params, &per_second));
  return per_second;
}

}  // namespace swiftkv
