#pragma once
// A process's trace: who ran what when, in a bounded ring in its home region.
//
//   TraceHeader | kTraceNames x TraceName | kTraceRecords x TraceRecord
//
// The executor writes one record a task (two stores of a cache line, no system call); when full the
// oldest are overwritten and `written` tells how many were lost. timeline() reads it from another
// process, also after the writer's death: a record that is being overwritten while it is read is
// left out (its sequence does not match).
//
// Threads: one writer; any readers.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "shm/home.h"

namespace mobula::shm {

constexpr uint32_t kTraceNames = 1024;
constexpr size_t kTraceNameBytes = 120;
constexpr uint64_t kTraceRecords = 32 * 1024;

struct TraceName {
  std::atomic<uint32_t> size;  // Published last.
  uint32_t reserved;
  char text[kTraceNameBytes];
};
static_assert(sizeof(TraceName) == 128);

struct TraceRecord {
  std::atomic<uint64_t> sequence;  // Record number + 1; 0 while it is written.
  uint64_t start_ns;               // CLOCK_MONOTONIC.
  uint64_t end_ns;
  uint64_t name_and_call;  // Name index << 48 | low 48 bits of the call id.
  uint32_t caller;         // ProcessId of the caller.
  uint32_t failed;
  uint64_t reserved;
};
static_assert(sizeof(TraceRecord) == 48);

struct TraceHeader {
  alignas(64) std::atomic<uint64_t> written;  // Records ever written.
  std::atomic<uint32_t> names;
};

constexpr size_t kTraceNamesOffset = sizeof(TraceHeader);
constexpr size_t kTraceRecordsOffset = kTraceNamesOffset + kTraceNames * sizeof(TraceName);
static_assert(kTraceRecordsOffset + kTraceRecords * sizeof(TraceRecord) <= kTraceBytes);

struct TraceEvent {
  std::string name;
  uint64_t call;
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t caller;
  bool failed;
};

class TraceWriter {
 public:
  explicit TraceWriter(std::byte* trace);
  // Index for a name, made on first use; 0 ("other") when the table is full.
  uint32_t name_index(std::string_view name);
  void record(uint32_t name, uint64_t call, uint64_t start_ns, uint64_t end_ns, uint32_t caller,
              bool failed);

 private:
  std::byte* const trace_;
  uint64_t written_ = 0;
  uint32_t names_ = 0;
};

// Reads a trace that another process may be writing. Sizes are checked before use.
class TraceReader {
 public:
  explicit TraceReader(const std::byte* trace) : trace_(trace) {}
  uint64_t written() const;
  uint64_t first_kept() const;
  std::optional<TraceEvent> read(uint64_t number) const;

 private:
  std::string name(uint32_t index) const;
  const std::byte* const trace_;
};

}  // namespace mobula::shm
