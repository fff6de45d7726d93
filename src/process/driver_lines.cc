#include "process/driver_lines.h"

#include <cstdio>
#include <iterator>
#include <utility>

namespace mobula::process {

namespace {

constexpr size_t kLinesMax = 10'000;
constexpr size_t kSubjectsMax = 1'000;
constexpr Duration kRemarkEvery = std::chrono::seconds(1);

}  // namespace

void DriverLines::add(LogLine line) {
  if (waiting_.size() >= kLinesMax) {
    ++lost_;
    return;
  }
  waiting_.push_back(std::move(line));
}

void DriverLines::say(std::string text, bool is_driver) {
  if (text.empty()) return;
  if (!is_driver) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  add({0, "", true, std::move(text)});
  notify();
}

std::string DriverLines::remark(const std::string& subject, std::string text, Instant now) {
  if (subjects_.size() >= kSubjectsMax) subjects_.clear();
  const auto [found, is_new] = subjects_.try_emplace(subject);
  Subject& about = found->second;
  if (!is_new && now - about.told < kRemarkEvery) {
    ++about.left_out;
    return "";
  }
  about.told = now;
  if (about.left_out > 0) {
    text += " (" + std::to_string(std::exchange(about.left_out, 0)) + " more like this before)";
  }
  return text;
}

bool DriverLines::take_waiting(std::vector<LogLine>& lines) {
  if (waiting_.empty()) return false;
  lines.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  if (lost_ > 0) {
    lines.push_back(
        {0, "", true,
         "(" + std::to_string(std::exchange(lost_, 0)) +
             " lines of workers were dropped: they came faster than they could be printed)"});
  }
  return true;
}

}  // namespace mobula::process
