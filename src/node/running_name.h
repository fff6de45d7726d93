#pragma once
// What a process executes at this moment, by what it wrote into its home region.
//
// Threads: any; who reads while the process goes on may be told of a task that has just ended.

#include <string>

#include "node/sessions.h"

namespace mobula::node {

// The name of its task that people see; of an actor's call, the class. Empty: none.
std::string running_name(const Session& session);

}  // namespace mobula::node
