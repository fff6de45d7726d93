#include "process/daemon_log.h"

#include <algorithm>
#include <deque>
#include <fstream>
#include <string_view>

namespace mobula::process {

namespace {

constexpr std::streamoff kTailBytes = 16 * 1024;
constexpr size_t kLinesMax = 10;
constexpr size_t kLineBytesMax = 400;

bool is_everyday(std::string_view line) {
  for (const std::string_view level : {" info ", " debug ", " warning "}) {
    // Behind the time: "2026-01-02T03:04:05.000006 info ...".
    if (line.starts_with("20") && line.find(level) < 32) return true;
  }
  return false;
}

}  // namespace

std::string last_complaints(const std::string& session_directory) {
  std::ifstream file(session_directory + "/daemon.log", std::ios::binary | std::ios::ate);
  if (!file) return {};
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - kTailBytes));
  std::string line;
  if (size > kTailBytes) std::getline(file, line);  // The rest of one.
  std::deque<std::string> complaints;
  while (std::getline(file, line)) {
    if (line.empty() || is_everyday(line)) continue;
    complaints.push_back(line.substr(0, kLineBytesMax));
    if (complaints.size() > kLinesMax) complaints.pop_front();
  }
  std::string text;
  for (const std::string& complaint : complaints) text += "\n" + complaint;
  return text;
}

}  // namespace mobula::process
