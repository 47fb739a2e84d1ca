// Opening backends: every way in which a side library can be wrong ends in words, not in a crash.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "core/backend_loader.h"
#include "core_operands.h"

using namespace swiftkv;
using test::message_of;

namespace {

std::string load_error(const std::string& backend) {
  return message_of([&] { load_backend(backend); });
}

}  // namespace

TEST_CASE("backend loader: cpu is built in and complete") {
  const LoadedBackend cpu = load_backend("cpu");
  CHECK(cpu.table == cpu_backend());
  CHECK(cpu.table->abi == kBackendAbi);
  CHECK(std::string(cpu.table->name) == "cpu");
  CHECK(cpu.image == nullptr);
}

TEST_CASE("backend loader: names and relative paths are refused by name") {
  CHECK(load_error("gpu") == "Expected cpu or the absolute path of a backend library for backend but received 'gpu'");
  CHECK(load_error("") != "");
  CHECK(load_error("./libbackend.so") != "");
}

TEST_CASE("backend loader: a file that is missing or no library says why") {
  CHECK(load_error("/nonexistent/libswiftkv_none.so").find("/nonexistent/libswiftkv_none.so") != std::string::npos);
  const std::string path = std::string(P_tmpdir) + "/swiftkv_backend_loader_test.so";
  std::ofstream(path) << "not a library";
  CHECK(load_error(path).find("backend library could not be opened") != std::string::npos);
  std::remove(path.c_str());
}

TEST_CASE("backend loader: a library that is no backend is refused") {
  Dl_info info = {};
  REQUIRE(dladdr(reinterpret_cast<void*>(&std::printf), &info) != 0);
  const std::string path = info.dli_fname;
  if (path[0] == '/' && path.find(".so") != std::string::npos) {
    CHECK(load_error(path) == path + " is no swiftkv backend: it does not export swiftkv_backend");
  }
}
