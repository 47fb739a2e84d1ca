// Reads weights from checkpoint files into packed tensors: pread in bounded pieces, convert and pack, nothing mapped.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace swiftkv {

// `rows` x `k` source elements at a byte offset of a file, for rows [dst_row, dst_row + rows) of a weight.
struct WeightSegment {
  std::string path;
  int64_t offset;  // bytes
  DType dtype;     // f32, bf16, f16
  int64_t rows, k;
  Matrix dst;
  int64_t dst_row;
  std::shared_ptr<void> owner;  // keeps dst's memory
};

// Throws Error(invalid_argument) when the segment does not fit its destination or its byte range is not addressable.
void check_segment(const WeightSegment& segment);

// One load. run() may be slow and belongs on a thread of its own; the other members may be called from any thread.
class WeightLoad {
 public:
  // Segments must have passed check_segment. `threads` workers, the caller of run() included, read and pack.
  WeightLoad(const BackendTable* backend, Device* device, std::vector<WeightSegment> segments, int threads);

  // Returns when every segment is in place. Throws Error: io (with path, offset and the system's reason), aborted after
  // cancel(), or what packing reports. Peak extra memory: `threads` buffers of kPieceBytes (or one row, if longer).
  void run();

  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  int64_t loaded_bytes() const { return loaded_.load(std::memory_order_relaxed); }

  static constexpr int64_t kPieceBytes = int64_t{4} << 20;

 private:
  class Files;
  struct Piece {
    int32_t segment;
    int64_t row, rows;  // of the segment
  };

  void plan();
  void work(const Files& files, std::atomic<size_t>& next);

  const BackendTable* backend_;
  Device* device_;
  std::vector<WeightSegment> segments_;
  std::vector<Piece> pieces_;
  int64_t buffer_bytes_ = kPieceBytes;
  int threads_;
  std::atomic<int64_t> loaded_{0};
  std::atomic<bool> cancelled_{false};
};

}  // namespace swiftkv
