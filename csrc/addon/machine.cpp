#include "addon/machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

namespace swiftkv::addon {

namespace {

std::optional<double> ratio(const std::string& quota, double period) {
  try {
    const double q = std::stod(quota);
    if (q > 0 && period > 0) return q / period;
  } catch (const std::exception&) {
    // "max", or not a number: no limit
  }
  return std::nullopt;
}

std::optional<double> v2_quota(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period)) return std::nullopt;
  return ratio(quota, period);
}

std::optional<double> v1_quota(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  std::string quota;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period)) return std::nullopt;
  return ratio(quota, period);
}

// A limit may be set on any ancestor of the process's cgroup.
template <class Read>
void smallest(std::optional<double>& least, const std::string& root, std::string path, Read&& read) {
  for (;;) {
    const std::optional<double> here = read(root + path);
    if (here && (!least || *here < *least)) least = here;
    const size_t slash = path.find_last_of('/');
    if (slash == std::string::npos) return;
    path.erase(slash);
  }
}

}  // namespace

std::string cpu_arch() {
  utsname name;
  return ::uname(&name) == 0 ? name.machine : "unknown";
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t start = line.find_first_not_of(" \t", line.find(':') + 1);
    if (start != std::string::npos) return line.substr(start);
  }
  return "unknown";
}

int affinity() {
#ifdef __linux__
  // Machines with more processors than cpu_set_t holds need a larger mask.
  for (int processors = 1024; processors <= 1 << 16; processors *= 2) {
    std::vector<unsigned long> mask(processors / (8 * sizeof(unsigned long)));
    auto* set = reinterpret_cast<cpu_set_t*>(mask.data());
    const size_t bytes = mask.size() * sizeof(unsigned long);
    if (sched_getaffinity(0, bytes, set) == 0) return std::max(1, CPU_COUNT_S(bytes, set));
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::optional<double> cpu_quota() {
  std::optional<double> least;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    // "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) {
      smallest(least, "/sys/fs/cgroup", path == "/" ? "" : path, v2_quota);
    } else if ((',' + controllers + ',').find(",cpu,") != std::string::npos) {
      smallest(least, "/sys/fs/cgroup/cpu", path == "/" ? "" : path, v1_quota);
    }
  }
  return least;
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  if (!(file >> total >> resident)) return 0;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace swiftkv::addon
