#include "shm/trace.h"

#include <algorithm>
#include <cstring>

namespace mobula::shm {

namespace {

TraceHeader& header_of(std::byte* trace) { return *reinterpret_cast<TraceHeader*>(trace); }
const TraceHeader& header_of(const std::byte* trace) {
  return *reinterpret_cast<const TraceHeader*>(trace);
}
TraceName* names_of(std::byte* trace) {
  return reinterpret_cast<TraceName*>(trace + kTraceNamesOffset);
}
TraceRecord* records_of(std::byte* trace) {
  return reinterpret_cast<TraceRecord*>(trace + kTraceRecordsOffset);
}
const TraceRecord* records_of(const std::byte* trace) {
  return reinterpret_cast<const TraceRecord*>(trace + kTraceRecordsOffset);
}

}  // namespace

TraceWriter::TraceWriter(std::byte* trace) : trace_(trace) { name_index("other"); }

uint32_t TraceWriter::name_index(std::string_view name) {
  if (names_ == kTraceNames) return 0;
  TraceName& entry = names_of(trace_)[names_];
  const size_t size = std::min(name.size(), kTraceNameBytes);
  std::memcpy(entry.text, name.data(), size);
  entry.size.store(static_cast<uint32_t>(size), std::memory_order_release);
  header_of(trace_).names.store(names_ + 1, std::memory_order_release);
  return names_++;
}

void TraceWriter::record(uint32_t name, uint64_t call, uint64_t start_ns, uint64_t end_ns,
                         uint32_t caller, bool failed) {
  TraceRecord& record = records_of(trace_)[written_ % kTraceRecords];
  record.sequence.store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  record.start_ns = start_ns;
  record.end_ns = end_ns;
  record.name_and_call = (uint64_t{name} << 48) | (call & ((uint64_t{1} << 48) - 1));
  record.caller = caller;
  record.failed = failed ? 1 : 0;
  ++written_;
  record.sequence.store(written_, std::memory_order_release);
  header_of(trace_).written.store(written_, std::memory_order_release);
}

uint64_t TraceReader::written() const {
  return header_of(trace_).written.load(std::memory_order_acquire);
}

uint64_t TraceReader::first_kept() const {
  const uint64_t total = written();
  return total > kTraceRecords ? total - kTraceRecords : 0;
}

std::string TraceReader::name(uint32_t index) const {
  const uint32_t known =
      std::min(header_of(trace_).names.load(std::memory_order_acquire), kTraceNames);
  if (index >= known) return "other";
  const auto& entry = reinterpret_cast<const TraceName*>(trace_ + kTraceNamesOffset)[index];
  const size_t size = std::min<size_t>(entry.size.load(std::memory_order_acquire), kTraceNameBytes);
  return std::string(entry.text, size);
}

std::optional<TraceEvent> TraceReader::read(uint64_t number) const {
  const TraceRecord& record = records_of(trace_)[number % kTraceRecords];
  if (record.sequence.load(std::memory_order_acquire) != number + 1) return std::nullopt;
  TraceEvent event{};
  const uint64_t name_and_call = record.name_and_call;
  event.start_ns = record.start_ns;
  event.end_ns = record.end_ns;
  event.caller = record.caller;
  event.failed = record.failed != 0;
  std::atomic_thread_fence(std::memory_order_acquire);
  if (record.sequence.load(std::memory_order_relaxed) != number + 1) return std::nullopt;
  event.name = name(static_cast<uint32_t>(name_and_call >> 48));
  event.call = name_and_call & ((uint64_t{1} << 48) - 1);
  return event;
}

}  // namespace mobula::shm
