// Heads of loss: products, softmax and gradients of some rows at a time. Rows of weight 0 are left out before anything
// is multiplied, so that a loss on answers alone costs their rows.
//
// A Level has, as static members: linear, linear_scratch, linear_backward, linear_backward_scratch, and of one row
//   float distill(float* student, float* teacher, int64_t vocab, float temperature, float weight, T* grad)
//   float cross_entropy(float* logits, int64_t vocab, int32_t id, float weight, T* grad)
// which return its loss and write the gradient of its (student) logits; logits may be overwritten. It lives in an
// unnamed namespace, so that nothing here is shared between levels.
#pragma once

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/train/carver.h"
#include "core/train_ops.h"

namespace swiftkv::cpu::train {

// Rows whose logits exist at once: what weights cost to read is spread over enough of them.
inline constexpr int64_t kHeadRows = 256;

// Rows that count, up to kHeadRows of them.
struct HeadRows {
  int64_t count = 0;
  int64_t index[kHeadRows];

  // From `row` on, up to `end`; returns the row to go on from.
  template <class Weight>
  int64_t collect(int64_t row, int64_t end, const Weight& weight) {
    for (count = 0; row < end && count < kHeadRows; ++row)
      if (weight(row) != 0.0f) index[count++] = row;
    return row;
  }
  bool dense() const { return count == 0 || index[count - 1] - index[0] == count - 1; }

  // Those rows of a matrix, one after the other: where they lie, or copied to `to`.
  const std::byte* gather(const void* matrix, int64_t row_bytes, std::byte* to) const {
    const auto* from = static_cast<const std::byte*>(matrix);
    if (dense()) return from + index[0] * row_bytes;
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(to + i * row_bytes, from + index[i] * row_bytes, static_cast<size_t>(row_bytes));
    return to;
  }
  void scatter(const float* from, int64_t width, float* matrix) const {
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(matrix + index[i] * width, from + i * width, static_cast<size_t>(width) * 4);
  }
};

static inline LinearParams product(int64_t rows, const void* a, DType dtype, const Matrix& w, float* y) {
  return {.rows = rows,
          .a = {const_cast<void*>(a), dtype},
          .w = w,
          .bias = nullptr,
          .accumulate = false,
          .y = {y, DType::f32}};
}

static inline int64_t head_rows(int64_t rows) {
  return rows < kHeadRows ? rows : kHeadRows;
}

// Both products of a head need the same scratch, one after the other.
template <class Level>
static size_t products_scratch(int64_t rows, DType dtype, const Matrix& w, const Matrix& wt, int threads) {
  const size_t logits = Level::linear_scratch(product(rows, nullptr, dtype, w, nullptr), threads);
  const size_t gradient = Level::linear_scratch(product(rows, nullptr, dtype, wt, nullptr), threads);
  return logits > gradient ? logits : gradient;
}

struct DistillScratch {
  std::byte *student, *teacher, *grad;
  float *student_logits, *teacher_logits, *dstudent;

  DistillScratch(const DistillHeadParams& p, Carver& carver) {
    const int64_t rows = head_rows(p.rows), element = dtype_bytes(p.student.dtype);
    student = carver.take<std::byte>(rows * p.dim * element);
    teacher = carver.take<std::byte>(rows * p.dim * element);
    grad = carver.take<std::byte>(rows * p.vocab * element);
    student_logits = carver.take<float>(rows * p.vocab);
    teacher_logits = carver.take<float>(rows * p.vocab);
    dstudent = carver.take<float>(rows * p.dim);
  }
};

template <class Level>
static size_t distill_head_scratch(const DistillHeadParams& p, int threads) {
  if (p.rows == 0) return 0;
  Carver carver(nullptr);
  const DistillScratch counted(p, carver);
  return carver.used() + products_scratch<Level>(head_rows(p.rows), p.student.dtype, p.w, p.wt, threads);
}

template <class Level, class T>
static Status distill_rows(const DistillHeadParams& p, const Context& c) {
  Carver carver(c.scratch);
  const DistillScratch s(p, carver);
  const Context inner = carver.rest(c);
  const DType dtype = p.student.dtype;
  const int64_t row_bytes = p.dim * dtype_bytes(dtype);
  std::memset(p.loss, 0, static_cast<size_t>(p.rows) * 4);
  std::memset(p.dstudent, 0, static_cast<size_t>(p.rows * p.dim) * 4);
  HeadRows rows;
  for (int64_t next = 0; next < p.rows;) {
    next = rows.collect(next, p.rows, [&](int64_t row) { return p.weights[row]; });
    if (rows.count == 0) break;
    const std::byte* student = rows.gather(p.student.data, row_bytes, s.student);
    const std::byte* teacher = rows.gather(p.teacher.data, row_bytes, s.teacher);
    Status status = Level::linear(product(rows.count, student, dtype, p.w, s.student_logits), inner);
    if (status.ok()) status = Level::linear(product(rows.count, teacher, dtype, p.w, s.teacher_logits), inner);
    if (!status.ok()) return status;
    T* const grad = reinterpret_cast<T*>(s.grad);
    c.parallel_for(rows.count, [&](int64_t i, int) {
      const int64_t row = rows.index[i], at = i * p.vocab;
      p.loss[row] = Level::distill(s.student_logits + at, s.teacher_logits + at, p.vocab, p.temperature, p.weights[row],
                                   grad + at);
    });
    status = Level::linear(product(rows.count, grad, dtype, p.wt, s.dstudent), inner);
    if (!status.ok()) return status;
    rows.scatter(s.dstudent, p.dim, p.dstudent);
  }
  return {};
}

template <class Level>
static Status distill_head(const DistillHeadParams& p, const Context& c) {
  if (p.rows == 0) return {};
  return p.student.dtype == DType::bf16 ? distill_rows<Level, bf16>(p, c) : distill_rows<Level, float>(p, c);
}

struct CrossEntropyScratch {
  std::byte *a, *grad;
  float *logits, *da;

  CrossEntropyScratch(const CrossEntropyHeadParams& p, Carver& carver) {
    const int64_t rows = head_rows(p.rows), element = dtype_bytes(p.a.dtype);
    a = carver.take<std::byte>(rows * p.dim * element);
    grad = carver.take<std::byte>(rows * p.vocab * element);
    logits = carver.take<float>(rows * p.vocab);
    da = carver.take<float>(rows * p.dim);
  }
};

static inline LinearBackwardParams weight_gradient(const CrossEntropyHeadParams& p, int64_t rows, const void* a,
                                                   void* grad) {
  return {.rows = rows,
          .n = p.vocab,
          .k = p.dim,
          .a = {const_cast<void*>(a), p.a.dtype},
          .dy = {grad, p.a.dtype},
          .dw = p.dw,
          .dbias = nullptr};
}

template <class Level>
static size_t cross_entropy_head_scratch(const CrossEntropyHeadParams& p, int threads) {
  if (p.rows == 0) return 0;
  Carver carver(nullptr);
  const CrossEntropyScratch counted(p, carver);
  const int64_t rows = head_rows(p.rows);
  const size_t products = products_scratch<Level>(rows, p.a.dtype, p.w, p.wt, threads);
  const size_t backward = Level::linear_backward_scratch(weight_gradient(p, rows, nullptr, nullptr), threads);
  return carver.used() + (products > backward ? products : backward);
}

template <class Level, class T>
static Status cross_entropy_rows(const CrossEntropyHeadParams& p, const Context& c) {
  Carver carver(c.scratch);
  const CrossEntropyScratch s(p, carver);
  const Context inner = carver.rest(c);
  const int64_t row_bytes = p.dim * static_cast<int64_t>(sizeof(T));
  std::memset(p.loss, 0, static_cast<size_t>(p.rows) * 4);
  std::memset(p.da, 0, static_cast<size_t>(p.rows * p.dim) * 4);
  HeadRows rows;
  for (int64_t next = 0; next < p.rows - 1;) {
    next = rows.collect(next, p.rows - 1, [&](int64_t row) { return p.weights[row]; });
    if (rows.count == 0) break;
    const std::byte* a = rows.gather(p.a.data, row_bytes, s.a);
    Status status = Level::linear(product(rows.count, a, p.a.dtype, p.w, s.logits), inner);
    if (!status.ok()) return status;
    T* const grad = reinterpret_cast<T*>(s.grad);
    c.parallel_for(rows.count, [&](int64_t i, int) {
      const int64_t row = rows.index[i], at = i * p.vocab;
      p.loss[row] = Level::cross_entropy(s.logits + at, p.vocab, p.ids[row + 1], p.weights[row], grad + at);
    });
    status = Level::linear(product(rows.count, grad, p.a.dtype, p.wt, s.da), inner);
    if (status.ok() && p.dw != nullptr) status = Level::linear_backward(weight_gradient(p, rows.count, a, grad), inner);
    if (!status.ok()) return status;
    rows.scatter(s.da, p.dim, p.da);
  }
  return {};
}

template <class Level>
static Status cross_entropy_head(const CrossEntropyHeadParams& p, const Context& c) {
  if (p.rows == 0) return {};
  return p.a.dtype == DType::bf16 ? cross_entropy_rows<Level, bf16>(p, c) : cross_entropy_rows<Level, float>(p, c);
}

}  // namespace swiftkv::cpu::train
