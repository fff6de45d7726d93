#pragma once
// LogPump reads what workers print, line by line: to the job's driver, to files in the session's
// directory, and, of stderr, the last lines to whoever asks how a worker died.
//
// Lines are named after the function that wrote them. A worker says in its home region whose output it
// is that is written from now on, and with marks in the pipes how what is still unread is divided
// (process/output_label.h). A mark is no part of the output; it names what follows, up to the next one
// or to the end of what is read with it, and what stands before it. It also ends a line, as does any
// change of names.
//
// Threads: the loop's.
// Limits:  kSliceBytes read a turn, which is what a pipe holds; kLineBytesMax a line (longer ones are
//          cut in pieces); a line without end is passed on when nothing came for kLineEndsWithin;
//          kTailLines kept for a death; files as LogFiles says; lines for a driver that does not read
//          are dropped, with a notice of how many, when kUnreadBytesMax wait for it.

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "io/loop.h"
#include "node/log_files.h"
#include "node/sessions.h"

namespace mobula::node {

constexpr size_t kSliceBytes = 64 * 1024;
constexpr size_t kLineBytesMax = 16 * 1024;
constexpr size_t kTailLines = 20;
constexpr size_t kTailLineBytesMax = 400;
constexpr size_t kUnreadBytesMax = 4 * 1024 * 1024;
constexpr auto kLineEndsWithin = std::chrono::milliseconds(400);
// "<mark><name of what follows>[NUL <name of what stands before>]<newline>"
constexpr std::string_view kNameMark = "\x01\x02mobula:name:";
constexpr size_t kNameMarkBytesMax = 4096;  // With its names: as much as is written in one piece.

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
    std::string mark;        // The beginning of one, perhaps: the rest has not been read.
    std::string unfinished;  // A line of `name`'s.
    std::string name;        // Whose the last text was.
    Instant last_read{};
    bool cut = false;  // The last line was passed on without its end.
    LogFile file;
    std::unique_ptr<io::Watch> watch;
  };
  struct Source {
    ProcessId driver{};
    pid_t pid = 0;
    uint64_t reads = 0;
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
  // `label`: whose text it is that was read, but for what marks in it say.
  void take_text(Stream& stream, const std::optional<std::string>& label, std::vector<Line>& lines);
  void add_text(Stream& stream, std::string_view text, std::string_view name,
                std::vector<Line>& lines);
  size_t cut_line(Stream& stream, std::string_view text, std::vector<Line>& lines);
  // If one was begun.
  void end_line(Stream& stream, std::vector<Line>& lines);
  void complete_line(Stream& stream, std::vector<Line>& lines);
  void end_stream(ProcessId worker, Source& source, Stream& stream);
  void pass_on(ProcessId worker, Source& source, Stream& stream, const std::vector<Line>& lines);
  void expect_ends_of_lines();
  void end_quiet_lines();
  void write_file(ProcessId worker, const Source& source, Stream& stream,
                  const std::vector<Line>& lines) const;
  void send(const Source& source, bool is_stderr, const std::vector<Line>& lines);

  io::Loop& loop_;
  Sessions& sessions_;
  const std::string directory_;
  LogFiles files_;
  std::map<ProcessId, Source> sources_;
  std::map<ProcessId, uint64_t> dropped_;  // Lines, by driver.
  std::unique_ptr<io::Timer> quiet_;       // While there are unfinished lines.
};

}  // namespace mobula::node
