// Gradients of causal attention, one query row and head at a time. A piece is a KV head of a sequence, whose query
// heads are walked in ascending order, so that every sum has one order.
#include <algorithm>
#include <cmath>

#include "backends/cpu/cache_layout.h"
#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/scalar/worker_scratch.h"
#include "backends/cpu/visit_float.h"
#include "backends/cpu/whole_sequences.h"

namespace swiftkv::cpu::scalar {

namespace {

// Keys of one KV head of one sequence, and where their gradients go.
template <class T>
struct Keys {
  const KvCache& cache;
  const int32_t* blocks;
  int64_t head;
  float* dk;       // of key 0; dk + i stride of key i
  float* dv;       //
  int64_t stride;  // floats

  HeadBlock block(int64_t key) const { return head_block(cache, blocks[key / kBlockTokens], head); }
  const T* k(int64_t key) const {
    return reinterpret_cast<const T*>(block(key).k) + key % kBlockTokens * cache.head_dim;
  }
  const T* v(int64_t key) const {
    return reinterpret_cast<const T*>(block(key).v) + key % kBlockTokens * cache.head_dim;
  }
};

template <class A, class B>
float dot(const A* a, const B* b, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += to_f32(a[i]) * to_f32(b[i]);
  return sum;
}

// One query row that sees keys 0 .. count - 1. probability: [count] scratch.
template <class Q, class T, class O>
void row_backward(const Keys<T>& keys, float scale, int64_t count, const Q* q, const O* o, const float* dout, float* dq,
                  float* probability) {
  const int64_t hd = keys.cache.head_dim;
  float max = -INFINITY;
  for (int64_t key = 0; key < count; ++key) {
    probability[key] = dot(q, keys.k(key), hd) * scale;
    max = std::max(max, probability[key]);
  }
  float sum = 0.0f;
  for (int64_t key = 0; key < count; ++key) {
    probability[key] = std::exp(probability[key] - max);
    sum += probability[key];
  }
  // What all keys' gradients share: the mean of dout v over the probabilities, which is dout o.
  const float mean = dot(dout, o, hd);
  std::fill(dq, dq + hd, 0.0f);
  for (int64_t key = 0; key < count; ++key) {
    const T *k = keys.k(key), *v = keys.v(key);
    float *dk = keys.dk + key * keys.stride, *dv = keys.dv + key * keys.stride;
    const float p = probability[key] / sum;
    const float ds = p * (dot(dout, v, hd) - mean) * scale;
    for (int64_t i = 0; i < hd; ++i) {
      dv[i] += p * dout[i];
      dk[i] += ds * to_f32(q[i]);
      dq[i] += ds * to_f32(k[i]);
    }
  }
}

template <class Q, class T, class O>
void heads_backward(const AttentionBackwardParams& p, const Context& c) {
  const RowsView& half = p.half;
  const Q* q = static_cast<const Q*>(p.q.data);
  const O* o = static_cast<const O*>(p.o.data);
  const int64_t hd = p.cache.head_dim, hk = p.cache.num_kv_heads, hq = p.num_heads, group = hq / hk;
  c.parallel_for(half.num_seqs * hk, [&](int64_t piece, int worker) {
    const int64_t b = piece / hk, head = piece % hk;
    const int64_t first = half.query_start[b], length = half.query_start[b + 1] - first;
    float* dk = p.dkv + first * p.dkv_width + (2 * p.group * hk + head) * hd;
    const Keys<T> keys{p.cache,      half.block_tables + int64_t{half.table_row[b]} * half.table_stride,
                       head,         dk,
                       dk + hk * hd, p.dkv_width};
    if (!p.accumulate) {
      for (int64_t key = 0; key < length; ++key) {
        std::fill_n(keys.dk + key * keys.stride, hd, 0.0f);
        std::fill_n(keys.dv + key * keys.stride, hd, 0.0f);
      }
    }
    float* probability = worker_floats(c, worker, static_cast<size_t>(half.rows));
    for (int64_t h = head * group; h < (head + 1) * group; ++h) {
      for (int64_t i = 0; i < length; ++i) {
        const int64_t at = ((first + i) * hq + h) * hd;
        row_backward(keys, p.scale, i + 1, q + at, o + at, p.dout + at, p.dq + at, probability);
      }
    }
  });
}

}  // namespace

size_t attention_backward_scratch(const AttentionBackwardParams& p, int threads) {
  return worker_bytes(threads, static_cast<size_t>(p.half.rows));
}

Status attention_backward(const AttentionBackwardParams& p, const Context& c) {
  if (Status s = check_whole_sequences(p.half); !s.ok()) return s;
  return visit_float(p.q.dtype, "q", [&]<class Q>(Q) {
    return visit_float(p.cache.dtype, "the cache", [&]<class T>(T) {
      return visit_float(p.o.dtype, "o", [&]<class O>(O) {
        heads_backward<Q, T, O>(p, c);
        return Status{};
      });
    });
  });
}

}  // namespace swiftkv::cpu::scalar
