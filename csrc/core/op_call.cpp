// Views of owned operands, and the run of a single op on checked copies of its indices.
#include "core/op_call.h"

#include "core/index_checks.h"

namespace swiftkv {
namespace {

// Memory of one call: freed when it is over.
using Keep = std::vector<std::shared_ptr<Storage>>;

// Replaces an index operand by a copy that nobody else can write, and gives the copy's values on the host.
std::vector<int32_t> take_copy(OpenDevice& device, TensorView& tensor, Keep& keep) {
  std::vector<int32_t> values(static_cast<size_t>(tensor.count()));
  if (values.empty()) return values;
  const size_t bytes = values.size() * sizeof(int32_t);
  check(device.table().download(device.handle(), values.data(), tensor.data, bytes));
  keep.push_back(device.allocate(bytes));
  check(device.table().upload(device.handle(), keep.back()->data(), values.data(), bytes));
  tensor.data = keep.back()->data();
  return values;
}

}  // namespace

OperandView view_operand(const Operand& operand, const OpenDevice& device, std::vector<std::vector<KvCache>>& lists) {
  struct Viewer {
    const OpenDevice& device;
    std::vector<std::vector<KvCache>>& lists;

    void require_mine(const std::shared_ptr<OpenDevice>& other) const {
      if (other.get() != &device) {
        throw Error(Code::invalid_argument, "Expected operands of one device but received one of another");
      }
    }
    OperandView operator()(const Tensor& t) const {
      t.require_alive();
      require_mine(t.storage->device());
      return t.view;
    }
    OperandView operator()(const CacheRef& c) const {
      require_mine(c.pool->device());
      return CacheView{&c.pool->cache(c.index)};
    }
    OperandView operator()(const std::vector<CacheRef>& refs) const {
      std::vector<KvCache> list;
      for (const CacheRef& c : refs) {
        require_mine(c.pool->device());
        list.push_back(c.pool->cache(c.index));
      }
      lists.push_back(std::move(list));  // moving the outer vector later does not move the elements
      return CacheListView{lists.back().data(), static_cast<int32_t>(refs.size())};
    }
    OperandView operator()(const std::shared_ptr<SamplerTable>& t) const {
      require_mine(t->device());
      return t->view();
    }
  };
  return std::visit(Viewer{device, lists}, operand);
}

OpKind require_op(const std::string& name) {
  const auto kind = find_op(name);
  if (!kind) throw Error(Code::unsupported, "there is no op named '" + name + "'");
  return *kind;
}

std::vector<NamedAttr> view_attrs(const AttrList& attrs) {
  std::vector<NamedAttr> views;
  for (const auto& [name, value] : attrs) views.push_back({name, value});
  return views;
}

OpCall::OpCall(std::shared_ptr<OpenDevice> device, const std::string& op, OperandList operands, const AttrList& attrs)
    : device_(std::move(device)), owners_(std::move(operands)) {
  const OpKind kind = require_op(op);
  std::vector<NamedOperand> views;
  for (const auto& [name, operand] : owners_) {
    try {
      views.push_back({name, view_operand(operand, *device_, cache_lists_)});
    } catch (const Error& e) {
      throw Error(e.code, op + ": operand " + name + ": " + e.what());
    }
  }
  op_ = bind_op(kind, views, view_attrs(attrs));
  check_overlap(op_);
}

void OpCall::run() {
  device_->require_open();
  const BackendTable& table = device_->table();
  const OpSpec& spec = op_spec(op_.kind);

  // The copies are checked and then run on, so that writing to a tensor meanwhile cannot lead a kernel astray.
  Keep keep;
  BoundOp on_host = op_;
  BoundOp on_device = op_;
  std::vector<std::vector<int32_t>> values;
  for (size_t i = 0; i < spec.operands.size(); ++i) {
    auto* tensor = std::get_if<TensorView>(&on_device.operands[i]);
    if (spec.operands[i].role == IndexRole::none || tensor == nullptr) continue;
    values.push_back(take_copy(*device_, *tensor, keep));
    std::get<TensorView>(on_host.operands[i]).data = values.back().data();
  }
  check(check_indices(on_host));
  if (op_.rows() == 0) return;

  const OpParams params = make_params(on_device);
  const size_t scratch_bytes = table.scratch_bytes(device_->handle(), op_.kind, params_data(params));
  const OpContext context = {.scratch = device_->scratch(scratch_bytes), .scratch_bytes = scratch_bytes};
  Status status = table.run(device_->handle(), op_.kind, params_data(params), &context);
  if (!table.host_memory) {
    const Status over = table.synchronize(device_->handle());  // also after an error: the copies are freed here
    if (status.ok()) status = over;
  }
  if (!status.ok()) throw Error(status.code, std::string(spec.name) + ": " + status.message);
}

}  // namespace swiftkv
