#pragma once
// Reading what stands on the command line.

#include <string>

#include "base/resources.h"
#include "base/result.h"

namespace mobula::cli {

// {"CPU": 2, "GPU": 0.5}: names and amounts. kInvalidArgument: it is something else.
Result<ResourceSet> parse_resources(const std::string& json);

}  // namespace mobula::cli
