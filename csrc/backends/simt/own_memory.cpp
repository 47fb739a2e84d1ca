#include "backends/simt/own_memory.h"

#include <sys/mman.h>

#include <bit>
#include <new>

namespace swiftkv::simt {
namespace {

// Free pieces by the power of two of their size. A freed piece waits for the next list of its size.
struct Piece {
  Piece* next;
};
constexpr int kSmallest = 6, kSizes = 40;
constexpr size_t kChunk = size_t{1} << 20;
Piece* free_pieces[kSizes];
unsigned char* chunk;
size_t chunk_left;

int size_class(size_t bytes) {
  const int bits = bytes <= 1 ? 0 : std::bit_width(bytes - 1);
  return bits < kSmallest ? kSmallest : bits;
}

unsigned char* map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<unsigned char*>(memory);
}

}  // namespace

void* own_allocate(size_t bytes) {
  const int c = size_class(bytes);
  if (Piece* piece = free_pieces[c]; piece != nullptr) {
    free_pieces[c] = piece->next;
    return piece;
  }
  const size_t size = size_t{1} << c;
  if (size > kChunk) return map(size);
  if (size > chunk_left) {
    chunk = map(kChunk);
    chunk_left = kChunk;
  }
  unsigned char* memory = chunk;
  chunk += size;
  chunk_left -= size;
  return memory;
}

void own_free(void* memory, size_t bytes) {
  auto* piece = static_cast<Piece*>(memory);
  const int c = size_class(bytes);
  piece->next = free_pieces[c];
  free_pieces[c] = piece;
}

}  // namespace swiftkv::simt
