// Programs written down op by op, and their runs.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/program.h"
#include "core_operands.h"

namespace swiftkv::test {

struct ProgramSketch {
  ProgramSketch(std::shared_ptr<OpenDevice> on, const BatchCapacity& capacity)
      : device(std::move(on)), description{.name = "step", .capacity = capacity, .tensors = {}, .steps = {}} {}

  std::shared_ptr<OpenDevice> device;
  ProgramDescription description;

  // Tensors are numbers from here on.
  template <class T>
  int32_t add(T t) {
    description.tensors.emplace_back(std::in_place_type<T>, std::move(t));
    return static_cast<int32_t>(description.tensors.size()) - 1;
  }
  int32_t constant(DType dtype, const std::vector<int64_t>& shape, Layout layout = Layout::row_major) {
    return add(make_tensor(device, dtype, shape, layout));
  }
  int32_t rows(Axis axis, int64_t width, DType dtype = DType::f32) {
    return add(BufferTensor{dtype, {{axis, 0}, {Axis::none, width}}});
  }
  void op(const std::string& name, std::vector<std::pair<std::string, int32_t>> operands, AttrList attrs = {}) {
    description.steps.emplace_back(std::in_place_type<ProgramOp>, name, std::move(operands), std::move(attrs));
  }
  void mark(int32_t layer, Axis axis) { description.steps.emplace_back(std::in_place_type<LayerMark>, layer, axis); }
  std::shared_ptr<Program> make() const { return Program::create(device, description); }
  std::string error() const {
    return message_of([&] { make(); });
  }
};

inline void set(Batch& batch, BatchField field, const std::vector<int32_t>& values) {
  std::copy(values.begin(), values.end(), batch.data(field));
}

inline std::vector<int32_t> values(const Batch& batch, BatchField field) {
  return {batch.data(field), batch.data(field) + batch.length(field)};
}

inline StepResult run(Program& program, Batch& batch) {
  program.begin();
  return program.run(batch);
}

inline Code run_code(Program& program, Batch& batch) {
  try {
    run(program, batch);
    return Code::ok;
  } catch (const Error& e) {
    return e.code;
  }
}

}  // namespace swiftkv::test
