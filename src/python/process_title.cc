#include "python/process_title.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "shm/memory.h"

namespace mobula::python {

namespace {

constexpr std::string_view kPrefix = "mobula::";
constexpr size_t kPrefixBytesMax = 64;
constexpr size_t kSizeMin = 32;
constexpr size_t kSizeMax = 4096;  // The kernel shows no more of a changed command line.
// Fields of /proc/<pid>/stat after the name in parentheses: where the arguments start and end.
constexpr int kArgumentsStart = 45;
constexpr int kArgumentsEnd = 46;

struct Range {
  char* start = nullptr;
  size_t size = 0;
};

Range arguments_memory() {
  const shm::Fd file(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> text{};
  const ssize_t size = file.valid() ? ::read(file.get(), text.data(), text.size() - 1) : -1;
  if (size <= 0) return {};
  const char* at = std::strrchr(text.data(), ')');
  uintptr_t start = 0;
  uintptr_t end = 0;
  for (int field = 0; at != nullptr && field <= kArgumentsEnd; ++field) {
    at = std::strchr(at, ' ');
    if (at == nullptr) break;
    ++at;
    if (field == kArgumentsStart) start = std::strtoull(at, nullptr, 10);
    if (field == kArgumentsEnd) end = std::strtoull(at, nullptr, 10);
  }
  if (start == 0 || end < start + kSizeMin) return {};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel says it as a number.
  return {reinterpret_cast<char*>(start), std::min<size_t>(end - start, kSizeMax)};
}

}  // namespace

ProcessTitle::ProcessTitle() {
  const Range memory = arguments_memory();
  if (memory.size < kSizeMin) return;
  const char* chosen = std::getenv("MOBULA_PROCTITLE_PREFIX");
  std::string_view prefix = chosen != nullptr ? std::string_view(chosen) : kPrefix;
  prefix = prefix.substr(0, std::min(kPrefixBytesMax, memory.size / 2));
  memory_ = memory.start;
  size_ = memory.size;
  prefix_size_ = prefix.size();
  std::memcpy(memory_, prefix.data(), prefix.size());
  std::memset(memory_ + prefix.size(), 0, size_ - prefix.size());
  // By the last byte the kernel sees that the memory is no list of arguments any more and shows it up
  // to the first NUL.
  memory_[size_ - 1] = '.';
}

void ProcessTitle::show(std::string_view name) {
  if (memory_ == nullptr) return;
  size_t size = std::min(name.size(), size_ - prefix_size_ - 2);
  // No part of a character.
  while (size < name.size() && size > 0 &&
         (static_cast<unsigned char>(name[size]) & 0xC0) == 0x80) {
    --size;
  }
  std::memcpy(memory_ + prefix_size_, name.data(), size);
  memory_[prefix_size_ + size] = '\0';
}

ProcessTitle& process_title() {
  static ProcessTitle title;
  return title;
}

}  // namespace mobula::python
