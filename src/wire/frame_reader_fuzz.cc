// Fuzzes what reads values and frame headers that another process wrote, and what trusts a value once
// it was read: refs, payloads, errors inside errors.

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "wire/frame_reader.h"

namespace mobula::wire {
namespace {

// Reads the last byte of everything that the view promises.
void touch(const ValueView& value) {
  volatile uint64_t sum = 0;
  for (uint32_t i = 0; i < value.header.ref_count; ++i) sum = sum + value.ref(i).index;
  if (!value.payload.empty()) sum = sum + static_cast<uint64_t>(value.payload.back());
  if (value.header.kind == ValueKind::kDependencyError) {
    DependencyErrorPayload fixed{};
    std::memcpy(&fixed, value.payload.data(), sizeof fixed);
    const auto name = value.payload.subspan(sizeof fixed, fixed.name_size);
    for (const std::byte byte : name) sum = sum + static_cast<uint64_t>(byte);
    MOBULA_CHECK(name.size() + sizeof fixed <= value.payload.size());
  }
}

template <typename Header>
void read_frame(std::span<const std::byte> frame) {
  static_cast<void>(read_header<Header>(frame));
  if (frame.size() < sizeof(Header)) return;
  const auto values = frame.subspan(sizeof(Header));
  for (const uint32_t count : {0U, 1U, 2U, 7U}) {
    if (!check_values(values, count)) continue;
    size_t offset = 0;
    for (uint32_t i = 0; i < count; ++i) touch(*read_value(values, offset));
    MOBULA_CHECK(offset == values.size());
  }
}

}  // namespace
}  // namespace mobula::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobula::wire;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  size_t offset = 0;
  while (offset < bytes.size()) {
    const size_t before = offset;
    const auto value = read_value(bytes, offset);
    if (!value) break;
    MOBULA_CHECK(offset > before);
    touch(*value);
  }
  read_frame<TaskHeader>(bytes);
  read_frame<ResultHeader>(bytes);
  read_frame<YieldHeader>(bytes);
  read_frame<FunctionHeader>(bytes);
  read_frame<LeaseStartHeader>(bytes);
  return 0;
}
