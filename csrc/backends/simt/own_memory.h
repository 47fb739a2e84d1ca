// Lists of the executor. Not the library's: ThreadSanitizer watches new, delete and memmove, and would call it a race
// that one fiber moves or frees what another has written.
#pragma once

#include <cstddef>
#include <type_traits>

namespace swiftkv::simt {

void* own_allocate(size_t bytes);
void own_free(void* memory, size_t bytes);

template <class T>
class List {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  void clear() { size_ = 0; }
  void shrink(size_t size) { size_ = size; }

  void push_back(const T& value) {
    const T kept = value;  // perhaps one of ours
    if (size_ == capacity_) grow();
    data_[size_++] = kept;
  }

  // The last one takes its place.
  void remove(size_t i) {
    data_[i] = data_[size_ - 1];
    --size_;
  }

 private:
  void grow() {
    const size_t capacity = capacity_ == 0 ? 16 : 2 * capacity_;
    T* data = static_cast<T*>(own_allocate(capacity * sizeof(T)));
    for (size_t i = 0; i < size_; ++i) {
      data[i] = data_[i];
      asm volatile("" ::: "memory");  // stays a loop
    }
    if (data_ != nullptr) own_free(data_, capacity_ * sizeof(T));
    data_ = data;
    capacity_ = capacity;
  }

  T* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace swiftkv::simt
