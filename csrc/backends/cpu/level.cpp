// Detection and choice of the ISA level.
#include "backends/cpu/level.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace swiftkv::cpu {

namespace {

using KernelsFunction = const Kernels& (*)();

// Null where this build lacks the level.
constexpr KernelsFunction entry_of(CpuLevel level) {
  switch (level) {
    case CpuLevel::scalar: return scalar_kernels;
#ifdef SWIFTKV_HAVE_AVX2
    case CpuLevel::avx2: return avx2_kernels;
#endif
#ifdef SWIFTKV_HAVE_AVX512
    case CpuLevel::avx512: return avx512_kernels;
#endif
#ifdef SWIFTKV_HAVE_NEON
    case CpuLevel::neon: return neon_kernels;
#endif
#ifdef SWIFTKV_HAVE_NEON_BF16
    case CpuLevel::neon_bf16: return neon_bf16_kernels;
#endif
    default: return nullptr;
  }
}

std::string names(const std::vector<CpuLevel>& levels) {
  std::string text;
  for (CpuLevel level : levels) {
    if (!text.empty()) text += ", ";
    text += level_name(level);
  }
  return text.empty() ? "none" : text;
}

}  // namespace

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  // The compiler's runtime also asks XGETBV whether the operating system saves the registers.
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2") != 0;
  f.fma = __builtin_cpu_supports("fma") != 0;
  f.f16c = __builtin_cpu_supports("f16c") != 0;
  f.avx512f = __builtin_cpu_supports("avx512f") != 0;
  f.avx512bw = __builtin_cpu_supports("avx512bw") != 0;
  f.avx512dq = __builtin_cpu_supports("avx512dq") != 0;
  f.avx512vl = __builtin_cpu_supports("avx512vl") != 0;
  f.avx512_bf16 = __builtin_cpu_supports("avx512bf16") != 0;
  f.avx512_vnni = __builtin_cpu_supports("avx512vnni") != 0;
  f.avx512_vbmi = __builtin_cpu_supports("avx512vbmi") != 0;
#elif defined(__aarch64__)
  f.neon = true;  // part of the architecture
#if defined(__linux__)
  f.neon_bf16 = (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0;
#endif
#endif
  return f;
}

std::vector<CpuLevel> built_levels() {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : kAllLevels)
    if (entry_of(level) != nullptr) levels.push_back(level);
  return levels;
}

bool can_run(CpuLevel level, const CpuFeatures& f) {
  switch (level) {
    case CpuLevel::scalar: return true;
    case CpuLevel::avx2: return f.avx2 && f.fma && f.f16c;
    case CpuLevel::avx512:
      return f.avx512f && f.avx512bw && f.avx512dq && f.avx512vl && f.avx512_bf16 && f.avx512_vnni && f.avx512_vbmi;
    case CpuLevel::neon: return f.neon;
    case CpuLevel::neon_bf16: return f.neon && f.neon_bf16;
  }
  return false;
}

std::vector<CpuLevel> available_levels(const CpuFeatures& features, const std::vector<CpuLevel>& built) {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : kAllLevels)
    for (CpuLevel b : built)
      if (b == level && can_run(level, features)) levels.push_back(level);
  return levels;
}

LevelChoice choose_level(const CpuFeatures& features, const std::vector<CpuLevel>& built, std::string_view requested) {
  const std::vector<CpuLevel> available = available_levels(features, built);
  const bool automatic = requested.empty() || requested == "auto";
  if (automatic && !available.empty()) return {available.back(), ""};
  for (CpuLevel level : available)
    if (requested == level_name(level)) return {level, ""};

  std::string why = "is not an ISA level of the cpu backend";
  for (CpuLevel level : kAllLevels)
    if (requested == level_name(level)) why = "is not compiled into this build";
  for (CpuLevel level : built)
    if (requested == level_name(level)) why = "needs instructions that this processor or operating system lacks";
  return {std::nullopt, "ISA level '" + std::string(requested) + "' " + why + "; available here: " + names(available)};
}

const Kernels* kernels_of(CpuLevel level) {
  const KernelsFunction kernels = entry_of(level);
  return kernels == nullptr ? nullptr : &kernels();
}

}  // namespace swiftkv::cpu
