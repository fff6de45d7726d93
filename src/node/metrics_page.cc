#include "node/metrics_page.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/function_name.h"

namespace mobula::node {

namespace {

using shm::SeriesKind;

bool is_name(std::string_view name) {
  const auto fits = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':';
  };
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
         std::ranges::all_of(name, fits);
}

// Keys of tags are any text; names of labels are not.
std::string label_name(std::string_view key) {
  std::string name;
  for (const char c : key) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) != 0) name.insert(0, "_");
  return name;
}

std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string key_of(const shm::SeriesValue& series) {
  std::string key = fmt::format("{} {}", static_cast<uint32_t>(series.spec.kind), series.spec.name);
  for (const auto& [tag, value] : series.spec.tags) key += fmt::format("\n{}\t{}", tag, value);
  for (const double boundary : series.spec.boundaries) key += fmt::format("\r{}", boundary);
  return key;
}

const char* type_name(SeriesKind kind) {
  if (kind == SeriesKind::kCounter) return "counter";
  return kind == SeriesKind::kGauge ? "gauge" : "histogram";
}

double amount(ResourceAmount fixed) {
  return static_cast<double>(std::max<ResourceAmount>(fixed, 0)) /
         static_cast<double>(kResourceUnit);
}

double to_double(uint64_t value) { return static_cast<double>(value); }

}  // namespace

void MetricsPage::write(std::function<void(std::string)> done) {
  std::vector<pid_t> pids{::getpid()};
  for (const auto& [id, session] : from_.sessions.all()) {
    if (session->pid != 0 && !session->is_guest) pids.push_back(session->pid);
  }
  figures_.read(std::move(pids), [this, done = std::move(done)](
                                     const std::vector<ProcessUse>& uses) { done(text(uses)); });
}

void MetricsPage::keep(const Session& session) {
  if (!session.home.valid()) return;
  const Instant now = monotonic_now();
  while (!ended_gauges_.empty() && ended_gauges_.front().until < now) ended_gauges_.pop_front();
  shm::read_metrics(session.home.data() + shm::kMetricsOffset, [&](shm::SeriesValue series) {
    if (ended_.size() + ended_gauges_.size() >= kEndedSeriesMax) {
      ++ended_dropped_;
      return;
    }
    if (series.spec.kind == SeriesKind::kGauge) {
      ended_gauges_.push_back({now + kGaugeKept, labels_of(session), std::move(series)});
      return;
    }
    const auto [sum, is_new] = ended_.try_emplace(key_of(series), series);
    if (is_new) return;
    sum->second.value += series.value;
    for (size_t i = 0; i < series.buckets.size() && i < sum->second.buckets.size(); ++i) {
      sum->second.buckets[i] += series.buckets[i];
    }
  });
}

MetricsPage::Labels MetricsPage::labels_of(const Session& session) const {
  return {{"JobId", fmt::format("{:08x}", number(session.job))},
          {"NodeAddress", "127.0.0.1"},
          {"SessionName", from_.session_name},
          {"WorkerId", fmt::format("{:08x}{:08x}", number(from_.node), number(session.id))}};
}

void MetricsPage::add_tasks(Families& families) const {
  uint64_t waiting = 0;
  uint64_t queued = 0;
  uint64_t in_flight = 0;
  uint64_t running = 0;
  uint64_t calls = 0;
  for (const auto& [id, session] : from_.sessions.all()) {
    if (!session->home.valid() || session->is_guest || !session->socket) continue;
    const shm::HomeHeader& home = shm::home_header(session->home.data());
    const uint64_t all = home.live.unfinished.load(std::memory_order_relaxed);
    const uint64_t ready = home.live.queued.load(std::memory_order_relaxed);
    const uint64_t sent = home.live.in_flight.load(std::memory_order_relaxed);
    const uint64_t of_actors = home.live.calls.load(std::memory_order_relaxed);
    waiting += all - std::min(all, ready + sent + of_actors);
    calls += of_actors;
    queued += ready;
    in_flight += sent;
    const auto now = home.running.load();
    if (now && now->task != 0 && now->is_call == 0) ++running;
  }
  uint64_t blocked = 0;
  for (const auto& [id, lease] : from_.scheduler.leases().all())
    blocked += lease.is_blocked ? 1 : 0;
  blocked = std::min(blocked, running);
  Family& live = families["mobula_tasks"];
  live = {"gauge", "Tasks that have not ended, by their state.", {}};
  const auto add = [&live](const char* state, uint64_t count) {
    live.samples.push_back({"", {{"State", state}}, to_double(count)});
  };
  add("PENDING_ARGS_AVAIL", waiting);
  add("PENDING_NODE_ASSIGNMENT", queued);
  add("SUBMITTED_TO_WORKER", in_flight - std::min(in_flight, running));
  add("RUNNING", running - blocked);
  add("RUNNING_IN_RAY_GET", blocked);
  families["mobula_actor_calls"] = {
      "gauge", "Calls of actors that have not ended.", {{"", {}, to_double(calls)}}};
  Family& ended = families["mobula_tasks_ended_total"];
  ended = {"counter", "Attempts of tasks that have ended, by name and how they ended.", {}};
  std::pair<uint64_t, uint64_t> others;
  std::map<std::string, std::pair<uint64_t, uint64_t>> by_function;
  for (const auto& [name, counts] : from_.queries.ended_totals()) {
    auto& sum = by_function[std::string(own_name(name))];
    sum.first += counts.first;
    sum.second += counts.second;
  }
  for (const auto& [name, counts] : by_function) {
    if (ended.samples.size() >= 2 * kPageNamesMax) {
      others.first += counts.first;
      others.second += counts.second;
      continue;
    }
    ended.samples.push_back({"", {{"Name", name}, {"State", "FINISHED"}}, to_double(counts.first)});
    ended.samples.push_back({"", {{"Name", name}, {"State", "FAILED"}}, to_double(counts.second)});
  }
  if (others.first + others.second == 0) return;
  ended.samples.push_back({"", {{"Name", ""}, {"State", "FINISHED"}}, to_double(others.first)});
  ended.samples.push_back({"", {{"Name", ""}, {"State", "FAILED"}}, to_double(others.second)});
}

void MetricsPage::add_processes(Families& families, const std::vector<ProcessUse>& uses) const {
  using Shown = workers::WorkerPool::Shown;
  std::map<Shown, uint64_t> states{
      {Shown::kStarting, 0}, {Shown::kIdle, 0}, {Shown::kLeased, 0}, {Shown::kStopping, 0}};
  for (const auto& worker : from_.scheduler.pool().describe()) ++states[worker.state];
  families["mobula_workers"] = {
      "gauge",
      "Worker processes, by their state.",
      {{"", {{"State", "starting"}}, to_double(states[Shown::kStarting])},
       {"", {{"State", "idle"}}, to_double(states[Shown::kIdle])},
       {"", {{"State", "leased"}}, to_double(states[Shown::kLeased])},
       {"", {{"State", "stopping"}}, to_double(states[Shown::kStopping])}}};
  std::map<pid_t, const Session*> by_pid;
  uint64_t drivers = 0;
  for (const auto& [id, session] : from_.sessions.all()) {
    if (session->is_guest) continue;
    by_pid[session->pid] = session.get();
    drivers += session->is_driver ? 1 : 0;
  }
  families["mobula_drivers"] = {
      "gauge", "Drivers that are connected.", {{"", {}, to_double(drivers)}}};
  Family memory{"gauge", "Memory of a process: its share (PSS) of what it has mapped.", {}};
  Family cpu{"counter", "CPU time that a process has used.", {}};
  for (const ProcessUse& use : uses) {
    if (use.memory_bytes == 0) continue;
    const auto found = by_pid.find(use.pid);
    const bool is_daemon = use.pid == ::getpid();
    if (!is_daemon && found == by_pid.end()) continue;
    const char* component = is_daemon ? "daemon" : found->second->is_driver ? "driver" : "worker";
    const Labels labels{{"Component", component}, {"pid", std::to_string(use.pid)}};
    memory.samples.push_back({"", labels, to_double(use.memory_bytes)});
    cpu.samples.push_back({"", labels, use.cpu_seconds});
  }
  families["mobula_process_memory_bytes"] = std::move(memory);
  families["mobula_process_cpu_seconds_total"] = std::move(cpu);
}

void MetricsPage::add_resources(Families& families) const {
  const auto list = [](const ResourceSet& resources, const ResourceSet& total) {
    std::vector<Sample> samples;
    for (const auto& [name, all] : total.amounts()) {
      samples.push_back({"", {{"Resource", name}}, amount(resources.get(name))});
    }
    return samples;
  };
  const ResourceSet& total = from_.scheduler.total();
  families["mobula_resources_total"] = {"gauge", "What the node has of a resource.",
                                        list(total, total)};
  families["mobula_resources_available"] = {"gauge", "What of it no running task holds.",
                                            list(from_.scheduler.available(), total)};
  uint64_t blocked = 0;
  for (const auto& [id, lease] : from_.scheduler.leases().all())
    blocked += lease.is_blocked ? 1 : 0;
  const uint64_t leases = from_.scheduler.leases().size();
  families["mobula_leases"] = {"gauge",
                               "Leases of workers; blocked: the worker waits in get or wait.",
                               {{"", {{"State", "running"}}, to_double(leases - blocked)},
                                {"", {{"State", "blocked"}}, to_double(blocked)}}};
}

void MetricsPage::add_store(Families& families) const {
  const StoreShell& store = from_.store;
  const store::Spiller::Totals totals = store.spiller().totals();
  const auto add = [&families](const char* name, const char* type, const char* help,
                               uint64_t value) {
    families[name] = {type, help, {{"", {}, to_double(value)}}};
  };
  add("mobula_object_store_capacity_bytes", "gauge", "Size of the object store.",
      store.capacity_bytes());
  add("mobula_object_store_used_bytes", "gauge",
      "What of it was handed out to processes, as segments.", store.granted_bytes());
  add("mobula_object_store_file_bytes", "gauge",
      "What was handed out in files on disk, because memory had no room for it.",
      store.in_file_bytes());
  add("mobula_object_store_values", "gauge",
      "Values in the store, or spilled, that the node knows; not those that are private to a "
      "process.",
      totals.values);
  add("mobula_object_store_values_bytes", "gauge", "Of those, bytes in memory.",
      totals.memory_bytes);
  add("mobula_object_store_pinned_bytes", "gauge",
      "Of those, bytes that processes look at: they can neither move nor leave memory.",
      store.pinned_bytes());
  add("mobula_object_store_disk_bytes", "gauge", "Bytes of values that are on disk.",
      totals.disk_bytes);
  add("mobula_object_store_disk_only_values", "gauge", "Values that are nowhere but on disk.",
      totals.disk_values);
  add("mobula_object_store_disk_files", "gauge", "Files that values were spilled to.",
      totals.files);
  add("mobula_object_store_spilled_bytes_total", "counter", "Bytes that were spilled to disk.",
      totals.spilled_bytes);
  add("mobula_object_store_restored_bytes_total", "counter", "Bytes that were read back from disk.",
      totals.restored_bytes);
  add("mobula_object_store_lost_values_total", "counter",
      "Values of which the only copy was lost: the disk did not give back what was written.",
      totals.lost_values);
  add("mobula_object_store_cannot_spill", "gauge",
      "1 while values cannot be spilled; `mobula memory` says why.",
      store.spiller().trouble().empty() ? 0 : 1);
}

void MetricsPage::add_own(Families& families) const {
  add_store(families);
  families["mobula_uplink_records_total"] = {
      "counter",
      "Control records that processes have sent to the daemon.",
      {{"", {}, to_double(from_.uplinks.records_read())}}};
  uint64_t refused = ended_dropped_;
  for (const auto& [id, session] : from_.sessions.all()) {
    if (session->home.valid()) {
      refused += shm::refused_series(session->home.data() + shm::kMetricsOffset);
    }
  }
  families["mobula_metric_series_dropped"] = {
      "gauge",
      "Series of programs that did not fit and are not shown.",
      {{"", {}, to_double(refused)}}};
}

void MetricsPage::add_series(Families& families, const shm::SeriesValue& series,
                             const Labels& labels) const {
  const SeriesKind kind = series.spec.kind;
  std::string name = "ray_" + series.spec.name;
  if (!is_name(name)) return;
  if (kind == SeriesKind::kCounter && !name.ends_with("_total")) name += "_total";
  Family& family = families[name];
  if (family.type.empty()) family = {type_name(kind), series.spec.description, {}};
  if (family.type != type_name(kind)) return;  // Two programs do not agree what it is.
  Labels all;
  for (const auto& [key, value] : series.spec.tags) all.emplace_back(label_name(key), value);
  for (const auto& label : labels) {
    const auto same = [&](const auto& other) { return other.first == label.first; };
    if (std::ranges::none_of(all, same)) all.push_back(label);
  }
  if (kind != SeriesKind::kHistogram) {
    family.samples.push_back({"", std::move(all), series.value});
    return;
  }
  uint64_t count = 0;
  for (size_t i = 0; i < series.buckets.size(); ++i) {
    count += series.buckets[i];
    Labels bucket = all;
    bucket.emplace_back(
        "le", i < series.spec.boundaries.size() ? number_text(series.spec.boundaries[i]) : "+Inf");
    family.samples.push_back({"_bucket", std::move(bucket), to_double(count)});
  }
  family.samples.push_back({"_sum", all, series.value});
  family.samples.push_back({"_count", std::move(all), to_double(count)});
}

std::string MetricsPage::text(const std::vector<ProcessUse>& uses) const {
  Families families;
  add_tasks(families);
  add_processes(families, uses);
  add_resources(families);
  add_own(families);
  for (const auto& [id, session] : from_.sessions.all()) {
    // Without a socket it has ended, and was kept.
    if (!session->home.valid() || session->is_guest || !session->socket) continue;
    const Labels labels = labels_of(*session);
    shm::read_metrics(
        session->home.data() + shm::kMetricsOffset,
        [&](const shm::SeriesValue& series) { add_series(families, series, labels); });
  }
  const Labels of_ended{{"NodeAddress", "127.0.0.1"}, {"SessionName", from_.session_name}};
  for (const auto& [key, series] : ended_) add_series(families, series, of_ended);
  const Instant now = monotonic_now();
  for (const EndedGauge& gauge : ended_gauges_) {
    if (gauge.until >= now) add_series(families, gauge.series, gauge.labels);
  }
  std::string page;
  for (const auto& [name, family] : families) {
    page += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, escaped(family.help, false), name,
                        family.type);
    for (const Sample& sample : family.samples) {
      std::string labels;
      for (const auto& [key, value] : sample.labels) {
        labels += fmt::format("{}{}=\"{}\"", labels.empty() ? "" : ",", key, escaped(value, true));
      }
      page += fmt::format("{}{}{} {}\n", name, sample.suffix,
                          labels.empty() ? "" : "{" + labels + "}", number_text(sample.value));
    }
  }
  return page;
}

}  // namespace mobula::node
