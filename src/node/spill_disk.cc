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
#include <cstring>
#include <filesystem>
#include <span>
#include <system_error>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "node/log.h"

namespace mobula::node {

namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "mobula-spill-";
constexpr const char* kLockName = "lock";
constexpr size_t kChunkBytes = 1ULL << 20;
// The kernel starts to write back so much at a time, so that dirty pages do not pile up.
constexpr uint64_t kWriteBackBytes = 8ULL << 20;
constexpr uint64_t kFullShare = 20;  // Full when less than 1/20 is left.
constexpr long kTmpfsMagic = 0x01021994;
constexpr long kRamfsMagic = static_cast<long>(0x858458f6);

std::string text_of(int error) { return std::generic_category().message(error); }

class Checksum {
 public:
  Checksum() { XXH3_64bits_reset(&state_); }
  void add(std::span<const std::byte> bytes) {
    XXH3_64bits_update(&state_, bytes.data(), bytes.size());
  }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

// All of it, or the error number.
int read_all(int fd, std::span<std::byte> into, uint64_t offset) {
  while (!into.empty()) {
    const ssize_t count = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return ENODATA;  // The file ends too early.
    into = into.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return 0;
}

int write_all(int fd, std::span<const std::byte> from, uint64_t offset) {
  while (!from.empty()) {
    const ssize_t count = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : EIO;
    from = from.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return 0;
}

using Stop = std::shared_ptr<std::atomic<bool>>;

// Writes the parts one behind the other and removes the file again if that fails.
class FileWriter {
 public:
  FileWriter(std::string path, Stop stop) : path_(std::move(path)), stop_(std::move(stop)) {}

  store::WriteOutcome write(const std::vector<SpillDisk::Part>& parts) {
    fd_ = shm::Fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd_.valid()) return failed(errno);
    store::WriteOutcome outcome;
    for (const SpillDisk::Part& part : parts) {
      Checksum sum;
      if (const int error = append(part, sum); error != 0) {
        ::unlink(path_.c_str());
        return failed(error);
      }
      outcome.checksums.push_back(sum.value());
    }
    start_write_back();
    return outcome;
  }

 private:
  int append(const SpillDisk::Part& part, Checksum& sum) {
    for (uint64_t at = 0; at < part.size;) {
      if (stop_->load(std::memory_order_relaxed)) return ECANCELED;
      const std::span<std::byte> chunk(buffer_.data(),
                                       std::min<uint64_t>(kChunkBytes, part.size - at));
      if (const int error = read_all(part.segment->get(), chunk, part.offset + at)) return error;
      sum.add(chunk);
      if (const int error = write_all(fd_.get(), chunk, written_)) return error;
      at += chunk.size();
      written_ += chunk.size();
      if (written_ - started_ >= kWriteBackBytes) start_write_back();
    }
    return 0;
  }

  void start_write_back() {
    ::sync_file_range(fd_.get(), static_cast<off_t>(started_),
                      static_cast<off_t>(written_ - started_), SYNC_FILE_RANGE_WRITE);
    started_ = written_;
  }

  store::WriteOutcome failed(int error) const {
    store::WriteOutcome outcome;
    const bool full = error == ENOSPC || error == EDQUOT;
    outcome.kind = full ? store::WriteOutcome::Kind::kDiskFull : store::WriteOutcome::Kind::kFailed;
    outcome.why = fmt::format("cannot spill to {}: {}", path_, text_of(error));
    return outcome;
  }

  const std::string path_;
  const Stop stop_;
  shm::Fd fd_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kChunkBytes);
  uint64_t written_ = 0;
  uint64_t started_ = 0;  // Its writing back.
};

store::ReadOutcome read_back(const std::string& path, const store::DiskCopy& from,
                             const SpillDisk::Part& to, const Stop& stop) {
  const auto lost = [&](const std::string& why) {
    const std::string text = fmt::format(
        "its bytes were spilled to {} (offset {}, {} bytes) and cannot be read back: {}", path,
        from.offset, from.size, why);
    return store::ReadOutcome{false, text};
  };
  const shm::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return lost(text_of(errno));
  ::posix_fadvise(fd.get(), static_cast<off_t>(from.offset), static_cast<off_t>(from.size),
                  POSIX_FADV_WILLNEED);
  std::vector<std::byte> buffer(std::min<uint64_t>(kChunkBytes, from.size));
  Checksum sum;
  for (uint64_t at = 0; at < from.size;) {
    if (stop->load(std::memory_order_relaxed)) return lost("the session ends");
    const std::span<std::byte> chunk(buffer.data(),
                                     std::min<uint64_t>(buffer.size(), from.size - at));
    if (const int error = read_all(fd.get(), chunk, from.offset + at)) {
      return lost(error == ENODATA ? "the file is too short" : text_of(error));
    }
    sum.add(chunk);
    if (const int error = write_all(to.segment->get(), chunk, to.offset + at)) {
      return lost(text_of(error));
    }
    at += chunk.size();
  }
  if (sum.value() == from.checksum) return {true, ""};
  return lost("they are not what was written (the checksum differs)");
}

// The lock, unless a living process has it.
shm::Fd try_lock(const fs::path& folder, int flags) {
  shm::Fd fd(::open((folder / kLockName).c_str(), O_RDONLY | O_CLOEXEC | flags, 0600));
  if (fd.valid() && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) fd.reset();
  return fd;
}

void remove_folders_of_the_dead(const fs::path& directory) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    const shm::Fd lock = try_lock(entry.path(), 0);
    if (!lock.valid()) continue;
    std::error_code ignored;
    fs::remove_all(entry.path(), ignored);
    log_info(fmt::format("directory={} event=removed why=\"its session is dead\"",
                         entry.path().string()));
  }
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
  shm::Fd lock = try_lock(fresh, O_CREAT | O_EXCL);
  const std::string name = kPrefix + fresh.substr(fresh.size() - 6);
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
      ended_(std::make_shared<std::atomic<bool>>(false)),
      writer_(std::make_unique<io::JobThread>("mobula-spill", io::JobPriority::kNormal)),
      reader_(std::make_unique<io::JobThread>("mobula-restore", io::JobPriority::kNormal)) {}

SpillDisk::~SpillDisk() {
  ended_->store(true);
  writer_.reset();
  reader_.reset();
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

void SpillDisk::write(store::SpillFileId file, std::vector<Part> parts, OnWritten on_written) {
  writer_->add([this, path = path(file), parts = std::move(parts), done = std::move(on_written)] {
    store::WriteOutcome outcome = FileWriter(path, ended_).write(parts);
    tell([done, outcome = std::move(outcome)] { done(outcome); });
    return false;
  });
}

void SpillDisk::read(const store::DiskCopy& from, Part to, OnRead on_read) {
  reader_->add([this, path = path(from.file), from, to = std::move(to), done = std::move(on_read)] {
    store::ReadOutcome outcome = read_back(path, from, to, ended_);
    tell([done, outcome = std::move(outcome)] { done(outcome); });
    return false;
  });
}

// By the reader: removing must not wait for a long write, as it may be what makes room for it.
void SpillDisk::remove(store::SpillFileId file) {
  reader_->add([path = path(file)] {
    ::unlink(path.c_str());
    return false;
  });
}

void SpillDisk::punch(const store::PunchHole& hole) {
  reader_->add([path = path(hole.file), hole] {
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

store::DiskRoom SpillDisk::room() const {
  struct statvfs status {};
  if (::statvfs(folder_.c_str(), &status) != 0) {
    return {0, fmt::format("{}: {}", folder_, text_of(errno))};
  }
  const uint64_t unit = status.f_frsize;
  const uint64_t total = status.f_blocks * unit;
  const uint64_t available = status.f_bavail * unit;
  const uint64_t reserve = total / kFullShare;
  const double used =
      total == 0 ? 100.0
                 : 100.0 * (1.0 - static_cast<double>(available) / static_cast<double>(total));
  return {available > reserve ? available - reserve : 0,
          fmt::format("{:.1f} % of {:.1f} GiB are in use in {}", used,
                      static_cast<double>(total) / (1ULL << 30), folder_)};
}

}  // namespace mobula::node
