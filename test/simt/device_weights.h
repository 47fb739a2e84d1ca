// The weights of a test in the layout of the cuda backend, written straight from the text of matrix_layout.h: the same
// codes and scales as the cpu's, in other places.
#pragma once

#include <cstring>

#include "backends/cpu/quantized.h"
#include "backends/cuda/matrix_layout.h"
#include "fixtures.h"
#include "simt_device.h"

namespace swiftkv::test {

class DeviceWeights {
 public:
  explicit DeviceWeights(const Weights& w)
      : cpu_(w.matrix),
        padded_((w.matrix.k + 63) / 64 * 64),
        memory_(static_cast<size_t>(cuda::matrix_value_bytes(cpu_.dtype, cpu_.n, cpu_.k) +
                                    cuda::matrix_scale_bytes(cpu_.dtype, cpu_.n, cpu_.k))) {
    const int64_t scales_at = cuda::matrix_value_bytes(cpu_.dtype, cpu_.n, cpu_.k);
    std::memset(memory_.data(), cpu_.dtype == DType::int4 ? 0x88 : 0, static_cast<size_t>(scales_at));
    if (scales_at < static_cast<int64_t>(memory_.size()))
      std::memset(memory_.data() + scales_at, 0, memory_.size() - static_cast<size_t>(scales_at));
    for (int64_t n = 0; n < cpu_.n; ++n) {
      for (int64_t k = 0; k < cpu_.k; ++k) place(n, k, w.values[static_cast<size_t>(n * cpu_.k + k)]);
      if (cpu_.dtype == DType::fp8_e4m3 || cpu_.dtype == DType::int8)
        std::memcpy(memory_.data() + scales_at + n * 4, cpu::output_scales(cpu_) + n, 4);
      for (int64_t g = 0; cpu_.dtype == DType::int4 && g * 32 < cpu_.k; ++g)
        std::memcpy(memory_.data() + scales_at + (n * padded_ / 32 + g) * 2,
                    panel(n) + g * cpu::kInt4GroupBytes + n % 64 * 2, 2);
    }
  }

  Matrix matrix() const { return {memory_.data(), cpu_.dtype, Layout::panels, cpu_.n, cpu_.k}; }

 private:
  const uint8_t* panel(int64_t n) const {
    return static_cast<const uint8_t*>(cpu_.data) + n / 64 * cpu::quantized_panel_bytes(cpu_.dtype, cpu_.k);
  }

  void place(int64_t n, int64_t k, float value) {
    std::byte* row = memory_.data() + cuda::matrix_value_bytes(cpu_.dtype, n, cpu_.k);
    const int64_t lane = n % 64;
    switch (cpu_.dtype) {
      case DType::f32: std::memcpy(row + k * 4, &value, 4); return;
      case DType::bf16: {
        const bf16 x = to_bf16(value);
        std::memcpy(row + k * 2, &x, 2);
        return;
      }
      case DType::fp8_e4m3: {
        // The bytes 4 t.. of 16 codes are k = 2t, 2t + 1, 2t + 8, 2t + 9.
        constexpr int kOrder[16] = {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15};
        for (int64_t i = 0; i < 16; ++i)
          if (kOrder[i] == k % 16)
            row[k / 16 * 16 + i] = std::byte{panel(n)[k / 2 * 128 + cpu::fp8_place(lane, k % 2)]};
        return;
      }
      case DType::int8: row[k] = static_cast<std::byte>(panel(n)[(k / 4 * 64 + lane) * 4 + k % 4] - 128); return;
      default: {
        const uint8_t both =
            panel(n)[k / 32 * cpu::kInt4GroupBytes + cpu::kInt4ScaleBytes + (k % 32 / 8 * 64 + lane) * 4 + k % 4];
        const int code = k % 8 < 4 ? both & 15 : both >> 4, shift = k % 2 * 4;
        row[k / 2] = (row[k / 2] & std::byte(0xf0 >> shift)) | std::byte(code << shift);
        return;
      }
    }
  }

  Matrix cpu_;
  int64_t padded_;
  DeviceBytes memory_;
};

}  // namespace swiftkv::test
