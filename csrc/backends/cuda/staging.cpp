#include "backends/cuda/staging.h"

#include <algorithm>

namespace swiftkv::cuda {

Staging::~Staging() {
  for (Piece& piece : pieces_) {
    if (piece.copied != nullptr) {
      (void)runtime::wait(piece.copied);
      runtime::destroy_event(piece.copied);
    }
    if (piece.data != nullptr) runtime::release_host(piece.data);
  }
}

Status Staging::take(size_t bytes, Piece** out) {
  Piece* piece = nullptr;
  {
    std::unique_lock lock(mutex_);
    const auto find = [&] {
      for (size_t i = 0; i < pieces_.size(); ++i) {
        Piece& candidate = pieces_[(next_ + i) % pieces_.size()];
        if (candidate.taken) continue;
        next_ = (next_ + i + 1) % pieces_.size();
        piece = &candidate;
        return true;
      }
      return false;
    };
    free_.wait(lock, find);
    piece->taken = true;
  }
  const Status s = prepare(*piece, bytes);
  if (s.ok()) {
    *out = piece;
    return s;
  }
  {
    const std::lock_guard lock(mutex_);
    piece->taken = false;
  }
  free_.notify_one();
  return s;
}

Status Staging::prepare(Piece& piece, size_t bytes) {
  if (piece.copied == nullptr) {
    if (const Status s = runtime::create_event(&piece.copied); !s.ok()) return s;
  }
  if (const Status s = runtime::wait(piece.copied); !s.ok()) return s;
  if (piece.bytes >= bytes) return {};
  if (piece.data != nullptr) runtime::release_host(piece.data);
  piece.data = nullptr;
  piece.bytes = 0;
  const size_t wanted = std::max(bytes, kPieceBytes);
  void* data = nullptr;
  if (const Status s = runtime::allocate_host(wanted, &data); !s.ok()) return s;
  piece.data = static_cast<std::byte*>(data);
  piece.bytes = wanted;
  return {};
}

Status Staging::give_back(Piece* piece, Stream stream) {
  const Status s = runtime::record(piece->copied, stream);
  {
    const std::lock_guard lock(mutex_);
    piece->taken = false;
  }
  free_.notify_one();
  return s;
}

}  // namespace swiftkv::cuda
