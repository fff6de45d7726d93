#pragma once
// `mobula node`: the node daemon.

#include "node/options.h"

namespace mobula::cli {

// Runs until the node ends. The exit code of the program.
int run_node(const node::NodeOptions& options);

}  // namespace mobula::cli
