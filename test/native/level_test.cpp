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
constexpr CpuFeatures kAll{true, true, true, true, true};
const std::vector<CpuLevel> kScalarOnly{CpuLevel::scalar}, kBoth{CpuLevel::scalar, CpuLevel::avx512};

TEST_CASE("auto takes the fastest level that is both built and supported") {
  CHECK(cpu::choose_level(kAll, kBoth, "auto").level == CpuLevel::avx512);
  CHECK(cpu::choose_level(kAll, kBoth, "").level == CpuLevel::avx512);
  CHECK(cpu::choose_level(kNone, kBoth, "auto").level == CpuLevel::scalar);
  CHECK(cpu::choose_level(kAll, kScalarOnly, "auto").level == CpuLevel::scalar);
}

TEST_CASE("one missing feature is enough to refuse avx512") {
  for (bool CpuFeatures::* feature : {&CpuFeatures::avx512f, &CpuFeatures::avx512bw, &CpuFeatures::avx512dq,
                                      &CpuFeatures::avx512vl, &CpuFeatures::avx512_bf16}) {
    CpuFeatures features = kAll;
    features.*feature = false;
    const cpu::LevelChoice choice = cpu::choose_level(features, kBoth, "avx512");
    CHECK(!choice.level.has_value());
    CHECK(choice.error ==
          "ISA level 'avx512' needs instructions that this processor or operating system lacks; "
          "available here: scalar");
  }
}

TEST_CASE("a named level is taken or refused, never replaced") {
  CHECK(cpu::choose_level(kAll, kBoth, "scalar").level == CpuLevel::scalar);
  CHECK(cpu::choose_level(kAll, kBoth, "avx512").level == CpuLevel::avx512);
  CHECK(cpu::choose_level(kAll, kScalarOnly, "avx512").error ==
        "ISA level 'avx512' is not compiled into this build; available here: scalar");
  CHECK(cpu::choose_level(kAll, kBoth, "mmx").error ==
        "ISA level 'mmx' is not an ISA level of the cpu backend; available here: scalar, avx512");
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
