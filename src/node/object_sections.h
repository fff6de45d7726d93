#pragma once
// What the daemon knows of shared objects and of the store, as JSON, for StateQueries.
//
// Threads: the loop's.

#include <string>

#include "node/object_shell.h"
#include "node/store_shell.h"

namespace mobula::node {

// How much of the store is used, and what was spilled: {"capacity_bytes": ..., ...}.
std::string store_json(const StoreShell& store);
// The largest objects, `max` of them, with who holds them; and as many values in the store, in whatever
// process's hands: {"entries": 12, "objects": [...], "values": [...]}. Takes time for every object there is.
std::string objects_json(const ObjectShell& objects, const StoreShell& store, size_t max);

}  // namespace mobula::node
