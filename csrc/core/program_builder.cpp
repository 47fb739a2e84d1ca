// From a description to a program: views of its tensors, checked ops, memory.
#include <algorithm>
#include <string>

#include "core/program.h"

namespace swiftkv {
namespace {

using std::string;
using std::to_string;

constexpr int64_t kMaxBytes = int64_t{1} << 46;
constexpr int64_t kAlign = 64;

template <class... F>
struct Overload : F... {
  using F::operator()...;
};

Extent extent_of(const Dim& dim, const BatchCapacity& capacity) {
  if (dim.axis == Axis::none) return {.size = dim.value};
  return {
      .size = axis_capacity(dim.axis, capacity) + dim.value, .axis = dim.axis, .plus = static_cast<int32_t>(dim.value)};
}

}  // namespace

class ProgramBuilder {
 public:
  ProgramBuilder(std::shared_ptr<OpenDevice> device, ProgramDescription description)
      : description_(std::move(description)), program_(new Program()) {
    program_->name_ = std::move(description_.name);
    program_->device_ = std::move(device);
    program_->capacity_ = description_.capacity;
    program_->tensors_ = std::move(description_.tensors);
  }

  std::shared_ptr<Program> build() {
    check_capacity(program_->capacity_);
    program_->cache_lists_.reserve(program_->tensors_.size());
    for (size_t i = 0; i < program_->tensors_.size(); ++i) add_tensor(i);
    for (size_t i = 0; i < description_.steps.size(); ++i) add_step(static_cast<int32_t>(i));
    allocate();
    return std::move(program_);
  }

 private:
  using BoundStep = Program::BoundStep;

  void add_tensor(size_t i) {
    try {
      program_->views_.push_back(
          std::visit(Overload{[&](const BufferTensor& b) -> OperandView { return buffer_view(b); },
                              [&](const StateTensor& t) -> OperandView { return state_view(t); },
                              [&](BatchField f) -> OperandView { return Batch::view(f, program_->capacity_); },
                              [&](const auto& owned) -> OperandView {
                                return view_operand(owned, *program_->device_, program_->cache_lists_);
                              }},
                     program_->tensors_[i]));
    } catch (const Error& e) {
      throw Error(e.code, "tensor " + to_string(i) + ": " + e.what());
    }
  }

  TensorView buffer_view(const BufferTensor& b) {
    if (b.shape.empty() || b.shape.size() > kMaxRank) {
      throw Error(Code::invalid_argument,
                  "Expected 1 to 4 dimensions for a buffer but received " + to_string(b.shape.size()));
    }
    TensorView v;
    v.dtype = b.dtype;
    int64_t bytes = dtype_bytes(b.dtype);
    for (const Dim& dim : b.shape) {
      const Extent e = extent_of(dim, program_->capacity_);
      if (dim.axis != Axis::none && v.rank > 0) {
        throw Error(Code::invalid_argument, "Expected a row axis only as the first dimension of a buffer");
      }
      if (e.size < 0 || e.size > INT32_MAX || e.plus < 0 || __builtin_mul_overflow(bytes, e.size, &bytes) ||
          bytes > kMaxBytes) {
        throw Error(Code::invalid_argument, "a buffer of this shape is larger than any machine's memory");
      }
      v.shape[static_cast<size_t>(v.rank++)] = e;
    }
    return v;
  }

  TensorView state_view(const StateTensor& s) {
    const auto whole = std::get<TensorView>(view_operand(s.tensor, *program_->device_, program_->cache_lists_));
    TensorView v = buffer_view({.dtype = whole.dtype, .shape = s.shape});
    v.layout = whole.layout;
    const bool packed = whole.layout != Layout::row_major;
    if (packed && (s.offset != 0 || v.rank != whole.rank || v.shape != whole.shape)) {
      throw Error(Code::invalid_argument, "Expected a packed tensor as a whole");
    }
    if (s.offset < 0 || s.offset > whole.count() || v.count() > whole.count() - s.offset) {
      throw Error(Code::invalid_argument, "Expected at most the " + to_string(whole.count()) +
                                              " elements of the tensor but received " + to_string(v.count()) +
                                              " from element " + to_string(s.offset) + " on");
    }
    v.data = static_cast<std::byte*>(whole.data) + s.offset * dtype_bytes(whole.dtype);
    return v;
  }

  void add_step(int32_t index) {
    const auto& step = description_.steps[static_cast<size_t>(index)];
    if (const auto* mark = std::get_if<LayerMark>(&step)) return add_mark(index, *mark);
    const ProgramOp& op = std::get<ProgramOp>(step);
    try {
      add_op(index, op);
    } catch (const Error& e) {
      // The registry's messages begin with the op's name, which is said here.
      string message = e.what();
      if (message.starts_with(op.op + ": ")) message.erase(0, op.op.size() + 2);
      throw Error(e.code, "step " + to_string(index) + " (" + op.op + "): " + message);
    }
  }

  void add_mark(int32_t index, const LayerMark& mark) {
    if (mark.layer < 0 || mark.layer >= program_->capacity_.num_layers ||
        (mark.axis != Axis::T && mark.axis != Axis::S)) {
      throw Error(Code::invalid_argument, "step " + to_string(index) + ": Expected a layer below " +
                                              to_string(program_->capacity_.num_layers) + " on axis T or S");
    }
    const bool all = mark.axis == Axis::T;
    program_->limits_.use(all ? BatchField::query_start_t : BatchField::query_start_s);
    program_->limits_.use(all ? BatchField::table_row_t : BatchField::table_row_s);
    BoundStep step;
    step.index = index;
    step.mark = mark;
    program_->steps_.push_back(step);
  }

  void add_op(int32_t index, const ProgramOp& op) {
    const OpKind kind = require_op(op.op);
    std::vector<NamedOperand> views;
    for (const auto& [name, tensor] : op.operands) {
      if (tensor < 0 || static_cast<size_t>(tensor) >= program_->views_.size()) {
        throw Error(Code::invalid_argument,
                    "operand " + name + " is tensor " + to_string(tensor) + ", which the program does not have");
      }
      views.push_back({name, program_->views_[static_cast<size_t>(tensor)]});
    }
    BoundStep step;
    step.index = index;
    step.tensors.fill(-1);
    step.op = bind_op(kind, views, view_attrs(op.attrs));
    const OpSpec& spec = op_spec(kind);
    for (size_t i = 0; i < spec.operands.size(); ++i) {
      const OperandSpec& operand = spec.operands[i];
      const int32_t tensor = tensor_of(op, operand.name);
      step.tensors[i] = tensor;
      if (tensor >= 0) check_use(op, step.op, operand, tensor);
    }
    add_limits(step);
    program_->steps_.push_back(step);
  }

  static int32_t tensor_of(const ProgramOp& op, std::string_view name) {
    for (const auto& [n, tensor] : op.operands) {
      if (n == name) return tensor;
    }
    return -1;
  }

  // What a program may do with each kind of tensor, beyond shapes and dtypes.
  void check_use(const ProgramOp& op, const BoundOp& bound, const OperandSpec& operand, int32_t tensor) {
    const ProgramTensor& t = program_->tensors_[static_cast<size_t>(tensor)];
    const BatchField* field = std::get_if<BatchField>(&t);
    const string who = "operand " + string(operand.name);
    if (operand.access != Access::in && operand.kind == OperandKind::tensor) {
      if (std::holds_alternative<Tensor>(t)) {
        throw Error(Code::invalid_argument, who + " is written, expected a buffer but received a constant");
      }
      if (field != nullptr && !step_writes(*field)) {
        throw Error(Code::invalid_argument, who + " is written, expected a buffer or a field of results but received " +
                                                string(batch_field_info(*field).name));
      }
      const auto uses =
          std::count_if(op.operands.begin(), op.operands.end(), [&](const auto& o) { return o.second == tensor; });
      if (uses > 1) {
        throw Error(Code::invalid_argument,
                    who + " is written and also another operand: results need memory of their own");
      }
    }
    if (operand.role != IndexRole::none) check_role(bound, operand, field);
  }

  // Numbers that a kernel follows come from the batch, where each step checks them.
  void check_role(const BoundOp& bound, const OperandSpec& operand, const BatchField* field) {
    const string who = "operand " + string(operand.name);
    if (field == nullptr) {
      throw Error(Code::invalid_argument, who + " holds indices, expected a field of the batch");
    }
    const IndexRole role = batch_field_info(*field).role;
    bool fits = role == operand.role;
    if (operand.role == IndexRole::row) {
      const Axis source = bound.sizes[static_cast<size_t>(Sym::src)].axis;
      fits = (role == IndexRole::survivor && source == Axis::T) ||
             (role == IndexRole::logit_row && source == Axis::S) ||
             (role == IndexRole::logprob_row && source == Axis::R);
    }
    if (!fits) {
      throw Error(Code::invalid_argument, "batch field " + string(batch_field_info(*field).name) + " cannot be " + who +
                                              ": its numbers mean something else");
    }
    program_->limits_.use(*field);
  }

  // A batch must suit the tightest op.
  void add_limits(const BoundStep& step) {
    BatchLimits& limits = program_->limits_;
    const OpSpec& spec = op_spec(step.op.kind);
    const auto tighten = [&](int64_t& limit, IndexRole role, Sym sym) {
      const bool has =
          std::any_of(spec.operands.begin(), spec.operands.end(), [&](const OperandSpec& o) { return o.role == role; });
      if (has) limit = std::min(limit, step.op.size(sym));
    };
    tighten(limits.vocab, IndexRole::token, Sym::V);
    tighten(limits.vocab, IndexRole::forced_token, Sym::V);
    tighten(limits.masks, IndexRole::mask_row, Sym::masks);
    // Attention bounds positions by the context instead of a table.
    if (!is_attention(step.op.kind)) tighten(limits.positions, IndexRole::position, Sym::P);
    tighten(limits.num_blocks, IndexRole::slot, Sym::NB);
    tighten(limits.num_blocks, IndexRole::block_table, Sym::NB);
    tighten(limits.num_blocks, IndexRole::block, Sym::NB);
    tighten(limits.sampler_slots, IndexRole::sampler_slot, Sym::slots);
  }

  static bool is_attention(OpKind kind) {
    return kind == OpKind::attention || kind == OpKind::attention_decode || kind == OpKind::attention_prefill ||
           kind == OpKind::attention_backward;
  }

  // Buffers one after the other, each 64-byte aligned, and one scratch for all ops.
  void allocate() {
    int64_t total = 0;
    std::vector<int64_t> offsets(program_->tensors_.size(), -1);
    for (size_t i = 0; i < offsets.size(); ++i) {
      if (!std::holds_alternative<BufferTensor>(program_->tensors_[i])) continue;
      const TensorView& v = std::get<TensorView>(program_->views_[i]);
      offsets[i] = total;
      total += (v.count() * dtype_bytes(v.dtype) + kAlign - 1) / kAlign * kAlign;
      if (total > kMaxBytes)
        throw Error(Code::invalid_argument, "the program's buffers are larger than any machine's memory");
    }
    program_->buffers_ = program_->device_->allocate(static_cast<size_t>(total), MemoryPart::workspace);
    for (size_t i = 0; i < offsets.size(); ++i) {
      if (offsets[i] >= 0) std::get<TensorView>(program_->views_[i]).data = program_->buffers_->data() + offsets[i];
    }

    size_t scratch = 0;
    FieldSet fields;
    const OpenDevice& device = *program_->device_;
    for (BoundStep& step : program_->steps_) {
      if (step.op.kind == OpKind::count) continue;
      for (size_t i = 0; i < step.tensors.size(); ++i) {
        if (step.tensors[i] < 0) continue;
        const auto tensor = static_cast<size_t>(step.tensors[i]);
        step.op.operands[i] = program_->views_[tensor];
        if (const auto* field = std::get_if<BatchField>(&program_->tensors_[tensor])) {
          step.batch[step.num_batch++] = {static_cast<int32_t>(i), *field};
          fields.add(*field);
        }
      }
      const OpParams params = make_params(step.op);
      scratch = std::max(scratch, device.table().scratch_bytes(device.handle(), step.op.kind, params_data(params)));
    }
    program_->scratch_ = program_->device_->allocate(scratch, MemoryPart::workspace);
    if (!device.host_memory()) {
      program_->image_ = std::make_unique<BatchImage>(program_->device_, program_->capacity_, fields);
    }
  }

  ProgramDescription description_;
  std::shared_ptr<Program> program_;
};

std::shared_ptr<Program> Program::create(std::shared_ptr<OpenDevice> device, ProgramDescription description) {
  return ProgramBuilder(std::move(device), std::move(description)).build();
}

}  // namespace swiftkv
