// A batch as a device sees it whose memory is not the host's: the same layout in device memory, of which each step
// uploads what it reads and downloads what it wrote.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/batch.h"
#include "core/device.h"

namespace swiftkv {

// A set of batch fields: bit (1 << field).
class FieldSet {
 public:
  void add(BatchField f) { bits_ |= uint64_t{1} << static_cast<int>(f); }
  bool has(BatchField f) const { return (bits_ >> static_cast<int>(f)) & 1; }

 private:
  uint64_t bits_ = 0;
};

// Elements [begin, end) of a batch.
struct BatchRange {
  int64_t begin, end;
};

// The elements of `fields` that a step with this batch reads (results: wrote), ascending. Ranges that lie closer than
// `gap` elements are one. Block tables and masks count up to the last row that anybody uses; of a block table's row,
// what its sequence's context reaches. `reach` takes max_seqs numbers. Writes to `ranges`, whose capacity suffices for
// max_ranges(); allocates nothing. The batch has been validated.
void live_ranges(const Batch& batch, const BatchLayout& layout, FieldSet fields, bool results, int64_t gap,
                 std::vector<int32_t>& reach, std::vector<BatchRange>& ranges);
size_t max_ranges(const BatchCapacity& capacity);

class BatchImage {
 public:
  // `fields`: those that the program's ops take. Throws Error.
  BatchImage(const std::shared_ptr<OpenDevice>& device, const BatchCapacity& capacity, FieldSet fields);

  int32_t* data(BatchField field) const { return reinterpret_cast<int32_t*>(storage_->data()) + layout_.offset(field); }
  size_t bytes() const { return storage_->bytes(); }

  // Queue copies in the order of the ops; the batch must stay until the device has been synchronized. Allocate nothing.
  Status upload(const Batch& batch);
  Status download(Batch& batch);

 private:
  BatchLayout layout_;
  FieldSet fields_;
  std::shared_ptr<Storage> storage_;
  std::vector<int32_t> reach_;
  std::vector<BatchRange> ranges_;
};

}  // namespace swiftkv
