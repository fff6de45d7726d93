#pragma once
// JobRecords remembers which jobs there are and were, for those who look on.
//
// Threads: the loop's.
// Limits:  kEndedJobsMax jobs that are over.

#include <sys/types.h>

#include <deque>
#include <map>
#include <string>

#include "base/ids.h"
#include "base/time.h"

namespace mobula::node {

constexpr size_t kEndedJobsMax = 1000;

class JobRecords {
 public:
  void begin(JobId job, ProcessId driver, pid_t pid, const std::string& job_namespace);
  // `reason`: for people. `well`: the driver left of its own accord.
  void ending(JobId job, const std::string& reason, bool well);
  void over(JobId job);
  std::string json() const;

 private:
  struct Record {
    JobId job{};
    ProcessId driver{};
    pid_t pid = 0;
    std::string entrypoint;  // The driver's command line.
    std::string job_namespace;
    Instant started{};
    Instant ended{};
    std::string reason;
    bool well = false;
  };
  std::map<JobId, Record> jobs_;
  std::deque<Record> over_;
};

}  // namespace mobula::node
