// A tile of 16 query rows against the keys of a sequence, on tensor cores: what one warp does in decode and in prefill
// alike. All arithmetic of a row is here and in attention_state.cuh, so its bits cannot differ between them. Tiles of
// 32 keys at absolute positions; every split of 256 keys starts with an empty state.
#pragma once

#include "backends/cuda/attention_state.cuh"
#include "backends/cuda/attention_tile.cuh"

namespace swiftkv::cuda {

// Values of 16 rows as fragments of products: of[2 j], of[2 j + 1] are the widths [16 j, 16 j + 16). A lane has rows
// l / 4 (elements 0, 1) and l / 4 + 8 (elements 2, 3).
template <int kWidths>
struct TileValues {
  float of[kWidths / 8][4];
};

// Stores widths [16 j, 16 j + 16) of one of a lane's rows at `at` and behind; low and high are of[2 j] and of[2 j + 1].
// With fp8 these are the even and the odd widths.
template <bool kFp8>
SWIFTKV_DEVICE void store_values(const Activation& out, int64_t at, float2 low, float2 high) {
  const int quad = static_cast<int>(threadIdx.x) % 4;
  if constexpr (kFp8) {
    store_activation<4>(out, at + 4 * quad, {low.x, high.x, low.y, high.y});
  } else {
    store_activation<2>(out, at + 2 * quad, {low.x, low.y});
    store_activation<2>(out, at + 8 + 2 * quad, {high.x, high.y});
  }
}

// Merged values of a tile in shared memory, a lane's own in its own place: [widths / 8][32] float4.
template <int kWidths>
class TotalValues {
 public:
  explicit __device__ TotalValues(std::byte* shared)
      : own_(reinterpret_cast<float4*>(shared) + static_cast<int>(threadIdx.x) % kWarp) {}

  __device__ void set(const TileValues<kWidths>& next) const {
#pragma unroll
    for (int n = 0; n < kWidths / 8; ++n)
      own_[n * kWarp] = make_float4(next.of[n][0], next.of[n][1], next.of[n][2], next.of[n][3]);
  }
  __device__ void merge(const MergeFactors (&f)[2], const TileValues<kWidths>& next) const {
#pragma unroll
    for (int n = 0; n < kWidths / 8; ++n) {
      const float4 total = own_[n * kWarp];
      own_[n * kWarp] =
          make_float4(merge_values(f[0], total.x, next.of[n][0]), merge_values(f[0], total.y, next.of[n][1]),
                      merge_values(f[1], total.z, next.of[n][2]), merge_values(f[1], total.w, next.of[n][3]));
    }
  }

  // Finishes and stores widths [16 pair, 16 pair + 16) of what begins at out[at[row]].
  template <bool kFp8>
  __device__ void store(const Activation& out, const int64_t (&at)[2], const SoftmaxState (&state)[2], int pair) const {
    const float4 low = own_[2 * pair * kWarp], high = own_[(2 * pair + 1) * kWarp];
    if (at[0] >= 0)
      store_values<kFp8>(out, at[0] + 16 * pair, finish(low.x, low.y, state[0].sum),
                         finish(high.x, high.y, state[0].sum));
    if (at[1] >= 0)
      store_values<kFp8>(out, at[1] + 16 * pair, finish(low.z, low.w, state[1].sum),
                         finish(high.z, high.w, state[1].sum));
  }

 private:
  static __device__ float2 finish(float x, float y, float sum) {
    return make_float2(cuda::finish(x, sum), cuda::finish(y, sum));
  }
  float4* own_;
};

// kParts: bf16 parts that queries and probabilities are the sum of.
template <class C, int kHeadDim, int kParts>
class SplitAttention {
 public:
  using Tile = KeyTile<C, kHeadDim>;
  using Queries = QueryTile<C, kHeadDim, kParts>;
  static constexpr bool kFp8 = Tile::kFp8;
  static constexpr int kWidths = attention_widths(kHeadDim);
  using Values = TileValues<kWidths>;

  // Of the values, the warp takes widths [kWidths part, kWidths (part + 1)).
  __device__ SplitAttention(const AttentionParams& p, int kv_head, const std::byte* queries, const RowTile& rows,
                            int part)
      : queries_(queries),
        value_offset_(part * kWidths * static_cast<int>(sizeof(C))),
        keys_{rows.keys[0], rows.keys[1]},
        most_(rows.most),
        fewest_(rows.fewest) {
    score_scale_ = __fmul_rn(p.scale, kLog2E);
    dynamic_ = p.cache.scales == KvScales::dynamic;
    k_scale_ = kFp8 && !dynamic_ ? p.cache.k_scale[kv_head] : 1.0f;
    v_scale_ = kFp8 && !dynamic_ ? p.cache.v_scale[kv_head] : 1.0f;
    reset();
  }

  __device__ void reset() {
    state_[0] = state_[1] = empty_state();
#pragma unroll
    for (int n = 0; n < kWidths / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) values_.of[n][i] = 0.0f;
  }

  // Whether any row sees a key of the tile.
  __device__ bool sees(int tile) const { return tile * kTileKeys < most_; }

  // Takes the tile's keys: scores become weights, older values are rescaled.
  __device__ void take_keys(const std::byte* stage, int tile) {
    score(stage);
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
      const float2 factor = key_factors(stage, n, k_scale_);
      const int key = tile * kTileKeys + n * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float score = __fmul_rn(weights_[n][i], __fmul_rn(score_scale_, i % 2 == 0 ? factor.x : factor.y));
        weights_[n][i] = key + i % 2 < keys_[i / 2] ? score : -INFINITY;
      }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) weigh(row);
  }

  // Takes the tile's values with the weights of its keys.
  __device__ void take_values(const std::byte* stage, int tile) {
    uint32_t weights[kTileKeys / 16][2][4];  // fragments of A, in two parts
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
      const float2 factor = key_factors(stage, n, v_scale_);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float first = scaled(weights_[n][2 * row], factor.x), second = scaled(weights_[n][2 * row + 1], factor.y);
        const uint32_t high = ptx::pack_bf16x2(first, second);
        weights[n / 2][0][n % 2 * 2 + row] = high;
        if constexpr (kParts == 2)
          weights[n / 2][1][n % 2 * 2 + row] = ptx::pack_bf16x2(first - bf16_low(high), second - bf16_high(high));
      }
    }
    // A key that some row must not see may hold NaN or infinity, which weight 0 would not keep out.
    const bool masked = (tile + 1) * kTileKeys > fewest_ && not_finite(stage);
    if (masked)
      add_values_by_row(stage + value_offset_, weights, tile);
    else
      add_values(stage + value_offset_, weights);
  }

  // After the last tile of a split: its sums, complete in every lane.
  __device__ void finish_split() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      state_[row].sum += __shfl_xor_sync(kAllLanes, state_[row].sum, 1);
      state_[row].sum += __shfl_xor_sync(kAllLanes, state_[row].sum, 2);
    }
  }

  __device__ const SoftmaxState& state(int row) const { return state_[row]; }
  __device__ const Values& values() const { return values_; }

 private:
  // weights_ = Q K^T, a sum in f32 for each row and key: widths ascending, a step's high part before its low part.
  __device__ void score(const std::byte* stage) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) weights_[n][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      uint32_t a[kParts][4], b[kTileKeys / 8][2];
#pragma unroll
      for (int part = 0; part < kParts; ++part) Queries::fragment(a[part], queries_, part, step);
      if constexpr (kFp8) {
        uint32_t codes[4];
        ptx::ldmatrix_x4(codes, stage + Tile::Rows::offset(lane, 0, 0, step));
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const uint2 wide = widen_e4m3x4(codes[n]);
          b[n][0] = wide.x;
          b[n][1] = wide.y;
        }
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t r[4];
          ptx::ldmatrix_x4(r, stage + Tile::Rows::offset(lane / 16 * 8 + lane % 8, half * 16, lane / 8 % 2, 2 * step));
#pragma unroll
          for (int i = 0; i < 4; ++i) b[half * 2 + i / 2][i % 2] = r[i];
        }
      }
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; ++n)
#pragma unroll
        for (int part = 0; part < kParts; ++part) ptx::mma_bf16(weights_[n], a[part], b[n]);
    }
  }

  // The scales of keys 8 n + 2 (l % 4) and the next one.
  __device__ float2 key_factors(const std::byte* stage, int n, float per_head) const {
    if (!kFp8 || !dynamic_) return make_float2(per_head, per_head);
    return *reinterpret_cast<const float2*>(stage + Tile::kScales +
                                            (n * 8 + static_cast<int>(threadIdx.x) % 4 * 2) * 4);
  }

  // The scores of one row become weights relative to its maximum so far.
  __device__ void weigh(int row) {
    float max = state_[row].max;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) max = fmaxf(max, fmaxf(weights_[n][2 * row], weights_[n][2 * row + 1]));
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, 1));
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, 2));
    const float base = finite_base(max), keep = exp2f(state_[row].max - base);
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& w = weights_[n][2 * row + i];
        w = exp2f(w - base);
        sum += w;
      }
    state_[row].sum = fmaf(state_[row].sum, keep, sum);
    state_[row].max = max;
#pragma unroll
    for (int n = 0; n < kWidths / 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) values_.of[n][2 * row + i] *= keep;
  }

  // A masked key's weight stays 0, whatever its scale.
  __device__ float scaled(float weight, float factor) const {
    if constexpr (!kFp8) return weight;
    return weight == 0.0f ? 0.0f : __fmul_rn(weight, factor);
  }

  // Fragments of B of widths [16 pair, 16 pair + 16) for keys [16 step, 16 step + 16): b[0] and b[1] as the tile's
  // values 2 pair and 2 pair + 1 have them. With fp8 these are the even and the odd widths.
  __device__ void value_fragments(uint32_t (&b)[kTileKeys / 16][2][2], const std::byte* stage, int pair) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    if constexpr (kFp8) {
      uint32_t codes[4];
      ptx::ldmatrix_x4_trans(codes, stage + Tile::Rows::offset(lane, 0, 0, pair));
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // two widths of one key, then of the next
        const uint2 wide = widen_e4m3x4(codes[i]);
        b[i / 2][0][i % 2] = (wide.x & 0xffffu) | wide.y << 16;
        b[i / 2][1][i % 2] = wide.x >> 16 | (wide.y & 0xffff0000u);
      }
    } else {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t r[4];
        ptx::ldmatrix_x4_trans(r, stage + Tile::Rows::offset(lane % 16, step * 16, lane / 16, 2 * pair));
#pragma unroll
        for (int i = 0; i < 4; ++i) b[step][i / 2][i % 2] = r[i];
      }
    }
  }

  __device__ void add_values(const std::byte* stage, const uint32_t (&weights)[kTileKeys / 16][2][4]) {
#pragma unroll
    for (int pair = 0; pair < kWidths / 16; ++pair) {
      uint32_t b[kTileKeys / 16][2][2];
      value_fragments(b, stage, pair);
#pragma unroll
      for (int step = 0; step < kTileKeys / 16; ++step)
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int part = 0; part < kParts; ++part)
            ptx::mma_bf16(values_.of[2 * pair + n], weights[step][part], b[step][n]);
    }
  }

  // The same sums for each row alone, with zeros in the place of what the row must not see.
  __device__ void add_values_by_row(const std::byte* stage, const uint32_t (&weights)[kTileKeys / 16][2][4], int tile) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int pair = 0; pair < kWidths / 16; ++pair) {
      uint32_t b[kTileKeys / 16][2][2];
      value_fragments(b, stage, pair);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        float(&values)[4] = values_.of[2 * pair + n];
#pragma unroll 1
        for (int row = 0; row < kTileRows; ++row) {
          const int keys = __shfl_sync(kAllLanes, row < 8 ? keys_[0] : keys_[1], row % 8 * 4);
          float sum[4] = {values[0], values[1], values[2], values[3]};
#pragma unroll
          for (int step = 0; step < kTileKeys / 16; ++step) {
            const int key = tile * kTileKeys + step * 16 + lane % 4 * 2;
            const uint32_t seen[2] = {b[step][n][0] & seen_mask(key, keys), b[step][n][1] & seen_mask(key + 8, keys)};
#pragma unroll
            for (int part = 0; part < kParts; ++part) ptx::mma_bf16(sum, weights[step][part], seen);
          }
#pragma unroll
          for (int i = 0; i < 4; ++i)
            if (lane / 4 + i / 2 * 8 == row) values[i] = sum[i];
        }
      }
    }
  }

  // Of a pair of bf16, keys `key` and `key` + 1: the halves that are below `keys`.
  static __device__ uint32_t seen_mask(int key, int keys) {
    return key + 1 < keys ? 0xffffffffu : key < keys ? 0xffffu : 0u;
  }

  // Whether any value of the tile is NaN or infinity; fp8 has no infinity.
  static __device__ bool not_finite(const std::byte* stage) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    uint32_t found = 0;
#pragma unroll
    for (int j = 0; j < Tile::kChunks; ++j) {
      const uint4 x = *reinterpret_cast<const uint4*>(stage + (lane + j * kWarp) * 16);
      found |= not_finite_word(x.x) | not_finite_word(x.y) | not_finite_word(x.z) | not_finite_word(x.w);
    }
    return __any_sync(kAllLanes, found != 0) != 0;
  }
  static __device__ uint32_t not_finite_word(uint32_t w) {
    if constexpr (kFp8)
      return ((w & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
    else
      return ((w & 0x7f807f80u) + 0x00800080u) & 0x80008000u;
  }

  const std::byte* queries_;
  int value_offset_;  // of the warp's widths in a row; whole cycles of places, so that it may be added to any
  int keys_[2], most_, fewest_;
  float score_scale_, k_scale_, v_scale_;
  bool dynamic_;
  SoftmaxState state_[2];
  float weights_[kTileKeys / 8][4];
  Values values_;
};

// Tiles [first, last) through a warp's rows, K and V each with a stage that is filled while the other is used. kThreads
// threads share the stages: a warp alone, or the block. after_split(split) is called for every split that ends.
template <int kThreads, class Attention, class Loader, class F>
SWIFTKV_DEVICE void walk_keys(Attention& attention, Loader& loader, std::byte* stages, int first, int last,
                              F&& after_split) {
  std::byte *const k_stage = stages, *const v_stage = stages + Attention::Tile::kStageBytes;
  const auto barrier = [] {
    if constexpr (kThreads == kWarp)
      __syncwarp();
    else
      __syncthreads();
  };
  loader.start(first);
  if (first < last) loader.load_k(k_stage, first);
  ptx::cp_async_commit();
#pragma unroll 1
  for (int tile = first; tile < last; ++tile) {
    ptx::cp_async_wait<0>();
    barrier();  // K has come, and nobody reads the last V any more
    loader.load_v(v_stage, tile);
    ptx::cp_async_commit();
    if (attention.sees(tile)) attention.take_keys(k_stage, tile);
    ptx::cp_async_wait<0>();
    barrier();
    if (tile + 1 < last) loader.load_k(k_stage, tile + 1);
    ptx::cp_async_commit();
    if (attention.sees(tile)) attention.take_values(v_stage, tile);
    if ((tile + 1) % kTilesPerSplit == 0 || tile + 1 == last) after_split(tile / kTilesPerSplit);
  }
}

}  // namespace swiftkv::cuda
