// Reads weights from checkpoint files into packed tensors: pread in bounded pieces, convert and pack, nothing mapped.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"

namespace swiftkv {

// `rows` x `k` source elements at a byte offset of a file, for rows [dst_row, dst_row + rows) of a weight.
struct WeightSegment {
  std::string path;
  int64_t offset;  // bytes
  DType dtype;     // f32, bf16, f16, fp8_e4m3
  int64_t rows, k;
  Matrix dst;
  int64_t dst_row;
  PackTarget target = PackTarget::values;  // scales: k = 1, the scales of an fp8_e4m3 matrix
  bool repeat = false;                     // of scales: the file has one element for all rows
  std::shared_ptr<Storage> owner;          // keeps dst's memory
};

// Throws Error(invalid_argument) when the segment does not fit its destination or its byte range is not addressable.
void check_segment(const WeightSegment& segment);

// What other threads may see and say while a load runs.
class LoadProgress {
 public:
  int64_t loaded_bytes() const { return loaded_.load(std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  void add(int64_t bytes) { loaded_.fetch_add(bytes, std::memory_order_relaxed); }
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> loaded_{0};
  std::atomic<bool> cancelled_{false};
};

// One load: for a thread of its own, because it blocks on files. The device must stay open until run() returns.
class WeightLoad {
 public:
  // Segments must have passed check_segment.
  WeightLoad(std::shared_ptr<OpenDevice> device, std::vector<WeightSegment> segments,
             std::shared_ptr<LoadProgress> progress);

  // Returns when every segment is in place; as many threads as the device has (8 at most), this one included, read and
  // pack. Throws Error: io (with path, offset and the system's reason), aborted after cancel(), or what packing
  // reports. Peak extra memory: a buffer of kPieceBytes per thread (or one row, if longer).
  void run();

  static constexpr int64_t kPieceBytes = int64_t{4} << 20;

 private:
  class Files;
  struct Piece {
    int32_t segment;
    int64_t row, rows;  // of the segment
  };

  void plan();
  void work(const Files& files, std::atomic<size_t>& next);

  std::shared_ptr<OpenDevice> device_;
  std::vector<WeightSegment> segments_;
  std::shared_ptr<LoadProgress> progress_;
  std::vector<Piece> pieces_;
  int64_t buffer_bytes_ = kPieceBytes;
};

}  // namespace swiftkv
