#include "node/node.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "node/log.h"
#include "node/machine.h"
#include "node/object_sections.h"
#include "node/session_file.h"
#include "node/state_sections.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

constexpr uint64_t kDescriptorsWanted = 65'536;
// Besides those of workers: for the daemon itself, its log files, zygotes, starts under way.
constexpr uint64_t kDescriptorsReserved = 160;
constexpr uint64_t kDescriptorsPerWorker = 6;
// Below the bell bits of one process, since each may have a channel to every other.
constexpr uint64_t kWorkersMax = 500;
constexpr size_t kFailedStartsMax = 64;
constexpr const char* kDriverLeft = "its driver has left";
constexpr auto kExitPatience = std::chrono::seconds(5);
constexpr auto kActorExitPatience = std::chrono::seconds(30);
constexpr auto kHangupPatience = std::chrono::seconds(1);
constexpr auto kGrace = std::chrono::milliseconds(200);

NodeId random_node_id() {
  uint32_t id = 0;
  while (id == 0) {
    if (::getrandom(&id, sizeof id, 0) != sizeof id) id = static_cast<uint32_t>(::getpid());
  }
  return NodeId{id};
}

uint32_t workers_max() {
  const uint64_t limit = io::descriptor_limit();
  const uint64_t spare = limit > kDescriptorsReserved ? limit - kDescriptorsReserved : 0;
  return static_cast<uint32_t>(std::clamp<uint64_t>(spare / kDescriptorsPerWorker, 1, kWorkersMax));
}

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

void note_ready(LeaseShell& leases, workers::EnvironmentKey environment) {
  leases.scheduler().environment_ready(environment, monotonic_now());
  leases.changed();
}

void note_failed(LeaseShell& leases, workers::EnvironmentKey environment, const std::string& why) {
  leases.scheduler().environment_failed(environment, why);
  leases.changed();
}

std::string text_of(const flatbuffers::String* text) { return text ? text->str() : ""; }

}  // namespace

Result<std::unique_ptr<Node>> Node::open(const NodeOptions& options) {
  io::raise_descriptor_limit(kDescriptorsWanted);
  auto loop = io::Loop::open();
  MOBULA_TRY(loop);
  auto doorbell = Doorbell::open();
  MOBULA_TRY(doorbell);
  auto spill = choose_spill_disk(**loop, options.spill_directory, options.session_directory);
  MOBULA_TRY(spill);
  std::unique_ptr<Node> node(
      new Node(options, std::move(*loop), std::move(*doorbell), std::move(*spill)));
  MOBULA_TRY(node->start());
  return node;
}

Node::Node(const NodeOptions& options, std::unique_ptr<io::Loop> loop,
           std::unique_ptr<Doorbell> doorbell, SpillChoice spill)
    : options_(options),
      id_(random_node_id()),
      loop_(std::move(loop)),
      doorbell_(std::move(doorbell)),
      sessions_(*doorbell_),
      channels_(sessions_),
      cancels_(*loop_, sessions_, channels_),
      store_(*loop_, sessions_,
             {options.object_store_bytes, std::move(spill.disk), std::move(spill.why_not)}),
      dead_sessions_(*loop_, DeadSessionPlaces::beside(options, store_.spill_folder())),
      objects_(sessions_, store_, id_,
               {.on_buried =
                    [this](ProcessId process) {
                      loop_->post([this, process] { sessions_.remove(process); });
                    },
                .heir = [this](JobId job) { return heir_of(job); }}),
      leases_(*loop_, sessions_, channels_, options.resources, workers_max()),
      actors_(*loop_, sessions_, channels_, leases_, objects_),
      groups_(sessions_, leases_),
      key_values_(sessions_),
      uplinks_(sessions_, objects_,
               {.on_record =
                    [this](Session& session, const wire::ToDaemonMessage& message) {
                      on_record(session, message);
                    },
                .on_broken = [this](Session& session,
                                    const std::string& reason) { cut_off(session, reason); }}),
      logs_(*loop_, sessions_, options.session_directory),
      queries_(sessions_, leases_.scheduler(), store_,
               {id_, node::host_name(), options.session_directory}),
      state_(*loop_, sessions_, queries_),
      metrics_({sessions_, leases_.scheduler(), store_, queries_, uplinks_, id_,
                std::filesystem::path(options.session_directory).filename().string()},
               *loop_),
      workers_(
          *loop_, options.session_directory,
          {.on_started = [this](ProcessId worker, pid_t pid) { on_worker_started(worker, pid); },
           .on_ended = [this](ProcessId worker,
                              const Death& death) { on_worker_ended(worker, death); },
           .on_environment_ready = [this](auto key) { note_ready(leases_, key); },
           .on_environment_failed = [this](auto key, auto& why) { note_failed(leases_, key, why); },
           .on_job_empty = [this](JobId job) { on_job_empty(job); }}),
      memory_(*loop_, {.uses = [this] { return memory_uses(); },
                       .kill = [this](const memory::Kill& kill) { kill_for_memory(kill); },
                       .reclaim = [this] { store_.reclaim(); }}) {
  leases_.set_callbacks(
      {.start_worker = [this](const auto& start) { start_worker(start); },
       .stop_worker = [this](const auto& stop) { stop_worker(stop); },
       .start_failed = [this](const auto& failed) { on_start_failed(failed); },
       .prepare_environment =
           [this](const auto& it) {
             workers_.prepare(it.environment, leases_.environment_spec(it.environment));
           },
       .release_environment = [this](const auto& it) { workers_.release(it.environment); },
       .environment_failed = [this](const auto& failed) { on_environment_failed(failed); },
       .infeasible = [this](const auto& warning) { tell_infeasible(warning); },
       .group_changed = [this](PlacementGroupId group) { groups_.on_changed(group); },
       .group_gone = [this](scheduler::DemandId demand) { on_group_gone(demand); },
       .granted_to_actor = [this](const auto& grant) { return actors_.on_granted(grant); },
       .before_channel = [this](ProcessId one,
                                ProcessId other) { return objects_.before_channel(one, other); }});
  connect_actors();
}

void Node::connect_actors() {
  store_.on_long_wait([this](auto& waiting, auto& text) { tell_of_full_store(waiting, text); });
  store_.on_file([this](auto& whose, auto& text) { tell_of_files(whose, text); });
  actors_.set_callbacks(
      {.kill = [this](ProcessId worker,
                      const std::string& reason) { workers_.kill(worker, reason); },
       .ask_to_exit =
           [this](ProcessId worker) {
             ask_to_exit(worker, "nobody has a handle to the actor", kActorExitPatience);
           },
       .make_job = [this](workers::EnvironmentKey like) { return make_detached_job(like); },
       .end_job =
           [this](JobId job) {
             loop_->post([this, job] {
               end_job(job, "its actor has ended");
               finish_job(job);
             });
           }});
  objects_.tell_dropped([this](ObjectId object) { actors_.on_unreachable(object); });
}

void Node::add_state_sections() {
  const scheduler::NodeScheduler& scheduler = leases_.scheduler();
  state_.add_section("resources", [&scheduler] { return resources_json(scheduler); });
  state_.add_section("processes",
                     [this, &scheduler] { return processes_json(sessions_, scheduler); });
  state_.add_section("dead_processes", [this] { return queries_.dead_processes_json(); });
  state_.add_section("forgotten_totals", [this] { return queries_.forgotten_totals_json(); });
  state_.add_section("leases", [&scheduler] { return leases_json(scheduler); });
  state_.add_section("demands", [&scheduler] { return demands_json(scheduler); });
  state_.add_section("store", [this] { return store_json(store_); });
  state_.set_objects([this](size_t max) { return objects_json(objects_, store_, max); });
  state_.add_section("actors", [this] { return actors_json(actors_.registry()); });
  state_.add_section("runtime_envs", [this] { return environments_json(leases_); });
  state_.add_section("placement_groups", [this] { return groups_.json(); });
  state_.add_section("jobs", [this] { return records_.json(); });
}

// Also for who looks for targets in a file, as Prometheus can: on loopback only.
Result<void> Node::serve_metrics() {
  if (options_.metrics_port < 0) return {};
  auto server =
      HttpServer::open(*loop_, options_.metrics_port, "/metrics",
                       [this](HttpServer::Answer answer) { metrics_.write(std::move(answer)); });
  if (!server && options_.metrics_port > 0) return tl::unexpected<Error>(server.error());
  if (!server) {
    log_warning(fmt::format("event=no_metrics why=\"{}\"", server.error().message));
    return {};
  }
  metrics_server_ = std::move(*server);
  queries_.set_metrics_port(metrics_server_->port());
  std::ofstream file(options_.session_directory + "/prom_metrics_service_discovery.json");
  file << fmt::format(R"([{{"labels": {{"job": "mobula"}}, "targets": ["127.0.0.1:{}"]}}])",
                      metrics_server_->port())
       << "\n";
  return {};
}

Node::~Node() {
  if (const Result<void> removed = remove_session_directory(options_); !removed.has_value()) {
    log_error(fmt::format("directory={} event=not_removed why=\"{}\"", options_.session_directory,
                          removed.error().message));
  }
}

Result<void> Node::start() {
  io::adopt_orphans();
  auto signals = io::Signals::open(*loop_, {SIGCHLD, SIGTERM, SIGINT, SIGHUP},
                                   [this](int signal) { on_signal(signal); });
  MOBULA_TRY(signals);
  signals_ = std::move(*signals);
  auto watch = loop_->watch(doorbell_->event_fd(), [this] { doorbell_->clear(); });
  MOBULA_TRY(watch);
  doorbell_watch_ = std::move(*watch);
  log_info(fmt::format("node={:08x} pid={} event=started resources=\"{}\" store_bytes={}",
                       number(id_), ::getpid(), options_.resources.to_string(),
                       options_.object_store_bytes));
  add_state_sections();
  MOBULA_TRY(serve_metrics());
  if (!options_.is_standing()) MOBULA_TRY(add_driver(shm::Fd(options_.driver_fd)));
  auto listening = listen();
  if (!listening && options_.is_standing()) return listening;
  if (!listening) {
    log_warning(fmt::format("event=nobody_can_join why=\"{}\"", listening.error().message));
  }
  return {};
}

void Node::run() {
  loop_->run(*this);
  log_info(fmt::format("node={:08x} event=ended", number(id_)));
}

bool Node::work() {
  bool did = uplinks_.read_some();
  did |= leases_.run();
  did |= store_.run();
  return did;
}

bool Node::prepare_sleep() {
  doorbell_->prepare_sleep();
  return !uplinks_.any_unread() && !leases_.has_work();
}

// ---- processes come
// --------------------------------------------------------------------------------

Result<void> Node::add_driver(shm::Fd socket) {
  ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);  // It came to us through exec.
  const auto peer = io::peer_credentials(socket);
  MOBULA_TRY(peer);
  Session& session = sessions_.add(leases_.scheduler().new_process(), JobId{0}, true);
  session.pid = peer->pid;
  MOBULA_TRY(open_socket(session, std::move(socket)));
  return add_job(session);
}

// Every driver has a job of its own.
Result<void> Node::add_job(Session& session) {
  auto pidfd = io::open_pidfd(session.pid);
  MOBULA_TRY(pidfd);
  auto watch = loop_->watch(pidfd->get(),
                            [this, id = session.id] { on_driver_gone(id, "the driver has died"); });
  MOBULA_TRY(watch);
  session.is_driver = true;
  session.is_guest = false;
  session.job = JobId{next_job_++};
  Job& job = jobs_[session.job];
  job.driver = session.id;
  job.pidfd = std::move(*pidfd);
  job.pidfd_watch = std::move(*watch);
  return {};
}

Result<void> Node::open_socket(Session& session, shm::Fd socket) {
  const ProcessId id = session.id;
  auto opened = io::PacketSocket::open(
      *loop_, std::move(socket),
      {.on_packet =
           [this, id](std::span<const std::byte> bytes, const std::vector<shm::Fd>& descriptors) {
             on_packet(id, bytes, descriptors);
           },
       .on_closed = [this, id](const std::string& reason) { on_socket_closed(id, reason); }});
  MOBULA_TRY(opened);
  session.socket = std::move(*opened);
  return {};
}

// Callbacks of a socket may end its session, so it is destroyed in a later turn.
void Node::close_socket(Session& session) {
  if (!session.socket) return;
  closing_.push_back(std::move(session.socket));
  loop_->post([this] { closing_.clear(); });
}

void Node::on_packet(ProcessId process, std::span<const std::byte> bytes,
                     const std::vector<shm::Fd>& descriptors) {
  Session* session = sessions_.find(process);
  if (session == nullptr || session->broken || !session->socket) return;
  const auto message = wire::ToDaemonMessage::parse(bytes);
  if (!message) return cut_off(*session, message.error().message);
  if (state_.on_packet(*session, message->root(), descriptors)) return;
  const auto* hello = message->root().body_as_Hello();
  if (hello == nullptr || session->welcomed) {
    return cut_off(*session, "only one Hello is expected on the socket");
  }
  if (const auto welcomed = on_hello(*session, *hello); !welcomed) {
    refuse(*session, welcomed.error().message);
  }
}

Result<void> Node::on_hello(Session& session, const wire::fb::Hello& hello) {
  if (hello.protocol() != wire::kControlProtocol) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("this process speaks version {} of the protocol and the daemon {}: "
                            "they are of different installations",
                            hello.protocol(), wire::kControlProtocol));
  }
  if (session.is_guest) return on_guest_hello(session, hello);
  const bool is_driver = hello.kind() == wire::fb::ProcessKind::driver;
  if (is_driver != session.is_driver || hello.kind() == wire::fb::ProcessKind::observer) {
    return fail(ErrorCode::kInvalidArgument, "this socket is for another kind of process");
  }
  if (is_driver) return welcome_driver(session, hello);
  // Its pid comes from who forked it, by another socket: most often before.
  session.said_hello = true;
  return session.pid != 0 ? welcome_worker(session) : Result<void>{};
}

Result<void> Node::welcome_driver(Session& session, const wire::fb::Hello& hello) {
  Job& job = jobs_.at(session.job);
  job.setup.python = text_of(hello.python());
  job.setup.working_directory = text_of(hello.working_directory());
  if (hello.sys_path() != nullptr) {
    for (const auto* entry : *hello.sys_path()) job.setup.sys_path.push_back(entry->str());
  }
  if (hello.environment() != nullptr) {
    for (const auto* variable : *hello.environment()) {
      job.setup.environment.push_back(variable->name()->str() + "=" + variable->value()->str());
    }
  }
  job.setup.log_to_driver = hello.log_to_driver();
  job.setup.job_namespace = text_of(hello.job_namespace());
  job.setup.descriptors_max = io::descriptor_limit_of(session.pid);
  // First: who cannot have workers is refused, and told why.
  const bool is_prepared = hello.runtime_environment() == nullptr;
  if (auto added = workers_.add_job(session.job, job.setup, is_prepared); !added) {
    workers_.forget_job(session.job);
    return fail(added.error().code, "workers of this program: " + added.error().message);
  }
  MOBULA_TRY(welcome(session));
  MOBULA_TRY(leases_.add_driver(session, hello.runtime_environment()));
  job.welcomed = true;
  records_.begin(session.job, session.id, session.pid, job.setup.job_namespace);
  log_info(fmt::format("job={} event=started driver_pid={} python={}", number(session.job),
                       session.pid, job.setup.python));
  return {};
}

Result<void> Node::welcome_worker(Session& session) {
  MOBULA_TRY(welcome(session));
  if (const auto job = jobs_.find(session.job); job != jobs_.end()) job->second.had_workers = true;
  if (const auto ready = leases_.scheduler().worker_ready(session.id, monotonic_now()); !ready) {
    log_debug(fmt::format("process={} event=not_needed why=\"{}\"", number(session.id),
                          ready.error().message));
  }
  leases_.changed();
  return {};
}

Result<void> Node::welcome(Session& session) {
  if (!session.is_guest) MOBULA_TRY(objects_.add_process(session.id, session.job));
  MOBULA_TRY(sessions_.share_memory(session));
  session.welcomed = true;
  const auto found = jobs_.find(session.job);
  const JobSetup setup = found != jobs_.end() ? found->second.setup : JobSetup{};
  const std::vector<int> descriptors = sessions_.welcome_descriptors(session);
  const std::string name = std::filesystem::path(options_.session_directory).filename().string();
  sessions_.send(
      session,
      [&](wire::Builder& builder) {
        return wire::fb::CreateWelcomeDirect(builder, number(id_), number(session.id),
                                             number(session.job), setup.job_namespace.c_str(),
                                             name.c_str(), options_.session_directory.c_str(),
                                             setup.log_to_driver, options_.object_store_bytes);
      },
      descriptors);
  return {};
}

void Node::refuse(Session& session, const std::string& reason) {
  sessions_.send(session, [&](wire::Builder& builder) {
    return wire::fb::CreateRefusedDirect(builder, reason.c_str());
  });
  cut_off(session, reason);
}

// ---- processes say something
// -----------------------------------------------------------------------

void Node::on_record(Session& session, const wire::ToDaemonMessage& message) {
  const auto handled = dispatch(session, message.root());
  if (!handled) return cut_off(session, handled.error().message);
  if (!*handled) {
    cut_off(session,
            fmt::format("a record of kind {} is not expected", static_cast<int>(message.type())));
  }
}

Result<bool> Node::dispatch(Session& session, const wire::fb::ToDaemon& record) {
  if (session.is_guest) return on_guest_record(session, record);
  switch (record.body_type()) {
    case UplinkBody::Query:
      state_.answer(session, *record.body_as_Query());
      return true;
    case UplinkBody::BrokenPeer:
      MOBULA_TRY(on_broken_peer(session, *record.body_as_BrokenPeer()));
      return true;
    case UplinkBody::Leave:
      if (!session.is_driver) return fail(ErrorCode::kInvalidArgument, "a worker cannot leave");
      end_job(session.job, kDriverLeft);
      return true;
    default:
      break;
  }
  auto handled = leases_.on_record(session, record);
  if (handled && !*handled) handled = cancels_.on_record(session, record);
  if (handled && !*handled) handled = actors_.on_record(session, record);
  if (handled && !*handled) handled = groups_.on_record(session, record);
  if (handled && !*handled) handled = key_values_.on_record(session, record);
  if (handled && !*handled) handled = objects_.on_record(session, record);
  if (handled && !*handled) handled = store_.on_record(session, record);
  return handled;
}

Result<void> Node::on_broken_peer(Session& session, const wire::fb::BrokenPeer& record) {
  const ProcessId peer{record.peer()};
  if (!channels_.exists(session.id, peer) && !channels_.exists(peer, session.id)) return {};
  Session* broken = sessions_.find(peer);
  if (broken == nullptr) return {};
  if (broken->is_driver && !session.is_driver) {
    // Either may have written it. A worker is replaced; with the driver its whole job would go.
    cut_off(session,
            fmt::format("what it shares with its driver is broken: {}", text_of(record.reason())));
    return {};
  }
  cut_off(*broken,
          fmt::format("process {} says: {}", number(session.id), text_of(record.reason())));
  return {};
}

// The process did what no healthy one does. It goes; nobody else notices.
void Node::cut_off(Session& session, const std::string& reason) {
  if (std::exchange(session.broken, true)) return;
  log_error(fmt::format("process={} pid={} event=cut_off why=\"{}\"", number(session.id),
                        session.pid, reason));
  if (session.is_guest) {
    loop_->post([this, id = session.id, reason] { on_guest_gone(id, reason); });
  } else if (session.is_driver) {
    loop_->post([this, id = session.id, reason] { on_driver_gone(id, reason); });
  } else {
    workers_.kill(session.id, reason);
  }
}

// ---- workers come and go
// ---------------------------------------------------------------------------

void Node::start_worker(const scheduler::StartWorker& start) {
  const auto job = jobs_.find(start.job);
  const auto try_start = [&]() -> Result<void> {
    auto pipes = workers_.start({start.job, start.environment}, start.worker);
    MOBULA_TRY(pipes);
    Session& session = sessions_.add(start.worker, start.job, false);
    const bool logged = job != jobs_.end() && job->second.setup.log_to_driver;
    MOBULA_TRY(logs_.add(start.worker, logged ? job->second.driver : kDaemonProcess,
                         std::move(pipes->output), std::move(pipes->errors)));
    return open_socket(session, std::move(pipes->socket));
  };
  const auto started = try_start();
  if (started) return;
  log_warning(fmt::format("worker={} event=not_started why=\"{}\"", number(start.worker),
                          started.error().message));
  if (workers_.is_running(start.worker)) {
    workers_.kill(start.worker, started.error().message);
    return;
  }
  // Not from within the carrying out of effects.
  loop_->post([this, worker = start.worker, why = started.error().message] {
    on_worker_ended(worker, {{0, 1}, "it could not be started: " + why});
  });
}

void Node::stop_worker(const scheduler::StopWorker& stop) {
  const Session* session = sessions_.find(stop.worker);
  const auto job = session != nullptr ? jobs_.find(session->job) : jobs_.end();
  if (job != jobs_.end() && job->second.grace) return;  // It was asked to exit, or killed.
  if (stop.reason != scheduler::StopReason::kIdle) {
    static constexpr std::array kReasons = {"it is idle", "it did not start in time",
                                            "who it worked for is gone", "its job has ended",
                                            "its placement group was removed"};
    return workers_.kill(stop.worker, kReasons[static_cast<size_t>(stop.reason)]);
  }
  ask_to_exit(stop.worker, "it was idle", kExitPatience);
}

void Node::ask_to_exit(ProcessId worker, const char* why, Duration patience) {
  sessions_.send(
      worker, [why](wire::Builder& builder) { return wire::fb::CreateExitDirect(builder, why); });
  deadlines_[worker] = loop_->at(monotonic_now() + patience, [this, worker] {
    workers_.kill(worker, "it did not exit when it was asked to");
  });
}

void Node::on_group_gone(scheduler::DemandId demand) {
  if (actors_.on_group_gone(demand.owner)) return;
  sessions_.send(demand.owner, [&](wire::Builder& builder) {
    return wire::fb::CreateGroupGone(builder, number(demand.shape));
  });
}

void Node::tell_infeasible(const scheduler::WarnInfeasible& warning) {
  const Session* session = sessions_.find(warning.owner);
  const ObjectId actor = actors_.on_infeasible(warning.owner, warning.text, warning.for_good);
  JobId job{};
  if (!actor.is_nil()) {
    job = actors_.job_of(actor);
  } else if (session != nullptr && !session->is_driver) {
    job = session->job;
  }
  const auto found = jobs_.find(job);
  if (found != jobs_.end()) logs_.tell(found->second.driver, warning.text);
}

void Node::on_worker_started(ProcessId worker, pid_t pid) {
  logs_.set_pid(worker, pid);
  Session* session = sessions_.find(worker);
  if (session == nullptr) return;
  session->pid = pid;
  memory_.on_worker_started(pid);
  memory_.set_needed(true);
  log_debug(fmt::format("worker={} event=started pid={}", number(worker), pid));
  if (!session->said_hello || session->broken) return;
  if (const auto welcomed = welcome_worker(*session); !welcomed) {
    refuse(*session, welcomed.error().message);
  }
}

void Node::on_worker_ended(ProcessId worker, const Death& death) {
  deadlines_.erase(worker);
  memory_.on_process_gone(worker);
  Session* session = sessions_.find(worker);
  const auto job = session != nullptr ? jobs_.find(session->job) : jobs_.end();
  std::string tail;
  if (session != nullptr) {
    uplinks_.drain(*session);  // What it said before its end counts (R18).
    tail = logs_.finish(worker);
    log_info(fmt::format("worker={} pid={} event=ended cause=\"{}\"", number(worker), session->pid,
                         death.cause));
  }
  if (session == nullptr || !session->welcomed) {
    failed_starts_[worker] = "The last one: " + death.cause + (tail.empty() ? "" : "\n" + tail);
    if (failed_starts_.size() > kFailedStartsMax) failed_starts_.erase(failed_starts_.begin());
  }
  static_cast<void>(leases_.scheduler().process_exited(worker, monotonic_now()));
  leases_.changed();
  const std::string last_words = tail.empty() ? "" : "\nIts last lines on stderr:\n" + tail;
  actors_.on_worker_died(worker, death.cause + "." + last_words);
  if (session != nullptr) bury(*session, {session->pid, death, std::move(tail)});
  if (job != jobs_.end() && job->second.grace && workers_.count(job->first) == 0) {
    end_grace(job->first);
  }
  if (!workers_.any()) memory_.set_needed(false);
}

// The order matters: first nothing of it can be started any more, then its peers learn of it.
void Node::bury(Session& session, Obituary obituary) {
  const ProcessId id = session.id;
  close_socket(session);
  channels_.forget(id);
  leases_.forget(id);
  actors_.on_process_gone(id);
  groups_.on_process_gone(id);
  key_values_.on_process_gone(id);
  state_.forget(id);
  metrics_.keep(session);
  queries_.keep_trace(session, obituary.death.cause,
                      obituary.death.status.signal == 0 && obituary.death.status.exit_code == 0);
  session.uplink.reset();
  session.bell_fd.reset();
  if (session.welcomed) {
    objects_.on_process_died(id, std::move(obituary));
  } else {
    loop_->post([this, id] { sessions_.remove(id); });
  }
}

void Node::on_socket_closed(ProcessId process, const std::string& reason) {
  Session* session = sessions_.find(process);
  if (session == nullptr || !session->socket) return;
  if (session->is_guest) return on_guest_gone(process, reason);
  if (session->is_driver) return on_driver_gone(process, "its connection has ended: " + reason);
  // Most likely it is just ending. Without a socket it is of no use to anybody.
  deadlines_[process] = loop_->at(monotonic_now() + kHangupPatience, [this, process] {
    workers_.kill(process, "it closed its connection");
  });
}

// ---- jobs end
// --------------------------------------------------------------------------------------

void Node::on_driver_gone(ProcessId driver, const std::string& reason) {
  Session* session = sessions_.find(driver);
  if (session == nullptr || !session->socket) return;
  log_info(fmt::format("job={} event=driver_gone why=\"{}\"", number(session->job), reason));
  const JobId job = session->job;
  uplinks_.drain(*session);
  if (const auto found = jobs_.find(job); found != jobs_.end()) found->second.pidfd_watch.reset();
  bury(*session, {session->pid, {{}, "the driver has ended"}, ""});
  static_cast<void>(leases_.scheduler().process_exited(driver, monotonic_now()));
  end_job(job, "its driver is gone");
  finish_job(job);
}

void Node::end_job(JobId id, const std::string& reason) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || std::exchange(found->second.ending, true)) return;
  log_info(fmt::format("job={} event=ending why=\"{}\"", number(id), reason));
  records_.ending(id, reason, reason == kDriverLeft);
  static_cast<void>(leases_.scheduler().job_ended(id));
  leases_.changed();
  if (!found->second.welcomed) {  // One that was refused may have a zygote, and nothing else.
    found->second.empty = true;
    workers_.end_job(id);
    return;
  }
  actors_.on_job_ended(id, "its job has ended: " + reason);
  objects_.on_job_ended(id, "The job has ended: " + reason + ".");
  const Session* driver = sessions_.find(found->second.driver);
  if (driver != nullptr && driver->socket) return ask_workers_to_exit(id, found->second);
  workers_.end_job(id);  // There is nobody to print for.
}

// Those that are busy are killed a moment later.
void Node::ask_workers_to_exit(JobId id, Job& job) {
  job.grace = loop_->at(monotonic_now() + kGrace, [this, id] { end_grace(id); });
  for (const auto& [worker, session] : sessions_.all()) {
    if (session->job != id || session->is_driver) continue;
    if (session->welcomed) {
      sessions_.send(*session, [](wire::Builder& builder) {
        return wire::fb::CreateExitDirect(builder, "the job has ended");
      });
    } else {
      workers_.kill(worker, "its job has ended");
    }
  }
  if (workers_.count(id) == 0) end_grace(id);
}

void Node::end_grace(JobId id) {
  const auto found = jobs_.find(id);
  if (found != jobs_.end()) found->second.grace.reset();
  workers_.end_job(id);
}

void Node::on_job_empty(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  found->second.empty = true;
  logs_.tell_dropped(found->second.driver);
  const bool stays = goes_on_without(id);
  if (!stays) listener_.reset();  // What it tells the driver must stay true.
  sessions_.send(found->second.driver, [stays](wire::Builder& builder) {
    return wire::fb::CreateGoodbye(builder, stays);
  });
  loop_->post([this, id] { finish_job(id); });
}

// Over, if nothing of it is left. The daemon goes with the last one.
void Node::finish_job(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.ending || !found->second.empty) return;
  Session* driver = sessions_.find(found->second.driver);
  if (driver != nullptr && driver->socket && !terminating_) return;  // It has yet to close.
  queries_.forget_job(id);
  logs_.keep_file(workers_.zygote_log({id, kJobEnvironment}));
  leases_.forget_job(id);
  records_.over(id);
  log_info(fmt::format("job={} event=over", number(id)));
  jobs_.erase(found);
  if (!goes_on_without(id)) end_detached_jobs();
  stop_if_unused();
}

// A detached actor works for a job of its own, which no driver ends.
JobId Node::make_detached_job(workers::EnvironmentKey like) {
  const JobId id{next_job_++};
  Job& job = jobs_[id];
  job.setup = jobs_.at(like.job).setup;
  job.setup.log_to_driver = false;
  job.welcomed = true;
  job.is_detached = true;
  leases_.add_job(id, like);
  const auto added =
      workers_.add_job(id, job.setup, leases_.environment_spec({id, kJobEnvironment}).empty());
  if (!added) {  // Tried again for its first worker.
    log_error(
        fmt::format("job={} event=zygote_failed why=\"{}\"", number(id), added.error().message));
  }
  log_info(fmt::format("job={} event=started detached_from={}", number(id), number(like.job)));
  return id;
}

// The daemon is about to end.
void Node::end_detached_jobs() {
  std::vector<JobId> ids;
  for (const auto& [id, job] : jobs_) {
    if (job.is_detached) ids.push_back(id);
  }
  for (const JobId id : ids) {
    end_job(id, "the node daemon ends");
    finish_job(id);
  }
}

bool Node::goes_on_without(JobId id) const {
  if (terminating_) return false;
  return options_.is_standing() || std::ranges::any_of(jobs_, [id](const auto& job) {
           return job.first != id && !job.second.is_detached;
         });
}

void Node::stop_if_unused() {
  if (jobs_.empty() && (terminating_ || !options_.is_standing())) loop_->stop();
}

void Node::on_signal(int signal) {
  if (signal == SIGCHLD) return workers_.collect();
  log_info(fmt::format("event=signal number={}", signal));
  terminating_ = true;
  listener_.reset();
  const std::string reason =
      fmt::format("the node daemon was told to end ({})", signal_name(signal));
  std::vector<JobId> ids;
  for (const auto& [id, job] : jobs_) {
    ids.push_back(id);
    sessions_.send(job.driver, [&](wire::Builder& builder) {
      return wire::fb::CreateExitDirect(builder, reason.c_str());
    });
  }
  for (const JobId id : ids) {
    end_job(id, reason);
    finish_job(id);
  }
  stop_if_unused();
}

}  // namespace mobula::node
