// Fuzzes putting messages together from the parts that a peer wrote into its ring. An input is a list of
// frames: (kind, size in units of 8 bytes, bytes...)...

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "process/frame_stream.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobula;
  static std::vector<uint64_t> memory(shm::kRingMemoryBytes / sizeof(uint64_t));
  std::ranges::fill(memory, 0);
  auto* bytes = reinterpret_cast<std::byte*>(memory.data());
  shm::RingProducer producer(bytes);
  process::MessageReader reader(bytes);
  while (size >= 2) {
    const size_t frame_size = sizeof(wire::FrameHeader) + size_t{data[1]} * 8;
    const wire::FrameHeader header{static_cast<uint32_t>(frame_size),
                                   static_cast<wire::FrameKind>(data[0] % 40), 0};
    const size_t given = std::min(size - 2, frame_size - sizeof header);
    std::byte* room = producer.reserve(frame_size);
    if (room == nullptr) break;
    std::memcpy(room, &header, sizeof header);
    std::memcpy(room + sizeof header, data + 2, given);
    producer.publish();
    data += 2 + given;
    size -= 2 + given;
    const auto message = reader.next();
    if (!message) break;
    if (message->empty()) continue;
    wire::FrameHeader read{};
    MOBULA_CHECK(message->size() >= sizeof read);
    std::memcpy(&read, message->data(), sizeof read);
    MOBULA_CHECK(read.size == message->size());
    MOBULA_CHECK(read.kind != wire::FrameKind::kPart && read.kind != wire::FrameKind::kWrap);
  }
  return 0;
}
