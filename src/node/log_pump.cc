#include "node/log_pump.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "base/text.h"
#include "shm/home.h"

namespace mobula::node {

namespace {

// Far below what fits a packet, with room for names and tables.
constexpr size_t kPacketTextBytes = 32 * 1024;
constexpr size_t kPacketLines = 500;
// A pipe holds at most 1 MiB, so more than that comes from somebody who is still alive.
constexpr int kLastSlicesMax = 64;

}  // namespace

Result<void> LogPump::add(ProcessId worker, ProcessId driver, shm::Fd output, shm::Fd errors) {
  Source& source = sources_[worker];
  source.driver = driver;
  source.streams[0].fd = std::move(output);
  source.streams[1].fd = std::move(errors);
  source.streams[1].is_stderr = true;
  for (size_t i = 0; i < source.streams.size(); ++i) {
    Stream& stream = source.streams[i];
    auto watch = loop_.watch(stream.fd.get(), [this, worker, i] { on_readable(worker, i); });
    if (!watch) {
      sources_.erase(worker);
      return tl::unexpected<Error>(watch.error());
    }
    stream.watch = std::move(*watch);
  }
  return {};
}

void LogPump::set_pid(ProcessId worker, pid_t pid) {
  const auto found = sources_.find(worker);
  if (found != sources_.end()) found->second.pid = pid;
}

void LogPump::on_readable(ProcessId worker, size_t stream) {
  const auto found = sources_.find(worker);
  if (found == sources_.end()) return;
  Stream& ready = found->second.streams[stream];
  if (read_slice(worker, found->second, ready) == Read::kEnd) {
    end_stream(worker, found->second, ready);
    ready.watch.reset();
    ready.fd.reset();
  }
}

LogPump::Read LogPump::read_slice(ProcessId worker, Source& source, Stream& stream) {
  std::array<char, kSliceBytes> buffer;
  Session* session = sessions_.find(worker);
  const bool has_home = session != nullptr && session->home.valid();
  std::optional<std::string> label;
  if (has_home) {
    shm::HomeHeader& home = shm::home_header(session->home.data());
    // Odd. The worker sees that we read, or we see its new name.
    home.stream_reads.store(++source.reads, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    label = home.output.load();
  }
  const ssize_t size = ::read(stream.fd.get(), buffer.data(), buffer.size());
  const int error = errno;
  if (has_home) {
    shm::home_header(session->home.data())
        .stream_reads.store(++source.reads, std::memory_order_release);
  }
  if (size < 0) return error == EAGAIN || error == EINTR ? Read::kNothing : Read::kEnd;
  if (size == 0) return Read::kEnd;
  stream.mark.append(buffer.data(), static_cast<size_t>(size));
  stream.last_read = monotonic_now();
  std::vector<Line> lines;
  take_text(stream, label, lines);
  pass_on(worker, source, stream, lines);
  if (!stream.unfinished.empty()) expect_ends_of_lines();
  return Read::kSome;
}

void LogPump::take_text(Stream& stream, const std::optional<std::string>& label,
                        std::vector<Line>& lines) {
  const std::string text = std::exchange(stream.mark, {});
  std::string_view rest = text;
  std::string name = label.value_or(stream.name);
  bool marked = false;
  while (true) {
    const size_t start = rest.find(kNameMark);
    if (start == std::string_view::npos) break;
    const std::string_view mark = rest.substr(start, kNameMarkBytesMax);
    const size_t end = mark.find('\n');
    if (end == std::string_view::npos) {
      if (mark.size() == kNameMarkBytesMax) break;  // It is none.
      add_text(stream, rest.substr(0, start), marked ? name : stream.name, lines);
      stream.mark = mark;
      return;
    }
    const std::string_view names = mark.substr(kNameMark.size(), end - kNameMark.size());
    const size_t before = names.find('\0');
    if (before != std::string_view::npos) {
      add_text(stream, rest.substr(0, start), names.substr(before + 1), lines);
    } else {
      add_text(stream, rest.substr(0, start), marked ? name : stream.name, lines);
    }
    end_line(stream, lines);
    name = names.substr(0, before);
    marked = true;
    stream.name = name;
    rest.remove_prefix(start + end + 1);
  }
  // A mark may begin at the end.
  size_t kept = std::min(rest.size(), kNameMark.size() - 1);
  while (kept > 0 && !kNameMark.starts_with(rest.substr(rest.size() - kept))) --kept;
  add_text(stream, rest.substr(0, rest.size() - kept), name, lines);
  stream.mark = rest.substr(rest.size() - kept);
}

void LogPump::add_text(Stream& stream, std::string_view text, std::string_view name,
                       std::vector<Line>& lines) {
  if (text.empty()) return;
  if (name != stream.name) {
    end_line(stream, lines);
    stream.name = name;
  }
  if (std::exchange(stream.cut, false) && text.starts_with('\n')) text.remove_prefix(1);
  while (true) {
    const size_t room = kLineBytesMax - stream.unfinished.size();
    const size_t end = text.find('\n');
    if (end == std::string_view::npos && text.size() <= room) break;
    if (end <= room) {
      stream.unfinished += text.substr(0, end);
      complete_line(stream, lines);
      text.remove_prefix(end + 1);
    } else {
      text.remove_prefix(cut_line(stream, text, lines));
    }
  }
  stream.unfinished += text;
}

// A piece of a line that is too long for one, up to the end of a character. How much of `text` it took.
size_t LogPump::cut_line(Stream& stream, std::string_view text, std::vector<Line>& lines) {
  const size_t room = kLineBytesMax - stream.unfinished.size();
  stream.unfinished += text.substr(0, room);
  const bool more = room < text.size();
  if (more) stream.unfinished += text[room];  // Tells whether a character ends before it.
  const std::string torn =
      stream.unfinished.substr(cut_text(stream.unfinished, kLineBytesMax).size());
  stream.unfinished.resize(stream.unfinished.size() - torn.size());
  complete_line(stream, lines);
  stream.unfinished = torn;
  return std::min(room + 1, text.size());
}

void LogPump::end_line(Stream& stream, std::vector<Line>& lines) {
  if (!stream.unfinished.empty()) complete_line(stream, lines);
}

void LogPump::complete_line(Stream& stream, std::vector<Line>& lines) {
  std::string_view text = stream.unfinished;
  if (text.ends_with('\r')) text.remove_suffix(1);
  lines.push_back({valid_utf8(stream.name), valid_utf8(text)});
  stream.unfinished.clear();
}

// Nothing more comes on it.
void LogPump::end_stream(ProcessId worker, Source& source, Stream& stream) {
  std::vector<Line> lines;
  add_text(stream, std::exchange(stream.mark, {}), std::string(stream.name), lines);
  end_line(stream, lines);
  pass_on(worker, source, stream, lines);
}

void LogPump::pass_on(ProcessId worker, Source& source, Stream& stream,
                      const std::vector<Line>& lines) {
  if (lines.empty()) return;
  if (stream.is_stderr) {
    for (const Line& line : lines) source.tail.emplace_back(cut_text(line.text, kTailLineBytesMax));
    while (source.tail.size() > kTailLines) source.tail.pop_front();
  }
  write_file(worker, source, stream, lines);
  send(source, stream.is_stderr, lines);
}

void LogPump::expect_ends_of_lines() {
  if (quiet_) return;
  quiet_ = loop_.at(monotonic_now() + kLineEndsWithin, [this] { end_quiet_lines(); });
}

void LogPump::end_quiet_lines() {
  const auto ended = std::move(quiet_);  // Not before it has been called.
  bool more = false;
  for (auto& [worker, source] : sources_) {
    for (Stream& stream : source.streams) {
      if (stream.unfinished.empty()) continue;
      if (monotonic_now() - stream.last_read < kLineEndsWithin) {
        more = true;
        continue;
      }
      std::vector<Line> lines;
      end_line(stream, lines);
      stream.cut = true;
      pass_on(worker, source, stream, lines);
    }
  }
  if (more) expect_ends_of_lines();
}

void LogPump::write_file(ProcessId worker, const Source& source, Stream& stream,
                         const std::vector<Line>& lines) const {
  if (stream.file.path.empty()) {
    stream.file.path = fmt::format("{}/worker-{}-{}.{}", directory_, number(worker), source.pid,
                                   stream.is_stderr ? "err" : "out");
  }
  std::string text;
  for (const Line& line : lines) text += line.text + "\n";
  files_.append(stream.file, text);
}

void LogPump::send(const Source& source, bool is_stderr, const std::vector<Line>& lines) {
  Session* driver = sessions_.find(source.driver);
  if (driver == nullptr || !driver->socket) return;
  if (driver->socket->queued_bytes() > kUnreadBytesMax) {
    dropped_[source.driver] += lines.size();
    return;
  }
  tell_dropped(source.driver);
  for (size_t next = 0; next < lines.size();) {
    sessions_.send(*driver, [&](wire::Builder& builder) {
      std::vector<flatbuffers::Offset<wire::fb::LogLine>> list;
      size_t bytes = 0;
      for (; next < lines.size() && list.size() < kPacketLines && bytes < kPacketTextBytes;
           ++next) {
        const Line& line = lines[next];
        bytes += line.text.size() + line.name.size();
        const auto name = builder.CreateString(line.name);
        const auto text = builder.CreateString(line.text);
        list.push_back(wire::fb::CreateLogLine(builder, static_cast<uint32_t>(source.pid), name,
                                               is_stderr, text));
      }
      return wire::fb::CreateLogLinesDirect(builder, &list);
    });
  }
}

void LogPump::tell_dropped(ProcessId driver) {
  const auto lost = dropped_.extract(driver);
  if (!lost) return;
  tell(driver,
       fmt::format("({} lines of workers were dropped: they came faster than they were read)",
                   lost.mapped()));
}

void LogPump::tell(ProcessId driver, const std::string& text) {
  sessions_.send(driver, [&](wire::Builder& builder) {
    const std::vector<flatbuffers::Offset<wire::fb::LogLine>> list = {wire::fb::CreateLogLineDirect(
        builder, static_cast<uint32_t>(::getpid()), "node", true, text.c_str())};
    return wire::fb::CreateLogLinesDirect(builder, &list);
  });
}

std::string LogPump::finish(ProcessId worker) {
  const auto found = sources_.find(worker);
  if (found == sources_.end()) return {};
  Source& source = found->second;
  for (Stream& stream : source.streams) {
    if (!stream.fd.valid()) continue;
    // A process that the worker left behind may hold the pipe, so the end need not come.
    for (int slices = 0; slices < kLastSlicesMax; ++slices) {
      if (read_slice(worker, source, stream) != Read::kSome) break;
    }
    end_stream(worker, source, stream);
  }
  std::string tail;
  for (const std::string& line : source.tail) tail += line + "\n";
  if (!tail.empty()) tail.pop_back();
  for (Stream& stream : source.streams) files_.end(std::move(stream.file));
  sources_.erase(found);
  return tail;
}

}  // namespace mobula::node
