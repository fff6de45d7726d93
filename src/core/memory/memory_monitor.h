#pragma once
// MemoryMonitor decides when memory is so short that a worker is killed, and which one.
//
//   watching ──used above the threshold, or stalls near it──► short ──choose()──► killing
//       ▲                                                                           │
//       └── the process is gone (or kill_patience is over), and one more look ──────┘
//
// The victim: of workers that use more memory than their task declared (`memory=`) the one that is over
// by most; else of those whose tasks can be retried the newest; else the newest. Workers that run nothing
// go first of all if they hold much. Whether its tasks may be tried again: not if no other worker runs
// anything, since then it would run out of the same memory again.
//
// It reads no files and kills nobody.
//
// Threads: none. Owned and called by the node loop only.
// Time:    only from the `now` arguments, which never go backwards.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"

namespace mobula::memory {

// What the machine, or the tightest cgroup above us, says. Bytes.
struct Figures {
  uint64_t used = 0;
  uint64_t limit = 0;      // 0: unknown; nothing is decided then.
  double stalled = 0;      // Percent of the last 10 s in which all stood still for memory (PSI).
  std::string limit_name;  // "of the machine", "of cgroup /a/b": for people.
};

struct Use {
  ProcessId process{};  // kDaemonProcess: not a worker; only for the table.
  int pid = 0;
  std::string what;       // "worker", "driver", "object store": for people.
  uint64_t bytes = 0;     // Its own: without the object store.
  uint64_t declared = 0;  // `memory` of its task; 0: not declared.
  bool running = false;   // It executes a task.
  bool retriable = true;  // What it executes may be tried again.
  Instant since{0};       // When it was given its work.
};

struct Kill {
  ProcessId process{};
  bool retry = true;  // Its tasks may be tried again.
  std::string text;   // Who used what, why this one, what to do. Several lines.
};

class MemoryMonitor {
 public:
  struct Options {
    double threshold = 0.95;  // Of the limit.
    // Near the threshold stalls of this many percent count as being above it.
    double stalled_max = 30;
    double near_share = 0.97;                           // Of the threshold.
    Duration refresh = std::chrono::milliseconds(250);  // 0: never look.
    Duration refresh_max = std::chrono::seconds(5);
    // While memory is being taken fast, looks are closer together, down to this.
    Duration refresh_min = std::chrono::milliseconds(20);
    uint64_t growth_max = 4ULL << 30;  // Bytes a second: nobody takes memory faster.
    Duration reclaim_every = std::chrono::seconds(1);
    Duration kill_patience = std::chrono::seconds(5);
    size_t table_rows_max = 10;
  };

  explicit MemoryMonitor(Options options) : options_(options) {}

  // True: memory is short and nobody is being killed for it: call choose().
  bool on_figures(const Figures& figures, Instant now);
  // After on_figures(): memory is nearly short, so what is kept only to be used again should go first,
  // such as empty segments of the store. True at most once in reclaim_every.
  bool wants_reclaim(Instant now);
  // nullopt: there is no worker to kill.
  std::optional<Kill> choose(const std::vector<Use>& uses, Instant now);
  void on_process_gone(ProcessId process);

  // When to look again: rarely while far from the threshold, and at half of the way that is left if
  // memory is taken on as fast as since the last look. nullopt: never.
  std::optional<Instant> next_look(Instant now) const;
  double threshold() const { return options_.threshold; }
  uint64_t kills() const { return kills_; }

 private:
  uint64_t threshold_bytes() const;
  uint64_t near_bytes() const;
  const Use* victim(const std::vector<Use>& uses, std::string& why) const;
  std::string describe(const std::vector<Use>& uses, const Use& victim, const std::string& why,
                       bool retry) const;

  const Options options_;
  Figures figures_;
  Instant looked_at_{0};
  double growth_ = 0;  // Bytes a second between the last two looks.
  Instant reclaimed_at_{0};
  std::optional<ProcessId> killing_;
  Instant killed_at_{0};
  uint64_t kills_ = 0;
};

// "1.50 GiB"
std::string human_bytes(uint64_t bytes);

}  // namespace mobula::memory
