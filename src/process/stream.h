#pragma once
// Stream: the items of one generator task at its owner, between the worker that yields them and the
// one who takes them.
//
//   open ──result, error, death──► finished: the last item is an error if the task failed
//     items: taken ... | arrived, not taken ... | at most one pending, if somebody asked for it
//
// A pending item that the task's end leaves without a value becomes an end-of-stream error, which is
// for the binding's eyes only.
//
// Threads: guarded by the runtime's lock.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "process/object.h"

namespace mobula::process {

struct Task;

// For the worker: nobody takes items any more.
constexpr uint64_t kAbandoned = ~uint64_t{0};

struct Stream {
  std::deque<Object*> items;  // From number `taken` on, each with one count of the stream.
  uint64_t taken = 0;
  uint64_t arrived = 0;      // Items that have come since the task was first run.
  uint32_t ahead_max = 0;    // How far the task may be ahead of `taken`; 0: any number.
  Task* task = nullptr;      // While it is not finished.
  bool abandoned = false;    // Nobody takes items any more.
  Task* rerun_of = nullptr;  // Of a run for lost items only: of which kept task (items.cc).
  // What the task's return becomes, with the refs of its items (Submission); nullptr: None.
  std::shared_ptr<const std::vector<std::byte>> collected;

  // Which objects are its items, by the indices of their ids: runs of them, from and to, ascending. The
  // oldest are forgotten.
  std::deque<std::pair<uint64_t, uint64_t>> made;
  static constexpr size_t kMadeMax = 4096;

  void note_made(uint64_t index) {
    if (!made.empty() && made.back().second + 1 == index) {
      made.back().second = index;
      return;
    }
    made.emplace_back(index, index);
    if (made.size() > kMadeMax) made.pop_front();
  }
  bool has_made(uint64_t index) const {
    const auto after =
        std::ranges::upper_bound(made, index, {}, &std::pair<uint64_t, uint64_t>::first);
    return after != made.begin() && index <= std::prev(after)->second;
  }
  // What the worker is told of, by the word beside its claim (shm/channel.h).
  uint64_t consumed() const { return abandoned ? kAbandoned : taken; }
  bool has_pending() const { return taken + items.size() > arrived; }
};

}  // namespace mobula::process
