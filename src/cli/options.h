#pragma once
// Reading what a node daemon is told, on its standard input: it may be larger than an argument.

#include <string>

#include "base/resources.h"
#include "base/result.h"

namespace mobula::cli {

struct Settings {
  ResourceSet resources;
  std::string labels;  // JSON
};

// Of {"resources": {"CPU": 2, "GPU": 0.5}, "labels": {"zone": "a"}}. kInvalidArgument: it is something
// else.
Result<Settings> parse_settings(const std::string& json);

// All that can be read there.
std::string read_all(int fd);

}  // namespace mobula::cli
