#include "addon/program_description.h"

#include "addon/args.h"
#include "addon/batch.h"
#include "addon/cache_ref.h"
#include "addon/errors.h"
#include "addon/operand_args.h"
#include "addon/sampler_table.h"
#include "addon/tensor.h"

namespace swiftkv::addon {

namespace {

constexpr uint32_t kMaxTensors = 1 << 20;
constexpr uint32_t kMaxSteps = 1 << 20;

std::string at(const std::string& name, uint32_t index) {
  return name + '[' + std::to_string(index) + ']';
}

Axis read_axis(Napi::Value value, const std::string& name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  for (const Axis axis : {Axis::T, Axis::S, Axis::R, Axis::BT, Axis::BS, Axis::P, Axis::C})
    if (text == axis_name(axis)) return axis;
  throw_invalid(value.Env(), "Expected T, S, R, BT, BS, P or C for " + name + " but received " + describe(value));
}

Dim read_dim(Napi::Value value, const std::string& name) {
  if (value.IsNumber()) return {.axis = Axis::none, .value = read_int(value, name)};
  if (value.IsString()) return {.axis = read_axis(value, name), .value = 0};
  const Napi::Object object = read_object(value, name);
  return {.axis = read_axis(object.Get("axis"), name + ".axis"),
          .value = read_int(object.Get("plus"), name + ".plus", 0, kMaxInt32)};
}

BufferTensor read_buffer(const Napi::Object& object, const std::string& name) {
  BufferTensor buffer{.dtype = read_dtype(object.Get("dtype"), name + ".dtype"), .shape = {}};
  const Napi::Array shape = read_array(object.Get("shape"), name + ".shape", kMaxRank);
  for (uint32_t i = 0; i < shape.Length(); ++i) buffer.shape.push_back(read_dim(shape.Get(i), at(name + ".shape", i)));
  return buffer;
}

StateTensor read_state(const Napi::Object& object, const std::string& name) {
  StateTensor state{.tensor = TensorHandle::alive(object.Get("tensor"), name + ".tensor"),
                    .offset = read_int(object.Get("offset"), name + ".offset"),
                    .shape = {}};
  const Napi::Array shape = read_array(object.Get("shape"), name + ".shape", kMaxRank);
  for (uint32_t i = 0; i < shape.Length(); ++i) state.shape.push_back(read_dim(shape.Get(i), at(name + ".shape", i)));
  return state;
}

BatchField read_field(Napi::Value value, const std::string& name) {
  const std::optional<BatchField> field = find_batch_field(read_string(value, name));
  if (!field) throw_invalid(value.Env(), "Expected a batch field for " + name + " but received " + describe(value));
  return *field;
}

ProgramTensor read_tensor(Napi::Value value, const std::string& name) {
  const Napi::Object object = read_object(value, name);
  const std::string kind = read_string(object.Get("kind"), name + ".kind");
  if (kind == "constant") return TensorHandle::alive(object.Get("tensor"), name + ".tensor");
  if (kind == "buffer") return read_buffer(object, name);
  if (kind == "state") return read_state(object, name);
  if (kind == "batch") return read_field(object.Get("field"), name + ".field");
  if (kind == "cache") return CacheRefHandle::alive(object.Get("cache"), name + ".cache");
  if (kind == "caches") return read_caches(object.Get("caches"), name + ".caches");
  if (kind == "samplers") return SamplerTableHandle::alive(object.Get("samplers"), name + ".samplers");
  throw_invalid(value.Env(), "Expected constant, buffer, state, batch, cache, caches or samplers for " + name +
                                 ".kind but received \"" + kind + '"');
}

std::variant<ProgramOp, LayerMark> read_step(Napi::Value value, const std::string& name) {
  const Napi::Object object = read_object(value, name);
  const Napi::Value op = object.Get("op");
  if (op.IsUndefined())
    return LayerMark{.layer = static_cast<int32_t>(read_int(object.Get("layer"), name + ".layer", 0, kMaxInt32)),
                     .axis = read_axis(object.Get("axis"), name + ".axis")};
  ProgramOp step{.op = read_string(op, name + ".op"), .operands = {}, .attrs = read_attrs(object.Get("attrs"))};
  const Napi::Object operands = read_object(object.Get("operands"), name + ".operands");
  const Napi::Array keys = operands.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); ++i) {
    const Napi::Value key = keys[i];
    const std::string operand = key.ToString();
    const Napi::Value index = operands.Get(key);
    if (index.IsUndefined()) continue;  // an optional operand that was left out
    step.operands.emplace_back(
        operand, static_cast<int32_t>(read_int(index, name + ".operands." + operand, 0, kMaxTensors - 1)));
  }
  return step;
}

}  // namespace

ProgramDescription read_program_description(Napi::Value value) {
  const Napi::Object object = read_object(value, "description");
  ProgramDescription description;
  description.name = read_string(object.Get("name"), "name");
  description.capacity = read_capacity(object.Get("capacity"), "capacity");
  const Napi::Array tensors = read_array(object.Get("tensors"), "tensors", kMaxTensors);
  for (uint32_t i = 0; i < tensors.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    description.tensors.push_back(read_tensor(tensors.Get(i), at("tensors", i)));
  }
  const Napi::Array steps = read_array(object.Get("steps"), "steps", kMaxSteps);
  for (uint32_t i = 0; i < steps.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    description.steps.push_back(read_step(steps.Get(i), at("steps", i)));
  }
  return description;
}

}  // namespace swiftkv::addon
