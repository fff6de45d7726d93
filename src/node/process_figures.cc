#include "node/process_figures.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "base/blocked_signals.h"

namespace mobula::node {

namespace {

uint64_t memory_of(const std::string& folder) {
  std::ifstream file(folder + "/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("Pss:")) continue;
    return std::strtoull(line.c_str() + 4, nullptr, 10) * 1024;
  }
  // An older kernel, or one that does not tell: what is resident, shared or not.
  std::ifstream statm(folder + "/statm");
  uint64_t size = 0;
  uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

double cpu_seconds_of(const std::string& folder) {
  std::ifstream file(folder + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t end_of_name = line.rfind(')');  // It may contain anything.
  if (end_of_name == std::string::npos) return 0;
  std::istringstream fields(line.substr(end_of_name + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;  // proc(5): utime is the 14th field.
  uint64_t user = 0;
  uint64_t system = 0;
  fields >> user >> system;
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessFigures::~ProcessFigures() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void ProcessFigures::read(std::vector<pid_t> pids, Done done) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests_.push_back({std::move(pids), std::move(done)});
  }
  changed_.notify_one();
  if (thread_.joinable()) return;
  const BlockedSignals blocked;
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "mobula-figures");
}

void ProcessFigures::run() {
  while (true) {
    Request request;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !requests_.empty(); });
      if (stopping_) return;
      request = std::move(requests_.front());
      requests_.pop_front();
    }
    std::vector<ProcessUse> uses;
    for (const pid_t pid : request.pids) {
      const std::string folder = "/proc/" + std::to_string(pid);
      uses.push_back({pid, memory_of(folder), cpu_seconds_of(folder)});
    }
    loop_.post([done = std::move(request.done), uses = std::move(uses)] { done(uses); });
  }
}

}  // namespace mobula::node
