#include "node/spill_bytes.h"

#include <aio.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mobula::node {

namespace {

// What direct transfers are aligned to, in memory and in files. No disk has larger blocks.
constexpr uint64_t kBlockBytes = 4096;

uint64_t block_floor(uint64_t bytes) { return bytes / kBlockBytes * kBlockBytes; }
uint64_t block_ceil(uint64_t bytes) { return block_floor(bytes + kBlockBytes - 1); }

std::string text_of(int error) { return std::generic_category().message(error); }

class Checksum {
 public:
  Checksum() { XXH3_64bits_reset(&state_); }
  void add(std::span<const std::byte> bytes) {
    XXH3_64bits_update(&state_, bytes.data(), bytes.size());
  }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

// All of it, or the error number.
int read_all(int fd, std::span<std::byte> into, uint64_t offset) {
  while (!into.empty()) {
    const ssize_t count = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return ENODATA;  // The file ends too early.
    into = into.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return 0;
}

int write_all(int fd, std::span<const std::byte> from, uint64_t offset) {
  while (!from.empty()) {
    const ssize_t count = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : EIO;
    from = from.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return 0;
}

// Without the page cache if the file system can do that.
shm::Fd open_file(const std::string& path, int flags) {
  shm::Fd fd(::open(path.c_str(), flags | O_CLOEXEC | O_DIRECT, 0600));
  if (!fd.valid() && errno == EINVAL) fd = shm::Fd(::open(path.c_str(), flags | O_CLOEXEC, 0600));
  return fd;
}

bool is_direct(int fd) { return (::fcntl(fd, F_GETFL) & O_DIRECT) != 0; }

// There are file systems that open files for it and then do not do it.
void leave_direct(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_DIRECT); }

// The memory of a thread's two buffers. It is kept from call to call, as fresh pages cost more than the
// copying does; between calls the kernel may take it if memory is short.
class BufferMemory {
 public:
  BufferMemory()
      : memory_(static_cast<std::byte*>(::operator new (kBytes, std::align_val_t{kAlignment}))) {
    ::madvise(memory_, kBytes, MADV_HUGEPAGE);
  }
  ~BufferMemory() { ::operator delete (memory_, std::align_val_t{kAlignment}); }
  BufferMemory(const BufferMemory&) = delete;
  BufferMemory& operator=(const BufferMemory&) = delete;

  std::byte* get(size_t index) const { return memory_ + index * kSpillChunkBytes; }
  void may_go() { ::madvise(memory_, kBytes, MADV_FREE); }

 private:
  static constexpr uint64_t kBytes = 2 * kSpillChunkBytes;
  static constexpr uint64_t kAlignment = 2ULL << 20;  // That of huge pages.

  std::byte* const memory_;
};

BufferMemory& this_threads_memory() {
  thread_local BufferMemory memory;
  return memory;
}

// A buffer that can be on its way to or from a file.
class Buffer {
 public:
  Buffer(uint64_t bytes, size_t index) : bytes_(bytes), memory_(this_threads_memory().get(index)) {}
  ~Buffer() { static_cast<void>(arrived()); }  // Others use the memory next.
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::span<std::byte> all() { return {memory_, bytes_}; }

  // 0, or the error number.
  int start_write(int fd, uint64_t bytes, uint64_t offset) {
    return start(::aio_write, fd, bytes, offset);
  }
  int start_read(int fd, uint64_t bytes, uint64_t offset) {
    return start(::aio_read, fd, bytes, offset);
  }

  struct Arrived {
    int error = 0;
    uint64_t bytes = 0;
  };
  // Of the last transfer; waits for it.
  Arrived arrived() {
    if (!moving_) return {};
    moving_ = false;
    const std::array<const aiocb*, 1> list = {request_.get()};
    int error = ::aio_error(request_.get());
    while (error == EINPROGRESS) {
      static_cast<void>(::aio_suspend(list.data(), 1, nullptr));
      error = ::aio_error(request_.get());
    }
    const ssize_t count = ::aio_return(request_.get());
    return {error, count < 0 ? 0 : static_cast<uint64_t>(count)};
  }

 private:
  int start(int (*begin)(aiocb*), int fd, uint64_t bytes, uint64_t offset) {
    *request_ = {};
    request_->aio_fildes = fd;
    request_->aio_buf = memory_;
    request_->aio_nbytes = bytes;
    request_->aio_offset = static_cast<off_t>(offset);
    request_->aio_sigevent.sigev_notify = SIGEV_NONE;
    moving_ = begin(request_.get()) == 0;
    // Without a thread for it, whoever waits for it does all of it.
    return moving_ || errno == EAGAIN ? 0 : errno;
  }

  const uint64_t bytes_;
  std::byte* const memory_;
  const std::unique_ptr<aiocb> request_ = std::make_unique<aiocb>();
  bool moving_ = false;
};

// Writes bytes one behind the other: one buffer is filled while the other is written.
class FileWriter {
 public:
  FileWriter(int fd, uint64_t bytes)
      : fd_(fd),
        chunk_(std::min(kSpillChunkBytes, block_ceil(std::max<uint64_t>(bytes, 1)))),
        slots_{Slot(chunk_, 0), Slot(chunk_, 1)} {}

  // Room for up to so many bytes; fewer, down to one, if the buffer ends there.
  std::span<std::byte> room(uint64_t bytes) {
    Slot& slot = slots_[at_];
    return slot.buffer.all().subspan(slot.filled, std::min(bytes, chunk_ - slot.filled));
  }
  // So much of it was filled. 0, or the error number.
  int filled(uint64_t bytes) {
    slots_[at_].filled += bytes;
    return slots_[at_].filled == chunk_ ? send() : 0;
  }
  int finish() {
    const uint64_t size = written_ + slots_[at_].filled;
    if (const int error = send()) return error;
    for (Slot& slot : slots_) {
      if (const int error = settle(slot)) return error;
    }
    return ::ftruncate(fd_, static_cast<off_t>(size)) == 0 ? 0 : errno;
  }

 private:
  struct Slot {
    Slot(uint64_t bytes, size_t index) : buffer(bytes, index) {}
    Buffer buffer;
    uint64_t filled = 0;  // Bytes.
    uint64_t sent = 0;
    uint64_t offset = 0;
  };

  // The buffer goes to the disk; afterwards the other one is free.
  int send() {
    Slot& slot = slots_[at_];
    if (slot.filled > 0) {
      slot.sent = block_ceil(slot.filled);
      std::memset(slot.buffer.all().data() + slot.filled, 0, slot.sent - slot.filled);
      slot.offset = written_;
      written_ += slot.filled;
      slot.filled = 0;
      if (const int error = slot.buffer.start_write(fd_, slot.sent, slot.offset)) return error;
    }
    at_ = 1 - at_;
    return settle(slots_[at_]);
  }

  int settle(Slot& slot) {
    const uint64_t bytes = std::exchange(slot.sent, 0);
    if (bytes == 0) return 0;
    const Buffer::Arrived arrived = slot.buffer.arrived();
    if (arrived.error == EINVAL && is_direct(fd_)) {
      leave_direct(fd_);
    } else if (arrived.error != 0) {
      return arrived.error;
    }
    const auto rest = slot.buffer.all().subspan(arrived.bytes, bytes - arrived.bytes);
    if (const int error = write_all(fd_, rest, slot.offset + arrived.bytes)) return error;
    if (!is_direct(fd_)) {  // Dirty pages must not pile up.
      ::sync_file_range(fd_, static_cast<off_t>(slot.offset), static_cast<off_t>(bytes),
                        SYNC_FILE_RANGE_WRITE);
    }
    return 0;
  }

  const int fd_;
  const uint64_t chunk_;
  std::array<Slot, 2> slots_;
  size_t at_ = 0;
  uint64_t written_ = 0;
};

int append(FileWriter& file, const SpillPart& part, const SpillStop& stop, Checksum& sum) {
  for (uint64_t at = 0; at < part.size;) {
    if (stop.load(std::memory_order_relaxed)) return ECANCELED;
    const std::span<std::byte> room = file.room(part.size - at);
    if (const int error = read_all(part.segment->get(), room, part.offset + at)) return error;
    sum.add(room);
    at += room.size();
    if (const int error = file.filled(room.size())) return error;
  }
  return 0;
}

// Returns 0 or an error number; the checksums of all parts.
int write_parts(int fd, const std::vector<SpillPart>& parts, const SpillStop& stop,
                std::vector<uint64_t>& checksums) {
  uint64_t bytes = 0;
  for (const SpillPart& part : parts) bytes += part.size;
  FileWriter file(fd, bytes);
  for (const SpillPart& part : parts) {
    Checksum sum;
    if (const int error = append(file, part, stop, sum)) return error;
    checksums.push_back(sum.value());
  }
  return file.finish();
}

// Reads a range of a file: one buffer is emptied while the other is read.
class FileReader {
 public:
  FileReader(int fd, uint64_t offset, uint64_t size)
      : fd_(fd),
        next_(block_floor(offset)),
        end_(block_ceil(offset + size)),
        skip_(offset - next_),
        left_(size),
        chunk_(std::min(kSpillChunkBytes, end_ - next_)),
        slots_{Slot(chunk_, 0), Slot(chunk_, 1)} {}

  // The next bytes; they stay as they are until the next call. An error number if it is not 0.
  int next(std::span<const std::byte>& bytes) {
    if (!started_) {
      started_ = true;
      if (const int error = start(slots_[at_])) return error;
    }
    Slot& slot = slots_[at_];
    at_ = 1 - at_;
    if (const int error = start(slots_[at_])) return error;
    const uint64_t useful = std::min(left_, slot.bytes - skip_);
    if (const int error = settle(slot, skip_ + useful)) return error;
    bytes = slot.buffer.all().subspan(skip_, useful);
    left_ -= useful;
    skip_ = 0;
    return 0;
  }

 private:
  struct Slot {
    Slot(uint64_t size, size_t index) : buffer(size, index) {}
    Buffer buffer;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };

  int start(Slot& slot) {
    slot.offset = next_;
    slot.bytes = std::min(chunk_, end_ - next_);
    next_ += slot.bytes;
    return slot.bytes == 0 ? 0 : slot.buffer.start_read(fd_, slot.bytes, slot.offset);
  }
  // So many of its bytes have to be there.
  int settle(Slot& slot, uint64_t needed) {
    const Buffer::Arrived arrived = slot.buffer.arrived();
    if (arrived.error == EINVAL && is_direct(fd_)) {
      leave_direct(fd_);
    } else if (arrived.error != 0) {
      return arrived.error;
    }
    if (arrived.bytes >= needed) return 0;
    const auto rest = slot.buffer.all().subspan(arrived.bytes, needed - arrived.bytes);
    leave_direct(fd_);  // The rest need not be aligned.
    return read_all(fd_, rest, slot.offset + arrived.bytes);
  }

  const int fd_;
  uint64_t next_;  // To be read, as long as it is less than end_.
  const uint64_t end_;
  uint64_t skip_;
  uint64_t left_;
  const uint64_t chunk_;
  std::array<Slot, 2> slots_;
  size_t at_ = 0;
  bool started_ = false;
};

// Returns what was wrong; empty: nothing.
std::string read_parts(int fd, const store::DiskCopy& from, const SpillPart& to,
                       const SpillStop& stop) {
  FileReader file(fd, from.offset, from.size);
  Checksum sum;
  for (uint64_t at = 0; at < from.size;) {
    if (stop.load(std::memory_order_relaxed)) return "the session ends";
    std::span<const std::byte> bytes;
    if (const int error = file.next(bytes)) {
      return error == ENODATA ? "the file is too short" : text_of(error);
    }
    sum.add(bytes);
    if (const int error = write_all(to.segment->get(), bytes, to.offset + at)) {
      return text_of(error);
    }
    at += bytes.size();
  }
  if (sum.value() == from.checksum) return "";
  return "they are not what was written (the checksum differs)";
}

}  // namespace

store::WriteOutcome write_values(const std::string& path, const std::vector<SpillPart>& parts,
                                 const SpillStop& stop) {
  store::WriteOutcome outcome;
  const auto failed = [&](int error) {
    const bool full = error == ENOSPC || error == EDQUOT;
    outcome.kind = full ? store::WriteOutcome::Kind::kDiskFull : store::WriteOutcome::Kind::kFailed;
    outcome.why = fmt::format("cannot spill to {}: {}", path, text_of(error));
    return outcome;
  };
  const shm::Fd fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
  if (!fd.valid()) return failed(errno);
  const int error = write_parts(fd.get(), parts, stop, outcome.checksums);
  this_threads_memory().may_go();
  if (error == 0) return outcome;
  ::unlink(path.c_str());
  return failed(error);
}

store::ReadOutcome read_value(const std::string& path, const store::DiskCopy& from,
                              const SpillPart& to, const SpillStop& stop) {
  const shm::Fd fd = open_file(path, O_RDONLY);
  const std::string why = fd.valid() ? read_parts(fd.get(), from, to, stop) : text_of(errno);
  this_threads_memory().may_go();
  if (why.empty()) return {true, ""};
  const std::string text =
      fmt::format("its bytes were spilled to {} (offset {}, {} bytes) and cannot be read back: {}",
                  path, from.offset, from.size, why);
  return {false, text};
}

}  // namespace mobula::node
