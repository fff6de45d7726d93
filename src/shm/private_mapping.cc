#include "shm/private_mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "shm/channel.h"

namespace mobula::shm {

PrivateMapping::~PrivateMapping() {
  if (!pages_.empty()) ::munmap(pages_.data(), pages_.size());
}

Result<PrivateMapping> PrivateMapping::map(const Fd& fd, size_t offset, size_t size) {
  struct stat status {};
  const bool known = ::fstat(fd.get(), &status) == 0;
  const auto file_size = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
  if (!known || file_size < size || file_size - size < offset) {
    return fail(ErrorCode::kInvalidArgument, "shared memory is smaller than announced");
  }
  PrivateMapping mapping;
  mapping.skipped_ = offset % kPageBytes;
  const size_t mapped = size + mapping.skipped_;
  void* address = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                         fd.get(), static_cast<off_t>(offset - mapping.skipped_));
  if (address == MAP_FAILED) {
    return fail(ErrorCode::kRetryLater,
                std::string("private mmap of shared memory: ") + std::strerror(errno));
  }
  mapping.pages_ = {static_cast<std::byte*>(address), mapped};
  return mapping;
}

}  // namespace mobula::shm
