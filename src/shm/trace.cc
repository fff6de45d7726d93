#include "shm/trace.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/text.h"

namespace mobula::shm {

namespace {

TraceHeader& header_of(std::byte* trace) { return *reinterpret_cast<TraceHeader*>(trace); }
const TraceHeader& header_of(const std::byte* trace) {
  return *reinterpret_cast<const TraceHeader*>(trace);
}
TraceName* names_of(std::byte* trace) {
  return reinterpret_cast<TraceName*>(trace + kTraceNamesOffset);
}
const TraceName* names_of(const std::byte* trace) {
  return reinterpret_cast<const TraceName*>(trace + kTraceNamesOffset);
}
TraceError* errors_of(std::byte* trace) {
  return reinterpret_cast<TraceError*>(trace + kTraceErrorsOffset);
}
const TraceError* errors_of(const std::byte* trace) {
  return reinterpret_cast<const TraceError*>(trace + kTraceErrorsOffset);
}
TraceRecord* records_of(std::byte* trace) {
  return reinterpret_cast<TraceRecord*>(trace + kTraceRecordsOffset);
}
const TraceRecord* records_of(const std::byte* trace) {
  return reinterpret_cast<const TraceRecord*>(trace + kTraceRecordsOffset);
}

// There is one writer, so this needs no atomic read-modify-write.
void count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

template <typename T>
void put(std::atomic<T>& field, std::type_identity_t<T> value) {
  field.store(value, std::memory_order_relaxed);
}

template <typename T>
T get(const std::atomic<T>& field) {
  return field.load(std::memory_order_relaxed);
}

constexpr uint64_t kCallMask = (uint64_t{1} << 48) - 1;
constexpr int kIndexBits = 44;
constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;

}  // namespace

TraceWriter::TraceWriter(std::byte* trace) : trace_(trace) { name_index("other", ""); }

uint32_t TraceWriter::name_index(std::string_view name, std::string_view resources) {
  if (names_ == kTraceNames) return 0;
  TraceName& entry = names_of(trace_)[names_];
  // What is asked for is kept whole as long as there is some room for the name.
  const size_t room = kTraceNameBytes - 1 - std::min(resources.size(), kTraceNameBytes / 2);
  std::string text(cut_text(name, room));
  text += '\0';
  text += cut_text(resources, kTraceNameBytes - text.size());
  std::memcpy(entry.text, text.data(), text.size());
  entry.size.store(static_cast<uint32_t>(text.size()), std::memory_order_release);
  header_of(trace_).names.store(names_ + 1, std::memory_order_release);
  return names_++;
}

uint32_t TraceWriter::write_error(const TraceEntry& entry) {
  TraceError& error = errors_of(trace_)[errors_ % kTraceErrors];
  error.number.store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  put(error.type, entry.error_type);
  const size_t size = std::min(entry.error.size(), kTraceErrorBytes);
  put(error.size, static_cast<uint32_t>(size));
  for (size_t i = 0; i < size; ++i) put(error.text[i], entry.error[i]);
  error.number.store(++errors_, std::memory_order_release);
  return static_cast<uint32_t>(errors_);
}

void TraceWriter::record(const TraceEntry& entry) {
  const bool failed = (entry.flags & kTraceFailed) != 0;
  TraceName& name = names_of(trace_)[entry.name];
  count(failed ? name.failed : name.finished);
  const uint32_t error = failed ? write_error(entry) : 0;
  TraceRecord& record = records_of(trace_)[written_ % kTraceRecords];
  record.sequence.store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  put(record.start_ns, entry.start_ns);
  put(record.end_ns, entry.end_ns);
  put(record.name_and_call, (uint64_t{entry.name} << 48) | (entry.call & kCallMask));
  put(record.task, entry.task);
  const uint64_t group = entry.group <= kTraceGroupMax ? entry.group : 0;
  put(record.group_and_children, (group << kIndexBits) | (entry.children_from & kIndexMask));
  put(record.children, entry.children);
  put(record.caller, entry.caller);
  put(record.attempt, entry.attempt);
  put(record.flags, entry.flags);
  put(record.error, error);
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

uint32_t TraceReader::names() const {
  return std::min(header_of(trace_).names.load(std::memory_order_acquire), kTraceNames);
}

TraceTotal TraceReader::total(uint32_t index) const {
  if (index >= names()) return {"other", "", 0, 0};
  const TraceName& entry = names_of(trace_)[index];
  const size_t size = std::min<size_t>(entry.size.load(std::memory_order_acquire), kTraceNameBytes);
  const std::string text(entry.text, size);
  const size_t end = std::min(text.find('\0'), text.size());
  return {text.substr(0, end), text.substr(std::min(end + 1, text.size())),
          entry.finished.load(std::memory_order_relaxed),
          entry.failed.load(std::memory_order_relaxed)};
}

void TraceReader::read_error(uint32_t number, TraceEvent& event) const {
  const TraceError& error = errors_of(trace_)[(number - 1) % kTraceErrors];
  if (static_cast<uint32_t>(error.number.load(std::memory_order_acquire)) != number) return;
  const uint32_t type = get(error.type);
  std::string text(std::min<size_t>(get(error.size), kTraceErrorBytes), '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = get(error.text[i]);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (static_cast<uint32_t>(error.number.load(std::memory_order_relaxed)) != number) return;
  event.error_type = type;
  event.error = std::move(text);
}

std::optional<TraceFacts> TraceReader::read_facts(uint64_t number) const {
  const TraceRecord& record = records_of(trace_)[number % kTraceRecords];
  if (record.sequence.load(std::memory_order_acquire) != number + 1) return std::nullopt;
  TraceFacts facts{};
  const uint64_t name_and_call = get(record.name_and_call);
  facts.start_ns = get(record.start_ns);
  facts.end_ns = get(record.end_ns);
  facts.task = get(record.task);
  const uint64_t group_and_children = get(record.group_and_children);
  facts.children_from = group_and_children & kIndexMask;
  facts.group = group_and_children >> kIndexBits;
  facts.children = get(record.children);
  facts.caller = get(record.caller);
  facts.attempt = get(record.attempt);
  const uint16_t flags = get(record.flags);
  facts.error_number = get(record.error);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (record.sequence.load(std::memory_order_relaxed) != number + 1) return std::nullopt;
  facts.name_index = static_cast<uint32_t>(name_and_call >> 48);
  facts.call = name_and_call & kCallMask;
  facts.failed = (flags & kTraceFailed) != 0;
  facts.by_owner = (flags & kTraceByOwner) != 0;
  facts.is_call = (flags & kTraceCall) != 0;
  return facts;
}

TraceEvent TraceReader::complete(const TraceFacts& facts) const {
  TraceTotal named = total(facts.name_index);
  TraceEvent event{facts, std::move(named.name), std::move(named.resources), 0, {}};
  if (facts.error_number != 0) read_error(facts.error_number, event);
  return event;
}

std::optional<TraceEvent> TraceReader::read(uint64_t number) const {
  const auto facts = read_facts(number);
  if (!facts) return std::nullopt;
  return complete(*facts);
}

}  // namespace mobula::shm
