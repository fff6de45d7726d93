#pragma once
// Sessions: the daemon's end of its conversations with processes: socket, uplink, bell and home
// region of each driver and worker of this node.
//
//   made (socket) ──Hello──► welcomed (memory shared) ──closed──► only its memory is kept, until burial
//
// It carries messages and knows nothing of what they mean.
//
// Threads: the loop's.
// Limits:  kBellBits channels a process.

#include <bitset>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "io/packet_socket.h"
#include "shm/bell.h"
#include "shm/home.h"
#include "shm/memory.h"
#include "shm/ring.h"
#include "wire/control.h"

namespace mobula::node {

struct Session {
  ProcessId id{};
  JobId job{};
  bool is_driver = false;
  // Came through the listener and has not said yet that it is a driver, or is an observer, which may
  // only ask. Neither driver nor worker; its job is 0.
  bool is_guest = false;
  pid_t pid = 0;  // 0: not known yet.
  Instant started{monotonic_now()};

  std::unique_ptr<io::PacketSocket> socket;  // Null: closed.
  bool said_hello = false;
  bool welcomed = false;
  bool broken = false;  // It is being ended; what it still says is not listened to.
  shm::Fd bell_fd;
  shm::Fd home_fd;
  shm::Mapping home;
  std::unique_ptr<shm::RingConsumer> uplink;
  std::bitset<shm::kBellBits> bell_bits;  // In use.

  const std::byte* pins() const { return home.data() + shm::kPinsOffset; }
};

// How processes wake the daemon: a page that says whether it sleeps, and an eventfd.
class Doorbell {
 public:
  static Result<std::unique_ptr<Doorbell>> open();

  void prepare_sleep() { page().sleeping.store(1); }  // seq_cst: before the last look at the rings.
  void awake() { page().sleeping.store(0); }
  // Call when the eventfd is readable.
  void clear();
  int event_fd() const { return event_.get(); }
  int page_fd() const { return page_fd_.get(); }

 private:
  shm::DaemonBell& page() { return *reinterpret_cast<shm::DaemonBell*>(memory_.data()); }

  shm::Fd event_;
  shm::Fd page_fd_;
  shm::Mapping memory_;
};

class Sessions {
 public:
  explicit Sessions(const Doorbell& doorbell) : doorbell_(doorbell) {}

  Session& add(ProcessId id, JobId job, bool is_driver);
  Session* find(ProcessId id);
  void remove(ProcessId id) { sessions_.erase(id); }
  std::map<ProcessId, std::unique_ptr<Session>>& all() { return sessions_; }

  // Makes the memory that the process and the daemon share. kRetryLater: out of descriptors or
  // memory.
  Result<void> share_memory(Session& session);
  // The descriptors that go with Welcome.
  std::vector<int> welcome_descriptors(const Session& session) const;

  // Sends one message, if the process can still be reached. `build` returns the body's offset.
  template <typename Build>
  void send(Session& session, Build build, std::span<const int> descriptors = {}) {
    if (!session.socket) return;
    builder_.Clear();
    const auto body = build(builder_);
    session.socket->send(wire::finish_to_process(builder_, body), descriptors);
  }
  template <typename Build>
  void send(ProcessId id, Build build, std::span<const int> descriptors = {}) {
    if (Session* session = find(id)) send(*session, std::move(build), descriptors);
  }

 private:
  const Doorbell& doorbell_;
  std::map<ProcessId, std::unique_ptr<Session>> sessions_;
  wire::Builder builder_{4096};
};

}  // namespace mobula::node
