// cuBLASLt for plain products, where bits need not be independent of the batch (batchInvariant off). The library is
// half a gigabyte and never ships with us: it is opened at run time from what the machine has, and its absence is no
// error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backends/cuda/kernels.h"

namespace swiftkv::cuda {

// The part of its interface that we call, with our own declarations: CUDA 12 and 13 alike. Results are 0 for success.
struct CublasLtFunctions {
  using Handle = void*;
  using Description = void*;  // of a product
  using Shape = void*;        // of a matrix
  using Preference = void*;
  struct Algorithm {
    uint64_t data[8];
  };
  struct Candidate {
    Algorithm algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
  };

  int (*create)(Handle*);
  int (*destroy)(Handle);
  int (*describe)(Description*, int compute, int scale_type);
  int (*set_description)(Description, int attribute, const void*, size_t);
  int (*forget_description)(Description);
  int (*shape)(Shape*, int type, uint64_t rows, uint64_t cols, int64_t stride);
  int (*forget_shape)(Shape);
  int (*prefer)(Preference*);
  int (*set_preference)(Preference, int attribute, const void*, size_t);
  int (*forget_preference)(Preference);
  int (*candidates)(Handle, Description, Shape a, Shape b, Shape c, Shape d, Preference, int wanted, Candidate*,
                    int* found);
  int (*multiply)(Handle, Description, const void* alpha, const void* a, Shape, const void* b, Shape, const void* beta,
                  const void* c, Shape, void* d, Shape, const Algorithm*, void* workspace, size_t workspace_bytes,
                  Stream);
};

class CublasLt {
 public:
  // Of the scratch of every linear that it may take: what NVIDIA recommends for Hopper.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // Opens the newest library that is found; null with the reason where there is none that works.
  static std::unique_ptr<CublasLt> open(std::string* reason);
  // With functions of the caller's, for tests.
  static std::unique_ptr<CublasLt> with(const CublasLtFunctions& functions, std::string* reason);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // bf16 by bf16 and f32 by f32 without bias, of widths that its fast kernels have. Depends on no number of rows.
  static bool takes(const LinearParams& p);

  // A product that it takes. *done is false when it has no algorithm for this shape: then nothing was queued. Called by
  // one thread at a time.
  Status linear(const LinearParams& p, const Context& c, bool* done);

 private:
  // What was chosen for a shape; made when a shape is first met, so that a step of known shapes allocates nothing.
  struct Choice {
    int64_t rows = 0, n = 0, k = 0, stride = 0;
    DType in = DType::f32, out = DType::f32;
    bool found = false;
    CublasLtFunctions::Description description = nullptr;
    CublasLtFunctions::Shape w = nullptr, a = nullptr, y = nullptr;
    CublasLtFunctions::Candidate best = {};
  };

  CublasLt() = default;
  Choice& choice_of(const LinearParams& p);
  bool choose(Choice& choice);
  void forget(Choice& choice);

  CublasLtFunctions f_ = {};
  CublasLtFunctions::Handle handle_ = nullptr;
  void* library_ = nullptr;
  std::array<Choice, 512> choices_;  // by a hash of the shape; a later shape takes the place of an earlier one
};

}  // namespace swiftkv::cuda
