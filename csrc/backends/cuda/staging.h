// Pinned host memory through which weights go up: while one piece is being copied, another one is being filled.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <mutex>

#include "backends/cuda/runtime.h"

namespace swiftkv::cuda {

// Any thread may take a piece. Pieces are made when they are first needed and kept.
class Staging {
 public:
  static constexpr size_t kPieceBytes = size_t{2} << 20;

  struct Piece {
    std::byte* data = nullptr;
    size_t bytes = 0;
    runtime::Event copied = nullptr;  // the last copy from it
    bool taken = false;
  };

  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // A piece of at least `bytes`, from which nothing is being copied any more; waits for one.
  Status take(size_t bytes, Piece** out);
  // After the copies from it have been queued on the stream.
  Status give_back(Piece* piece, Stream stream);

 private:
  Status prepare(Piece& piece, size_t bytes);

  // Twice the threads of a load that matter: reading a checkpoint seldom feeds more than four.
  std::array<Piece, 8> pieces_;
  size_t next_ = 0;  // taken in turn, so that the piece whose copy is oldest comes first
  std::mutex mutex_;
  std::condition_variable free_;
};

}  // namespace swiftkv::cuda
