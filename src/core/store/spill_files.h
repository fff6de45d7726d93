#pragma once
// SpillFiles is the account of the files that values are written to: what is still needed of each.
//
// A file is written once, as a whole, and only shrinks: a part that is not needed any more becomes a
// hole, and with the last one the file goes.
//
// Threads: none.

#include <cstdint>
#include <map>

#include "core/store/spill_effects.h"

namespace mobula::store {

class SpillFiles {
 public:
  // A file with so many parts in use.
  void add(SpillFileId file, uint64_t parts, uint64_t bytes);
  // RemoveFile or PunchHole follows.
  void drop(const DiskCopy& part, SpillEffects& effects);

  size_t count() const { return files_.size(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t parts() const;

 private:
  struct File {
    uint64_t parts = 0;
    uint64_t bytes = 0;
  };
  std::map<SpillFileId, File> files_;
  uint64_t bytes_ = 0;
};

}  // namespace mobula::store
