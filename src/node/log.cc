#include "node/log.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <utility>

namespace mobula::node {

namespace {

constexpr const char* kPattern = "%Y-%m-%dT%H:%M:%S.%f %l %v";

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("mobula",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(kPattern);
    return made;
  }();
  return *instance;
}

void direct_output_to(std::FILE* file) {
  ::dup2(::fileno(file), STDOUT_FILENO);
  ::dup2(::fileno(file), STDERR_FILENO);
}

}  // namespace

void set_log_file(const std::string& path) {
  spdlog::file_event_handlers handlers;
  handlers.after_open = [](const spdlog::filename_t&, std::FILE* file) { direct_output_to(file); };
  try {  // spdlog throws if it cannot open the file.
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, kDaemonLogBytesMax, 1,
                                                                       false, handlers);
    sink->set_pattern(kPattern);
    logger().sinks() = {std::move(sink)};
    logger().flush_on(spdlog::level::trace);
  } catch (const spdlog::spdlog_ex& error) {
    log_warning(std::string("event=no_log_file why=\"") + error.what() + "\"");
  }
}

void set_log_level(std::string_view level) {
  logger().set_level(spdlog::level::from_str(std::string(level)));
}

void log_debug(const std::string& line) { logger().debug("{}", line); }
void log_info(const std::string& line) { logger().info("{}", line); }
void log_warning(const std::string& line) { logger().warn("{}", line); }
void log_error(const std::string& line) { logger().error("{}", line); }

}  // namespace mobula::node
