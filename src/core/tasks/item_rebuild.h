#pragma once
// ItemRebuild decides which items are taken from the runs of one generator task that is run again
// because items of it were lost. One exists while such a run goes on.
//
//   lose() ──nothing runs──► kStartRun        an item that the run has not passed: on_item() takes it
//     └──the run has not passed it──► kThisRun   └── passed already: kNextRun, after on_end()
//
// A run yields all items from number 0 on, also after a crash of its worker. What nobody asked for is not
// taken: others have it, or nobody wants it.
//
// Threads: none; guarded by the runtime's lock.
// Limits:  as many items as are lost.

#include <cstdint>
#include <set>
#include <vector>

namespace mobula::tasks {

class ItemRebuild {
 public:
  enum class Place { kStartRun, kThisRun, kNextRun };
  struct Ended {
    std::vector<uint64_t> missing;  // The run was to yield them, and has not.
    bool again = false;             // There are others, for which it must run once more: begin().
  };

  // Item `number` is lost. kStartRun: the caller starts the task, and the item is one of this run's.
  Place lose(uint64_t number);
  // The run has yielded item `number`: is it to be taken?
  bool on_item(uint64_t number);
  // Nothing more is wanted of this run, and it is told so: what is lost from now on is for the next.
  void close();
  // The run is over, well or not. With `again` the next one has begun; the caller starts the task, or
  // calls on_end() once more if it cannot.
  Ended on_end();

  bool is_running() const { return running_; }
  bool has_all() const { return this_run_.empty(); }
  // Aborts if the books do not balance.
  void check_invariants() const;

 private:
  std::set<uint64_t> this_run_;
  std::set<uint64_t> next_run_;
  uint64_t passed_ = 0;  // Items that the run has yielded.
  bool running_ = false;
  bool closed_ = false;
};

}  // namespace mobula::tasks
