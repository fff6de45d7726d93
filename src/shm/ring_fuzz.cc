// Fuzzes reading a ring whose producer does what it likes, also between two looks. An input is a series
// of writes to the ring's memory, each followed by reading:
//   (16 bits where, 8 bits how many bytes, bytes...)...
// Positions count from the ring's header; a few bits choose header fields, which matter most.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "shm/ring.h"

namespace {

constexpr int kFramesMax = 64;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobula::shm;
  static std::vector<uint64_t> memory(kRingMemoryBytes / sizeof(uint64_t));
  std::ranges::fill(std::span(memory).first(8 * 1024), 0);
  auto* bytes = reinterpret_cast<std::byte*>(memory.data());
  auto& header = *reinterpret_cast<RingHeader*>(bytes);
  header.capacity.store(kRingBytesMin);
  RingConsumer consumer(bytes);
  bool broken = false;
  while (size >= 4 && !broken) {
    const size_t where = data[0] + data[1] * size_t{256};
    const size_t count = std::min<size_t>(data[2], size - 3);
    if (where % 8 == 1) {
      header.tail.store(header.tail.load() + data[3]);
    } else if (where % 8 == 2) {
      header.capacity.store(uint64_t{1} << (data[3] % 64));
    } else {
      std::memcpy(bytes + where % (60 * 1024), data + 3, count);
    }
    data += 3 + count;
    size -= 3 + count;
    for (int i = 0; i < kFramesMax; ++i) {
      const auto frame = consumer.peek();
      broken = !frame.has_value();
      if (broken || frame->empty()) break;
      MOBULA_CHECK(frame->data() >= bytes + sizeof(RingHeader));
      MOBULA_CHECK(frame->data() + frame->size() <= bytes + kRingMemoryBytes);
      volatile auto last = frame->back();
      static_cast<void>(last);
      consumer.pop();
    }
  }
  return 0;
}
