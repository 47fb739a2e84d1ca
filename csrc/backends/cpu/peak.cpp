#include "backends/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace swiftkv::cpu {

namespace {

constexpr int64_t kSteps = 2048;                // of one piece: tens of microseconds
constexpr int64_t kFirstPieces = 8;             // per thread, to learn how long a piece takes
constexpr double kMaxMs = 10'000;               // of one measurement
constexpr size_t kReadBytes = size_t{1} << 20;  // of one piece

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Rate {
  double amount;
  double seconds;
};

Rate multiply(int64_t (*loop)(int64_t), int64_t pieces, ThreadPool& pool, int threads) {
  std::atomic<int64_t> operations{0};
  const double start = seconds();
  pool.parallel_for(threads, pieces, [&](int64_t, int) { operations += loop(kSteps); });
  return {static_cast<double>(operations.load()), seconds() - start};
}

Rate read(void (*loop)(const std::byte*, size_t), const PeakParams& p, ThreadPool& pool, int threads) {
  const auto* data = static_cast<const std::byte*>(p.data);
  const auto pieces = static_cast<int64_t>((p.bytes + kReadBytes - 1) / kReadBytes);
  Rate rate{};
  const double start = seconds();
  do {
    pool.parallel_for(threads, pieces, [&](int64_t piece, int) {
      const size_t begin = static_cast<size_t>(piece) * kReadBytes;
      loop(data + begin, std::min(kReadBytes, p.bytes - begin));
    });
    rate = {rate.amount + static_cast<double>(p.bytes), seconds() - start};
  } while (rate.seconds * 1e3 < p.ms);
  return rate;
}

}  // namespace

Status measure_peak(const PeakLoops& loops, const PeakParams& params, ThreadPool& pool, int threads,
                    double* per_second) {
  *per_second = 0;
  if (!(params.ms >= 0 && params.ms <= kMaxMs))
    return fail(Code::invalid_argument, "Expected 0 to %.0f ms to measure a peak but received %g", kMaxMs, params.ms);
  Rate rate{};
  if (params.kind == PeakKind::read) {
    if (params.data == nullptr || params.bytes == 0)
      return fail(Code::invalid_argument, "Expected memory to read from but received none");
    rate = read(loops.read, params, pool, threads);
  } else {
    int64_t (*loop)(int64_t) = nullptr;
    if (params.kind == PeakKind::fma_f32) loop = loops.fma_f32;
    if (params.kind == PeakKind::dot_bf16) loop = loops.dot_bf16;
    if (params.kind == PeakKind::dot_int8) loop = loops.dot_int8;
    if (loop == nullptr || loop(0) < 0)
      return fail(Code::unsupported, "This ISA level has no instruction for %s", peak_name(params.kind));
    rate = multiply(loop, kFirstPieces * threads, pool, threads);
    const double pieces = params.ms / 1e3 / rate.seconds * static_cast<double>(kFirstPieces * threads);
    if (pieces > static_cast<double>(kFirstPieces * threads))
      rate = multiply(loop, static_cast<int64_t>(pieces), pool, threads);
  }
  *per_second = rate.amount / std::max(rate.seconds, 1e-9);
  return {};
}

}  // namespace swiftkv::cpu
