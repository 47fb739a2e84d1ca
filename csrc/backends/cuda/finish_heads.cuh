// What qkv_rope_cache, q_rope and swiftkv_project do with the sums of a head: scales, bias, norm, rotation, and storing
// q or writing K and V to the pages. One head of one row is the work of kHeadLanes lanes.
#pragma once

#include "backends/cuda/gemm_tile.cuh"
#include "backends/cuda/kv_page.cuh"

namespace swiftkv::cuda {

// Caches of one launch: their pointers travel among its params.
inline constexpr int kMaxGroups = 64;

// Outputs are heads of head_dim each: num_heads of q, then for each group num_kv_heads of k and as many of v.
struct HeadsFinish {
  int32_t num_heads, num_kv_heads, head_dim;
  DType q_dtype;
  void* q;                   // [rows, Hq, hd]; null without heads of q
  const float* bias;         // [heads * hd] or null
  const float* w_scales;     // [heads * hd] or null
  const float* row_scales;   // [rows] or null
  const float* rope;         // [positions, hd]
  const int32_t* positions;  // [rows]
  const int32_t* slots;      // [rows]; null without heads of k and v
  const float* q_norm;       // [hd] or null
  const float* k_norm;       // [groups, hd] or null
  float eps;
  KvCache cache;  // what all groups' caches have in common
  struct Pages {
    std::byte* data;
    const float *k_scale, *v_scale;
  } groups[kMaxGroups];

  // x [hd]: the sums, of shared or global memory, which it overwrites. All lanes of a warp come here together; `lane`
  // is the lane's number within its head, and where `valid` is false nothing is read or written.
  __device__ void finish(float* x, int64_t row, int head, int lane, bool valid) const {
    const int hd = head_dim, count = valid ? hd : 0;
    const int kv = head - num_heads, group = kv < 0 || num_kv_heads == 0 ? 0 : kv / (2 * num_kv_heads);
    const int within = kv - group * 2 * num_kv_heads;  // of the group: its k heads, then its v heads
    const bool is_q = kv < 0, is_v = !is_q && within >= num_kv_heads;
    if (row_scales != nullptr || w_scales != nullptr || bias != nullptr) {
      const int64_t column = int64_t{head} * hd;
      const float row_scale = row_scales != nullptr && valid ? row_scales[row] : 1.0f;
      for (int i = lane; i < count; i += kHeadLanes) {
        const float sum = __fmul_rn(x[i], row_scale);
        const float scaled = __fmul_rn(sum, w_scales != nullptr ? w_scales[column + i] : 1.0f);
        x[i] = __fadd_rn(scaled, bias != nullptr ? bias[column + i] : 0.0f);
      }
    }
    if (q_norm != nullptr || k_norm != nullptr) {
      const float* weight = is_v ? nullptr : is_q ? q_norm : k_norm == nullptr ? nullptr : k_norm + int64_t{group} * hd;
      float sum = 0.0f;
      for (int i = lane; i < count; i += kHeadLanes) sum = __fmaf_rn(x[i], x[i], sum);
      sum = head_sum(sum);
      const float r = 1.0f / sqrtf(__fadd_rn(sum / static_cast<float>(hd), eps));
      if (weight != nullptr)
        for (int i = lane; i < count; i += kHeadLanes) x[i] = __fmul_rn(weight[i], __fmul_rn(x[i], r));
    }
    __syncwarp();  // pairs and vectors cross lanes
    const int slot = valid && !is_q ? slots[row] : -1;
    // Rows without a slot may lack a position too.
    if (valid && !is_v && (is_q || slot >= 0)) {
      const int half = hd / 2;
      const float* cos_sin = rope + int64_t{positions[row]} * hd;
      for (int i = lane; i < half; i += kHeadLanes) {
        const float c = cos_sin[i], s = cos_sin[half + i], a = x[i], b = x[half + i];
        x[i] = __fmaf_rn(a, c, -__fmul_rn(b, s));
        x[half + i] = __fmaf_rn(b, c, __fmul_rn(a, s));
      }
    }
    __syncwarp();
    const auto value = [x](int i) { return x[i]; };
    if (is_q && valid) {
      const int64_t at = (row * num_heads + head) * hd;
      if (q_dtype == DType::f32)
        store_head(static_cast<float*>(q) + at, hd, lane, value);
      else
        store_head(static_cast<bf16*>(q) + at, hd, lane, value);
    }
    if (num_kv_heads == 0) return;
    KvCache pages = cache;
    pages.data = groups[group].data;
    pages.k_scale = groups[group].k_scale;
    pages.v_scale = groups[group].v_scale;
    write_kv(pages, slot, is_v ? within - num_kv_heads : within, is_v ? KvPart::v : KvPart::k, lane, value);
  }

  // A warp takes four rows of a head, which lie in different banks.
  template <int kRows, int kColumns, int kThreads>
  __device__ void run(const FinishedTile& tile) const {
    constexpr int kWarps = kThreads / kWarp, kFours = kRows / 4;
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
    const int heads = tile.columns / head_dim, items = heads * kFours;
    const int first = static_cast<int>(tile.column / head_dim);
    for (int j = 0; j < items; j += kWarps) {
      const bool valid = j + warp < items;
      const int item = valid ? j + warp : 0, head = item / kFours, row = item % kFours * 4 + lane / kHeadLanes;
      finish(tile.values + row * tile.stride + head * head_dim, tile.row + row, first + head, lane % kHeadLanes,
             valid && row < tile.rows);
    }
  }
};

}  // namespace swiftkv::cuda
