#pragma once
// Fd, Mapping and memfd creation: owned descriptors and mapped shared memory.
//
// Mappings are MADV_DONTFORK unless asked otherwise: a child made by fork() in user code finds nothing
// there, so it cannot corrupt its parent's rings. Store segments are kept: a child may read arrays. Memory is returned when the last descriptor and mapping are gone;
// nothing has a name in a file system.
//
// Threads: none; values owned by one thread at a time.

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace mobula::shm {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

enum class Access { kReadOnly, kReadWrite };
enum class OnFork { kDrop, kKeep };

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  // Maps `size` bytes from the start of `fd`. kInvalidArgument: the file is shorter than that (its
  // maker is confused or hostile), which would mean SIGBUS later.
  static Result<Mapping> map(const Fd& fd, size_t size, Access access,
                             OnFork on_fork = OnFork::kDrop);

  std::byte* data() const { return address_; }
  size_t size() const { return size_; }
  bool valid() const { return address_ != nullptr; }

 private:
  std::byte* address_ = nullptr;
  size_t size_ = 0;
};

// An anonymous shared file of exactly `size` bytes, sealed against shrinking and growing, zero-filled
// and sparse: pages are charged when they are touched. kRetryLater: out of descriptors or memory.
Result<Fd> create_memory(std::string_view name, size_t size);

// A read-only description of the same memory: its holder cannot map it writable.
Result<Fd> reopen_read_only(const Fd& fd);

// Duplicates with CLOEXEC.
Result<Fd> duplicate(const Fd& fd);

}  // namespace mobula::shm
