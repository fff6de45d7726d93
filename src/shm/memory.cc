#include "shm/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace mobula::shm {

namespace {

tl::unexpected<Error> system_failure(const char* what) {
  const int code = errno;
  return fail(ErrorCode::kRetryLater, std::string(what) + ": " + std::strerror(code));
}

}  // namespace

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (address_ != nullptr) ::munmap(address_, size_);
    address_ = std::exchange(other.address_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

Result<Mapping> Mapping::map(const Fd& fd, size_t size, Access access, OnFork on_fork) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_failure("fstat of shared memory");
  if (status.st_size < 0 || static_cast<uint64_t>(status.st_size) < size) {
    return fail(ErrorCode::kInvalidArgument, "shared memory is smaller than announced");
  }
  const int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* address = ::mmap(nullptr, size, protection, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) return system_failure("mmap of shared memory");
  if (on_fork == OnFork::kDrop) ::madvise(address, size, MADV_DONTFORK);
  Mapping mapping;
  mapping.address_ = static_cast<std::byte*>(address);
  mapping.size_ = size;
  return mapping;
}

Result<Fd> create_memory(std::string_view name, size_t size) {
  Fd fd(::memfd_create(std::string(name).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return system_failure("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return system_failure("ftruncate");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return system_failure("sealing shared memory");
  }
  return fd;
}

Result<Fd> reopen_read_only(const Fd& fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  Fd copy(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!copy.valid()) return system_failure("reopening shared memory read-only");
  return copy;
}

Result<Fd> duplicate(const Fd& fd) {
  Fd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return system_failure("duplicating a descriptor");
  return copy;
}

}  // namespace mobula::shm
