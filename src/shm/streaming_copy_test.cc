#include "shm/streaming_copy.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace mobula::shm {
namespace {

std::vector<std::byte> random_bytes(size_t count) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

TEST(StreamingCopy, copies_just_these_bytes_at_any_size_and_alignment) {
  constexpr std::byte kUntouched{0x5a};
  constexpr size_t kMargin = 128;
  const std::vector<std::byte> source = random_bytes(kStreamingCopyBytes + 3 * 4096);
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{4097}, kStreamingCopyBytes - 1, kStreamingCopyBytes,
        kStreamingCopyBytes + 1, kStreamingCopyBytes + 63, kStreamingCopyBytes + 4096 + 17}) {
    for (const size_t from : {size_t{0}, size_t{1}, size_t{16}, size_t{63}}) {
      for (const size_t to : {size_t{0}, size_t{1}, size_t{8}, size_t{63}, size_t{64}}) {
        std::vector<std::byte> target(kMargin + to + size + kMargin, kUntouched);
        copy_streaming(target.data() + kMargin + to, std::span(source).subspan(from, size));
        const auto copied = std::span(target).subspan(kMargin + to, size);
        ASSERT_TRUE(std::memcmp(copied.data(), source.data() + from, size) == 0 || size == 0)
            << size << " bytes from " << from << " to " << to;
        for (size_t at = 0; at < kMargin; at++) {
          ASSERT_EQ(target[at], kUntouched);
          ASSERT_EQ(target[target.size() - 1 - at], kUntouched);
        }
      }
    }
  }
}

TEST(StreamingCopy, reads_nothing_behind_the_end_of_its_source) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t size = kStreamingCopyBytes;
  void* memory =
      ::mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const source = static_cast<std::byte*>(memory);
  std::memset(source, 7, size);
  ASSERT_EQ(::mprotect(source + size, page, PROT_NONE), 0);
  std::vector<std::byte> target(size);
  copy_streaming(target.data(), {source, size});
  EXPECT_EQ(std::memcmp(target.data(), source, size), 0);
  ::munmap(memory, size + page);
}

}  // namespace
}  // namespace mobula::shm
