#include "node/log_pump.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "node/running_name.h"

namespace mobula::node {

namespace {

// Far below what fits a packet, with room for names and tables.
constexpr size_t kPacketTextBytes = 32 * 1024;
constexpr size_t kPacketLines = 500;
// A pipe holds at most 1 MiB, so more than that comes from somebody who is still alive.
constexpr int kLastSlicesMax = 64;

// Messages between processes hold UTF-8; what user code prints may be anything.
std::string valid_utf8(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t size = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
    bool good = size != 0 && i + size <= text.size();
    for (size_t k = 1; good && k < size; ++k) {
      good = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
    }
    if (good && size == 3) {  // Not overlong, no surrogates.
      const auto second = static_cast<unsigned char>(text[i + 1]);
      good = !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second >= 0xA0);
    }
    if (good && size == 4) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      good = !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second >= 0x90);
    }
    if (good) {
      clean.append(text.substr(i, size));
      i += size;
    } else {
      clean += "\xEF\xBF\xBD";
      ++i;
    }
  }
  return clean;
}

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
    take_lines(worker, found->second, ready, true);
    ready.watch.reset();
    ready.fd.reset();
  }
}

LogPump::Read LogPump::read_slice(ProcessId worker, Source& source, Stream& stream) {
  std::array<char, kSliceBytes> buffer;
  const ssize_t size = ::read(stream.fd.get(), buffer.data(), buffer.size());
  if (size < 0) return errno == EAGAIN || errno == EINTR ? Read::kNothing : Read::kEnd;
  if (size == 0) return Read::kEnd;
  stream.unfinished.append(buffer.data(), static_cast<size_t>(size));
  take_lines(worker, source, stream, false);
  return Read::kSome;
}

void LogPump::take_lines(ProcessId worker, Source& source, Stream& stream, bool at_end) {
  std::vector<Line> lines;
  std::string_view rest = stream.unfinished;
  const auto take = [&](std::string_view text) {
    if (text.starts_with(kNameMark)) {
      stream.name = valid_utf8(text.substr(kNameMark.size()));
      return;
    }
    if (text.ends_with('\r')) text.remove_suffix(1);
    lines.push_back({stream.name, valid_utf8(text)});
  };
  for (size_t end = rest.find('\n'); end != std::string_view::npos || rest.size() > kLineBytesMax;
       end = rest.find('\n')) {
    const size_t size = std::min(end, kLineBytesMax);
    take(rest.substr(0, size));
    rest.remove_prefix(size == end ? size + 1 : size);
  }
  if (at_end && !rest.empty()) take(std::exchange(rest, {}));
  stream.unfinished = std::string(rest);
  if (lines.empty()) return;
  name_lines(worker, stream, lines);
  if (stream.is_stderr) {
    for (const Line& line : lines) source.tail.push_back(line.text.substr(0, kTailLineBytesMax));
    while (source.tail.size() > kTailLines) source.tail.pop_front();
  }
  write_file(worker, source, stream, lines);
  send(source, stream.is_stderr, lines);
}

// What programs print that a task starts, and libraries without Python, has no mark.
void LogPump::name_lines(ProcessId worker, const Stream& stream, std::vector<Line>& lines) {
  const Session* session = sessions_.find(worker);
  if (!stream.name.empty() || session == nullptr) return;
  const std::string name = valid_utf8(running_name(*session));
  for (Line& line : lines) {
    if (line.name.empty()) line.name = name;
  }
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
    take_lines(worker, source, stream, true);
  }
  std::string tail;
  for (const std::string& line : source.tail) tail += line + "\n";
  if (!tail.empty()) tail.pop_back();
  for (Stream& stream : source.streams) files_.end(std::move(stream.file));
  sources_.erase(found);
  return tail;
}

}  // namespace mobula::node
