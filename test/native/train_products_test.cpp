// Training's products, packing and heads of loss: every level against the scalar one, which test/kernels compares with
// double precision, and the same bits for any number of threads. NEON is tested nowhere else.
#include <doctest/doctest.h>

#include <cmath>

#include "backends/cpu/pack.h"
#include "compare.h"
#include "core/train_ops.h"
#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

const std::vector<DType> kDtypes{DType::f32, DType::bf16};

// run(device) returns all that an op wrote.
template <class F>
void compare_levels(F&& run, const Tolerance& allowed) {
  const std::vector<float> expected = run(LevelDevice(cpu::CpuLevel::scalar));
  for_each_level([&](cpu::CpuLevel level) {
    const std::vector<float> one = run(LevelDevice(level));
    CHECK(difference(one, expected, allowed) == "");
    for (int threads : {2, 3}) CHECK(bit_difference(run(LevelDevice(level, threads)), one) == "");
  });
}

void append(std::vector<float>& to, const std::vector<float>& values) {
  to.insert(to.end(), values.begin(), values.end());
}

std::vector<float> transposed(const std::vector<float>& values, int64_t n, int64_t k) {
  std::vector<float> out(values.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) out[static_cast<size_t>(j * n + i)] = values[static_cast<size_t>(i * k + j)];
  return out;
}

TEST_CASE("pack_weight writes what pack does, padding included") {
  struct Shape {
    int64_t n, k;
  };
  for (const Shape shape : {Shape{1, 1}, Shape{63, 2}, Shape{64, 33}, Shape{65, 64}, Shape{130, 301}})
    for (DType dtype : kDtypes) {
      INFO("n ", shape.n, " k ", shape.k, " ", text(dtype_name(dtype)));
      Rng rng(21);
      std::vector<float> values = random_values(rng, shape.n * shape.k, 3.0f);
      for (size_t i = 0; i < values.size(); i += 5) values[i] *= 0x1p-130f;  // subnormal
      const Tensor src(DType::f32, values);
      const Weights as_is(dtype, Layout::panels, shape.n, shape.k, values);
      const Weights across(dtype, Layout::panels, shape.k, shape.n, transposed(values, shape.n, shape.k));
      for_each_level([&](cpu::CpuLevel level) {
        for (int threads : {1, 2}) {
          const Bytes dst(as_is.memory.size()), other(across.memory.size());
          const PackWeightParams p{shape.n,
                                   shape.k,
                                   src.f32(),
                                   {dst.data(), dtype, Layout::panels, shape.n, shape.k},
                                   {other.data(), dtype, Layout::panels, shape.k, shape.n}};
          CHECK(LevelDevice(level, threads).run(OpKind::pack_weight, &p).ok());
          CHECK(bit_difference(dst.data(), as_is.memory.data(), dst.size(), 1) == "");
          CHECK(bit_difference(other.data(), across.memory.data(), other.size(), 1) == "");
        }
      });
    }
}

TEST_CASE("linear_backward agrees with the scalar level") {
  struct Shape {
    int64_t rows, n, k;
  };
  // Around pairs, lanes, panels; more than one piece of rows and of outputs.
  for (const Shape s :
       {Shape{1, 3, 5}, Shape{2, 64, 16}, Shape{17, 65, 63}, Shape{131, 33, 130}, Shape{2051, 5, 3}, Shape{3, 1541, 2}})
    for (DType dtype : kDtypes) {
      INFO("rows ", s.rows, " n ", s.n, " k ", s.k, " ", text(dtype_name(dtype)));
      Rng rng(22);
      const Tensor a(dtype, random_values(rng, s.rows * s.k)), dy(dtype, random_values(rng, s.rows * s.n));
      // Sums of `rows` products below 1, and of what was there.
      const double rows = static_cast<double>(s.rows), walk = (std::sqrt(rows) * 4.0 + 16.0) * std::sqrt(rows + 1.0);
      compare_levels(
          [&](const LevelDevice& device) {
            const Tensor dw(DType::f32, std::vector<float>(static_cast<size_t>(s.n * s.k), 0.5f));
            const Tensor dbias(DType::f32, std::vector<float>(static_cast<size_t>(s.n), 0.5f));
            const LinearBackwardParams p{s.rows, s.n, s.k, a.activation(), dy.activation(), dw.f32(), dbias.f32()};
            CHECK(device.run(OpKind::linear_backward, &p).ok());
            std::vector<float> written = dw.floats();
            append(written, dbias.floats());
            return written;
          },
          [&](size_t) { return walk * kUnit; });
    }
}

// A head's operands. Rows of weight 0 lie between others, so that some are left out.
struct Head {
  Head(DType dtype, int64_t num_rows, int64_t width, int64_t tokens)
      : rows(num_rows),
        dim(width),
        vocab(tokens),
        rng(23),
        a(dtype, random_values(rng, rows * dim)),
        teacher(dtype, random_values(rng, rows * dim)),
        w(dtype, Layout::panels, vocab, dim, random_values(rng, vocab * dim)),
        wt(dtype, Layout::panels, dim, vocab, transposed(w.values, vocab, dim)),
        weights(DType::f32, weights_of(rows)) {
    for (int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<int32_t>(i * 7 % vocab));
  }

  static std::vector<float> weights_of(int64_t rows) {
    std::vector<float> values;
    for (int64_t i = 0; i < rows; ++i) values.push_back(i % 3 == 1 ? 0.0f : 0.5f + static_cast<float>(i % 5));
    return values;
  }

  // Logits are sums of `dim` products below 1, probabilities no more off than they, relatively; a gradient rounded to
  // bf16 may go to the other side. All of it is weighed with at most 4.5 and multiplied by weights below 1, whose
  // softmax and onehot, or two of softmax, sum to 2.
  double allowed(DType dtype) const {
    const double logits = (static_cast<double>(dim) * 4.0 + 64.0) * kUnit;
    return 4.5 * 4.0 * (logits + (dtype == DType::bf16 ? 2.0 * kUnitBf16 : 0.0));
  }

  int64_t rows, dim, vocab;
  Rng rng;
  Tensor a, teacher;
  Weights w, wt;
  Tensor weights;
  std::vector<int32_t> ids;
};

struct LossShape {
  int64_t rows, dim, vocab;
};
const std::vector<LossShape> kLossShapes{{1, 1, 1}, {5, 7, 63}, {6, 32, 64}, {17, 33, 65}, {400, 3, 130}};

TEST_CASE("distill_head agrees with the scalar level") {
  for (const LossShape& shape : kLossShapes)
    for (DType dtype : kDtypes) {
      INFO("rows ", shape.rows, " dim ", shape.dim, " vocab ", shape.vocab, " ", text(dtype_name(dtype)));
      const Head head(dtype, shape.rows, shape.dim, shape.vocab);
      compare_levels(
          [&](const LevelDevice& device) {
            const Tensor loss(DType::f32, head.rows), dstudent(DType::f32, head.rows * head.dim);
            const DistillHeadParams p{head.rows,
                                      head.dim,
                                      head.vocab,
                                      head.a.activation(),
                                      head.teacher.activation(),
                                      head.w.matrix,
                                      head.wt.matrix,
                                      head.weights.f32(),
                                      2.0f,
                                      loss.f32(),
                                      dstudent.f32()};
            CHECK(device.run(OpKind::distill_head, &p).ok());
            std::vector<float> written = loss.floats();
            append(written, dstudent.floats());
            return written;
          },
          [&](size_t i) {
            return i < static_cast<size_t>(head.rows) ? head.allowed(DType::f32) : head.allowed(dtype);
          });
    }
}

TEST_CASE("cross_entropy_head agrees with the scalar level") {
  for (const LossShape& shape : kLossShapes)
    for (DType dtype : kDtypes)
      for (bool wants_dw : {false, true}) {
        INFO("rows ", shape.rows, " dim ", shape.dim, " vocab ", shape.vocab, " ", text(dtype_name(dtype)), " dw ",
             wants_dw);
        const Head head(dtype, shape.rows, shape.dim, shape.vocab);
        compare_levels(
            [&](const LevelDevice& device) {
              const Tensor loss(DType::f32, head.rows), da(DType::f32, head.rows * head.dim);
              const Tensor dw(DType::f32, std::vector<float>(static_cast<size_t>(head.vocab * head.dim), 0.5f));
              const CrossEntropyHeadParams p{head.rows,
                                             head.dim,
                                             head.vocab,
                                             head.a.activation(),
                                             head.ids.data(),
                                             head.w.matrix,
                                             head.wt.matrix,
                                             head.weights.f32(),
                                             loss.f32(),
                                             da.f32(),
                                             wants_dw ? dw.f32() : nullptr};
              CHECK(device.run(OpKind::cross_entropy_head, &p).ok());
              std::vector<float> written = loss.floats();
              append(written, da.floats());
              append(written, dw.floats());
              return written;
            },
            [&](size_t i) {
              const auto before_dw = static_cast<size_t>(head.rows * (1 + head.dim));
              if (i < static_cast<size_t>(head.rows)) return head.allowed(DType::f32);
              // dw sums over rows what da sums over the vocabulary.
              return head.allowed(dtype) * (i < before_dw ? 1.0 : static_cast<double>(head.rows));
            });
      }
}

}  // namespace
}  // namespace swiftkv::test
