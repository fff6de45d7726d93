#pragma once
// MetricsPage writes the page that Prometheus reads (text exposition format 0.0.4): the daemon's own
// figures, mobula_..., and the metrics that programs made with mobula.util.metrics, ray_..., as Ray
// names them.
//
// What counters and histograms of processes that have ended had reached is added up and stays; what
// their gauges showed stays for kGaugeKept.
//
// Threads: the loop's.
// Limits:  kEndedSeriesMax series of processes that have ended; kPageNamesMax names of tasks.

#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/scheduler/scheduler.h"
#include "node/process_figures.h"
#include "node/queries.h"
#include "node/sessions.h"
#include "node/store_shell.h"
#include "node/uplinks.h"
#include "shm/metrics.h"

namespace mobula::node {

constexpr size_t kEndedSeriesMax = 5'000;
constexpr size_t kPageNamesMax = 200;
constexpr auto kGaugeKept = std::chrono::seconds(60);

// What the page tells about.
struct MetricsSources {
  Sessions& sessions;
  const scheduler::NodeScheduler& scheduler;
  const StoreShell& store;
  const Queries& queries;
  const Uplinks& uplinks;
  NodeId node{};
  std::string session_name;
};

class MetricsPage {
 public:
  MetricsPage(MetricsSources sources, io::Loop& loop) : from_(std::move(sources)), figures_(loop) {}

  // `done` gets the page, once the processes' figures are read.
  void write(std::function<void(std::string)> done);
  // The process has ended; its home region is still there.
  void keep(const Session& session);

 private:
  using Labels = std::vector<std::pair<std::string, std::string>>;
  struct Sample {
    std::string suffix;  // Of a histogram: "_bucket", ...
    Labels labels;
    double value = 0;
  };
  struct Family {
    std::string type;
    std::string help;
    std::vector<Sample> samples;
  };
  using Families = std::map<std::string, Family>;
  struct EndedGauge {
    Instant until{};
    Labels labels;
    shm::SeriesValue series;
  };

  std::string text(const std::vector<ProcessUse>& uses) const;
  void add_tasks(Families& families) const;
  void add_processes(Families& families, const std::vector<ProcessUse>& uses) const;
  void add_resources(Families& families) const;
  void add_store(Families& families) const;
  void add_own(Families& families) const;
  void add_series(Families& families, const shm::SeriesValue& series, const Labels& labels) const;
  Labels labels_of(const Session& session) const;

  const MetricsSources from_;
  // By kind, name and tags.
  std::map<std::string, shm::SeriesValue> ended_;
  std::deque<EndedGauge> ended_gauges_;
  uint64_t ended_dropped_ = 0;
  ProcessFigures figures_;
};

}  // namespace mobula::node
