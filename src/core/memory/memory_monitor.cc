#include "core/memory/memory_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace mobula::memory {

namespace {

// A worker that runs nothing and holds less is no reason to be killed first. Bytes.
constexpr uint64_t kMuch = 64ULL << 20;

uint64_t over_declared(const Use& use) {
  return use.declared > 0 && use.bytes > use.declared ? use.bytes - use.declared : 0;
}

}  // namespace

std::string human_bytes(uint64_t bytes) {
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1024 ? fmt::format("{:.1f} MiB", mebibytes)
                          : fmt::format("{:.2f} GiB", mebibytes / 1024);
}

uint64_t MemoryMonitor::threshold_bytes() const {
  return static_cast<uint64_t>(static_cast<double>(figures_.limit) * options_.threshold);
}

uint64_t MemoryMonitor::near_bytes() const {
  return static_cast<uint64_t>(static_cast<double>(threshold_bytes()) * options_.near_share);
}

bool MemoryMonitor::wants_reclaim(Instant now) {
  if (figures_.limit == 0 || options_.refresh.count() == 0 || figures_.used <= near_bytes()) {
    return false;
  }
  if (reclaimed_at_.count() > 0 && now - reclaimed_at_ < options_.reclaim_every) return false;
  reclaimed_at_ = now;
  return true;
}

bool MemoryMonitor::on_figures(const Figures& figures, Instant now) {
  const double seconds = std::chrono::duration<double>(now - looked_at_).count();
  const bool comparable = looked_at_.count() > 0 && seconds > 0 && figures.limit == figures_.limit;
  const double grown = static_cast<double>(figures.used) - static_cast<double>(figures_.used);
  growth_ = comparable ? std::max(0.0, grown / seconds) : 0;
  looked_at_ = now;
  figures_ = figures;
  if (killing_ && now - killed_at_ < options_.kill_patience) return false;
  killing_.reset();
  if (figures.limit == 0 || options_.refresh.count() == 0) return false;
  if (figures.used > threshold_bytes()) return true;
  return figures.used > near_bytes() && figures.stalled >= options_.stalled_max;
}

std::optional<Kill> MemoryMonitor::choose(const std::vector<Use>& uses, Instant now) {
  std::string why;
  const Use* chosen = victim(uses, why);
  if (chosen == nullptr) return std::nullopt;
  const bool others = std::ranges::any_of(uses, [&](const Use& use) {
    return use.process != kDaemonProcess && use.process != chosen->process && use.running;
  });
  const bool retry = others || !chosen->running;
  killing_ = chosen->process;
  killed_at_ = now;
  kills_++;
  return Kill{chosen->process, retry, describe(uses, *chosen, why, retry)};
}

void MemoryMonitor::on_process_gone(ProcessId process) {
  if (killing_ == process) killing_.reset();
}

const Use* MemoryMonitor::victim(const std::vector<Use>& uses, std::string& why) const {
  const Use* best = nullptr;
  const auto take = [&](const Use& use, bool better, const char* reason) {
    if (best != nullptr && !better) return;
    best = &use;
    why = reason;
  };
  for (const Use& use : uses) {
    if (use.process == kDaemonProcess || use.running || use.bytes < kMuch) continue;
    take(use, use.bytes > (best != nullptr ? best->bytes : 0), "it runs no task and holds memory");
  }
  if (best != nullptr) return best;
  for (const Use& use : uses) {
    if (use.process == kDaemonProcess || over_declared(use) == 0) continue;
    take(use, over_declared(use) > (best != nullptr ? over_declared(*best) : 0),
         "it uses more memory than its task declared");
  }
  if (best != nullptr) return best;
  for (const bool retriable : {true, false}) {
    for (const Use& use : uses) {
      if (use.process == kDaemonProcess || !use.running || use.retriable != retriable) continue;
      take(use, best == nullptr || use.since > best->since,
           retriable ? "of the workers whose tasks can be retried it is the newest"
                     : "it is the newest worker; no task here can be retried");
    }
    if (best != nullptr) return best;
  }
  return nullptr;
}

std::string MemoryMonitor::describe(const std::vector<Use>& uses, const Use& victim,
                                    const std::string& why, bool retry) const {
  const double share =
      100.0 * static_cast<double>(figures_.used) / static_cast<double>(figures_.limit);
  std::string text = fmt::format(
      "memory ran out: {} of {} {} are in use ({:.1f} %, the threshold is {:.1f} %). This worker "
      "(pid "
      "{}, {}) was killed because {}.",
      human_bytes(figures_.used), human_bytes(figures_.limit), figures_.limit_name, share,
      options_.threshold * 100, victim.pid, human_bytes(victim.bytes), why);
  if (!retry) text += " It was the only one at work, so trying again would end the same way.";
  text += "\n  used        declared    pid      what\n";
  std::vector<const Use*> rows;
  for (const Use& use : uses) rows.push_back(&use);
  std::ranges::stable_sort(rows, [](const Use* a, const Use* b) { return a->bytes > b->bytes; });
  for (size_t i = 0; i < rows.size() && i < options_.table_rows_max; ++i) {
    const Use& use = *rows[i];
    text += fmt::format("  {:<10}  {:<10}  {:<7}  {}{}\n", human_bytes(use.bytes),
                        use.declared > 0 ? human_bytes(use.declared) : "-", use.pid, use.what,
                        &use == &victim ? " (killed)" : "");
  }
  if (rows.size() > options_.table_rows_max) {
    text += fmt::format("  and {} more\n", rows.size() - options_.table_rows_max);
  }
  text +=
      "Ask for less parallelism (num_cpus), declare what a task needs (memory=), or give the "
      "machine "
      "more memory. MOBULA_MEMORY_USAGE_THRESHOLD moves the threshold; "
      "MOBULA_MEMORY_MONITOR_REFRESH_MS=0 leaves it to the kernel.";
  return text;
}

std::optional<Instant> MemoryMonitor::next_look(Instant now) const {
  if (options_.refresh.count() == 0) return std::nullopt;
  const uint64_t threshold = threshold_bytes();
  if (figures_.limit == 0 || figures_.used >= threshold) return now + options_.refresh;
  const auto left = static_cast<double>(threshold - figures_.used);
  const auto after = [](double seconds) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  };
  const Duration soonest = after(left / static_cast<double>(options_.growth_max));
  const Duration rest =
      std::clamp(soonest, options_.refresh, std::max(options_.refresh, options_.refresh_max));
  const double half_way = growth_ > 0 ? left / growth_ / 2 : std::numeric_limits<double>::max();
  if (half_way >= std::chrono::duration<double>(rest).count()) return now + rest;
  return now + std::max(after(half_way), std::min(options_.refresh_min, options_.refresh));
}

}  // namespace mobula::memory
