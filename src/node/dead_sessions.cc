#include "node/dead_sessions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "node/log.h"
#include "node/session_file.h"
#include "shm/memory.h"

namespace mobula::node {

namespace {

namespace fs = std::filesystem;

constexpr auto kFirstWait = std::chrono::seconds(2);
constexpr auto kLongestWait = std::chrono::minutes(10);
constexpr size_t kFoldersPerLook = 200;
constexpr const char* kSessionPrefix = "mobula-";

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    entries.push_back(entry->path());
  }
  return entries;
}

bool is_named(const fs::path& path, std::string_view prefix) {
  return path.filename().native().starts_with(prefix);
}

// A directory of this user's that nobody else can write to; not a link.
bool is_ours(const fs::path& folder) {
  struct stat status {};
  return ::lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
         status.st_uid == ::geteuid() && (status.st_mode & 077U) == 0;
}

// Is there a lock that nobody holds?
bool is_dead(const fs::path& folder) {
  const shm::Fd lock(
      ::open((folder / kSessionLock).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  return lock.valid() && ::flock(lock.get(), LOCK_SH | LOCK_NB) == 0;
}

bool is_real_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(fs::symlink_status(path, error));
}

// False: it was told to stop. What is left has its lock still, and the next one goes on.
bool remove_folder(const fs::path& folder, const std::atomic<bool>& stop) {
  std::error_code ignored;
  for (const fs::path& path : entries_of(folder)) {
    if (stop.load()) return false;
    if (path.filename() == kSessionLock) continue;
    if (!is_real_folder(path)) {
      fs::remove(path, ignored);
    } else if (!remove_folder(path, stop)) {
      return false;
    }
  }
  fs::remove(folder / kSessionLock, ignored);
  fs::remove(folder, ignored);
  return true;
}

// Where a link of ours leads to; the path itself, if it is none.
fs::path target_of(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return status.st_uid == ::geteuid() && !error ? target : fs::path();
}

}  // namespace

DeadSessionPlaces DeadSessionPlaces::beside(const NodeOptions& options,
                                            const std::string& spill_folder) {
  const fs::path own =
      options.session_link.empty() ? options.session_directory : options.session_link;
  const bool is_shared =
      !spill_folder.empty() && !spill_folder.starts_with(options.session_directory + '/');
  return {own.parent_path().native(),
          is_shared ? fs::path(spill_folder).parent_path().native() : ""};
}

std::vector<std::string> remove_dead_spill_folders(const std::string& directory,
                                                   const std::atomic<bool>& stop) {
  std::vector<std::string> removed;
  for (const fs::path& folder : entries_of(directory)) {
    if (stop.load() || removed.size() >= kFoldersPerLook) break;
    if (!is_named(folder, kSpillFolderPrefix) || !is_ours(folder) || !is_dead(folder)) {
      continue;
    }
    if (remove_folder(folder, stop)) removed.push_back(folder.native());
  }
  return removed;
}

std::vector<std::string> remove_dead_sessions(const std::string& directory,
                                              const std::atomic<bool>& stop) {
  std::vector<std::string> removed;
  for (const fs::path& path : entries_of(directory)) {
    if (stop.load() || removed.size() >= kFoldersPerLook) break;
    if (!is_named(path, kSessionPrefix)) continue;
    const fs::path folder = target_of(path);
    if (!is_named(folder, kSessionPrefix) || !is_ours(folder) || !is_dead(folder)) continue;
    if (!remove_folder(folder, stop)) break;
    std::error_code ignored;
    if (folder != path) fs::remove(path, ignored);
    removed.push_back(folder.native());
  }
  return removed;
}

DeadSessions::DeadSessions(io::Loop& loop, DeadSessionPlaces places)
    : loop_(loop),
      places_(std::move(places)),
      ended_(std::make_shared<std::atomic<bool>>(false)),
      wait_(kFirstWait) {
  look_later();
}

DeadSessions::~DeadSessions() {
  ended_->store(true);
  thread_.reset();
}

void DeadSessions::look_later() {
  timer_ = loop_.at(monotonic_now() + wait_, [this] { look(); });
  wait_ = std::min<Duration>(wait_ * 2, kLongestWait);
}

void DeadSessions::look() {
  thread_ = std::make_unique<io::JobThread>("mobula-sweep", io::JobPriority::kNormal);
  const bool started = thread_->add([this, places = places_, ended = ended_] {
    std::vector<std::string> removed;
    if (!places.sessions.empty()) removed = remove_dead_sessions(places.sessions, *ended);
    if (!places.spilled.empty()) {
      std::ranges::move(remove_dead_spill_folders(places.spilled, *ended),
                        std::back_inserter(removed));
    }
    loop_.post([this, ended, removed = std::move(removed)] {
      if (ended->load()) return;
      for (const std::string& folder : removed) {
        log_info(fmt::format("directory={} event=removed why=\"its session is dead\"", folder));
      }
      thread_.reset();
      look_later();
    });
    return false;
  });
  if (started) return;
  thread_.reset();
  look_later();
}

}  // namespace mobula::node
