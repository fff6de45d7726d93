#pragma once
// LogPump reads what workers print, line by line: to the job's driver, to files in the session's
// directory, and, of stderr, the last lines to whoever asks how a worker died.
//
// A line that starts with the name mark says which function the following lines come from and is
// not passed on. Lines of a stream that never had one are named after what the worker executes when
// they are read.
//
// Threads: the loop's.
// Limits:  kSliceBytes read a turn; kLineBytesMax a line (longer ones are cut in pieces); kTailLines
//          kept for a death; files as LogFiles says; lines for a driver that does not read are
//          dropped, with a notice of how many, when kUnreadBytesMax wait for it.

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "io/loop.h"
#include "node/log_files.h"
#include "node/sessions.h"

namespace mobula::node {

constexpr size_t kSliceBytes = 64 * 1024;
constexpr size_t kLineBytesMax = 16 * 1024;
constexpr size_t kTailLines = 20;
constexpr size_t kTailLineBytesMax = 400;
constexpr size_t kUnreadBytesMax = 4 * 1024 * 1024;
constexpr std::string_view kNameMark = "\x01\x02mobula:name:";

class LogPump {
 public:
  LogPump(io::Loop& loop, Sessions& sessions, std::string directory)
      : loop_(loop), sessions_(sessions), directory_(std::move(directory)) {}

  // Reads both pipes of a worker. Lines go to `driver`; kDaemonProcess: to files only.
  Result<void> add(ProcessId worker, ProcessId driver, shm::Fd output, shm::Fd errors);
  void set_pid(ProcessId worker, pid_t pid);
  // The worker is dead: reads what is left, closes its pipes, and returns its last lines on stderr.
  std::string finish(ProcessId worker);
  // Says how many lines were dropped, if any were. Comes by itself before the next line.
  void tell_dropped(ProcessId driver);
  // A log file in the directory that somebody else wrote, and that is complete.
  void keep_file(const std::string& path) { files_.end_written(path); }
  // A line of the daemon's own for the driver.
  void tell(ProcessId driver, const std::string& text);

 private:
  struct Stream {
    shm::Fd fd;
    bool is_stderr = false;
    std::string unfinished;
    std::string name;
    LogFile file;
    std::unique_ptr<io::Watch> watch;
  };
  struct Source {
    ProcessId driver{};
    pid_t pid = 0;
    std::array<Stream, 2> streams;
    std::deque<std::string> tail;
  };
  struct Line {
    std::string name;
    std::string text;
  };
  enum class Read { kSome, kNothing, kEnd };

  Read read_slice(ProcessId worker, Source& source, Stream& stream);
  void on_readable(ProcessId worker, size_t stream);
  void take_lines(ProcessId worker, Source& source, Stream& stream, bool at_end);
  void name_lines(ProcessId worker, const Stream& stream, std::vector<Line>& lines);
  void write_file(ProcessId worker, const Source& source, Stream& stream,
                  const std::vector<Line>& lines) const;
  void send(const Source& source, bool is_stderr, const std::vector<Line>& lines);

  io::Loop& loop_;
  Sessions& sessions_;
  const std::string directory_;
  LogFiles files_;
  std::map<ProcessId, Source> sources_;
  std::map<ProcessId, uint64_t> dropped_;  // Lines, by driver.
};

}  // namespace mobula::node
