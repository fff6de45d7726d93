#include "core/store/spill_files.h"

#include "base/check.h"

namespace mobula::store {

void SpillFiles::add(SpillFileId file, uint64_t parts, uint64_t bytes) {
  MOBULA_CHECK(parts > 0);
  MOBULA_CHECK(files_.try_emplace(file, File{parts, bytes}).second);
  bytes_ += bytes;
}

void SpillFiles::drop(const DiskCopy& part, SpillEffects& effects) {
  const auto file = files_.find(part.file);
  MOBULA_CHECK(file != files_.end() && file->second.bytes >= part.size);
  bytes_ -= part.size;
  file->second.bytes -= part.size;
  if (--file->second.parts == 0) {
    files_.erase(file);
    effects.emplace_back(RemoveFile{part.file});
  } else {
    effects.emplace_back(PunchHole{part.file, part.offset, part.size});
  }
}

uint64_t SpillFiles::parts() const {
  uint64_t parts = 0;
  for (const auto& [id, file] : files_) parts += file.parts;
  return parts;
}

}  // namespace mobula::store
