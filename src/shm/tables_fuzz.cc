// Fuzzes what the daemon and others read in place in memory that another process writes: its trace, its
// pins, the table of a store segment.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "shm/home.h"
#include "shm/pins.h"
#include "shm/segment.h"
#include "shm/trace.h"

namespace mobula::shm {
namespace {

constexpr size_t kKept = 64 * 1024;  // Of each region; what lies behind stays zero.

std::byte* filled(std::vector<uint64_t>& memory, std::span<const uint8_t> input) {
  auto* bytes = reinterpret_cast<uint8_t*>(memory.data());
  const size_t size = std::min(input.size(), kKept);
  std::memcpy(bytes, input.data(), size);
  std::memset(bytes + size, 0, kKept - size);
  return reinterpret_cast<std::byte*>(bytes);
}

void read_trace(std::span<const uint8_t> input) {
  static std::vector<uint64_t> memory(kTraceBytes / sizeof(uint64_t));
  std::byte* trace = filled(memory, input);
  // The records lie far behind the names: put some of the input there, too.
  const size_t size = std::min(input.size(), kKept);
  std::memcpy(trace + kTraceRecordsOffset, input.data(), size);
  const TraceReader reader(trace);
  const uint64_t first = reader.first_kept();
  const uint64_t end = reader.written();
  for (uint64_t i = 0; i < 100; ++i) {
    static_cast<void>(reader.read(first + i));
    static_cast<void>(reader.read(end - i));
    static_cast<void>(reader.read(i));
  }
  std::memset(trace + kTraceRecordsOffset, 0, size);
}

void scan_pins(std::span<const uint8_t> input) {
  static std::vector<uint64_t> memory(kPinBytes / sizeof(uint64_t));
  PinScan scan;
  scan.add(filled(memory, input));
  MOBULA_CHECK(scan.size() <= kPinSlots);
  static_cast<void>(scan.pinned({SegmentId{1}, 2, 3, 0, 0, 64}));
}

void look_at_segment(std::span<const uint8_t> input) {
  static std::vector<uint64_t> memory(kKept / sizeof(uint64_t));
  std::byte* bytes = filled(memory, input);
  for (const uint64_t mapped : {uint64_t{kKept}, uint64_t{4096}, uint64_t{100}}) {
    auto view = SegmentView::attach(bytes, mapped, SegmentId{1});
    if (!view) continue;
    wire::StoreLocation location{};
    if (input.size() >= sizeof location) {
      std::memcpy(&location, input.data() + input.size() - sizeof location, sizeof location);
    }
    location.segment = SegmentId{1};
    if (!view->check_location(location)) continue;
    MOBULA_CHECK(location.offset >= view->data_offset());
    static_cast<void>(view->is_sealed(location));
    static_cast<void>(view->state(location.entry));
    static_cast<void>(view->generation(location.entry));
  }
}

}  // namespace
}  // namespace mobula::shm

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobula::shm;
  if (size < 1) return 0;
  const std::span<const uint8_t> input(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      read_trace(input);
      break;
    case 1:
      scan_pins(input);
      break;
    default:
      look_at_segment(input);
  }
  return 0;
}
