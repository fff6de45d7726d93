#include "shm/streaming_copy.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mobula::shm {

#if defined(__x86_64__)
namespace {

constexpr size_t kLineBytes = 64;
// How far ahead the source is asked for. Measured: 2 to 4 KiB are alike, 512 bytes are 12 % slower.
constexpr size_t kAheadBytes = 4096;

// `to` is aligned to a line. Only SSE2, which every x86-64 has: wider stores gain 2 %.
void stream_lines(std::byte* to, const std::byte* from, size_t lines) {
  for (; lines > 0; lines--, to += kLineBytes, from += kLineBytes) {
    // Past the end of the source too: a prefetch never faults.
    _mm_prefetch(reinterpret_cast<const char*>(from) + kAheadBytes, _MM_HINT_NTA);
    const auto* source = reinterpret_cast<const __m128i*>(from);
    auto* target = reinterpret_cast<__m128i*>(to);
    const __m128i first = _mm_loadu_si128(source);
    const __m128i second = _mm_loadu_si128(source + 1);
    const __m128i third = _mm_loadu_si128(source + 2);
    const __m128i fourth = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, first);
    _mm_stream_si128(target + 1, second);
    _mm_stream_si128(target + 2, third);
    _mm_stream_si128(target + 3, fourth);
  }
  _mm_sfence();  // Streaming stores are weakly ordered: a later release store would not cover them.
}

}  // namespace

void copy_streaming(std::byte* to, std::span<const std::byte> from) {
  if (from.size() < kStreamingCopyBytes) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
    return;
  }
  const size_t head = -reinterpret_cast<uintptr_t>(to) % kLineBytes;
  const size_t lines = (from.size() - head) / kLineBytes;
  const size_t streamed = head + lines * kLineBytes;
  std::memcpy(to, from.data(), head);
  stream_lines(to + head, from.data() + head, lines);
  std::memcpy(to + streamed, from.data() + streamed, from.size() - streamed);
}

#else

void copy_streaming(std::byte* to, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

#endif

}  // namespace mobula::shm
