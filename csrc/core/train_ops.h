// The ops of training: one params struct each, with the symbols and the rules of core/ops.h.
//
// Gradients of activations and of weights are f32. The gradient of a product's input is `linear` with the transposed
// weight. What is updated is added to, so that gradients sum over uses and over micro-steps; every sum runs in one
// fixed order, whatever the number of threads: a step has the same bits on every run.
#pragma once

#include "core/ops.h"

namespace swiftkv {

// out = in, rounded to nearest even: gradients that enter matrix products.
struct CastRowsParams {
  int64_t rows, dim;
  const float* in;  // [rows, dim]
  Activation out;   // [rows, dim]
};

// Of out = w * x * r, r = 1 / sqrt(mean(x^2) + eps): dx += r (w dout - x r^2 mean(w dout x)); dw += sum over rows of
// dout x r.
struct RmsNormBackwardParams {
  int64_t rows, dim;
  const float* x;     // [rows, dim]
  const float* w;     // [dim]
  float eps;          //
  const float* dout;  // [rows, dim]
  float* dx;          // [rows, dim] updated
  float* dw;          // [dim] updated, or null
};

// Of y = a W^T + bias: dw += dy^T a, dbias += sum over rows of dy.
struct LinearBackwardParams {
  int64_t rows, n, k;
  Activation a;   // [rows, k]
  Activation dy;  // [rows, n], of a's dtype
  float* dw;      // [n, k] updated
  float* dbias;   // [n] updated, or null
};

// Of attention over sequences whose keys are all rows of this call: sequence b has keys 0 .. rows of b - 1, in order,
// and its row i has position i. dkv row i belongs to key i of its sequence; it has groups of K [Hk, hd], then V [Hk,
// hd], and this call's are those of `group`.
struct AttentionBackwardParams {
  RowsView half;
  int32_t num_heads;
  Activation q;       // [rows, Hq, hd] as attention read them
  KvCache cache;      // f32 or bf16
  float scale;        //
  Activation o;       // [rows, Hq hd] as attention wrote them
  const float* dout;  // [rows, Hq hd]
  float* dq;          // [rows, Hq, hd] written
  float* dkv;         // [rows, dkv_width]: this group's columns written, or updated with accumulate
  int64_t dkv_width;
  int32_t group;
  bool accumulate;
};

// Undoes the rotation of gradients and puts them beside each other in the order of the projection's outputs: heads of
// q, then for each group its heads of k (rotated back) and of v (as they are). dq or dkv may be absent.
struct RopeBackwardParams {
  int64_t rows;
  int32_t num_heads;   // 0 without dq
  int32_t num_groups;  // 0 without dkv
  int32_t num_kv_heads, head_dim;
  const float* rope;  // [max positions, hd]
  const int32_t* positions;
  const float* dq;   // [rows, Hq, hd] or null
  const float* dkv;  // [rows, groups * 2 Hk hd] or null
  Activation out;    // [rows, (Hq + groups * 2 Hk) hd]
};

// Of out = silu(gate) * up.
struct SiluMulBackwardParams {
  int64_t rows, ff;
  Activation gate_up;   // [rows, 2 ff]
  const float* dout;    // [rows, ff]
  Activation dgate_up;  // [rows, 2 ff]
};

// loss[i] = weights[i] T^2 KL(p || q), p = softmax(teacher W^T / T), q = softmax(student W^T / T), a teacher
// probability of 0 counting as 0; dstudent = weights[i] T (q - p) W. Rows of weight 0 have loss and gradient 0. Logits
// exist for a chunk of rows at a time.
struct DistillHeadParams {
  int64_t rows, dim, vocab;
  Activation student;    // [rows, d]
  Activation teacher;    // [rows, d], of student's dtype
  Matrix w;              // [V, d], of their dtype
  Matrix wt;             // [d, V], the same transposed
  const float* weights;  // [rows]
  float temperature;
  float* loss;      // [rows]
  float* dstudent;  // [rows, d] written
};

// loss[i] = -weights[i] log softmax(a W^T)[ids[i + 1]]; da = weights[i] (softmax - onehot) W, dw += its transpose times
// a. The last row, and rows of weight 0, have loss and gradient 0. Logits exist for a chunk of rows at a time.
struct CrossEntropyHeadParams {
  int64_t rows, dim, vocab;
  Activation a;          // [rows, d]
  const int32_t* ids;    // [rows]
  Matrix w;              // [V, d]
  Matrix wt;             // [d, V]
  const float* weights;  // [rows]
  float* loss;           // [rows]
  float* da;             // [rows, d] written
  float* dw;             // [V, d] updated, or null
};

// loss[i] = weights[i] sum over the width of (x - target)^2; dx += 2 weights[i] (x - target).
struct MseParams {
  int64_t rows, dim;
  const float* x;        // [rows, d]
  const float* target;   // [rows, d]
  const float* weights;  // [rows]
  float* loss;           // [rows]
  float* dx;             // [rows, d] updated
};

// dtable[ids[i]] += dx[i], rows in ascending order.
struct EmbedBackwardParams {
  int64_t rows, dim, vocab;
  const int32_t* ids;  // [rows]
  const float* dx;     // [rows, d]
  float* dtable;       // [V, d] updated
};

// out[0] = sum of x^2, summed in f64.
struct SumSquaresParams {
  int64_t rows;
  const float* x;  // [rows]
  float* out;      // [1]
};

// hyper: lr, beta1, beta2, eps, decay, 1 - beta1^t, 1 - beta2^t, the norm to clip to (infinity: none).
inline constexpr int kAdamwHyper = 8;

// g = grad min(1, clip / sqrt(squares)); m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// x -= lr decay x, then x -= lr (m / c1) / (sqrt(v / c2) + eps); grad = 0. Where squares is NaN or infinite, m, v and x
// stay as they are: a step that went wrong is lost, not the model.
struct AdamwParams {
  int64_t rows;
  const float* hyper;    // [kAdamwHyper]
  const float* squares;  // [1] of the whole gradient
  float* grad;           // [rows] updated
  float* m;              // [rows] updated
  float* v;              // [rows] updated
  float* x;              // [rows] updated
};

// dst = src in dst's dtype and layout, transposed = its transpose: what products read after an update.
struct PackWeightParams {
  int64_t rows, k;
  const float* src;   // [rows, k]
  Matrix dst;         // [rows, k] panels, f32 or bf16
  Matrix transposed;  // [k, rows] panels; data is null where it is not wanted
};

}  // namespace swiftkv
