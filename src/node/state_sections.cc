#include "node/state_sections.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/function_name.h"
#include "shm/trace.h"

namespace mobula::node {

namespace {

using nlohmann::json;

// Names of tasks are bytes that a process chose.
std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json amounts(const ResourceSet& resources) {
  json object = json::object();
  for (const auto& [name, amount] : resources.amounts()) object[name] = amount;
  return object;
}

const char* name_of(workers::WorkerPool::Shown state) {
  using Shown = workers::WorkerPool::Shown;
  switch (state) {
    case Shown::kStarting:
      return "starting";
    case Shown::kIdle:
      return "idle";
    case Shown::kLeased:
      return "leased";
    case Shown::kStopping:
      return "stopping";
  }
  return "";
}

const char* name_of(shm::WaitsIn what) {
  if (what == shm::WaitsIn::kGet) return "get";
  return what == shm::WaitsIn::kWait ? "wait" : "";
}

json running_json(const Session& session) {
  const auto running = shm::home_header(session.home.data()).running.load();
  if (!running || running->task == 0) return nullptr;
  const shm::TraceReader reader(session.home.data() + shm::kTraceOffset);
  return {{"task", running->task},
          {"caller", running->caller},
          {"name", shown_name(reader.total(running->name).name)},
          {"start_ns", running->start_ns}};
}

}  // namespace

namespace {

// Ray's words.
const char* state_of(const actors::ActorRegistry::Actor& actor) {
  switch (actor.phase) {
    case actors::Phase::kPlacing:
    case actors::Phase::kCreating:
      return actor.restarts > 0 ? "RESTARTING" : "PENDING_CREATION";
    case actors::Phase::kAlive:
      return "ALIVE";
    case actors::Phase::kDead:
      break;
  }
  return "DEAD";
}

const char* kind_of(const actors::Death& death) {
  if (death.in_constructor) return "constructor";
  if (death.unschedulable || death.group_removed) return "unschedulable";
  if (death.environment_failed) return "environment";
  switch (death.reason) {
    case actors::DeathReason::kWorkerDied:
      return "worker";
    case actors::DeathReason::kKilled:
      return "killed";
    case actors::DeathReason::kOutOfScope:
      return "out_of_scope";
    case actors::DeathReason::kJobEnded:
      return "job";
    case actors::DeathReason::kOther:
      break;
  }
  return "other";
}

json actor_json(ObjectId id, const actors::ActorRegistry::Actor& actor) {
  json entry = {{"actor", actors::actor_hex(id)},
                {"class_name", actor.options.class_name},
                {"state", state_of(actor)},
                {"job", number(actor.options.job)},
                {"name", actor.options.name},
                {"namespace", actor.options.name_space},
                {"worker", number(actor.worker)},
                {"pid", actor.pid},
                {"repr", actor.repr},
                {"restarts", actor.restarts},
                {"detached", actor.options.detached},
                {"resources", amounts(actor.options.resources)},
                {"cpus_for_life", actor.options.cpus_for_life},
                {"group", number(actor.options.group)},
                {"death", nullptr}};
  if (actor.death != nullptr) {
    const actors::Death& death = *actor.death;
    entry["death"] = {{"kind", kind_of(death)},
                      {"why", death.why.empty() ? death.text : death.why},
                      {"text", death.text}};
  }
  return entry;
}

}  // namespace

std::string actors_json(const actors::ActorRegistry& registry) {
  json list = json::array();
  for (const auto& [id, actor] : registry.all()) list.push_back(actor_json(id, actor));
  const auto& forgotten = registry.forgotten();
  for (auto last = forgotten.rbegin(); last != forgotten.rend(); ++last) {
    list.push_back(actor_json(last->first, last->second));
    list.back()["forgotten"] = true;
  }
  return dump(list);
}

std::string resources_json(const scheduler::NodeScheduler& scheduler) {
  return dump(
      {{"total", amounts(scheduler.total())}, {"available", amounts(scheduler.available())}});
}

std::string processes_json(Sessions& sessions, const scheduler::NodeScheduler& scheduler) {
  std::map<ProcessId, workers::WorkerPool::Description> pool;
  for (const auto& worker : scheduler.pool().describe()) pool[worker.worker] = worker;
  json list = json::array();
  for (const auto& [id, session] : sessions.all()) {
    if (session->is_guest) continue;  // It only looks on, as we do.
    json entry = {{"process", number(id)},
                  {"pid", session->pid},
                  {"job", number(session->job)},
                  {"is_driver", session->is_driver},
                  {"welcomed", session->welcomed},
                  {"alive", session->socket != nullptr},
                  {"started_ns", session->started.count()}};
    if (const auto found = pool.find(id); found != pool.end()) {
      entry["state"] = name_of(found->second.state);
      entry["since_ns"] = found->second.since.count();
    }
    if (session->home.valid()) {
      const shm::LiveTasks& live = shm::home_header(session->home.data()).live;
      entry["unfinished"] = live.unfinished.load(std::memory_order_relaxed);
      if (!session->is_driver) {
        entry["running"] = running_json(*session);
        const auto& waits_in = shm::home_header(session->home.data()).waits_in;
        entry["waits_in"] = name_of(waits_in.load(std::memory_order_relaxed));
      }
    }
    list.push_back(std::move(entry));
  }
  return dump(list);
}

std::string leases_json(const scheduler::NodeScheduler& scheduler) {
  json list = json::array();
  for (const auto& [id, lease] : scheduler.leases().all()) {
    list.push_back({{"lease", number(id)},
                    {"owner", number(lease.demand.owner)},
                    {"shape", number(lease.demand.shape)},
                    {"worker", number(lease.worker)},
                    {"resources", amounts(lease.holding.amounts)},
                    {"cpus", lease.cpus},
                    {"group", number(lease.holding.bundle.group)},
                    {"blocked", lease.is_blocked},
                    {"reclaimed", lease.is_reclaimed},
                    {"orphan", lease.is_orphan},
                    {"granted_ns", lease.granted_at.count()}});
  }
  return dump(list);
}

std::string demands_json(const scheduler::NodeScheduler& scheduler) {
  json list = json::array();
  for (const auto& [id, owner] : scheduler.demands().owners()) {
    for (const auto& [shape, demand] : owner.shapes) {
      if (demand.target == 0 && demand.leases.empty()) continue;
      json entry = {{"owner", number(id)},
                    {"job", number(owner.job)},
                    {"shape", number(shape)},
                    {"environment", number(demand.environment)},
                    {"depth", demand.depth},
                    {"resources", amounts(demand.resources)},
                    {"target", demand.target},
                    {"leases", demand.leases.size()},
                    {"feasible", demand.is_feasible},
                    {"capped", scheduler.is_capped(demand)}};
      if (demand.bundle.in_group()) {
        entry["group"] = number(demand.bundle.group);
        entry["bundle"] = demand.bundle.index;
      }
      if (demand.waiting_since && demand.target > demand.leases.size()) {
        entry["waiting_since_ns"] = demand.waiting_since->count();
      }
      list.push_back(std::move(entry));
    }
  }
  return dump(list);
}

std::string environments_json(const LeaseShell& leases) {
  std::map<workers::EnvironmentKey, uint64_t> workers;
  const scheduler::NodeScheduler& scheduler = leases.scheduler();
  for (const auto& worker : scheduler.pool().describe()) {
    ++workers[scheduler.pool().environment_of(worker.worker)];
  }
  json list = json::array();
  for (const auto& environment : scheduler.environments().describe()) {
    const auto found = workers.find(environment.environment);
    list.push_back({{"job", number(environment.environment.job)},
                    {"environment", number(environment.environment.id)},
                    {"spec", leases.environment_spec(environment.environment)},
                    {"state", environment.state},
                    {"since_ns", environment.since.count()},
                    {"took_ns", environment.took.count()},
                    {"failure", environment.failure},
                    {"workers", found == workers.end() ? 0 : found->second}});
  }
  return dump(list);
}

}  // namespace mobula::node
