#include "cli/node_command.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "node/log.h"
#include "node/node.h"
#include "wire/control.h"

namespace mobula::cli {

namespace {

// "ready", or why not, for who started a standing daemon.
void report(shm::Fd ready, const std::string& text) {
  if (!ready.valid()) return;
  [[maybe_unused]] const ssize_t written = ::write(ready.get(), text.data(), text.size());
}

// The driver shows this to its user.
void refuse(int driver_fd, const std::string& message) {
  wire::Builder builder;
  const auto packet =
      wire::finish_to_process(builder, wire::fb::CreateRefusedDirect(builder, message.c_str()));
  [[maybe_unused]] const ssize_t sent =
      ::send(driver_fd, packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

int run_node(const node::NodeOptions& options) {
  node::set_log_file(options.session_directory + "/daemon.log");
  node::set_log_level(options.log_level);
  // For the case that the node takes the socket with it.
  shm::Fd spare;
  if (!options.is_standing()) spare = shm::Fd(::fcntl(options.driver_fd, F_DUPFD_CLOEXEC, 3));
  shm::Fd ready(options.ready_fd);
  const shm::Fd lock(options.lock_fd);
  for (const int inherited : {ready.get(), lock.get()}) {
    if (inherited >= 0) ::fcntl(inherited, F_SETFD, FD_CLOEXEC);
  }
  auto node = node::Node::open(options);
  if (!node) {
    node::log_error("event=cannot_start why=\"" + node.error().message + "\"");
    refuse(spare.get(), "the node daemon cannot start: " + node.error().message);
    report(std::move(ready), "the node daemon cannot start: " + node.error().message);
    return 1;
  }
  report(std::move(ready), "ready");
  spare.reset();
  (*node)->run();
  return 0;
}

}  // namespace mobula::cli
