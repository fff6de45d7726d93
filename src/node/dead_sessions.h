#pragma once
// DeadSessions removes what sessions of this user left whose daemon was killed: their directories, and
// folders of spilled values. Only what has a lock that nobody holds is taken for theirs
// (python/mobula/_sessions_here.py).
//
// A daemon that is killed keeps its locks until the kernel has taken its memory apart, which lasts for
// seconds with a large store. So one look when a session starts is not enough: this looks again, soon
// and then ever more seldom.
//
// Any number of processes may look at the same time, as what is dead never comes back: each removes
// what is there, and the lock goes last. Who ends or dies in the middle leaves a dead session.
//
// Threads: the loop's; one that looks and removes, while it does.
// Time:    2 s after the start, then after twice as long each time, at last every 10 min.
// Limits:  kFoldersPerLook folders.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "io/job_thread.h"
#include "io/loop.h"
#include "node/options.h"

namespace mobula::node {

struct DeadSessionPlaces {
  std::string sessions;  // Where directories of sessions are, and links to them. Empty: nowhere.
  std::string spilled;   // Where folders of spilled values are. Empty: nowhere.

  // Where others may have theirs beside this session's.
  static DeadSessionPlaces beside(const NodeOptions& options, const std::string& spill_folder);
};

class DeadSessions {
 public:
  DeadSessions(io::Loop& loop, DeadSessionPlaces places);
  ~DeadSessions();

 private:
  void look_later();
  void look();

  io::Loop& loop_;
  const DeadSessionPlaces places_;
  // Said to the thread, and to what it still posts after the end.
  const std::shared_ptr<std::atomic<bool>> ended_;
  Duration wait_;
  std::unique_ptr<io::Timer> timer_;
  std::unique_ptr<io::JobThread> thread_;
};

// Removes folders of spilled values in `directory` whose session is dead. The folders removed.
std::vector<std::string> remove_dead_spill_folders(const std::string& directory,
                                                   const std::atomic<bool>& stop);
// The same with the directories of sessions.
std::vector<std::string> remove_dead_sessions(const std::string& directory,
                                              const std::atomic<bool>& stop);

inline constexpr const char* kSpillFolderPrefix = "mobula-spill-";

}  // namespace mobula::node
