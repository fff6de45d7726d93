#pragma once
// The daemon's log: one `key=value` line per decision, on stderr, or in a file of its own. `error`
// means that a person must act.
//
// Threads: any. set_log_file() before there are others.
// Limits:  kDaemonLogBytesMax a file, of which there are two: the one before has `.1` in its name.

#include <cstddef>
#include <string>
#include <string_view>

namespace mobula::node {

constexpr size_t kDaemonLogBytesMax = 8 * 1024 * 1024;

// From now on the log is appended to this file, as is what is written to stdout and stderr (the last
// words of a crash). If it cannot be opened all stays as it was.
void set_log_file(const std::string& path);
// "debug", "info", "warning", "error".
void set_log_level(std::string_view level);

void log_debug(const std::string& line);
void log_info(const std::string& line);
void log_warning(const std::string& line);
void log_error(const std::string& line);

}  // namespace mobula::node
