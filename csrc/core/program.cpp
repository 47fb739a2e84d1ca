// The run of a step: counts, cancellation, row counters, reading buffers back.
#include "core/program.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/executor.h"

namespace swiftkv {
namespace {

void clear(Batch& batch, BatchField field) {
  std::memset(batch.data(field), 0, static_cast<size_t>(batch.length(field)) * sizeof(int32_t));
}

template <class T>
void widen(const std::byte* bytes, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    if constexpr (std::is_integral_v<T>) {
      out[i] = static_cast<float>(value);
    } else {
      out[i] = to_f32(value);
    }
  }
}

}  // namespace

size_t Program::workspace_bytes() const {
  return buffers_->bytes() + scratch_->bytes() + (image_ == nullptr ? 0 : image_->bytes());
}

void Program::begin() {
  if (in_flight_.exchange(true, std::memory_order_acq_rel)) {
    throw Error(Code::invalid_argument, "program " + name_ + " is running: one run at a time");
  }
  cancelled_.store(false, std::memory_order_relaxed);
}

void Program::abandon() noexcept {
  in_flight_.store(false, std::memory_order_release);
}

void Program::cancel() noexcept {
  cancelled_.store(true, std::memory_order_relaxed);
}

StepResult Program::run(Batch& batch) {
  if (!in_flight()) throw Error(Code::internal, "program " + name_ + " was run without being announced");
  struct Over {
    Program& program;
    ~Over() { program.abandon(); }
  } over{*this};

  device_->require_open();
  if (batch.capacity() != capacity_) {
    throw Error(Code::invalid_argument, "Expected a batch of the capacity that program " + name_ + " was made for");
  }
  check(validate(batch, limits_));
  clear(batch, BatchField::layer_rows);
  clear(batch, BatchField::row_layers);
  const auto start = std::chrono::steady_clock::now();
  if (image_ == nullptr) {
    run_steps(batch);
  } else {
    run_on_image(batch);
  }
  return {std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count()};
}

void Program::run_on_image(Batch& batch) {
  const BackendTable& table = device_->table();
  Device* const device = device_->handle();
  try {
    check(image_->upload(batch));
    run_steps(batch);
    check(image_->download(batch));
  } catch (...) {
    // Ops that are under way read memory that the caller may let go of; what stopped the step is what counts.
    (void)table.synchronize(device);
    throw;
  }
  const Status status = table.synchronize(device);
  if (!status.ok()) throw Error(status.code, "program " + name_ + ": " + status.message);
}

void Program::run_steps(Batch& batch) {
  for (BoundStep& step : steps_) {
    if (step.op.kind == OpKind::count) {
      count_rows(step.mark, batch);
      continue;
    }
    if (cancelled_.load(std::memory_order_relaxed)) {
      throw Error(Code::aborted, "program " + name_ + " was cancelled before step " + std::to_string(step.index));
    }
    run_op(step, batch);
  }
}

void Program::run_op(BoundStep& step, const Batch& batch) {
  BoundOp& op = step.op;
  for (Extent& e : op.sizes) {
    if (e.axis != Axis::none) e.size = batch.count(e.axis) + e.plus;
  }
  if (op.rows() == 0) return;
  for (int32_t i = 0; i < step.num_batch; ++i) {
    const BatchPointer& p = step.batch[static_cast<size_t>(i)];
    std::get<TensorView>(op.operands[static_cast<size_t>(p.operand)]).data =
        image_ == nullptr ? batch.data(p.field) : image_->data(p.field);
  }
  const OpParams params = make_params(op);
  const OpContext context = {.scratch = scratch_->data(), .scratch_bytes = scratch_->bytes()};
  const Status status = device_->table().run(device_->handle(), op.kind, params_data(params), &context);
  if (status.ok()) return;
  throw Error(status.code,
              "step " + std::to_string(step.index) + " (" + std::string(op_name(op.kind)) + "): " + status.message);
}

void Program::count_rows(const LayerMark& mark, Batch& batch) const {
  const RowsView half = batch.half(mark.axis);
  batch.data(BatchField::layer_rows)[mark.layer] += static_cast<int32_t>(half.rows);
  int32_t* row_layers = batch.data(BatchField::row_layers);
  for (int32_t b = 0; b < half.num_seqs; ++b) {
    row_layers[half.table_row[b]] += half.query_start[b + 1] - half.query_start[b];
  }
}

int64_t Program::buffer_row_size(int32_t tensor) const {
  if (tensor < 0 || static_cast<size_t>(tensor) >= tensors_.size() ||
      !std::holds_alternative<BufferTensor>(tensors_[static_cast<size_t>(tensor)])) {
    throw Error(Code::invalid_argument,
                "Expected a buffer of the program but received tensor " + std::to_string(tensor));
  }
  const TensorView& v = std::get<TensorView>(views_[static_cast<size_t>(tensor)]);
  int64_t size = 1;
  for (int32_t i = 1; i < v.rank; ++i) size *= v.shape[static_cast<size_t>(i)].size;
  return size;
}

void Program::read_buffer(int32_t tensor, int64_t rows, float* out) const {
  const int64_t row_size = buffer_row_size(tensor);
  const TensorView& v = std::get<TensorView>(views_[static_cast<size_t>(tensor)]);
  if (rows < 0 || rows > v.shape[0].size) {
    throw Error(Code::invalid_argument, "Expected 0 to " + std::to_string(v.shape[0].size) +
                                            " rows of the buffer but received " + std::to_string(rows));
  }
  device_->require_open();
  if (in_flight()) throw Error(Code::invalid_argument, "program " + name_ + " is running: read buffers between runs");
  const int64_t count = rows * row_size;
  if (count == 0) return;

  // Through a bounded piece of memory of its own: the buffer may be on another device.
  constexpr int64_t kPiece = 65536;
  const int64_t element = dtype_bytes(v.dtype);
  std::vector<std::byte> piece(static_cast<size_t>(std::min(count, kPiece) * element));
  const auto* data = static_cast<const std::byte*>(v.data);
  for (int64_t at = 0; at < count; at += kPiece) {
    const int64_t n = std::min(kPiece, count - at);
    check(device_->table().download(device_->handle(), piece.data(), data + at * element,
                                    static_cast<size_t>(n * element)));
    switch (v.dtype) {
      case DType::f32: widen<float>(piece.data(), n, out + at); break;
      case DType::bf16: widen<bf16>(piece.data(), n, out + at); break;
      case DType::f16: widen<f16>(piece.data(), n, out + at); break;
      case DType::fp8_e4m3: widen<fp8_e4m3>(piece.data(), n, out + at); break;
      case DType::i32: widen<int32_t>(piece.data(), n, out + at); break;
      case DType::u8: widen<uint8_t>(piece.data(), n, out + at); break;
      case DType::int8:
      case DType::int4: throw Error(Code::internal, "a buffer of weight codes");
    }
  }
}

void submit_step(Executor& executor, std::shared_ptr<Program> program, std::shared_ptr<Batch> batch,
                 std::function<void(const Error*, StepResult)> done) {
  program->begin();
  struct Outcome {
    bool began = false;
    StepResult result;
  };
  const auto outcome = std::make_shared<Outcome>();
  Job job;
  // Let go of before anybody hears that the step has ended: a batch disposed of meanwhile is then gone.
  job.work = [program, batch = std::move(batch), outcome]() mutable {
    const std::shared_ptr<Batch> held = std::move(batch);
    outcome->began = true;
    outcome->result = program->run(*held);
  };
  job.cancel = [program] { program->cancel(); };
  job.done = [program, outcome, done = std::move(done)](const Error* error) {
    if (!outcome->began) program->abandon();
    done(error, outcome->result);
  };
  try {
    executor.submit(program->device().get(), std::move(job));
  } catch (...) {
    program->abandon();
    throw;
  }
}

}  // namespace swiftkv
