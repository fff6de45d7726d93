#include "node/job_records.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace mobula::node {

namespace {

constexpr size_t kEntrypointBytesMax = 1000;

std::string command_line(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  while (!text.empty() && text.back() == '\0') text.pop_back();
  std::ranges::replace(text, '\0', ' ');
  return std::string(cut_text(text, kEntrypointBytesMax));
}

}  // namespace

void JobRecords::begin(JobId job, ProcessId driver, pid_t pid, const std::string& job_namespace) {
  jobs_[job] = {.job = job,
                .driver = driver,
                .pid = pid,
                .entrypoint = command_line(pid),
                .job_namespace = job_namespace,
                .started = monotonic_now(),
                .ended = {},
                .reason = {}};
}

void JobRecords::ending(JobId job, const std::string& reason, bool well) {
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return;
  found->second.ended = monotonic_now();
  found->second.reason = reason;
  found->second.well = well;
}

void JobRecords::over(JobId job) {
  const auto node = jobs_.extract(job);
  if (node.empty()) return;
  over_.push_back(node.mapped());
  if (over_.size() > kEndedJobsMax) over_.pop_front();
}

std::string JobRecords::json() const {
  nlohmann::json list = nlohmann::json::array();
  const auto add = [&list](const Record& record) {
    const bool ended = record.ended != Instant{};
    list.push_back({{"job", number(record.job)},
                    {"driver", number(record.driver)},
                    {"pid", record.pid},
                    {"entrypoint", record.entrypoint},
                    {"namespace", record.job_namespace},
                    {"started_ns", record.started.count()},
                    {"ended_ns", ended ? record.ended.count() : 0},
                    {"reason", record.reason},
                    {"well", record.well}});
  };
  for (const Record& record : over_) add(record);
  for (const auto& [job, record] : jobs_) add(record);
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace mobula::node
