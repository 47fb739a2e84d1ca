// Choice of the ISA level: never another one than asked for, and a reason when there is none.
#include <doctest/doctest.h>

#include "backends/cpu/attention_select.h"
#include "backends/cpu/level.h"
#include "fixtures.h"

namespace swiftkv::test {
namespace {

using cpu::CpuFeatures;
using cpu::CpuLevel;

constexpr CpuFeatures kNone{};
constexpr CpuFeatures kX86{.avx2 = true,
                           .fma = true,
                           .f16c = true,
                           .avx512f = true,
                           .avx512bw = true,
                           .avx512dq = true,
                           .avx512vl = true,
                           .avx512_bf16 = true,
                           .avx512_vnni = true,
                           .avx512_vbmi = true};
constexpr CpuFeatures kArm{.neon = true, .neon_bf16 = true};
const std::vector<CpuLevel> kScalarOnly{CpuLevel::scalar};
const std::vector<CpuLevel> kX86Build{CpuLevel::scalar, CpuLevel::avx2, CpuLevel::avx512};
const std::vector<CpuLevel> kArmBuild{CpuLevel::scalar, CpuLevel::neon, CpuLevel::neon_bf16};

CpuFeatures without(CpuFeatures features, bool CpuFeatures::* feature) {
  features.*feature = false;
  return features;
}

TEST_CASE("auto takes the fastest level that is both built and supported") {
  CHECK(cpu::choose_level(kX86, kX86Build, "auto").level == CpuLevel::avx512);
  CHECK(cpu::choose_level(kX86, kX86Build, "").level == CpuLevel::avx512);
  CHECK(cpu::choose_level(without(kX86, &CpuFeatures::avx512_bf16), kX86Build, "auto").level == CpuLevel::avx2);
  CHECK(cpu::choose_level(kNone, kX86Build, "auto").level == CpuLevel::scalar);
  CHECK(cpu::choose_level(kX86, kScalarOnly, "auto").level == CpuLevel::scalar);
  CHECK(cpu::choose_level(kArm, kArmBuild, "auto").level == CpuLevel::neon_bf16);
  CHECK(cpu::choose_level(without(kArm, &CpuFeatures::neon_bf16), kArmBuild, "auto").level == CpuLevel::neon);
}

TEST_CASE("one missing feature is enough to refuse a level") {
  for (bool CpuFeatures::* feature :
       {&CpuFeatures::avx512f, &CpuFeatures::avx512bw, &CpuFeatures::avx512dq, &CpuFeatures::avx512vl,
        &CpuFeatures::avx512_bf16, &CpuFeatures::avx512_vnni, &CpuFeatures::avx512_vbmi}) {
    const cpu::LevelChoice choice = cpu::choose_level(without(kX86, feature), kX86Build, "avx512");
    CHECK(!choice.level.has_value());
    CHECK(choice.error ==
          "ISA level 'avx512' needs instructions that this processor or operating system lacks; "
          "available here: scalar, avx2");
  }
  for (bool CpuFeatures::* feature : {&CpuFeatures::avx2, &CpuFeatures::fma, &CpuFeatures::f16c})
    CHECK(!cpu::choose_level(without(kX86, feature), kX86Build, "avx2").level.has_value());
  CHECK(!cpu::choose_level(without(kArm, &CpuFeatures::neon_bf16), kArmBuild, "neon_bf16").level.has_value());
  CHECK(!cpu::choose_level(kX86, kArmBuild, "neon").level.has_value());
}

TEST_CASE("a named level is taken or refused, never replaced") {
  for (CpuLevel level : kX86Build) CHECK(cpu::choose_level(kX86, kX86Build, cpu::level_name(level)).level == level);
  for (CpuLevel level : kArmBuild) CHECK(cpu::choose_level(kArm, kArmBuild, cpu::level_name(level)).level == level);
  CHECK(cpu::choose_level(kX86, kScalarOnly, "avx512").error ==
        "ISA level 'avx512' is not compiled into this build; available here: scalar");
  CHECK(cpu::choose_level(kX86, kX86Build, "mmx").error ==
        "ISA level 'mmx' is not an ISA level of the cpu backend; available here: scalar, avx2, avx512");
}

TEST_CASE("levels have names of their own, and a machine's are ordered from slow to fast") {
  for (CpuLevel a : cpu::kAllLevels)
    for (CpuLevel b : cpu::kAllLevels) CHECK((a == b) == (std::string_view(cpu::level_name(a)) == cpu::level_name(b)));
  CHECK(cpu::available_levels(kX86, kX86Build) == kX86Build);
  CHECK(cpu::available_levels(kArm, kArmBuild) == kArmBuild);
}

TEST_CASE("this build can run what it says it can") {
  CHECK(cpu::built_levels().front() == CpuLevel::scalar);
  for (CpuLevel level : cpu::built_levels()) CHECK(cpu::kernels_of(level) != nullptr);
  CHECK(cpu::kernels_of(static_cast<CpuLevel>(99)) == nullptr);
}

TEST_CASE("sequences go to decode with one query row, to prefill with more, nowhere with none") {
  Rng rng(1);
  const Half half({{9, 1}, {20, 0}, {16, 2}, {1, 1}, {40, 40}}, 10, rng);
  const cpu::SequenceCounts counts = cpu::count_sequences(half.view());
  CHECK(counts.one_row == 2);
  CHECK(counts.many_rows == 2);
  const cpu::SequenceCounts none = cpu::count_sequences(Half({}, 1, rng).view());
  CHECK(none.one_row == 0);
  CHECK(none.many_rows == 0);
}

}  // namespace
}  // namespace swiftkv::test
