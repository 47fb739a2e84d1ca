// That cuBLASLt is asked for the product that linear means: a stand-in for the library multiplies what it is told of,
// by the rules of its interface (columns first, transposed A).
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "backends/cuda/cublaslt.h"
#include "chunks.h"
#include "compare.h"
#include "device_weights.h"

namespace swiftkv::test {
namespace {

using Functions = cuda::CublasLtFunctions;

struct Shape {
  int type;
  uint64_t rows, cols;
  int64_t stride;
};
struct Description {
  bool transposed = false;
};

int living = 0;    // descriptions, shapes and preferences
int searches = 0;  // for algorithms
int offered = 1;   // algorithms

double at(const void* data, const Shape& s, uint64_t row, uint64_t col) {
  const auto i = static_cast<int64_t>(col) * s.stride + static_cast<int64_t>(row);
  return s.type == 14 ? to_f32(static_cast<const bf16*>(data)[i]) : static_cast<const float*>(data)[i];
}

const Functions kStandIn = {
    .create = [](void** handle) -> int { return *handle = &living, 0; },
    .destroy = [](void*) -> int { return 0; },
    .describe = [](void** out, int compute, int scale) -> int {
      ++living;
      *out = new Description();
      return compute == 68 && scale == 0 ? 0 : 7;
    },
    .set_description = [](void* d, int attribute, const void* value, size_t bytes) -> int {
      int operation = 0;
      if (attribute != 3 || bytes != sizeof operation) return 7;
      std::memcpy(&operation, value, bytes);
      static_cast<Description*>(d)->transposed = operation == 1;
      return 0;
    },
    .forget_description = [](void* d) -> int { return --living, delete static_cast<Description*>(d), 0; },
    .shape = [](void** out, int type, uint64_t rows, uint64_t cols, int64_t stride) -> int {
      ++living;
      *out = new Shape{type, rows, cols, stride};
      return stride >= static_cast<int64_t>(rows) ? 0 : 7;
    },
    .forget_shape = [](void* s) -> int { return --living, delete static_cast<Shape*>(s), 0; },
    .prefer = [](void** out) -> int { return ++living, *out = new int(0), 0; },
    .set_preference = [](void*, int attribute, const void*, size_t bytes) -> int {
      return attribute == 1 && bytes == sizeof(size_t) ? 0 : 7;
    },
    .forget_preference = [](void* p) -> int { return --living, delete static_cast<int*>(p), 0; },
    .candidates = [](void*, void*, void*, void*, void*, void*, void*, int wanted, Functions::Candidate* out,
                     int* found) -> int {
      ++searches;
      *found = std::min(wanted, offered);
      if (*found > 0) *out = {{{42}}, 1000, 0, 1.0f, {}};
      return 0;
    },
    .multiply = [](void*, void* description, const void* alpha, const void* a, void* a_shape, const void* b,
                   void* b_shape, const void* beta, const void* c, void* c_shape, void* d, void* d_shape,
                   const Functions::Algorithm* algorithm, void* workspace, size_t bytes, cuda::Stream) -> int {
      const Shape &sa = *static_cast<Shape*>(a_shape), &sb = *static_cast<Shape*>(b_shape),
                  &sd = *static_cast<Shape*>(d_shape);
      if (!static_cast<Description*>(description)->transposed || c != d || c_shape != d_shape) return 7;
      if (sa.rows != sb.rows || sa.cols != sd.rows || sb.cols != sd.cols) return 7;
      if (algorithm->data[0] != 42 || workspace == nullptr || bytes != 1000) return 7;
      for (uint64_t col = 0; col < sd.cols; ++col)
        for (uint64_t row = 0; row < sd.rows; ++row) {
          double sum = 0;
          for (uint64_t k = 0; k < sa.rows; ++k) sum += at(a, sa, k, row) * at(b, sb, k, col);
          const float scale = *static_cast<const float*>(beta);
          sum = sum * *static_cast<const float*>(alpha) + (scale == 0 ? 0 : scale * at(c, sd, row, col));
          const auto i = static_cast<int64_t>(col) * sd.stride + static_cast<int64_t>(row);
          if (sd.type == 14)
            static_cast<bf16*>(d)[i] = to_bf16(static_cast<float>(sum));
          else
            static_cast<float*>(d)[i] = static_cast<float>(sum);
        }
      return 0;
    },
};

LinearParams params_of(const Tensor& a, const Matrix& w, Tensor& y, int64_t rows, bool accumulate) {
  return {rows, a.activation(), w, nullptr, accumulate, y.activation()};
}

TEST_CASE("cuBLASLt multiplies what linear means, shape after shape, and forgets all that it made") {
  {
    std::string reason;
    const auto lt = cuda::CublasLt::with(kStandIn, &reason);
    REQUIRE(lt != nullptr);
    searches = 0;
    const cuda::DeviceLimits limits = limits_of(80);
    const DeviceBytes scratch(cuda::CublasLt::kWorkspaceBytes);
    const cuda::Context c{nullptr, scratch.data(), scratch.size(), limits, false};
    Rng rng(3);
    for (DType in : {DType::f32, DType::bf16})
      for (DType out : {DType::f32, DType::bf16}) {
        if (in == DType::f32 && out == DType::bf16) continue;
        for (bool accumulate : {false, true}) {
          if (accumulate && out != DType::f32) continue;
          for (int64_t rows : {1, 5}) {
            const int64_t n = 24, k = 40;  // rows of 64 elements in memory
            const Tensor a(in, random_values(rng, rows * k));
            const Weights w(in, Layout::panels, n, k, random_values(rng, n * k));
            const DeviceWeights device_w(w);
            const std::vector<float> before = random_values(rng, rows * n);
            Tensor y(out, before);
            bool done = false;
            const LinearParams p = params_of(a, device_w.matrix(), y, rows, accumulate);
            REQUIRE(cuda::CublasLt::takes(p));
            REQUIRE(lt->linear(p, c, &done).ok());
            REQUIRE(done);
            const std::vector<float> x = a.floats(), actual = y.floats();
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t i = 0; i < n; ++i) {
                double sum = 0;
                for (int64_t j = 0; j < k; ++j)
                  sum += static_cast<double>(x[static_cast<size_t>(r * k + j)]) *
                         static_cast<double>(w.values[static_cast<size_t>(i * k + j)]);
                if (accumulate) sum += static_cast<double>(before[static_cast<size_t>(r * n + i)]);
                const float expected =
                    out == DType::bf16 ? to_f32(to_bf16(static_cast<float>(sum))) : static_cast<float>(sum);
                CHECK(actual[static_cast<size_t>(r * n + i)] == expected);
              }
            const int before_again = searches;
            REQUIRE(lt->linear(p, c, &done).ok());
            CHECK(searches == before_again);  // known by now
          }
        }
      }
    // Far more shapes than it remembers.
    for (int64_t rows = 1; rows < 2000; ++rows) {
      bool done = false;
      offered = 0;
      const LinearParams p{rows,  {nullptr, DType::f32}, {nullptr, DType::f32, Layout::panels, 8, 8}, nullptr,
                           false, {nullptr, DType::f32}};
      CHECK(lt->linear(p, c, &done).ok());
      CHECK(!done);
    }
    offered = 1;
  }
  CHECK(living == 0);
}

TEST_CASE("cuBLASLt takes plain products only, and what it takes does not depend on the rows") {
  LinearParams p{1,     {nullptr, DType::bf16}, {nullptr, DType::bf16, Layout::panels, 64, 64}, nullptr,
                 false, {nullptr, DType::bf16}};
  CHECK(cuda::CublasLt::takes(p));
  p.rows = 1000;
  CHECK(cuda::CublasLt::takes(p));
  const float bias[64] = {};
  LinearParams other = p;
  other.bias = bias;
  CHECK_FALSE(cuda::CublasLt::takes(other));
  other = p;
  other.w.dtype = DType::fp8_e4m3;
  CHECK_FALSE(cuda::CublasLt::takes(other));
  other = p;
  other.w.k = 60;
  CHECK_FALSE(cuda::CublasLt::takes(other));
  other = p;
  other.a.dtype = DType::f32;
  CHECK_FALSE(cuda::CublasLt::takes(other));
}

TEST_CASE("a library that cannot be used is a reason, not an error") {
  std::string reason;
  Functions broken = kStandIn;
  broken.create = [](void**) -> int { return 1; };
  CHECK(cuda::CublasLt::with(broken, &reason) == nullptr);
  CHECK(reason == "cublasLtCreate answered 1");
}

}  // namespace
}  // namespace swiftkv::test
