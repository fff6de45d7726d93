#pragma once
// What the daemon itself knows, as JSON, for StateQueries: processes, leases, demands, resources.
//
// Threads: the loop's.

#include <string>

#include "core/actors/actor_registry.h"
#include "core/scheduler/scheduler.h"
#include "node/lease_shell.h"
#include "node/queries.h"
#include "node/sessions.h"

namespace mobula::node {

// {"total": {"CPU": 20000, ...}, "available": {...}}, in fixed point.
std::string resources_json(const scheduler::NodeScheduler& scheduler);
// Drivers and workers: [{"process": 3, "pid": 12, "state": "leased", ...}, ...].
std::string processes_json(Sessions& sessions, const scheduler::NodeScheduler& scheduler);
std::string leases_json(const scheduler::NodeScheduler& scheduler);
// Of each owner and shape that wants leases.
std::string demands_json(const scheduler::NodeScheduler& scheduler);
// [{"job": 1, "spec": "...", "state": "preparing", "since_ns": ..., "workers": 2, ...}, ...]
std::string environments_json(const LeaseShell& leases);
// [{"actor": "<32 digits>", "class_name": ..., "state": "ALIVE", "worker": 5, ...}, ...]
std::string actors_json(const actors::ActorRegistry& registry);

}  // namespace mobula::node
