// Small problems of the ops whose launches are replayed.
#pragma once

#include "recorder.h"

namespace swiftkv::test {

struct ReplayCase {
  const char* name;
  Status (*run)(Recorder& recorder);
};

extern const ReplayCase kReplayCases[];
extern const int kReplayCaseCount;

}  // namespace swiftkv::test
