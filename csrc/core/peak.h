// Measures what a device can do at most.
#pragma once

#include <optional>
#include <string>

#include "core/device.h"
#include "core/tensor.h"

namespace swiftkv {

std::optional<PeakKind> find_peak(const std::string& name);

// Operations or bytes a second over about `ms`. `memory` is what PeakKind::read goes through; the other kinds take
// none. Called by whoever may use the pool. Throws Error: unsupported where the device has no such instruction,
// invalid_argument, disposed.
double measure_peak(const OpenDevice& device, PeakKind kind, double ms, const Tensor* memory);

}  // namespace swiftkv
