#include "node/worker_processes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "node/log.h"
#include "node/machine.h"

namespace mobula::node {

namespace {

constexpr size_t kLogTailBytes = 4000;
constexpr auto kZygotePatience = std::chrono::seconds(3);

struct Pipe {
  shm::Fd reader;
  shm::Fd writer;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail(ErrorCode::kRetryLater, std::string("pipe: ") + std::strerror(errno));
  }
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return Pipe{shm::Fd(ends[0]), shm::Fd(ends[1])};
}

// The worker and everything that it started and that did not leave its group.
void kill_group(pid_t pid) {
  ::kill(-pid, SIGKILL);
  ::kill(pid, SIGKILL);
}

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

}  // namespace

WorkerProcesses::WorkerProcesses(io::Loop& loop, std::string directory, Callbacks callbacks)
    : loop_(loop),
      directory_(std::move(directory)),
      callbacks_(std::move(callbacks)),
      oom_kills_seen_(oom_kill_count()) {}

std::string WorkerProcesses::zygote_log(JobId job) const {
  return fmt::format("{}/zygote-{}.log", directory_, number(job));
}

void WorkerProcesses::add_job(JobId id, JobSetup setup) {
  Job& job = jobs_[id];
  job.setup = std::move(setup);
  if (const auto started = start_zygote(id, job); !started) {
    log_error(
        fmt::format("job={} event=zygote_failed why=\"{}\"", number(id), started.error().message));
  }
}

Result<void> WorkerProcesses::start_zygote(JobId id, Job& job) {
  auto zygote = Zygote::start(
      loop_, job.setup, zygote_log(id),
      {.on_started = [this](ProcessId worker, pid_t pid) { on_zygote_started(worker, pid); },
       .on_failed = [this](ProcessId worker,
                           const std::string& reason) { on_failed(worker, reason); },
       .on_gone = [this, id](const std::string&) { on_zygote_gone(id); }});
  MOBULA_TRY(zygote);
  job.zygote = std::move(*zygote);
  job.zygote_pid = job.zygote->pid();
  log_info(fmt::format("job={} event=zygote_started pid={}", number(id), job.zygote_pid));
  return {};
}

void WorkerProcesses::on_zygote_gone(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.zygote) return;
  Job& job = found->second;
  log_warning(fmt::format("job={} event=zygote_gone pid={}", number(id), job.zygote_pid));
  if (job.zygote_pid != 0) ::kill(job.zygote_pid, SIGKILL);  // 0: it was collected before.
  gone_.push_back(std::move(job.zygote));
  loop_.post([this] { gone_.clear(); });
}

Result<WorkerPipes> WorkerProcesses::start(JobId id, ProcessId worker) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.ending) {
    return fail(ErrorCode::kUnavailable, "the job has ended");
  }
  auto socket = io::make_packet_pair();
  MOBULA_TRY(socket);
  auto output = make_pipe();
  MOBULA_TRY(output);
  auto errors = make_pipe();
  MOBULA_TRY(errors);
  if (!found->second.zygote) MOBULA_TRY(start_zygote(id, found->second));
  processes_[worker].job = id;
  found->second.zygote->fork(
      worker, {std::move(socket->theirs), std::move(output->writer), std::move(errors->writer)});
  return WorkerPipes{std::move(socket->ours), std::move(output->reader), std::move(errors->reader)};
}

void WorkerProcesses::on_zygote_started(ProcessId worker, pid_t pid) {
  const auto found = processes_.find(worker);
  if (found == processes_.end()) return;
  Process& process = found->second;
  process.pid = pid;
  by_pid_[pid] = worker;
  callbacks_.on_started(worker, pid);
  if (process.kill_wanted) kill_group(pid);
  if (const auto early = unclaimed_.extract(pid)) {
    end(worker, {early.mapped(), cause_of(process, early.mapped())});
  }
  if (forks_pending() == 0) unclaimed_.clear();
}

void WorkerProcesses::on_failed(ProcessId worker, const std::string& reason) {
  end(worker, {{0, 1}, "it could not be started: " + reason});
}

void WorkerProcesses::kill(ProcessId worker, const std::string& reason) {
  const auto found = processes_.find(worker);
  if (found == processes_.end()) return;
  Process& process = found->second;
  if (!process.kill_wanted) process.kill_reason = reason;
  process.kill_wanted = true;
  if (process.pid != 0) kill_group(process.pid);
}

void WorkerProcesses::collect() {
  while (const auto pid = io::peek_ended_child()) on_child_ended(*pid);
}

void WorkerProcesses::on_child_ended(pid_t pid) {
  const auto worker = by_pid_.find(pid);
  if (worker != by_pid_.end()) {
    kill_group(pid);  // Before it is collected: the number is still its own.
    const io::ExitStatus status = io::collect_child(pid);
    end(worker->second, {status, cause_of(processes_.at(worker->second), status)});
    return;
  }
  const io::ExitStatus status = io::collect_child(pid);
  for (auto& [id, job] : jobs_) {
    if (job.zygote_pid != pid) continue;
    job.zygote_pid = 0;
    check_job(id);
    return;
  }
  if (forks_pending() > 0) unclaimed_[pid] = status;
}

size_t WorkerProcesses::forks_pending() const {
  size_t pending = 0;
  for (const auto& [id, job] : jobs_) pending += job.zygote ? job.zygote->pending() : 0;
  return pending;
}

std::string WorkerProcesses::cause_of(const Process& process, const io::ExitStatus& status) {
  if (status.signal == 0) return fmt::format("it exited with code {}", status.exit_code);
  std::string killed = "killed by " + signal_name(status.signal);
  if (status.signal != SIGKILL) return killed;
  if (process.kill_wanted) return killed + " (by the node daemon: " + process.kill_reason + ")";
  const uint64_t oom_kills = oom_kill_count();
  if (oom_kills > std::exchange(oom_kills_seen_, oom_kills)) {
    return killed + " (by the kernel: out of memory)";
  }
  return killed;
}

void WorkerProcesses::end(ProcessId worker, const Death& death) {
  const auto found = processes_.find(worker);
  if (found == processes_.end()) return;
  const JobId job = found->second.job;
  by_pid_.erase(found->second.pid);
  processes_.erase(found);
  callbacks_.on_ended(worker, death);
  check_job(job);
}

size_t WorkerProcesses::count(JobId job) const {
  return static_cast<size_t>(std::ranges::count_if(
      processes_, [job](const auto& entry) { return entry.second.job == job; }));
}

void WorkerProcesses::end_job(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  found->second.ending = true;
  for (auto& [worker, process] : processes_) {
    if (process.job == id) kill(worker, "its job has ended");
  }
  if (found->second.zygote && found->second.zygote->pending() > 0) {
    // A worker that is being forked is killed when its pid is known. If the zygote hangs it goes too;
    // what it may have forked finds its socket closed.
    found->second.patience = loop_.at(monotonic_now() + kZygotePatience, [this, id] {
      const auto job = jobs_.find(id);
      if (job != jobs_.end() && job->second.zygote_pid != 0) {
        ::kill(job->second.zygote_pid, SIGKILL);
      }
    });
  }
  check_job(id);
}

void WorkerProcesses::check_job(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.ending) return;
  if (count(id) > 0) return;
  if (found->second.zygote_pid != 0) {
    ::kill(-found->second.zygote_pid, SIGKILL);
    return;  // Called again when it was collected.
  }
  if (found->second.zygote) {
    gone_.push_back(std::move(found->second.zygote));
    loop_.post([this] { gone_.clear(); });
  }
  jobs_.erase(found);
  callbacks_.on_job_empty(id);
}

std::string WorkerProcesses::zygote_log_tail(JobId job) const {
  std::ifstream file(zygote_log(job));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return text.size() > kLogTailBytes ? text.substr(text.size() - kLogTailBytes) : text;
}

}  // namespace mobula::node
