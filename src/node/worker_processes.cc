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

constexpr size_t kLogTailBytes = 8000;
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

std::string WorkerProcesses::zygote_log(workers::EnvironmentKey key) const {
  if (key.id == kJobEnvironment)
    return fmt::format("{}/zygote-{}.log", directory_, number(key.job));
  return fmt::format("{}/zygote-{}-{}.log", directory_, number(key.job), number(key.id));
}

Result<void> WorkerProcesses::add_job(JobId id, JobSetup setup, bool is_prepared) {
  Job& job = jobs_[id];
  job.setup = std::move(setup);
  return is_prepared ? start_zygote({id, kJobEnvironment}, job) : Result<void>{};
}

void WorkerProcesses::prepare(workers::EnvironmentKey key, const std::string& spec) {
  const auto found = jobs_.find(key.job);
  if (found == jobs_.end() || found->second.ending) return;
  Environment& environment = found->second.environments[key.id];
  environment.spec = spec;
  environment.preparing = true;
  environment.was_ready = false;
  if (const auto started = start_zygote(key, found->second); !started) {
    loop_.post([this, key, why = started.error().message] { on_zygote_unfit(key, why); });
  }
}

void WorkerProcesses::release(workers::EnvironmentKey key) {
  if (Environment* environment = find(key)) {
    environment->preparing = false;
    let_go(*environment);
  }
}

WorkerProcesses::Environment* WorkerProcesses::find(workers::EnvironmentKey key) {
  const auto job = jobs_.find(key.job);
  if (job == jobs_.end()) return nullptr;
  const auto found = job->second.environments.find(key.id);
  return found == job->second.environments.end() ? nullptr : &found->second;
}

Result<void> WorkerProcesses::start_zygote(workers::EnvironmentKey key, Job& job) {
  Environment& environment = job.environments[key.id];
  JobSetup setup = job.setup;
  setup.session_directory = directory_;
  setup.environment_spec = environment.spec;
  // Removed since the driver came.
  if (::access(setup.working_directory.c_str(), F_OK) != 0 && errno == ENOENT) {
    setup.working_directory = "/";
  }
  // What is said of a failure is about the last try.
  if (!environment.was_ready) ::unlink(zygote_log(key).c_str());
  auto zygote = Zygote::start(
      loop_, setup, zygote_log(key),
      {.on_started = [this](ProcessId worker, pid_t pid) { on_zygote_started(worker, pid); },
       .on_failed = [this](ProcessId worker,
                           const std::string& reason) { on_failed(worker, reason); },
       .on_ready = [this, key] { on_zygote_ready(key); },
       .on_unfit = [this, key](const std::string& reason) { on_zygote_unfit(key, reason); },
       .on_gone = [this, key](const std::string&) { on_zygote_gone(key); }});
  MOBULA_TRY(zygote);
  environment.zygote = std::move(*zygote);
  job.zygotes.insert(environment.zygote->pid());
  log_info(fmt::format("job={} environment={} event=zygote_started pid={}", number(key.job),
                       number(key.id), environment.zygote->pid()));
  return {};
}

void WorkerProcesses::on_zygote_ready(workers::EnvironmentKey key) {
  Environment* environment = find(key);
  if (environment == nullptr) return;
  environment->was_ready = true;
  if (!std::exchange(environment->preparing, false)) return;
  log_info(fmt::format("job={} environment={} event=ready", number(key.job), number(key.id)));
  callbacks_.on_environment_ready(key);
}

void WorkerProcesses::on_zygote_unfit(workers::EnvironmentKey key, const std::string& reason) {
  Environment* environment = find(key);
  if (environment == nullptr || !std::exchange(environment->preparing, false)) return;
  log_warning(fmt::format("job={} environment={} event=not_prepared why=\"{}\"", number(key.job),
                          number(key.id), reason));
  callbacks_.on_environment_failed(key, reason);
}

// Kills the zygote and what it started, but no worker: those have groups of their own.
void WorkerProcesses::let_go(Environment& environment) {
  if (!environment.zygote) return;
  const pid_t pid = environment.zygote->pid();
  const bool is_collected = std::ranges::none_of(
      jobs_, [pid](const auto& entry) { return entry.second.zygotes.contains(pid); });
  if (!is_collected) kill_group(pid);  // The number is its own.
  gone_.push_back(std::move(environment.zygote));
  loop_.post([this] {
    for (const auto& zygote : std::exchange(gone_, {})) zygote->abandon("it was ended");
  });
}

void WorkerProcesses::on_zygote_gone(workers::EnvironmentKey key) {
  Environment* environment = find(key);
  if (environment == nullptr || !environment->zygote) return;
  log_warning(fmt::format("job={} environment={} event=zygote_gone pid={}", number(key.job),
                          number(key.id), environment->zygote->pid()));
  let_go(*environment);
  on_zygote_unfit(key, "the process that prepared it has ended");
}

Result<WorkerPipes> WorkerProcesses::start(workers::EnvironmentKey key, ProcessId worker) {
  const auto found = jobs_.find(key.job);
  if (found == jobs_.end() || found->second.ending) {
    return fail(ErrorCode::kUnavailable, "the job has ended");
  }
  auto socket = io::make_packet_pair();
  MOBULA_TRY(socket);
  auto output = make_pipe();
  MOBULA_TRY(output);
  auto errors = make_pipe();
  MOBULA_TRY(errors);
  Environment& environment = found->second.environments[key.id];
  if (!environment.zygote) MOBULA_TRY(start_zygote(key, found->second));
  processes_[worker].job = key.job;
  environment.zygote->fork(
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

void WorkerProcesses::kill(ProcessId worker, const std::string& reason,
                           wire::fb::OutOfMemory out_of_memory) {
  const auto found = processes_.find(worker);
  if (found == processes_.end()) return;
  Process& process = found->second;
  if (!process.kill_wanted) {
    process.kill_reason = reason;
    process.out_of_memory = out_of_memory;
  }
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
    const Process& process = processes_.at(worker->second);
    const bool killed = status.signal == SIGKILL && process.kill_wanted;
    end(worker->second, {status, cause_of(process, status),
                         killed ? process.out_of_memory : wire::fb::OutOfMemory::no});
    return;
  }
  const io::ExitStatus status = io::collect_child(pid);
  for (auto& [id, job] : jobs_) {
    if (job.zygotes.erase(pid) == 0) continue;
    job.zygote_end = status.signal != 0 ? "killed by " + signal_name(status.signal)
                                        : fmt::format("it exited with code {}", status.exit_code);
    check_job(id);
    return;
  }
  if (forks_pending() > 0) unclaimed_[pid] = status;
}

size_t WorkerProcesses::forks_pending() const {
  size_t pending = 0;
  for (const auto& [id, job] : jobs_) {
    for (const auto& [number, environment] : job.environments) {
      pending += environment.zygote ? environment.zygote->pending() : 0;
    }
  }
  return pending;
}

std::string WorkerProcesses::cause_of(const Process& process, const io::ExitStatus& status) {
  if (status.signal == 0) return fmt::format("it exited with code {}", status.exit_code);
  std::string killed = "killed by " + signal_name(status.signal);
  if (status.signal != SIGKILL) return killed;
  if (process.out_of_memory != wire::fb::OutOfMemory::no) return process.kill_reason;
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
  bool pending = false;
  for (auto& [number, environment] : found->second.environments) {
    if (!environment.zygote) continue;
    if (environment.zygote->pending() > 0 && !environment.preparing) {
      pending = true;
    } else {
      let_go(environment);
    }
  }
  if (pending) {
    // A worker that is being forked is killed when its pid is known. If the zygote hangs it goes too;
    // what it may have forked finds its socket closed.
    found->second.patience = loop_.at(monotonic_now() + kZygotePatience, [this, id] {
      const auto job = jobs_.find(id);
      if (job == jobs_.end()) return;
      for (const pid_t pid : job->second.zygotes) ::kill(pid, SIGKILL);
    });
  }
  check_job(id);
}

void WorkerProcesses::check_job(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.ending) return;
  if (count(id) > 0) return;
  if (!found->second.zygotes.empty()) {
    for (const pid_t pid : found->second.zygotes) ::kill(-pid, SIGKILL);
    return;  // Called again when they were collected.
  }
  for (auto& [number, environment] : found->second.environments) let_go(environment);
  jobs_.erase(found);
  callbacks_.on_job_empty(id);
}

std::string WorkerProcesses::zygote_end(JobId job) const {
  const auto found = jobs_.find(job);
  return found != jobs_.end() ? found->second.zygote_end : "";
}

std::string WorkerProcesses::zygote_log_tail(workers::EnvironmentKey environment) const {
  std::ifstream file(zygote_log(environment));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return text.size() > kLogTailBytes ? text.substr(text.size() - kLogTailBytes) : text;
}

}  // namespace mobula::node
