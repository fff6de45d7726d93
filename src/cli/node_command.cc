#include "cli/node_command.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "node/log.h"
#include "node/node.h"
#include "wire/control.h"

namespace mobula::cli {

namespace {

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
  node::set_log_level(options.log_level);
  // For the case that the node takes the socket with it.
  shm::Fd spare(::fcntl(options.driver_fd, F_DUPFD_CLOEXEC, 3));
  auto node = node::Node::open(options);
  if (!node) {
    node::log_error("event=cannot_start why=\"" + node.error().message + "\"");
    refuse(spare.get(), "the node daemon cannot start: " + node.error().message);
    return 1;
  }
  spare.reset();
  (*node)->run();
  return 0;
}

}  // namespace mobula::cli
