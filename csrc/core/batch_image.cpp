// Which parts of a batch are live, and the copies of them.
#include "core/batch_image.h"

#include <algorithm>

namespace swiftkv {
namespace {

// Queueing a copy costs about what moving 16 KiB does (3 us at 5 GB/s and more): what lies closer goes in one copy, the
// stale numbers between included.
constexpr int64_t kUploadGap = (16 << 10) / 4;

class Ranges {
 public:
  Ranges(std::vector<BatchRange>& ranges, int64_t gap) : ranges_(ranges), gap_(gap) { ranges_.clear(); }

  // Ascending.
  void add(int64_t begin, int64_t count) {
    if (count <= 0) return;
    if (!ranges_.empty() && begin - ranges_.back().end < gap_) {
      ranges_.back().end = begin + count;
    } else {
      ranges_.push_back({begin, begin + count});
    }
  }

 private:
  std::vector<BatchRange>& ranges_;
  int64_t gap_;
};

// Blocks that the contexts of a half reach, by row of the block tables.
void add_reach(const Batch& batch, Axis rows, std::vector<int32_t>& reach) {
  const RowsView half = batch.half(rows);
  for (int32_t b = 0; b < half.num_seqs; ++b) {
    const int32_t blocks = (half.context_len[b] + kBlockTokens - 1) / kBlockTokens;
    int32_t& most = reach[static_cast<size_t>(half.table_row[b])];
    most = std::max(most, blocks);
  }
}

int64_t mask_rows(const Batch& batch) {
  const int32_t* rows = batch.data(BatchField::mask_rows);
  int32_t most = -1;
  for (int32_t i = 0; i < batch.count(Axis::R); ++i) most = std::max(most, rows[i]);
  return int64_t{most} + 1;
}

}  // namespace

size_t max_ranges(const BatchCapacity& capacity) {
  return static_cast<size_t>(kBatchFieldCount) + static_cast<size_t>(capacity.max_seqs);
}

void live_ranges(const Batch& batch, const BatchLayout& layout, FieldSet fields, bool results, int64_t gap,
                 std::vector<int32_t>& reach, std::vector<BatchRange>& ranges) {
  Ranges out(ranges, gap);
  const BatchCapacity& capacity = batch.capacity();
  for (int i = 0; i < kBatchFieldCount; ++i) {
    const auto field = static_cast<BatchField>(i);
    if (!fields.has(field) || step_writes(field) != results) continue;
    const int64_t at = layout.offset(field);
    const BatchFieldInfo& info = batch_field_info(field);
    if (field == BatchField::block_tables) {
      std::fill(reach.begin(), reach.end(), 0);
      if (fields.has(BatchField::table_row_t)) add_reach(batch, Axis::T, reach);
      if (fields.has(BatchField::table_row_s)) add_reach(batch, Axis::S, reach);
      for (size_t row = 0; row < reach.size(); ++row) {
        out.add(at + static_cast<int64_t>(row) * capacity.max_blocks_per_seq, reach[row]);
      }
    } else if (field == BatchField::masks) {
      const int64_t words = layout.length(field) / capacity.max_logit_rows;
      out.add(at, fields.has(BatchField::mask_rows) ? mask_rows(batch) * words : layout.length(field));
    } else if (field == BatchField::top_ids || field == BatchField::top_logprobs) {
      out.add(at, int64_t{batch.count(Axis::P)} * capacity.max_top_logprobs);
    } else if (info.axis != Axis::none) {
      out.add(at, batch.count(info.axis) + info.plus);
    }
  }
}

BatchImage::BatchImage(const std::shared_ptr<OpenDevice>& device, const BatchCapacity& capacity, FieldSet fields)
    : layout_(capacity),
      fields_(fields),
      storage_(device->allocate(static_cast<size_t>(layout_.total) * sizeof(int32_t), MemoryPart::workspace)),
      reach_(static_cast<size_t>(capacity.max_seqs)) {
  ranges_.reserve(max_ranges(capacity));
}

Status BatchImage::upload(const Batch& batch) {
  live_ranges(batch, layout_, fields_, false, kUploadGap, reach_, ranges_);
  const OpenDevice& device = *storage_->device();
  const int32_t* from = batch.data(BatchField{0});
  int32_t* to = data(BatchField{0});
  for (const BatchRange& r : ranges_) {
    const Status s = device.table().enqueue_upload(device.handle(), to + r.begin, from + r.begin,
                                                   static_cast<size_t>(r.end - r.begin) * sizeof(int32_t));
    if (!s.ok()) return s;
  }
  return {};
}

// Of results, only what the step wrote: the batch keeps what lies between.
Status BatchImage::download(Batch& batch) {
  live_ranges(batch, layout_, fields_, true, 0, reach_, ranges_);
  const OpenDevice& device = *storage_->device();
  int32_t* to = batch.data(BatchField{0});
  const int32_t* from = data(BatchField{0});
  for (const BatchRange& r : ranges_) {
    const Status s = device.table().enqueue_download(device.handle(), to + r.begin, from + r.begin,
                                                     static_cast<size_t>(r.end - r.begin) * sizeof(int32_t));
    if (!s.ok()) return s;
  }
  return {};
}

}  // namespace swiftkv
