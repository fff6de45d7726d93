// The `mobula` command.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "cli/node_command.h"
#include "cli/options.h"
#include "cli/version.h"

int main(int argc, char** argv) {
  CLI::App app("Mobula runs Python functions as tasks in parallel.", "mobula");
  app.require_subcommand(1);

  CLI::App* version = app.add_subcommand("version", "Print the version");

  mobula::node::NodeOptions options;
  CLI::App* node = app.add_subcommand(
      "node", "Run a node daemon (what init() and start do); its settings come on standard input");
  node->add_option("--driver-fd", options.driver_fd,
                   "The daemon's end of its driver's socket; it ends with its last driver")
      ->check(CLI::NonNegativeNumber);
  node->add_option("--ready-fd", options.ready_fd, "Without a driver: gets \"ready\", or why not")
      ->check(CLI::NonNegativeNumber);
  node->add_option("--lock-fd", options.lock_fd, "Held open: its lock says that the session lives")
      ->check(CLI::NonNegativeNumber);
  node->add_option("--object-store-memory", options.object_store_bytes,
                   "Size of the object store in bytes")
      ->required();
  node->add_option("--session-dir", options.session_directory,
                   "Folder for logs; it is removed at the end")
      ->required();
  node->add_option("--session-link", options.session_link,
                   "Another name of that folder; it is removed, too");
  node->add_option("--metrics-port", options.metrics_port,
                   "On loopback, for Prometheus; 0: one that is free, -1: none")
      ->check(CLI::Range(-1, 65535));
  node->add_option(
      "--object-spilling-directory", options.spill_directory,
      "Where objects go that do not fit into memory; in the session's folder if not given");
  node->add_option("--log-level", options.log_level, "debug, info, warning or error");
  options.version = mobula::cli::kVersion;
  CLI11_PARSE(app, argc, argv);

  if (version->parsed()) {
    std::puts(mobula::cli::kVersion);
    return 0;
  }
  auto settings = mobula::cli::parse_settings(mobula::cli::read_all(STDIN_FILENO));
  if (!settings) {
    std::fprintf(stderr, "mobula node: %s\n", settings.error().message.c_str());
    return 2;
  }
  options.resources = std::move(settings->resources);
  options.labels = std::move(settings->labels);
  return mobula::cli::run_node(options);
}
