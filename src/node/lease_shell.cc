#include "node/lease_shell.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "node/log.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

constexpr auto kRefusedPause = std::chrono::milliseconds(10);
constexpr auto kPauseMin = std::chrono::microseconds(500);

scheduler::NodeScheduler::Options scheduler_options(ResourceSet total, uint32_t workers_max) {
  scheduler::NodeScheduler::Options options;
  options.total = std::move(total);
  options.pool.workers_max = workers_max;
  return options;
}

}  // namespace

LeaseShell::LeaseShell(io::Loop& loop, Sessions& sessions, Channels& channels, ResourceSet total,
                       uint32_t workers_max)
    : loop_(loop),
      sessions_(sessions),
      channels_(channels),
      scheduler_(scheduler_options(std::move(total), workers_max)) {}

void LeaseShell::forget(ProcessId process) {
  std::erase_if(leases_, [process](const auto& entry) {
    return entry.second.owner == process || entry.second.worker == process;
  });
  memory_of_.erase(memory_of_.lower_bound({process, 0}), memory_of_.upper_bound({process, ~0U}));
}

// What is no fault of the process is logged and forgotten.
Result<void> LeaseShell::tolerate(Result<void> result, ProcessId process, const char* what) const {
  if (result || result.error().code == ErrorCode::kInvalidArgument) return result;
  log_debug(fmt::format("process={} event={} ignored=\"{}\"", number(process), what,
                        result.error().message));
  return {};
}

Result<bool> LeaseShell::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  const ProcessId process = session.id;
  Result<void> result;
  switch (record.body_type()) {
    case UplinkBody::DefineShape:
      result = tolerate(define_shape(session, *record.body_as_DefineShape()), process, "shape");
      break;
    case UplinkBody::LeaseTarget: {
      const auto* target = record.body_as_LeaseTarget();
      log_debug(fmt::format("owner={} shape={} event=target leases={}", number(process),
                            target->shape(), target->target()));
      result = tolerate(
          scheduler_.set_target(process, scheduler::ShapeId{target->shape()}, target->target()),
          process, "target");
      break;
    }
    case UplinkBody::LeaseReturn:
      result = tolerate(lease_returned(process, LeaseId{record.body_as_LeaseReturn()->lease()}),
                        process, "return");
      break;
    case UplinkBody::Blocked:
      result = tolerate(scheduler_.process_blocked(process), process, "blocked");
      break;
    case UplinkBody::Unblocked:
      result = tolerate(scheduler_.process_unblocked(process), process, "unblocked");
      break;
    default:
      return false;
  }
  MOBULA_TRY(result);
  dirty_ = true;
  return true;
}

Result<void> LeaseShell::add_driver(const Session& driver,
                                    const wire::fb::RuntimeEnvironment* environment) {
  const auto needs = EnvironmentSpecs::needs_of(environment);
  MOBULA_TRY(needs);
  if (environment != nullptr) specs_.add({driver.job, kJobEnvironment}, environment->spec()->str());
  scheduler_.add_driver(driver.id, driver.job, *needs);
  dirty_ = true;
  return {};
}

void LeaseShell::add_job(JobId job, workers::EnvironmentKey like) {
  workers::Environments::Needs needs = scheduler_.environments().needs(like);
  needs.early = false;
  if (needs.preparation) specs_.add({job, kJobEnvironment}, specs_.spec(like));
  scheduler_.add_job(job, needs);
}

Result<void> LeaseShell::define_shape(const Session& session, const wire::fb::DefineShape& record) {
  const auto resources = wire::read_resources(record.resources());
  MOBULA_TRY(resources);
  const auto environment = environment_of(session, record.runtime_environment());
  MOBULA_TRY(environment);
  if (const ResourceAmount memory = resources->get("memory"); memory > 0) {
    memory_of_[{session.id, record.shape()}] = static_cast<uint64_t>(memory / kResourceUnit);
  }
  return scheduler_.define_shape(
      session.id, scheduler::ShapeId{record.shape()}, *resources, record.depth(),
      {record.priority(), *environment, wire::read_bundle(record.bundle())});
}

// Equal specs are one environment of the job.
Result<std::optional<EnvironmentId>> LeaseShell::environment_of(
    const Session& session, const wire::fb::RuntimeEnvironment* record) {
  if (record == nullptr) return std::nullopt;
  std::string spec = record->spec()->str();
  if (const auto known = specs_.find(session.job, spec)) return known;
  const auto needs = EnvironmentSpecs::needs_of(record);
  MOBULA_TRY(needs);
  workers::Environments::Needs later = *needs;
  later.early = false;
  const auto id = scheduler_.add_environment(session.job, later);
  MOBULA_TRY(id);
  specs_.add({session.job, *id}, std::move(spec));
  return *id;
}

Result<void> LeaseShell::lease_returned(ProcessId process, LeaseId id) {
  log_debug(fmt::format("lease={} owner={} event=returned", number(id), number(process)));
  const auto found = leases_.find(id);
  if (found != leases_.end() && found->second.owner == process) {
    channels_.set_epoch(process, found->second.worker, 0);
    leases_.erase(found);
  }
  return scheduler_.lease_returned(process, id, monotonic_now());
}

std::optional<LeaseShell::Work> LeaseShell::work_of(ProcessId worker) const {
  for (const auto& [id, lease] : leases_) {
    if (lease.worker == worker) return Work{lease.memory_bytes, lease.since};
  }
  return std::nullopt;
}

bool LeaseShell::run() {
  if (!std::exchange(dirty_, false)) return false;
  scheduler::Effects effects;
  scheduler_.schedule(monotonic_now(), effects);
  for (const scheduler::Effect& effect : effects) {
    std::visit([this](const auto& decided) { carry_out(decided); }, effect);
  }
  set_timer();
  return true;
}

// Not at once: what is missing comes back with time, or with the news of somebody's death.
void LeaseShell::return_refused() {
  for (const auto& [lease, owner] : std::exchange(refused_, {})) {
    static_cast<void>(
        tolerate(scheduler_.lease_returned(owner, lease, monotonic_now()), owner, "refused lease"));
  }
  refused_timer_.reset();
  dirty_ = true;
}

void LeaseShell::set_timer() {
  const auto deadline = scheduler_.next_deadline();
  if (deadline == timer_at_ && timer_) return;
  timer_at_ = deadline;
  timer_.reset();
  if (!deadline) return;
  // Never at once again: a deadline that does not move must not keep a CPU busy.
  timer_ = loop_.at(std::max(*deadline, monotonic_now() + kPauseMin), [this] {
    timer_at_.reset();
    dirty_ = true;  // run() follows in this turn.
  });
}

void LeaseShell::carry_out(const scheduler::GrantLease& grant) {
  if (callbacks_.granted_to_actor(grant)) return;
  const auto open = [&]() -> Result<ChannelId> {
    if (!channels_.exists(grant.owner, grant.worker)) {
      MOBULA_TRY(callbacks_.before_channel(grant.owner, grant.worker));
    }
    return channels_.open(grant.owner, grant.worker);
  };
  const auto channel = open();
  if (!channel) {
    log_warning(fmt::format("lease={} owner={} worker={} event=no_channel why=\"{}\"",
                            number(grant.lease), number(grant.owner), number(grant.worker),
                            channel.error().message));
    refused_.emplace_back(grant.lease, grant.owner);
    if (!refused_timer_) {
      refused_timer_ = loop_.at(monotonic_now() + kRefusedPause, [this] { return_refused(); });
    }
    return;
  }
  log_debug(fmt::format("lease={} owner={} shape={} worker={} epoch={} event=granted",
                        number(grant.lease), number(grant.owner), number(grant.shape),
                        number(grant.worker), grant.epoch));
  const auto memory = memory_of_.find({grant.owner, number(grant.shape)});
  leases_[grant.lease] = {grant.owner, grant.worker,
                          memory != memory_of_.end() ? memory->second : 0, monotonic_now()};
  channels_.set_epoch(grant.owner, grant.worker, grant.epoch);
  sessions_.send(grant.owner, [&](wire::Builder& builder) {
    const auto gpus = builder.CreateVector(grant.gpus);
    return wire::fb::CreateLeaseGranted(builder, number(grant.lease), number(grant.shape),
                                        number(*channel), grant.epoch, gpus);
  });
}

void LeaseShell::carry_out(const scheduler::ReclaimLease& reclaim) {
  log_debug(fmt::format("lease={} owner={} event=reclaimed", number(reclaim.lease),
                        number(reclaim.owner)));
  sessions_.send(reclaim.owner, [&](wire::Builder& builder) {
    return wire::fb::CreateLeaseReclaim(builder, number(reclaim.lease));
  });
}

void LeaseShell::carry_out(const scheduler::WarnInfeasible& warning) {
  log_warning(fmt::format("owner={} shape={} event=infeasible why=\"{}\"", number(warning.owner),
                          number(warning.shape), warning.text));
  sessions_.send(warning.owner, [&](wire::Builder& builder) {
    return wire::fb::CreateInfeasibleDirect(builder, number(warning.shape), warning.text.c_str(),
                                            warning.for_good);
  });
  callbacks_.infeasible(warning);
}

}  // namespace mobula::node
