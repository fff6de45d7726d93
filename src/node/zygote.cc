#include "node/zygote.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "node/log.h"
#include "node/setup_memory.h"

namespace mobula::node {

namespace {

using nlohmann::json;

// Finds the package as the driver found it: with the driver's sys.path (setup_memory.h).
constexpr const char* kBootstrap =
    "import os,sys;"
    "texts=os.fsdecode(open(int(sys.argv[4]),'rb').read()).split('\\0');"
    "after=1+int(texts[0]);"
    "sys.path[:]=texts[1:after];"
    "from mobula import _zygote;"
    "_zygote.main(sys.argv[1:],texts[after:])";

// The last of `descriptors` is a socket.
Result<pid_t> start_python(const JobSetup& setup, const char* role, std::vector<int> descriptors) {
  Variables variables = split_variables(setup.environment);
  const auto memory = make_setup_memory({setup.sys_path, setup.environment_spec, variables.late});
  MOBULA_TRY(memory);
  io::Program program;
  program.path = setup.python;
  const size_t socket = descriptors.size();  // In the child.
  descriptors.push_back(memory->get());
  program.arguments = {setup.python,
                       "-c",
                       kBootstrap,
                       role,
                       std::to_string(socket),
                       std::to_string(::getpid()),
                       std::to_string(descriptors.size())};
  program.environment = std::move(variables.now);
  if (!setup.environment_spec.empty()) {
    program.environment.push_back("MOBULA_SESSION_DIRECTORY=" + setup.session_directory);
  }
  program.working_directory = setup.working_directory;
  program.descriptors = std::move(descriptors);
  program.descriptors_max = setup.descriptors_max;
  return io::spawn(program);
}

}  // namespace

Zygote::Zygote(const JobSetup& setup, Callbacks callbacks)
    : setup_(setup), callbacks_(std::move(callbacks)) {}

Result<std::unique_ptr<Zygote>> Zygote::start(io::Loop& loop, const JobSetup& setup,
                                              const std::string& log_path, Callbacks callbacks) {
  const shm::Fd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) {
    return fail(ErrorCode::kUnavailable, log_path + ": " + std::strerror(errno));
  }
  auto pair = io::make_packet_pair();
  MOBULA_TRY(pair);
  std::unique_ptr<Zygote> zygote(new Zygote(setup, std::move(callbacks)));
  auto pid = start_python(setup, "zygote", {log.get(), log.get(), pair->theirs.get()});
  MOBULA_TRY(pid);
  zygote->pid_ = *pid;
  Zygote* raw = zygote.get();
  auto socket = io::PacketSocket::open(
      loop, std::move(pair->ours),
      {.on_packet = [raw](std::span<const std::byte> bytes,
                          const std::vector<shm::Fd>&) { raw->on_packet(bytes); },
       .on_closed = [raw](const std::string& reason) { raw->fail_all(reason); }});
  MOBULA_TRY(socket);
  zygote->socket_ = std::move(*socket);
  return zygote;
}

void Zygote::fork(ProcessId worker, WorkerEnds ends) {
  const std::string request = json{{"op", "fork"}, {"worker", number(worker)}}.dump();
  const std::array<int, 3> descriptors = {ends.socket.get(), ends.output.get(), ends.errors.get()};
  pending_.emplace(worker, std::move(ends));
  socket_->send(std::as_bytes(std::span(request)), descriptors);
}

void Zygote::on_packet(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const json answer = json::parse(text, nullptr, false);
  if (answer.is_object() && answer.contains("ready")) return callbacks_.on_ready();
  if (answer.is_object() && answer.contains("unfit")) {
    const json& why = answer["unfit"];
    return callbacks_.on_unfit(why.is_string() ? why.get<std::string>() : "");
  }
  if (!answer.is_object() || !answer.value("worker", json()).is_number_unsigned()) {
    log_warning(fmt::format("zygote_pid={} event=bad_answer", pid_));
    return;
  }
  const ProcessId worker{answer["worker"].get<uint32_t>()};
  const auto found = pending_.find(worker);
  if (found == pending_.end()) return;
  const WorkerEnds ends = std::move(found->second);
  pending_.erase(found);
  const json pid = answer.value("pid", json());
  if (pid.is_number_integer() && pid.get<int64_t>() > 1) {
    callbacks_.on_started(worker, static_cast<pid_t>(pid.get<int64_t>()));
    return;
  }
  const json why = answer.value("error", json());
  log_warning(fmt::format("zygote_pid={} event=cannot_fork why=\"{}\"", pid_,
                          why.is_string() ? why.get<std::string>() : ""));
  start_fresh(worker, ends);
}

void Zygote::start_fresh(ProcessId worker, const WorkerEnds& ends) {
  const auto pid =
      start_python(setup_, "worker", {ends.output.get(), ends.errors.get(), ends.socket.get()});
  if (pid) {
    callbacks_.on_started(worker, *pid);
  } else {
    callbacks_.on_failed(worker, pid.error().message);
  }
}

void Zygote::fail_all(const std::string& reason) {
  callbacks_.on_gone(reason);  // First: who is told of a failure below may want another zygote.
  abandon(reason);
}

void Zygote::abandon(const std::string& reason) {
  const auto pending = std::exchange(pending_, {});
  for (const auto& [worker, ends] : pending) {
    callbacks_.on_failed(worker, "the zygote ended: " + reason);
  }
}

}  // namespace mobula::node
