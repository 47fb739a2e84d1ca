// Loading and filling by several threads: every element once, nothing beside it, and an end at any time.
#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "core/executor.h"
#include "core/fill_random.h"
#include "core/weight_loader.h"

using namespace swiftkv;

namespace {

std::shared_ptr<OpenDevice> open_scalar(int threads) {
  return OpenDevice::open(*cpu_backend(), 0, threads, std::make_shared<ThreadPool>(threads));
}

class TempFile {
 public:
  explicit TempFile(const std::vector<bf16>& content) {
    const int descriptor = ::mkstemp(path_.data());
    REQUIRE(descriptor >= 0);
    const size_t bytes = content.size() * sizeof(bf16);
    REQUIRE(::write(descriptor, content.data(), bytes) == static_cast<ssize_t>(bytes));
    ::close(descriptor);
  }
  ~TempFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/swiftkv-weights-XXXXXX";
};

std::vector<bf16> values(int64_t count) {
  std::vector<bf16> v(static_cast<size_t>(count));
  for (size_t i = 0; i < v.size(); ++i) v[i] = to_bf16(std::sin(static_cast<float>(i)));
  return v;
}

WeightSegment segment(const Tensor& tensor, const std::string& path, int64_t first, int64_t rows) {
  const int64_t k = tensor.view.shape[1].size;
  const Matrix dst = {.data = tensor.view.data,
                      .dtype = tensor.view.dtype,
                      .layout = tensor.view.layout,
                      .n = tensor.view.shape[0].size,
                      .k = k};
  return {.path = path,
          .offset = first * k * 2,
          .dtype = DType::bf16,
          .rows = rows,
          .k = k,
          .dst = dst,
          .dst_row = first,
          .owner = tensor.storage};
}

std::vector<float> floats(const Tensor& tensor) {
  std::vector<float> v(static_cast<size_t>(tensor.view.count()));
  read_floats(tensor, v.data(), tensor.view.count());
  return v;
}

}  // namespace

TEST_CASE("pieces of several threads make up the whole weight, whatever the split into segments") {
  const int64_t n = 1000, k = 4099;  // several pieces; odd k; segments that cut panels
  const std::vector<bf16> content = values(n * k);
  const TempFile file(content);
  for (const int threads : {1, 4}) {
    for (const int64_t step : {int64_t{1000}, int64_t{333}, int64_t{64}}) {
      const auto device = open_scalar(threads);
      const Tensor tensor = make_tensor(device, DType::bf16, {n, k}, Layout::panels);
      std::vector<WeightSegment> segments;
      for (int64_t first = 0; first < n; first += step)
        segments.push_back(segment(tensor, file.path(), first, std::min(step, n - first)));
      for (const WeightSegment& s : segments) check_segment(s);
      const auto progress = std::make_shared<LoadProgress>();
      WeightLoad(device, std::move(segments), progress).run();
      CHECK(progress->loaded_bytes() == n * k * 2);
      const std::vector<float> loaded = floats(tensor);
      int64_t wrong = 0;
      for (size_t i = 0; i < loaded.size(); ++i) wrong += loaded[i] != to_f32(content[i]);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a load that is cancelled from another thread ends with aborted") {
  const int64_t n = 2000, k = 2048;
  const TempFile file(values(n * k));
  const auto device = open_scalar(2);
  const Tensor tensor = make_tensor(device, DType::f32, {n, k}, Layout::panels);
  const auto progress = std::make_shared<LoadProgress>();
  WeightLoad load(device, std::vector<WeightSegment>(50, segment(tensor, file.path(), 0, n)), progress);
  std::thread canceller([&] {
    while (progress->loaded_bytes() == 0) std::this_thread::yield();
    progress->cancel();
  });
  Code code = Code::ok;
  try {
    load.run();
  } catch (const Error& e) {
    code = e.code;
  }
  canceller.join();
  CHECK(code == Code::aborted);
  CHECK(progress->loaded_bytes() < 50 * n * k * 2);
}

TEST_CASE("a missing file and a short file are io errors that name the file") {
  const TempFile file(values(8));
  const auto device = open_scalar(1);
  const Tensor tensor = make_tensor(device, DType::f32, {3, 3}, Layout::row_major);
  for (const std::string& path : {file.path(), file.path() + ".missing"}) {
    WeightLoad load(device, {segment(tensor, path, 0, 3)}, std::make_shared<LoadProgress>());
    try {
      load.run();
      FAIL("no error");
    } catch (const Error& e) {
      CHECK(e.code == Code::io);
      CHECK(std::string(e.what()).find(path) != std::string::npos);
    }
  }
}

TEST_CASE("random values are the same for every thread count and layout, and padding stays zero") {
  const int64_t n = 130, k = 77;
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    for (const Layout layout : {Layout::row_major, Layout::panels}) {
      Executor executor;
      const auto device = OpenDevice::open(*cpu_backend(), 0, threads, executor.pool(threads));
      const Tensor tensor = make_tensor(device, DType::bf16, {n, k}, layout);
      RandomFill fill(tensor, 7, 0.25f, executor.pool(threads));
      executor.run_here([&] { fill.run(); });
      const std::vector<float> filled = floats(tensor);
      if (first.empty()) first = filled;
      CHECK(filled == first);
      if (layout == Layout::row_major) continue;
      const auto* stored = reinterpret_cast<const bf16*>(tensor.storage->data());
      int64_t not_zero = 0;
      for (size_t i = 0; i < tensor.storage->bytes() / sizeof(bf16); ++i) not_zero += stored[i].bits != 0;
      CHECK(not_zero <= n * k);
    }
  }
}
