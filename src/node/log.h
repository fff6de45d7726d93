#pragma once
// The daemon's log: one `key=value` line per decision, on stderr, which its starter has directed to
// a file. `error` means that a person must act.
//
// Threads: any.

#include <string>
#include <string_view>

namespace mobula::node {

// "debug", "info", "warning", "error".
void set_log_level(std::string_view level);

void log_debug(const std::string& line);
void log_info(const std::string& line);
void log_warning(const std::string& line);
void log_error(const std::string& line);

}  // namespace mobula::node
