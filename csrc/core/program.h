// A checked list of ops with all the memory it needs: one forward pass.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/batch.h"
#include "core/batch_image.h"
#include "core/device.h"
#include "core/kv_pool.h"
#include "core/op_call.h"
#include "core/op_registry.h"
#include "core/sampler_table.h"
#include "core/tensor.h"

namespace swiftkv {

// Mirror of ProgramDescription in lib/native/binding.ts.
struct Dim {
  Axis axis = Axis::none;
  int64_t value = 0;  // the size, or with an axis the constant added to it
};

struct BufferTensor {
  DType dtype;
  std::vector<Dim> shape;
};

// A tensor that steps may write and that outlives them: its elements from `offset` on, seen in this shape. A packed
// tensor is seen whole.
struct StateTensor {
  Tensor tensor;
  int64_t offset = 0;
  std::vector<Dim> shape;
};

using ProgramTensor = std::variant<Tensor, BufferTensor, StateTensor, BatchField, CacheRef, std::vector<CacheRef>,
                                   std::shared_ptr<SamplerTable>>;

struct ProgramOp {
  std::string op;
  std::vector<std::pair<std::string, int32_t>> operands;  // name, index into tensors
  AttrList attrs;
};

// Says which rows enter a layer: the executor counts them when it passes this point.
struct LayerMark {
  int32_t layer;
  Axis axis;  // T or S
};

struct ProgramDescription {
  std::string name;
  BatchCapacity capacity;
  std::vector<ProgramTensor> tensors;
  std::vector<std::variant<ProgramOp, LayerMark>> steps;
};

struct StepResult {
  double ms = 0;  // from the first op to the last
};

class Program {
 public:
  // Checks every op at capacity, then allocates buffers and the largest scratch. Throws Error; messages carry the step,
  // e.g. "step 17 (linear): operand w ...".
  static std::shared_ptr<Program> create(std::shared_ptr<OpenDevice> device, ProgramDescription description);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::string& name() const { return name_; }
  const std::shared_ptr<OpenDevice>& device() const { return device_; }
  const BatchCapacity& capacity() const { return capacity_; }
  // Limits that batches of this program are held against.
  const BatchLimits& limits() const { return limits_; }
  size_t workspace_bytes() const;

  // A run is announced, run once and over (also when it throws); begin() throws Error(invalid_argument) while another
  // one is in flight. abandon() ends an announced run that will not happen. Executor users want submit_step().
  void begin();
  void abandon() noexcept;
  // Allocates nothing. When it returns or throws, nothing of the run is under way any more. Throws Error: internal for
  // a batch that does not hold, aborted after cancel(), or what an op says.
  StepResult run(Batch& batch);
  // The run in flight, or announced, stops before its next op. Without one: nothing. Any thread.
  void cancel() noexcept;
  bool in_flight() const { return in_flight_.load(std::memory_order_acquire); }

  // Elements of one row of a buffer tensor. Throws Error when `tensor` is no buffer.
  int64_t buffer_row_size(int32_t tensor) const;
  // The first `rows` rows of a buffer (f32, bf16, f16, i32, u8) as f32. Throws Error while a run is in flight.
  void read_buffer(int32_t tensor, int64_t rows, float* out) const;

 private:
  struct BatchPointer {
    int32_t operand;
    BatchField field;
  };
  struct BoundStep {
    int32_t index = 0;  // in the description
    LayerMark mark = {};
    BoundOp op;  // of kind count: a layer mark. Row sizes and batch pointers are those of the last run.
    std::array<int32_t, kMaxOperands> tensors = {};  // by operand, -1: absent
    std::array<BatchPointer, kMaxOperands> batch = {};
    int32_t num_batch = 0;
  };
  friend class ProgramBuilder;
  Program() = default;
  void run_on_image(Batch& batch);
  void run_steps(Batch& batch);
  void run_op(BoundStep& step, const Batch& batch);
  void count_rows(const LayerMark& mark, Batch& batch) const;

  std::string name_;
  std::shared_ptr<OpenDevice> device_;
  BatchCapacity capacity_ = {};
  BatchLimits limits_;
  std::vector<ProgramTensor> tensors_;  // owners
  std::vector<OperandView> views_;      // by tensor
  std::vector<std::vector<KvCache>> cache_lists_;
  std::vector<BoundStep> steps_;
  std::shared_ptr<Storage> buffers_;
  std::shared_ptr<Storage> scratch_;
  std::unique_ptr<BatchImage> image_;  // null where ops read the batch itself
  std::atomic<bool> in_flight_{false};
  std::atomic<bool> cancelled_{false};
};

class Executor;

// Queues one step under the program's device. `done` is called on the executor's thread, once, also when the step is
// dropped. Throws Error when a run of the program is in flight or the executor has stopped (then `done` is not called).
void submit_step(Executor& executor, std::shared_ptr<Program> program, std::shared_ptr<Batch> batch,
                 std::function<void(const Error*, StepResult)> done);

}  // namespace swiftkv
