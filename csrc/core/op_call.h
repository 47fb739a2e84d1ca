// One op called alone, with arbitrary tensors of a user.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/device.h"
#include "core/kv_pool.h"
#include "core/op_registry.h"
#include "core/sampler_table.h"
#include "core/tensor.h"

namespace swiftkv {

// What a caller hands over; the references keep it alive while it is used.
using Operand = std::variant<Tensor, CacheRef, std::vector<CacheRef>, std::shared_ptr<SamplerTable>>;
using OperandList = std::vector<std::pair<std::string, Operand>>;
using AttrList = std::vector<std::pair<std::string, AttrValue>>;

// The parts that programs share.
// A view of an operand that must belong to `device`; lists of caches are put into `lists`. Throws Error.
OperandView view_operand(const Operand& operand, const OpenDevice& device, std::vector<std::vector<KvCache>>& lists);
std::vector<NamedAttr> view_attrs(const AttrList& attrs);
// Throws Error(unsupported) for a name that is no op.
OpKind require_op(const std::string& name);

class OpCall {
 public:
  // Checks names, shapes and dtypes at once. Throws Error.
  OpCall(std::shared_ptr<OpenDevice> device, const std::string& op, OperandList operands, const AttrList& attrs);
  OpCall(const OpCall&) = delete;
  OpCall& operator=(const OpCall&) = delete;

  // Checks the indices and runs: on the executor's thread, or under Executor::run_here. The kernel reads private copies
  // of the index operands, the ones that were checked. Throws Error.
  void run();

 private:
  std::shared_ptr<OpenDevice> device_;
  OperandList owners_;
  std::vector<std::vector<KvCache>> cache_lists_;
  BoundOp op_;
};

}  // namespace swiftkv
