#include "core/weight_loader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

namespace swiftkv {

namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

// Reading and packing is bound by memory, not by arithmetic: more workers only take more buffers.
constexpr int kMaxWorkers = 8;

int64_t row_bytes(const WeightSegment& s) {
  return s.k * dtype_bytes(s.dtype);
}

// Rows that the file has for the segment.
int64_t file_rows(const WeightSegment& s) {
  return s.repeat ? std::min<int64_t>(1, s.rows) : s.rows;
}

}  // namespace

void check_segment(const WeightSegment& s) {
  const auto refuse = [&](const std::string& what) {
    throw Error(Code::invalid_argument, "weight segment of " + s.path + ": " + what);
  };
  const bool is_float = s.dtype == DType::f32 || s.dtype == DType::bf16 || s.dtype == DType::f16;
  const bool fp8 = s.dst.dtype == DType::fp8_e4m3 && s.dst.layout == Layout::panels;
  if (!is_float && s.dtype != DType::fp8_e4m3)
    refuse(std::string("expected source dtype f32, bf16, f16 or fp8_e4m3 but received ") + dtype_name(s.dtype));
  if (s.dst.dtype == DType::i32 || s.dst.dtype == DType::u8 || (s.dst.dtype == DType::fp8_e4m3 && !fp8))
    refuse(std::string("expected a tensor of weights but received ") + dtype_name(s.dst.dtype));
  if (s.dtype == DType::fp8_e4m3 && !fp8)
    refuse(std::string("codes of fp8_e4m3 fit a matrix of fp8_e4m3 in panels only but received ") +
           dtype_name(s.dst.dtype));
  if (s.target == PackTarget::scales) {
    if (!fp8) refuse(std::string("expected fp8_e4m3 in panels for scales but received ") + dtype_name(s.dst.dtype));
    if (!is_float) refuse(std::string("expected scales of f32, bf16 or f16 but received ") + dtype_name(s.dtype));
    if (s.k != 1) refuse("expected 1 element a row of scales but received " + std::to_string(s.k));
  } else if (s.repeat) {
    refuse("only scales can be repeated");
  }
  if (s.rows < 0 || s.k < 0 || s.offset < 0 || s.dst_row < 0) refuse("expected sizes and offsets of at least 0");
  if (s.target == PackTarget::values && s.k != s.dst.k)
    refuse("expected rows of " + std::to_string(s.dst.k) + " elements but received " + std::to_string(s.k));
  if (s.dst_row > s.dst.n || s.rows > s.dst.n - s.dst_row)
    refuse("rows " + std::to_string(s.dst_row) + " to " + std::to_string(s.dst_row) + "+" + std::to_string(s.rows) +
           " are not all inside the tensor's " + std::to_string(s.dst.n));
  // rows * k fits because the destination exists; times 4 and plus the offset might not.
  constexpr int64_t max = std::numeric_limits<int64_t>::max();
  if (s.k > 0 && std::max<int64_t>(1, s.rows) > (max - s.offset) / dtype_bytes(s.dtype) / s.k)
    refuse("the byte range overflows");
}

// Every distinct file, opened once. Descriptors close with the object.
class WeightLoad::Files {
 public:
  explicit Files(const std::vector<WeightSegment>& segments) {
    for (const WeightSegment& s : segments) {
      auto [it, is_new] = files_.try_emplace(s.path);
      if (is_new) it->second.open(s.path);
      const int64_t end = s.offset + file_rows(s) * row_bytes(s);
      if (end > it->second.size)
        throw Error(Code::io, s.path + ": expected at least " + std::to_string(end) + " bytes (segment at offset " +
                                  std::to_string(s.offset) + ") but the file has " + std::to_string(it->second.size));
    }
  }

  int descriptor(const std::string& path) const { return files_.at(path).descriptor; }

 private:
  struct File {
    int descriptor = -1;
    int64_t size = 0;

    File() = default;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
      if (descriptor >= 0) ::close(descriptor);
    }

    void open(const std::string& path) {
      // Without O_NONBLOCK, opening a FIFO waits for a writer.
      descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
      if (descriptor < 0) throw Error(Code::io, path + ": cannot open: " + reason(errno));
      struct stat info;
      if (::fstat(descriptor, &info) != 0) throw Error(Code::io, path + ": cannot stat: " + reason(errno));
      if (!S_ISREG(info.st_mode)) throw Error(Code::io, path + ": not a regular file");
      size = info.st_size;
    }
  };

  std::map<std::string, File> files_;
};

WeightLoad::WeightLoad(std::shared_ptr<OpenDevice> device, std::vector<WeightSegment> segments,
                       std::shared_ptr<LoadProgress> progress)
    : device_(std::move(device)), segments_(std::move(segments)), progress_(std::move(progress)) {
  plan();
}

void WeightLoad::plan() {
  for (size_t i = 0; i < segments_.size(); ++i) {
    const WeightSegment& s = segments_[i];
    const int64_t bytes = row_bytes(s);
    if (s.rows == 0 || bytes == 0) continue;
    if (s.repeat) {
      pieces_.push_back({static_cast<int32_t>(i), 0, s.rows});
      continue;
    }
    buffer_bytes_ = std::max(buffer_bytes_, bytes);
    int64_t step = std::max<int64_t>(1, kPieceBytes / bytes);
    // Whole panels, so that no cache line of the packed weight is written from two pieces.
    if (step >= kPanel) step -= step % kPanel;
    for (int64_t row = 0; row < s.rows;) {
      int64_t rows = step;
      if (step >= kPanel) rows -= (s.dst_row + row) % kPanel;
      rows = std::min(rows, s.rows - row);
      pieces_.push_back({static_cast<int32_t>(i), row, rows});
      row += rows;
    }
  }
}

void WeightLoad::run() {
  const Files files(segments_);
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr first;
  const auto guarded = [&] {
    try {
      work(files, next);
    } catch (...) {
      next.store(pieces_.size());
      const std::lock_guard lock(mutex);
      if (!first) first = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    const int wanted = static_cast<int>(std::min({size_t{kMaxWorkers}, size_t(device_->threads()), pieces_.size()}));
    others.reserve(std::max(0, wanted - 1));
    try {
      for (int i = 1; i < wanted; ++i) others.emplace_back(guarded);
    } catch (const std::system_error&) {
      // Fewer threads than wanted are enough: the caller works too.
    }
    guarded();
  }
  if (first) std::rethrow_exception(first);
  if (progress_->cancelled()) throw Error(Code::aborted, "loading was cancelled");
}

void WeightLoad::work(const Files& files, std::atomic<size_t>& next) {
  const std::unique_ptr<std::byte[]> buffer(new std::byte[buffer_bytes_]);
  for (size_t i = next.fetch_add(1); i < pieces_.size(); i = next.fetch_add(1)) {
    const Piece& piece = pieces_[i];
    const WeightSegment& s = segments_[piece.segment];
    const int descriptor = files.descriptor(s.path);
    const int64_t start = s.offset + piece.row * row_bytes(s);
    const int64_t total = (s.repeat ? 1 : piece.rows) * row_bytes(s);
    for (int64_t done = 0; done < total;) {
      if (progress_->cancelled()) throw Error(Code::aborted, "loading was cancelled");
      const ssize_t got = ::pread(descriptor, buffer.get() + done, total - done, start + done);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        throw Error(Code::io, s.path + ": reading " + std::to_string(total - done) + " bytes at offset " +
                                  std::to_string(start + done) + " failed: " +
                                  (got < 0 ? reason(errno) : "the file ended; it was cut while being loaded"));
      done += got;
      progress_->add(got);
    }
    const PackParams params = {.src = buffer.get(),
                               .src_dtype = s.dtype,
                               .rows = piece.rows,
                               .dst_row = s.dst_row + piece.row,
                               .dst = s.dst,
                               .target = s.target,
                               .repeat = s.repeat};
    check(device_->table().pack(device_->handle(), &params));
  }
}

}  // namespace swiftkv
