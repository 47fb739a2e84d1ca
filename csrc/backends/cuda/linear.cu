// linear: a product, then bias, and storing or adding to the residual stream.
#include "backends/cuda/linear.h"

#include "backends/cuda/finish_linear.cuh"
#include "backends/cuda/gemm_launch.h"

namespace swiftkv::cuda {

namespace {

ProductParams product_of(const LinearParams& p) {
  return {p.rows, p.a, p.w, p.fp8_activations};
}

}  // namespace

Status linear_product(const char* name, const Product& p, const LinearTarget& to, const Context& c) {
  const LinearFinish finish{to.y.data,
                            p.n,
                            to.y.dtype,
                            to.accumulate,
                            to.bias,
                            to.scaled ? p.output_scales() : nullptr,
                            to.scaled ? p.row_scales() : nullptr};
  if (p.kind != ProductKind::tensor) return launch_plain(name, p, finish, plan_plain(p.rows, p.n), c);
  const GemmPlan plan = plan_linear(p.rows, p.n, c.limits);
  switch (plan.tile) {
    case GemmTile::large: return launch_mma<GemmTile::large>(name, p, finish, plan, c);
    case GemmTile::middle: return launch_mma<GemmTile::middle>(name, p, finish, plan, c);
    case GemmTile::narrow: return launch_mma<GemmTile::narrow>(name, p, finish, plan, c);
    default: return launch_mma<GemmTile::small>(name, p, finish, plan, c);
  }
}

size_t linear_scratch(const LinearParams& p, const DeviceLimits&) {
  return prepared_bytes(product_of(p));
}

Status linear(const LinearParams& p, const Context& c) {
  if (p.rows == 0) return {};
  Product product;
  const Status prepared = prepare_product(product_of(p), c, c.scratch, product);
  if (!prepared.ok()) return prepared;
  return linear_product("linear", product, {p.y, p.accumulate, p.bias, true}, c);
}

}  // namespace swiftkv::cuda
