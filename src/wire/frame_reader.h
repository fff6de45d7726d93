#pragma once
// Checks frames and values that another process wrote.
//
// Every function works on private memory: the caller has copied the bytes out of the ring before.
// kInvalidArgument: the bytes are not what frames.h describes; the sender is broken.
//
// Threads: none.

#include <cstring>
#include <span>

#include "base/result.h"
#include "wire/frames.h"

namespace mobula::wire {

struct ValueView {
  ValueHeader header;
  std::span<const std::byte> whole;  // Header, refs, payload, without padding.
  std::span<const std::byte> payload;

  ObjectId ref(uint32_t index) const {
    ObjectId id;
    std::memcpy(&id, whole.data() + sizeof(ValueHeader) + index * sizeof(ObjectId), sizeof id);
    return id;
  }
};

// Copies the fixed header at the start of `frame`.
template <typename Header>
Result<Header> read_header(std::span<const std::byte> frame) {
  Header header;
  if (frame.size() < sizeof header) {
    return fail(ErrorCode::kInvalidArgument, "frame is shorter than its header");
  }
  std::memcpy(&header, frame.data(), sizeof header);
  return header;
}

// The value that starts at `offset`, which moves past it.
Result<ValueView> read_value(std::span<const std::byte> bytes, size_t& offset);

// Checks that exactly `count` values (and padding) fill `bytes`; returns how many refs they name.
Result<uint64_t> check_values(std::span<const std::byte> bytes, uint32_t count);

}  // namespace mobula::wire
