// Records the launches of one case on the host executor, for test/ptx to replay.
//   swiftkv_ptx_replay              prints the names of the cases, one a line
//   swiftkv_ptx_replay NAME FOLDER  writes FOLDER/launches.json and FOLDER/memory.bin
// The fixtures of test/simt know doctest; no test runs here.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>

#include "cases.h"

int main(int count, char** arguments) {
  using namespace swiftkv::test;
  doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  for (int i = 0; i < kReplayCaseCount; ++i) {
    const ReplayCase& c = kReplayCases[i];
    if (count == 1) std::printf("%s\n", c.name);
    if (count != 3 || std::strcmp(c.name, arguments[1]) != 0) continue;
    Recorder recorder(arguments[2]);
    const swiftkv::Status status = c.run(recorder);
    if (status.ok()) return 0;
    std::fprintf(stderr, "%s: %s\n", c.name, why(status).c_str());
    return 1;
  }
  return count == 1 ? 0 : 2;
}
