#include "recorder.h"

#include <cstdlib>

extern "C" const char __executable_start;  // the linker's: kernels are named by their distance to it

namespace swiftkv::test {
namespace {

std::FILE* open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) {
    std::fprintf(stderr, "cannot write %s\n", path.c_str());
    std::exit(1);
  }
  return file;
}

}  // namespace

Recorder::Recorder(const std::string& folder)
    : json_(open(folder + "/launches.json")), blob_(open(folder + "/memory.bin")) {
  std::fprintf(json_, "[");
}

Recorder::~Recorder() {
  std::fprintf(json_, "\n]\n");
  std::fclose(json_);
  std::fclose(blob_);
}

void Recorder::memory(const char* name, const void* data, size_t bytes, const char* type) {
  if (bytes > 0) memories_.push_back({name, data, bytes, type, 0});
}

size_t Recorder::write(const Memory& m) {
  const size_t at = blob_bytes_;
  std::fwrite(m.data, 1, m.bytes, blob_);
  blob_bytes_ += m.bytes;
  return at;
}

void Recorder::before(const simt::Launch&) {
  for (Memory& m : memories_) m.before = write(m);
}

void Recorder::after(const simt::Launch& launch, const Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", simt::last_failure().c_str());
    std::exit(1);
  }
  const simt::Grid& g = launch.grid;
  const auto distance = static_cast<const char*>(launch.kernel) - &__executable_start;
  std::fprintf(json_, "%s\n{\"name\": \"%s\", \"kernel\": %td, ", first_ ? "" : ",", g.name, distance);
  first_ = false;
  std::fprintf(json_, "\"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"sharedBytes\": %zu, \"params\": [",
               g.blocks.x, g.blocks.y, g.blocks.z, g.threads.x, g.threads.y, g.threads.z, g.shared_bytes);
  for (size_t i = 0; i < launch.parameter_count; ++i) {
    std::fprintf(json_, "%s\"", i == 0 ? "" : ", ");
    const auto* bytes = static_cast<const unsigned char*>(launch.parameters[i].data);
    for (size_t b = 0; b < launch.parameters[i].bytes; ++b) std::fprintf(json_, "%02x", bytes[b]);
    std::fprintf(json_, "\"");
  }
  std::fprintf(json_, "], \"memory\": [");
  for (size_t i = 0; i < memories_.size(); ++i) {
    const Memory& m = memories_[i];
    const size_t now = write(m);
    std::fprintf(json_, "%s\n  {\"name\": \"%s\", \"type\": \"%s\", \"address\": %zu, \"bytes\": %zu, ",
                 i == 0 ? "" : ",", m.name, m.type, reinterpret_cast<size_t>(m.data), m.bytes);
    std::fprintf(json_, "\"before\": %zu, \"after\": %zu}", m.before, now);
  }
  std::fprintf(json_, "]}");
}

}  // namespace swiftkv::test
