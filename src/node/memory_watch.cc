#include "node/memory_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

#include "node/log.h"
#include "node/machine.h"

namespace mobula::node {

namespace {

// The kernel's own choice, if it comes to that: a worker long before anything else.
constexpr int kWorkerScore = 1000;
constexpr int kDaemonScore = -500;

template <typename Number>
std::optional<Number> number_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  Number value{};
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error == std::errc{} && *end == '\0') return value;
  log_warning(
      fmt::format("variable={} event=ignored value=\"{}\" why=\"it is not a number\"", name, text));
  return std::nullopt;
}

memory::MemoryMonitor::Options monitor_options() {
  memory::MemoryMonitor::Options options;
  const auto threshold = number_from_environment<double>("MOBULA_MEMORY_USAGE_THRESHOLD");
  if (threshold && *threshold > 0 && *threshold <= 1) options.threshold = *threshold;
  if (const auto refresh = number_from_environment<uint32_t>("MOBULA_MEMORY_MONITOR_REFRESH_MS")) {
    options.refresh = std::chrono::milliseconds(*refresh);
  }
  return options;
}

// Lower than now needs a privilege that we may not have: then it stays.
void set_oom_score(const std::string& who, int score) {
  std::ofstream file("/proc/" + who + "/oom_score_adj");
  file << score;
}

}  // namespace

MemoryWatch::MemoryWatch(io::Loop& loop, Callbacks callbacks)
    : loop_(loop),
      callbacks_(std::move(callbacks)),
      own_limit_(number_from_environment<uint64_t>("MOBULA_MEMORY_LIMIT_BYTES").value_or(0)),
      monitor_(monitor_options()) {
  set_oom_score("self", kDaemonScore);
}

void MemoryWatch::on_worker_started(int pid) { set_oom_score(std::to_string(pid), kWorkerScore); }

void MemoryWatch::set_needed(bool needed) {
  if (needed == needed_) return;
  needed_ = needed;
  if (!needed) return timer_.reset();
  look();
}

memory::Figures MemoryWatch::figures() const {
  if (own_limit_ == 0) return memory_figures(monitor_.threshold());
  memory::Figures figures{0, own_limit_, 0, "of this session (MOBULA_MEMORY_LIMIT_BYTES)"};
  for (const memory::Use& use : callbacks_.uses()) figures.used += use.bytes;
  return figures;
}

void MemoryWatch::look() {
  const Instant now = monotonic_now();
  const memory::Figures seen = figures();
  const bool is_short = monitor_.on_figures(seen, now);
  if (monitor_.wants_reclaim(now)) callbacks_.reclaim();
  if (is_short) {
    if (const auto kill = monitor_.choose(callbacks_.uses(), now)) {
      log_warning(fmt::format("process={} event=killed_for_memory used={} limit={} stalled={}",
                              number(kill->process), seen.used, seen.limit, seen.stalled));
      callbacks_.kill(*kill);
    }
  }
  set_timer();
}

void MemoryWatch::set_timer() {
  timer_.reset();
  const auto next = monitor_.next_look(monotonic_now());
  if (needed_ && next) timer_ = loop_.at(*next, [this] { look(); });
}

}  // namespace mobula::node
