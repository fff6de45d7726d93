#include "node/group_shell.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "node/log.h"
#include "wire/limits.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

constexpr const char* kGone = "it does not exist";
// Of one group; more are refused before they take any memory.
constexpr size_t kBundlesMax = 10'000;

std::string text_of(const flatbuffers::String* text) { return text ? text->str() : ""; }

const char* name_of(scheduler::GroupState state) {
  switch (state) {
    case scheduler::GroupState::kPending:
      return "PENDING";
    case scheduler::GroupState::kPlaced:
      return "CREATED";
    case scheduler::GroupState::kRemoved:
      break;
  }
  return "REMOVED";
}

const char* name_of(scheduler::GroupStrategy strategy) {
  switch (strategy) {
    case scheduler::GroupStrategy::kPack:
      return "PACK";
    case scheduler::GroupStrategy::kSpread:
      return "SPREAD";
    case scheduler::GroupStrategy::kStrictPack:
      return "STRICT_PACK";
    case scheduler::GroupStrategy::kStrictSpread:
      break;
  }
  return "STRICT_SPREAD";
}

Result<std::vector<ResourceSet>> read_bundles(const wire::fb::GroupCreate& record) {
  std::vector<ResourceSet> bundles;
  size_t text_bytes = 0;
  for (const auto* run : *record.bundles()) {
    const auto resources = wire::read_resources(run->resources());
    MOBULA_TRY(resources);
    if (run->count() > kBundlesMax - bundles.size()) {
      return fail(ErrorCode::kRetryLater,
                  fmt::format("a placement group has at most {} bundles", kBundlesMax));
    }
    size_t of_bundle = 0;
    for (const auto& [name, amount] : resources->amounts()) {
      of_bundle += name.size() + wire::kGroupAmountBytes;
    }
    text_bytes += of_bundle * run->count();
    if (text_bytes > wire::kGroupTextBytesMax) {
      return fail(ErrorCode::kRetryLater,
                  fmt::format("the names of what its bundles reserve have more than {} bytes",
                              wire::kGroupTextBytesMax));
    }
    bundles.insert(bundles.end(), run->count(), *resources);
  }
  return bundles;
}

}  // namespace

Result<bool> GroupShell::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  switch (record.body_type()) {
    case UplinkBody::GroupCreate:
      MOBULA_TRY(on_create(session, *record.body_as_GroupCreate()));
      return true;
    case UplinkBody::GroupRemove: {
      const PlacementGroupId group{record.body_as_GroupRemove()->group()};
      const auto removed = leases_.scheduler().remove_group(group);
      log_info(fmt::format("group={} event=removed by={} found={}", number(group),
                           number(session.id), removed.has_value()));
      leases_.changed();
      return true;
    }
    case UplinkBody::GroupWait:
      on_wait(session, *record.body_as_GroupWait());
      return true;
    case UplinkBody::GroupWaitOver: {
      const auto* over = record.body_as_GroupWaitOver();
      if (const auto found = waits_.find(session.id); found != waits_.end()) {
        found->second.erase({PlacementGroupId{over->group()}, over->request()});
        if (found->second.empty()) waits_.erase(found);
      }
      return true;
    }
    default:
      return false;
  }
}

Result<void> GroupShell::on_create(const Session& session, const wire::fb::GroupCreate& record) {
  scheduler::PlacementGroup group;
  auto bundles = read_bundles(record);
  if (!bundles && bundles.error().code == ErrorCode::kRetryLater) {
    answer(session.id, record.request(), kNoGroup, bundles.error().message);
    return {};
  }
  MOBULA_TRY(bundles);
  if (record.strategy() > wire::fb::GroupStrategy::MAX) {
    return fail(ErrorCode::kInvalidArgument, "a placement group of no known strategy");
  }
  group.job = session.job;
  group.detached = record.detached();
  group.name = text_of(record.name());
  group.name_space = text_of(record.namespace_name());
  group.strategy = static_cast<scheduler::GroupStrategy>(record.strategy());
  group.bundles = std::move(*bundles);
  group.is_feasible = !record.infeasible();
  const auto id = leases_.scheduler().add_group(std::move(group), monotonic_now());
  if (!id) {
    answer(session.id, record.request(), kNoGroup, id.error().message);
    return {};
  }
  const auto* added = leases_.scheduler().groups().find(*id);
  log_info(fmt::format("group={} name={} bundles={} feasible={} event=created by={}", number(*id),
                       added->name, added->bundles.size(), added->is_feasible, number(session.id)));
  leases_.changed();
  answer(session.id, record.request(), *id, "");
  return {};
}

void GroupShell::on_wait(const Session& session, const wire::fb::GroupWait& record) {
  const PlacementGroupId group{record.group()};
  if (answer_wait(session.id, record.request(), group)) return;
  auto& waits = waits_[session.id];
  if (waits.size() >= kGroupWaitsMax) {
    answer(session.id, record.request(), group, "this process waits for too many groups");
    return;
  }
  waits.insert({group, record.request()});
}

bool GroupShell::answer_wait(ProcessId process, uint64_t request, PlacementGroupId group) {
  const scheduler::PlacementGroups& groups = leases_.scheduler().groups();
  if (groups.is_placed(group)) {
    answer(process, request, group, "");
  } else if (!groups.is_here(group)) {
    answer(process, request, group, kGone);
  } else {
    return false;
  }
  return true;
}

void GroupShell::on_changed(PlacementGroupId group) {
  for (auto at = waits_.begin(); at != waits_.end();) {
    auto& [process, waits] = *at;
    auto wait = waits.lower_bound({group, 0});
    while (wait != waits.end() && wait->first == group) {
      wait = answer_wait(process, wait->second, group) ? waits.erase(wait) : std::next(wait);
    }
    at = waits.empty() ? waits_.erase(at) : std::next(at);
  }
}

void GroupShell::answer(ProcessId process, uint64_t request, PlacementGroupId group,
                        const std::string& error) {
  sessions_.send(process, [&](wire::Builder& builder) {
    return wire::fb::CreateGroupAnswerDirect(builder, request, number(group),
                                             error.empty() ? nullptr : error.c_str());
  });
}

std::string GroupShell::json() const {
  using nlohmann::json;
  json list = json::array();
  for (const auto& [id, group] : leases_.scheduler().groups().all()) {
    json bundles = json::array();
    for (const ResourceSet& bundle : group.bundles) {
      json amounts = json::object();
      for (const auto& [name, amount] : bundle.amounts()) amounts[name] = amount;
      bundles.push_back(std::move(amounts));
    }
    list.push_back({{"group", number(id)},
                    {"job", number(group.job)},
                    {"name", group.name},
                    {"namespace", group.name_space},
                    {"detached", group.detached},
                    {"strategy", name_of(group.strategy)},
                    {"state", name_of(group.state)},
                    {"feasible", group.is_feasible},
                    {"created_ns", group.created.count()},
                    {"placed_ns", group.placed.count()},
                    {"bundles", std::move(bundles)}});
  }
  return list.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace mobula::node
