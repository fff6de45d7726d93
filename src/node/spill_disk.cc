#include "node/spill_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "node/dead_sessions.h"
#include "node/log.h"
#include "node/session_file.h"

namespace mobula::node {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kFullShare = 20;  // Full when less than 1/20 is left.
constexpr long kTmpfsMagic = 0x01021994;
constexpr long kRamfsMagic = static_cast<long>(0x858458f6);

std::string text_of(int error) { return std::generic_category().message(error); }

std::unique_ptr<io::JobThread> make_thread(const char* name) {
  return std::make_unique<io::JobThread>(name, io::JobPriority::kNormal);
}

// A new lock, which is ours.
shm::Fd make_lock(const fs::path& folder) {
  shm::Fd fd(
      ::open((folder / kSessionLock).c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.valid() && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) fd.reset();
  return fd;
}

void remove_folders_of_the_dead(const std::string& directory) {
  for (const std::string& folder : remove_dead_spill_folders(directory, SpillStop(false))) {
    log_info(fmt::format("directory={} event=removed why=\"its session is dead\"", folder));
  }
}

Result<shm::Fd> make_nameless_file(const std::string& folder, uint64_t bytes) {
  const auto failed = [&](int error) {
    return fail(error == ENOSPC || error == EDQUOT ? ErrorCode::kDiskFull : ErrorCode::kRetryLater,
                fmt::format("no file of {:.1f} MiB could be made in {}: {}",
                            static_cast<double>(bytes) / (1 << 20), folder, text_of(error)));
  };
  shm::Fd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return failed(errno);
    std::string name = (fs::path(folder) / "values-XXXXXX").string();
    fd = shm::Fd(::mkostemp(name.data(), O_CLOEXEC));
    if (!fd.valid()) return failed(errno);
    ::unlink(name.c_str());
  }
  // A file system that cannot do this has each block written.
  const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  if (error != 0) return failed(error);
  return fd;
}

}  // namespace

bool keeps_files_in_memory(const std::string& directory) {
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0) return false;
  const auto type = static_cast<long>(status.f_type);
  return type == kTmpfsMagic || type == kRamfsMagic;
}

Result<SpillChoice> choose_spill_disk(io::Loop& loop, const std::string& wanted,
                                      const std::string& session_directory) {
  if (!wanted.empty()) {
    auto disk = SpillDisk::open(loop, wanted);
    MOBULA_TRY(disk);
    return SpillChoice{std::move(*disk), ""};
  }
  const bool in_memory = keeps_files_in_memory(session_directory);
  const std::string directory = in_memory ? "/var/tmp" : session_directory + "/spill";
  if (in_memory && keeps_files_in_memory(directory)) {
    return SpillChoice{nullptr,
                       fmt::format("{} and {} are kept in memory (tmpfs); name a folder on a "
                                   "disk by object_spilling_directory",
                                   session_directory, directory)};
  }
  auto disk = SpillDisk::open(loop, directory);
  if (!disk) return SpillChoice{nullptr, disk.error().message};
  return SpillChoice{std::move(*disk), ""};
}

Result<std::unique_ptr<SpillDisk>> SpillDisk::open(io::Loop& loop, const std::string& directory) {
  const auto refused = [&](const std::string& why) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("cannot spill objects to {}: {}", directory, why));
  };
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return refused(error.message());
  remove_folders_of_the_dead(directory);
  // It gets its name once it is locked: nobody is to take it for that of a dead process.
  std::string fresh = (fs::path(directory) / ".mobula-new-XXXXXX").string();
  if (::mkdtemp(fresh.data()) == nullptr) return refused(text_of(errno));
  shm::Fd lock = make_lock(fresh);
  const std::string name = kSpillFolderPrefix + fresh.substr(fresh.size() - 6);
  const std::string folder = (fs::path(directory) / name).string();
  if (!lock.valid() || ::rename(fresh.c_str(), folder.c_str()) != 0) {
    const std::string why = text_of(errno);
    fs::remove_all(fresh, error);
    return refused(why);
  }
  return std::unique_ptr<SpillDisk>(new SpillDisk(loop, folder, std::move(lock)));
}

SpillDisk::SpillDisk(io::Loop& loop, std::string folder, shm::Fd lock)
    : loop_(loop),
      folder_(std::move(folder)),
      lock_(std::move(lock)),
      ended_(std::make_shared<SpillStop>(false)) {
  for (Lane& lane : writers_) lane.thread = make_thread("mobula-spill");
  for (Lane& lane : readers_) lane.thread = make_thread("mobula-restore");
  remover_ = make_thread("mobula-unspill");
}

SpillDisk::~SpillDisk() {
  ended_->store(true);
  for (Lane& lane : writers_) lane.thread.reset();
  for (Lane& lane : readers_) lane.thread.reset();
  remover_.reset();
  std::error_code error;
  fs::remove_all(folder_, error);
  if (error) {
    log_error(fmt::format("directory={} event=not_removed why=\"{}\"", folder_, error.message()));
  }
}

std::string SpillDisk::path(store::SpillFileId file) const {
  return fmt::format("{}/{:08}.values", folder_, number(file));
}

void SpillDisk::tell(std::function<void()> what) {
  loop_.post([ended = ended_, what = std::move(what)] {
    if (!ended->load()) what();
  });
}

SpillDisk::Lane& SpillDisk::least_busy(Lanes& lanes) {
  return *std::ranges::min_element(lanes, {}, &Lane::jobs);
}

template <typename Move, typename Done>
void SpillDisk::give(Lanes& lanes, Move move, Done done) {
  Lane& lane = least_busy(lanes);
  lane.jobs++;
  lane.thread->add([this, &lane, move = std::move(move), done = std::move(done)] {
    tell([&lane, done, outcome = move()] {
      lane.jobs--;
      done(outcome);
    });
    return false;
  });
}

void SpillDisk::write(store::SpillFileId file, std::vector<SpillPart> parts, OnWritten on_written) {
  give(
      writers_,
      [path = path(file), parts = std::move(parts), stop = ended_] {
        return write_values(path, parts, *stop);
      },
      std::move(on_written));
}

void SpillDisk::read(const store::DiskCopy& from, SpillPart to, OnRead on_read) {
  give(
      readers_,
      [path = path(from.file), from, to = std::move(to), stop = ended_] {
        return read_value(path, from, to, *stop);
      },
      std::move(on_read));
}

// By a thread of its own: removing must not wait for a long write, as it may be what makes room for it.
void SpillDisk::remove(store::SpillFileId file) {
  remover_->add([path = path(file)] {
    ::unlink(path.c_str());
    return false;
  });
}

void SpillDisk::punch(const store::PunchHole& hole) {
  remover_->add([path = path(hole.file), hole] {
    const shm::Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.valid()) {
      // Where the file system cannot, the blocks go with the file.
      static_cast<void>(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    static_cast<off_t>(hole.offset),
                                    static_cast<off_t>(hole.size)));
    }
    return false;
  });
}

void SpillDisk::make_file(uint64_t bytes, OnFile on_file) {
  being_made_ += bytes;
  // Of a shape that std::function can hold.
  using Made = std::shared_ptr<Result<shm::Fd>>;
  give(
      writers_,
      [folder = folder_, bytes] {
        return std::make_shared<Result<shm::Fd>>(make_nameless_file(folder, bytes));
      },
      [this, bytes, on_file = std::move(on_file)](const Made& made) {
        being_made_ -= bytes;
        on_file(std::move(*made));
      });
}

store::DiskRoom SpillDisk::room() const {
  struct statvfs status {};
  if (::statvfs(folder_.c_str(), &status) != 0) {
    return {0, fmt::format("{}: {}", folder_, text_of(errno))};
  }
  const uint64_t unit = status.f_frsize;
  const uint64_t total = status.f_blocks * unit;
  const uint64_t available = status.f_bavail * unit;
  const uint64_t reserve = total / kFullShare + being_made_;
  const double used =
      total == 0 ? 100.0
                 : 100.0 * (1.0 - static_cast<double>(available) / static_cast<double>(total));
  return {available > reserve ? available - reserve : 0,
          fmt::format("{:.1f} % of {:.1f} GiB are in use in {}", used,
                      static_cast<double>(total) / (1ULL << 30), folder_)};
}

}  // namespace mobula::node
