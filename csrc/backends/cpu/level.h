// ISA levels of the cpu backend: which exist, which this build has, which this machine can run. Choosing is a pure
// function, so that it is testable on any machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/kernels.h"

namespace swiftkv::cpu {

// The values are part of the boundary (DeviceOptions::level); they do not say which level is faster. avx512 needs bf16,
// VNNI and VBMI too (Zen 4, Sapphire Rapids and later).
enum class CpuLevel : int32_t { scalar = 0, avx512 = 1, avx2 = 2, neon = 3, neon_bf16 = 4 };

// Every level that exists; those of one architecture slowest first.
inline constexpr CpuLevel kAllLevels[] = {CpuLevel::scalar, CpuLevel::avx2, CpuLevel::avx512, CpuLevel::neon,
                                          CpuLevel::neon_bf16};

constexpr const char* level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::scalar: return "scalar";
    case CpuLevel::avx512: return "avx512";
    case CpuLevel::avx2: return "avx2";
    case CpuLevel::neon: return "neon";
    case CpuLevel::neon_bf16: return "neon_bf16";
  }
  return "?";
}

// What the processor has and the operating system saves on a context switch.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512dq = false;
  bool avx512vl = false;
  bool avx512_bf16 = false;
  bool avx512_vnni = false;  // dot products of 8-bit integers
  bool avx512_vbmi = false;  // tables of bytes: fp8 codes are widened through one
  bool neon = false;
  bool neon_bf16 = false;  // bfdot and its like (FEAT_BF16)
};

CpuFeatures detect();

// Levels compiled into this build, slowest first.
std::vector<CpuLevel> built_levels();

bool can_run(CpuLevel level, const CpuFeatures& features);

// Levels of `built` that a machine with these features can run, slowest first; never empty where scalar is built.
std::vector<CpuLevel> available_levels(const CpuFeatures& features, const std::vector<CpuLevel>& built);

struct LevelChoice {
  std::optional<CpuLevel> level;
  std::string error;  // why there is none, and what there is
};

// The level called `requested`; "auto" (or nothing) takes the fastest available one. Never another than asked for.
LevelChoice choose_level(const CpuFeatures& features, const std::vector<CpuLevel>& built, std::string_view requested);

// The kernels of a level, or null where this build lacks them.
const Kernels* kernels_of(CpuLevel level);

}  // namespace swiftkv::cpu
