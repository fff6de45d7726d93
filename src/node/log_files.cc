#include "node/log_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "node/log.h"
#include "shm/memory.h"

namespace mobula::node {

namespace {

std::string older(const std::string& path) { return path + ".1"; }

}  // namespace

void LogFiles::append(LogFile& file, std::string_view text) const {
  if (file.bytes > 0 && file.bytes + text.size() > limits_.file_bytes_max) {
    if (::rename(file.path.c_str(), older(file.path).c_str()) == 0) {
      file.bytes_older = std::exchange(file.bytes, 0);
    }
  }
  const shm::Fd opened(
      ::open(file.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!opened.valid() || ::write(opened.get(), text.data(), text.size()) < 0) {
    log_warning(
        fmt::format("file={} event=write_failed why=\"{}\"", file.path, std::strerror(errno)));
    return;
  }
  file.bytes += text.size();
}

void LogFiles::end(LogFile file) {
  if (file.bytes == 0) return;
  ended_bytes_ += file.bytes + file.bytes_older;
  ended_.push_back(std::move(file));
  while (ended_.size() > limits_.ended_streams_max || ended_bytes_ > limits_.ended_bytes_max) {
    const LogFile& oldest = ended_.front();
    ::unlink(oldest.path.c_str());
    if (oldest.bytes_older > 0) ::unlink(older(oldest.path).c_str());
    ended_bytes_ -= oldest.bytes + oldest.bytes_older;
    ended_.pop_front();
  }
}

void LogFiles::end_written(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return;
  if (status.st_size == 0) {
    ::unlink(path.c_str());
    return;
  }
  end({path, static_cast<uint64_t>(status.st_size), 0});
}

}  // namespace mobula::node
