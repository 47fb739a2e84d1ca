// The square of a gradient's norm.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/simd/vec.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kSquaresPiece = 65536;  // elements of one partial sum
inline constexpr int kSquaresChains = 4;         // sums side by side, so that none waits for the adder

template <class V>
static size_t sum_squares_scratch(const SumSquaresParams& p, int) {
  return static_cast<size_t>(piece_count(p.rows, kSquaresPiece)) * sizeof(double);
}

template <class V>
static inline double squares_of(const float* x, int64_t count) {
  using Half = typename V::HalfF32;
  using F64 = typename V::F64;
  constexpr int kLanes = V::kLanes / 2;
  F64 sums[kSquaresChains] = {};
  int64_t i = 0;
  for (; i + kSquaresChains * kLanes <= count; i += kSquaresChains * kLanes)
    for (int chain = 0; chain < kSquaresChains; ++chain) {
      const F64 v = __builtin_convertvector(simd::read<Half>(x + i + chain * kLanes), F64);
      sums[chain] = V::fmadd(v, v, sums[chain]);
    }
  const F64 lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double sum = 0.0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  for (; i < count; ++i) sum += double{x[i]} * double{x[i]};
  return sum;
}

template <class V>
static Status sum_squares(const SumSquaresParams& p, const Context& c) {
  const int64_t pieces = piece_count(p.rows, kSquaresPiece);
  double* partial = reinterpret_cast<double*>(c.scratch);
  c.parallel_for(pieces, [&](int64_t index, int) {
    const Piece piece = piece_of(index, kSquaresPiece, p.rows);
    partial[index] = squares_of<V>(p.x + piece.begin, piece.end - piece.begin);
  });
  double sum = 0.0;
  for (int64_t i = 0; i < pieces; ++i) sum += partial[i];
  p.out[0] = static_cast<float>(sum);
  return {};
}

}  // namespace swiftkv::cpu::train
