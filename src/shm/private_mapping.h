#pragma once
// PrivateMapping: a piece of a shared file in memory of this process alone, writable. What is written there
// nobody else sees, and costs a copy of the page; the rest stays the file's.
//
// Threads: none; owned by one thread at a time.

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"
#include "shm/memory.h"

namespace mobula::shm {

class PrivateMapping {
 public:
  PrivateMapping() = default;
  PrivateMapping(PrivateMapping&& other) noexcept
      : pages_(std::exchange(other.pages_, {})), skipped_(other.skipped_) {}
  PrivateMapping& operator=(PrivateMapping&&) = delete;
  ~PrivateMapping();

  // `offset` need not be a multiple of a page. The descriptor may be read-only. kInvalidArgument: the
  // file is shorter. kRetryLater: no address space.
  static Result<PrivateMapping> map(const Fd& fd, size_t offset, size_t size);

  std::byte* data() const { return pages_.data() + skipped_; }

 private:
  std::span<std::byte> pages_;
  size_t skipped_ = 0;  // Of the first page.
};

}  // namespace mobula::shm
