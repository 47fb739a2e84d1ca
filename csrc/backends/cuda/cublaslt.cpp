// Its matrices are column by column: y [rows, n] of ours is its [n, rows], so it multiplies W^T (transposed) by a.
#include "backends/cuda/cublaslt.h"

#include <dlfcn.h>

#include <new>

#include "backends/cuda/matrix_layout.h"

namespace swiftkv::cuda {

namespace {

// Of cublasLt.h and library_types.h; their values are part of the library's binary interface.
constexpr int kReal32 = 0, kReal16B = 14;  // cudaDataType_t
constexpr int kCompute32 = 68;             // CUBLAS_COMPUTE_32F
constexpr int kTransposeA = 3;             // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int kTransposed = 1;             // CUBLAS_OP_T
constexpr int kMaxWorkspace = 1;           // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES

constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

int type_of(DType t) {
  return t == DType::bf16 ? kReal16B : kReal32;
}

template <class F>
bool find(void* library, const char* name, F** out) {
  *out = reinterpret_cast<F*>(dlsym(library, name));
  return *out != nullptr;
}

bool find_all(void* l, CublasLtFunctions& f) {
  return find(l, "cublasLtCreate", &f.create) && find(l, "cublasLtDestroy", &f.destroy) &&
         find(l, "cublasLtMatmulDescCreate", &f.describe) &&
         find(l, "cublasLtMatmulDescSetAttribute", &f.set_description) &&
         find(l, "cublasLtMatmulDescDestroy", &f.forget_description) &&
         find(l, "cublasLtMatrixLayoutCreate", &f.shape) && find(l, "cublasLtMatrixLayoutDestroy", &f.forget_shape) &&
         find(l, "cublasLtMatmulPreferenceCreate", &f.prefer) &&
         find(l, "cublasLtMatmulPreferenceSetAttribute", &f.set_preference) &&
         find(l, "cublasLtMatmulPreferenceDestroy", &f.forget_preference) &&
         find(l, "cublasLtMatmulAlgoGetHeuristic", &f.candidates) && find(l, "cublasLtMatmul", &f.multiply);
}

}  // namespace

std::unique_ptr<CublasLt> CublasLt::open(std::string* reason) {
  for (const char* name : kNames) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    CublasLtFunctions functions;
    if (!find_all(library, functions)) {
      *reason = std::string(name) + " lacks a function that is needed";
    } else if (std::unique_ptr<CublasLt> lt = with(functions, reason)) {
      lt->library_ = library;
      *reason = std::string(name) + ", for plain products without bias, as batchInvariant is off";
      return lt;
    }
    dlclose(library);
    return nullptr;
  }
  *reason = "no libcublasLt.so.13 or .so.12 was found on the library path";
  return nullptr;
}

std::unique_ptr<CublasLt> CublasLt::with(const CublasLtFunctions& functions, std::string* reason) {
  std::unique_ptr<CublasLt> lt(new (std::nothrow) CublasLt());
  if (lt == nullptr) {
    *reason = "no memory for cuBLASLt's state";
    return nullptr;
  }
  const int error = functions.create(&lt->handle_);
  if (error != 0) {
    *reason = "cublasLtCreate answered " + std::to_string(error);
    lt->handle_ = nullptr;
    return nullptr;
  }
  lt->f_ = functions;
  return lt;
}

CublasLt::~CublasLt() {
  for (Choice& choice : choices_) forget(choice);
  if (handle_ != nullptr) f_.destroy(handle_);
  if (library_ != nullptr) dlclose(library_);
}

bool CublasLt::takes(const LinearParams& p) {
  const bool plain = p.w.dtype == DType::bf16 || p.w.dtype == DType::f32;
  const bool types = p.a.dtype == p.w.dtype && (p.y.dtype == p.w.dtype || p.y.dtype == DType::f32);
  // Its copies are of 16 bytes.
  return plain && types && p.bias == nullptr && p.w.k % 8 == 0 && p.w.n % 8 == 0;
}

Status CublasLt::linear(const LinearParams& p, const Context& c, bool* done) {
  *done = false;
  Choice& choice = choice_of(p);
  if (!choice.found || choice.best.workspace_bytes > c.scratch_bytes) return {};
  const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  const int error = f_.multiply(handle_, choice.description, &alpha, p.w.data, choice.w, p.a.data, choice.a, &beta,
                                p.y.data, choice.y, p.y.data, choice.y, &choice.best.algorithm, c.scratch,
                                choice.best.workspace_bytes, c.stream);
  if (error != 0) return fail(Code::internal, "cublasLtMatmul answered %d", error);
  *done = true;
  return {};
}

CublasLt::Choice& CublasLt::choice_of(const LinearParams& p) {
  const int64_t stride = p.w.layout == Layout::panels ? pad_k(p.w.k) : p.w.k;
  uint64_t hash = static_cast<uint64_t>(p.rows);
  for (int64_t x : {p.w.n, p.w.k, stride, static_cast<int64_t>(p.w.dtype), static_cast<int64_t>(p.y.dtype)})
    hash = (hash ^ static_cast<uint64_t>(x)) * 0x9e3779b97f4a7c15u;
  Choice& choice = choices_[(hash >> 32) % choices_.size()];
  const bool known = choice.rows == p.rows && choice.n == p.w.n && choice.k == p.w.k && choice.stride == stride &&
                     choice.in == p.w.dtype && choice.out == p.y.dtype;
  if (known) return choice;
  forget(choice);
  choice.rows = p.rows;
  choice.n = p.w.n;
  choice.k = p.w.k;
  choice.stride = stride;
  choice.in = p.w.dtype;
  choice.out = p.y.dtype;
  choice.found = choose(choice);
  return choice;
}

bool CublasLt::choose(Choice& x) {
  const auto rows = static_cast<uint64_t>(x.rows), n = static_cast<uint64_t>(x.n), k = static_cast<uint64_t>(x.k);
  if (f_.describe(&x.description, kCompute32, kReal32) != 0) return false;
  if (f_.set_description(x.description, kTransposeA, &kTransposed, sizeof kTransposed) != 0) return false;
  if (f_.shape(&x.w, type_of(x.in), k, n, x.stride) != 0) return false;
  if (f_.shape(&x.a, type_of(x.in), k, rows, x.k) != 0) return false;
  if (f_.shape(&x.y, type_of(x.out), n, rows, x.n) != 0) return false;
  CublasLtFunctions::Preference preference = nullptr;
  if (f_.prefer(&preference) != 0) return false;
  const size_t most = kWorkspaceBytes;
  int found = 0;
  const bool ok = f_.set_preference(preference, kMaxWorkspace, &most, sizeof most) == 0 &&
                  f_.candidates(handle_, x.description, x.w, x.a, x.y, x.y, preference, 1, &x.best, &found) == 0;
  f_.forget_preference(preference);
  return ok && found > 0 && x.best.state == 0;
}

void CublasLt::forget(Choice& x) {
  if (x.description != nullptr) f_.forget_description(x.description);
  for (CublasLtFunctions::Shape shape : {x.w, x.a, x.y})
    if (shape != nullptr) f_.forget_shape(shape);
  x = {};
}

}  // namespace swiftkv::cuda
