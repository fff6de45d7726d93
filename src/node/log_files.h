#pragma once
// LogFiles keeps what workers print in the session's directory, within bounds: of each stream the
// newest, and of the streams of ended workers the newest.
//
//   worker-<process>-<pid>.out, .err     what a worker printed, or the newer part of it
//   the same with .1                     the part before, once the first has become large
//
// Threads: the loop's.
// Limits:  LogLimits: a stream has two files; of streams that have ended, the oldest go first.

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace mobula::node {

struct LogLimits {
  uint64_t file_bytes_max = 8 * 1024 * 1024;
  uint64_t ended_bytes_max = 256 * 1024 * 1024;  // In all.
  size_t ended_streams_max = 1000;
};

// One stream's. Nothing is there before the first append.
struct LogFile {
  std::string path;
  uint64_t bytes = 0;        // Of the file in use.
  uint64_t bytes_older = 0;  // Of the one before.
};

class LogFiles {
 public:
  explicit LogFiles(LogLimits limits = {}) : limits_(limits) {}

  // Opens the file only for this: descriptors are scarcer than time here. A failure is logged.
  void append(LogFile& file, std::string_view text) const;
  // Nothing more comes. It goes when newer ones need the room.
  void end(LogFile file);
  // The same for a file that somebody else has written.
  void end_written(const std::string& path);

 private:
  const LogLimits limits_;
  std::deque<LogFile> ended_;
  uint64_t ended_bytes_ = 0;
};

}  // namespace mobula::node
