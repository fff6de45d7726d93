// The `mobula` command.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/node_command.h"
#include "cli/options.h"
#include "cli/version.h"

int main(int argc, char** argv) {
  CLI::App app("Mobula runs Python functions as tasks in parallel.", "mobula");
  app.require_subcommand(1);

  CLI::App* version = app.add_subcommand("version", "Print the version");

  mobula::node::NodeOptions options;
  std::string resources;
  CLI::App* node = app.add_subcommand("node", "Run the node daemon of one driver");
  node->add_option("--driver-fd", options.driver_fd, "The daemon's end of the driver's socket")
      ->required()
      ->check(CLI::NonNegativeNumber);
  node->add_option("--resources", resources, "What tasks may use, as JSON: {\"CPU\": 2}")
      ->required();
  node->add_option("--object-store-memory", options.object_store_bytes,
                   "Size of the object store in bytes")
      ->required();
  node->add_option("--session-dir", options.session_directory,
                   "Folder for logs; it is removed at the end")
      ->required();
  node->add_option("--log-level", options.log_level, "debug, info, warning or error");
  CLI11_PARSE(app, argc, argv);

  if (version->parsed()) {
    std::puts(mobula::cli::kVersion);
    return 0;
  }
  auto parsed = mobula::cli::parse_resources(resources);
  if (!parsed) {
    std::fprintf(stderr, "mobula node: %s\n", parsed.error().message.c_str());
    return 2;
  }
  options.resources = std::move(*parsed);
  return mobula::cli::run_node(options);
}
