#include "addon/operand_args.h"

#include "addon/args.h"
#include "addon/cache_ref.h"
#include "addon/errors.h"
#include "addon/sampler_table.h"
#include "addon/tensor.h"

namespace swiftkv::addon {

namespace {

Operand read_operand(Napi::Value value, const std::string& name) {
  if (TensorHandle::is(value)) return TensorHandle::alive(value, name);
  if (CacheRefHandle::is(value)) return CacheRefHandle::alive(value, name);
  if (SamplerTableHandle::is(value)) return SamplerTableHandle::alive(value, name);
  if (value.IsArray()) return read_caches(value, name);
  throw_invalid(value.Env(), "Expected a Tensor, CacheRef, array of CacheRef or SamplerTable for operand " + name +
                                 " but received " + describe(value));
}

}  // namespace

OperandList read_operands(Napi::Value value) {
  const Napi::Object object = read_object(value, "operands");
  const Napi::Array names = object.GetPropertyNames();
  OperandList operands;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const Napi::Value key = names[i];
    std::string name = key.ToString();
    const Napi::Value operand = object.Get(key);
    if (operand.IsUndefined()) continue;  // an optional operand that was left out
    operands.emplace_back(name, read_operand(operand, name));
  }
  return operands;
}

AttrList read_attrs(Napi::Value value) {
  const Napi::Object object = read_object(value, "attrs");
  const Napi::Array names = object.GetPropertyNames();
  AttrList attrs;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const Napi::Value key = names[i];
    const std::string name = key.ToString();
    const Napi::Value attr = object.Get(key);
    if (attr.IsUndefined()) continue;
    if (attr.IsBoolean())
      attrs.emplace_back(name, attr.As<Napi::Boolean>().Value());
    else
      attrs.emplace_back(name, read_number(attr, "attribute " + name));
  }
  return attrs;
}

}  // namespace swiftkv::addon
