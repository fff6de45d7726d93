#pragma once
// SpillDisk keeps spilled values in files of a folder of its own, and has their bytes moved
// (spill_bytes.h). It decides nothing (core/store/spiller.h).
//
// The folder has a lock that its process holds while it lives: whoever opens another one beside it
// removes the folders of the dead, and DeadSessions those of who dies later. The destructor removes
// this one.
//
// Threads: the loop's; two that write and two that read, as one alone leaves the disk idle between its
//          requests; one that removes files. They tell the loop by post().
// Limits:  files of one batch each; the disk counts as full at 95 %.

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/store/spill_effects.h"
#include "io/job_thread.h"
#include "io/loop.h"
#include "node/spill_bytes.h"
#include "shm/memory.h"

namespace mobula::node {

class SpillDisk {
 public:
  using OnWritten = std::function<void(const store::WriteOutcome&)>;
  using OnRead = std::function<void(const store::ReadOutcome&)>;
  using OnFile = std::function<void(Result<shm::Fd>)>;

  // `directory` is made if it is not there. kUnavailable: one cannot write to it; the text says why.
  static Result<std::unique_ptr<SpillDisk>> open(io::Loop& loop, const std::string& directory);
  ~SpillDisk();

  void write(store::SpillFileId file, std::vector<SpillPart> parts, OnWritten on_written);
  void read(const store::DiskCopy& from, SpillPart to, OnRead on_read);
  void remove(store::SpillFileId file);
  void punch(const store::PunchHole& hole);
  // A file without a name, of so many zero bytes that all have their blocks: it goes with the last
  // descriptor and mapping. kDiskFull; kRetryLater: another reason, which the text says.
  void make_file(uint64_t bytes, OnFile on_file);

  store::DiskRoom room() const;
  const std::string& folder() const { return folder_; }

 private:
  struct Lane {
    std::unique_ptr<io::JobThread> thread;
    size_t jobs = 0;  // That it has not answered yet.
  };
  using Lanes = std::array<Lane, 2>;

  SpillDisk(io::Loop& loop, std::string folder, shm::Fd lock);
  std::string path(store::SpillFileId file) const;
  void tell(std::function<void()> what);
  static Lane& least_busy(Lanes& lanes);
  template <typename Move, typename Done>
  void give(Lanes& lanes, Move move, Done done);

  io::Loop& loop_;
  const std::string folder_;
  const shm::Fd lock_;
  // Said to the threads, and to what they still post after the end.
  const std::shared_ptr<SpillStop> ended_;
  uint64_t being_made_ = 0;  // Bytes of files that room() does not know of yet.
  Lanes writers_;
  Lanes readers_;
  std::unique_ptr<io::JobThread> remover_;
};

struct SpillChoice {
  std::unique_ptr<SpillDisk> disk;
  std::string why_not;  // If there is none.
};
// In `wanted`, and if that is empty in the session's folder, or in /var/tmp if that folder is in memory.
// kUnavailable: `wanted` cannot be used.
Result<SpillChoice> choose_spill_disk(io::Loop& loop, const std::string& wanted,
                                      const std::string& session_directory);

// Is the file system of this folder one that keeps files in memory? Spilling there saves nothing.
bool keeps_files_in_memory(const std::string& directory);

}  // namespace mobula::node
