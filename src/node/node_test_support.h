#pragma once
// A driver and workers for tests of a whole node, over real sockets, rings and processes.
//
// FakeDriver starts a node in a child process and talks to it. The "interpreter" that it names for
// workers is this test program itself: run as `<program> -c <code> zygote ...` it plays the zygote
// (node_test_support.cc), whose children play workers. A worker registers, answers PeerDied with
// Drained, exits when told to, and on signals: SIGUSR1 prints a last word and exits with code 7,
// SIGUSR2 prints named lines.

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shm/bell.h"
#include "shm/home.h"
#include "shm/memory.h"
#include "shm/ring.h"
#include "wire/control.h"

namespace mobula::node {

struct Received {
  wire::ToProcessMessage message;
  std::vector<shm::Fd> descriptors;
};

// One end of a conversation with the daemon: what the runtime is in real processes.
class FakeProcess {
 public:
  explicit FakeProcess(shm::Fd socket) : socket_(std::move(socket)) {}

  void send_packet(std::span<const std::byte> bytes) const;
  void say_hello(wire::fb::ProcessKind kind, uint32_t protocol, const std::string& directory,
                 const std::string& token = "");
  // The next packet; nullopt: the daemon has closed. Fails the test after a long while.
  std::optional<Received> receive();
  // The next packet of a kind; others before it are dropped.
  template <typename Body>
  Received expect();

  // After Hello. False: refused or closed.
  bool accept_welcome();
  template <typename Build>
  void send(Build build) {
    builder_.Clear();
    push(wire::finish_to_daemon(builder_, build(builder_)));
  }
  // A record of any bytes; large ones in parts.
  void push(std::span<const std::byte> message);
  void push_frame(std::span<const std::byte> bytes, wire::FrameKind kind);

  NodeId node() const { return node_; }
  ProcessId process() const { return process_; }
  ObjectId object(uint64_t index) const { return {node_, process_, index}; }
  void close() { socket_.reset(); }
  shm::BellPage& bell() const { return *reinterpret_cast<shm::BellPage*>(bell_.data()); }

 private:
  shm::Fd socket_;
  shm::Fd event_;
  shm::Mapping bell_;
  shm::Mapping home_;
  shm::Mapping daemon_bell_;
  std::unique_ptr<shm::RingProducer> uplink_;
  wire::Builder builder_;
  NodeId node_{};
  ProcessId process_{};
};

template <typename Body>
Received FakeProcess::expect() {
  while (auto received = receive()) {
    if (received->message.type() == wire::fb::DownlinkBodyTraits<Body>::enum_value) {
      return std::move(*received);
    }
  }
  std::fprintf(stderr, "the daemon closed before it sent what was expected\n");
  std::abort();
}

class FakeNode {
 public:
  // Starts the node; `driver` is the other end.
  explicit FakeNode(double cpus = 2);
  ~FakeNode();

  FakeProcess& driver() { return *driver_; }
  pid_t pid() const { return pid_; }
  const std::string& directory() const { return directory_; }
  // A process that did not start the node, and the token that its Hello needs.
  FakeProcess guest() const;
  std::string token() const;
  // Waits for the end of the node; its exit status as waitpid gives it.
  int wait();

 private:
  std::string directory_;
  pid_t pid_ = 0;
  std::unique_ptr<FakeProcess> driver_;
};

}  // namespace mobula::node
