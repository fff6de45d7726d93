#pragma once
// A process's trace: which tasks ended here, who ran them when, in bounded rings in its home region.
//
//   TraceHeader | kTraceNames x TraceName | kTraceErrors x TraceError | kTraceRecords x TraceRecord
//
// The executor writes one record a task (one cache line, no system call); the owner writes one for a
// task that ended without ever reaching the end of a worker's execution. When full the oldest are
// overwritten: `written` tells how many were lost, and the totals beside each name miss none. Others
// read it from another process, also after the writer's death: a record that is being overwritten
// while it is read is left out (its sequence does not match).
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
constexpr size_t kTraceNameBytes = 232;
constexpr uint32_t kTraceErrors = 256;
constexpr size_t kTraceErrorBytes = 496;
constexpr uint64_t kTraceRecords = 24 * 1024;
constexpr uint64_t kTraceGroupMax = (1 << 20) - 1;

// What one kind of task is called, what it asks for, and how many of it ended here.
struct TraceName {
  std::atomic<uint32_t> size;  // Of the whole text: name, NUL, resources. Published last.
  uint32_t reserved;
  std::atomic<uint64_t> finished;
  std::atomic<uint64_t> failed;
  char text[kTraceNameBytes];
};
static_assert(sizeof(TraceName) == 256);

// In what is overwritten every field is atomic, with relaxed accesses: a reader may be in the middle
// of it, and finds out by the number that it has to throw away what it read.
struct TraceError {
  std::atomic<uint64_t> number;  // Of the error, from 1; 0 while it is written.
  std::atomic<uint32_t> type;
  std::atomic<uint32_t> size;
  std::atomic<char> text[kTraceErrorBytes];
};
static_assert(sizeof(TraceError) == 512);

constexpr uint16_t kTraceFailed = 1;
constexpr uint16_t kTraceCall = 4;  // Of an actor.
constexpr uint16_t kTraceByOwner =
    2;  // Written by the owner: start_ns is 0, the pid is the owner's.

struct TraceRecord {
  std::atomic<uint64_t> sequence;  // Record number + 1; 0 while it is written.
  std::atomic<uint64_t> start_ns;  // CLOCK_MONOTONIC.
  std::atomic<uint64_t> end_ns;
  std::atomic<uint64_t> name_and_call;  // Name index << 48 | low 48 bits of the call id.
  std::atomic<uint64_t> task;           // Index of the task's id; its creator is `caller`.
  // High 20 bits: the placement group. Low 44: tasks that this process made meanwhile have indices from
  std::atomic<uint64_t> group_and_children;
  std::atomic<uint32_t> children;  // here, so many of them.
  std::atomic<uint32_t> caller;    // ProcessId of the caller.
  std::atomic<uint16_t> attempt;
  std::atomic<uint16_t> flags;
  std::atomic<uint32_t> error;  // Low bits of its number; 0: none.
};
static_assert(sizeof(TraceRecord) == 64);

struct TraceHeader {
  alignas(64) std::atomic<uint64_t> written;  // Records ever written.
  std::atomic<uint32_t> names;
};

constexpr size_t kTraceNamesOffset = sizeof(TraceHeader);
constexpr size_t kTraceErrorsOffset = kTraceNamesOffset + kTraceNames * sizeof(TraceName);
constexpr size_t kTraceRecordsOffset = kTraceErrorsOffset + kTraceErrors * sizeof(TraceError);
static_assert(kTraceRecordsOffset % 64 == 0);
static_assert(kTraceRecordsOffset + kTraceRecords * sizeof(TraceRecord) <= kTraceBytes);

// What is recorded of a task that has ended.
struct TraceEntry {
  uint32_t name = 0;  // From name_index().
  uint64_t call = 0;
  uint64_t task = 0;
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t children_from = 0;
  uint32_t children = 0;
  uint64_t group =
      0;  // The placement group in which it ran. Those beyond kTraceGroupMax are left out.
  uint32_t caller = 0;
  uint16_t attempt = 0;
  uint16_t flags = 0;
  uint32_t error_type = 0;  // A number that this file gives no meaning to.
  std::string_view error;   // Cut at kTraceErrorBytes. Recorded with kTraceFailed only.
};

// What a record says in numbers.
struct TraceFacts {
  uint32_t name_index;
  uint32_t error_number;  // 0: none.
  uint64_t call;
  uint64_t task;
  uint64_t start_ns;
  uint64_t end_ns;
  uint64_t children_from;
  uint32_t children;
  uint64_t group;  // 0: none, or not known.
  uint32_t caller;
  uint16_t attempt;
  bool failed;
  bool by_owner;
  bool is_call;
};

struct TraceEvent : TraceFacts {
  std::string name;
  std::string resources;
  uint32_t error_type;
  std::string error;  // Empty: none, or overwritten meanwhile.
};

struct TraceTotal {
  std::string name;
  std::string resources;
  uint64_t finished;
  uint64_t failed;
};

class TraceWriter {
 public:
  explicit TraceWriter(std::byte* trace);
  // Index for a name and what its tasks ask for ("CPU=10000\n..."), made on first use; 0 ("other")
  // when the table is full.
  uint32_t name_index(std::string_view name, std::string_view resources);
  void record(const TraceEntry& entry);

 private:
  uint32_t write_error(const TraceEntry& entry);

  std::byte* const trace_;
  uint64_t written_ = 0;
  uint64_t errors_ = 0;
  uint32_t names_ = 0;
};

// Reads a trace that another process may be writing. Sizes are checked before use.
class TraceReader {
 public:
  explicit TraceReader(const std::byte* trace) : trace_(trace) {}
  uint64_t written() const;
  uint64_t first_kept() const;
  // The facts are read for a tenth of what the texts cost: `complete` adds them.
  std::optional<TraceFacts> read_facts(uint64_t number) const;
  TraceEvent complete(const TraceFacts& facts) const;
  std::optional<TraceEvent> read(uint64_t number) const;
  uint32_t names() const;
  TraceTotal total(uint32_t name) const;

 private:
  void read_error(uint32_t number, TraceEvent& event) const;
  const std::byte* const trace_;
};

}  // namespace mobula::shm
