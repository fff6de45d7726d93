#pragma once
// A little node for tests of the runtime: real sockets, rings and shared memory, one process. It
// welcomes runtimes and grants every lease that is asked for while a worker is free. It keeps no
// objects.
//
// Threads: one of its own; functions may be called from the test's.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "process/runtime.h"
#include "shm/bell.h"
#include "shm/channel.h"
#include "shm/home.h"
#include "shm/ring.h"
#include "wire/control.h"

namespace mobula::process {

// Nothing to let run: there is no interpreter.
class NoGate final : public Gate {
 public:
  void release() override {}
  void acquire() override {}
  bool interrupted() override { return interrupt.load(); }
  std::atomic<bool> interrupt{false};
};

class TestNode {
 public:
  TestNode();
  ~TestNode();

  std::unique_ptr<Runtime> connect_driver();
  // Runs `execute` for each task until the node ends; returns its process number.
  using Execute = std::function<PackedValues(Runtime&, const ClaimedTask&)>;
  uint32_t add_worker(Execute execute);
  // As if the worker's process had been killed: no more frames of it are produced.
  void bury_worker(uint32_t process, int signal);
  void stop_looking(bool stop) { stopped_.store(stop); }

  struct Seen {
    std::vector<uint32_t> targets;
    int leases_granted = 0;
    int leases_returned = 0;
    int blocked = 0;
    int unblocked = 0;
    int broken_peers = 0;
  };
  Seen seen();
  // Reads or writes the memory of the channels that there are, as any of their two ends could.
  void with_channels(const std::function<void(std::byte* memory)>& act);

 private:
  struct Peer {
    uint32_t number = 0;
    bool is_driver = false;
    bool dead = false;
    uint64_t leased_by = 0;  // Lease id.
    uint32_t epoch = 0;
    uint32_t next_bit = 0;
    shm::Fd socket;
    shm::Fd bell;
    shm::Fd home;
    shm::Mapping home_memory;
    std::unique_ptr<shm::RingConsumer> uplink;
    std::unique_ptr<Runtime> runtime;  // Of workers.
    std::thread executor;
    std::map<uint32_t, uint32_t> targets;
    std::map<uint32_t, int> held;
  };
  struct Lease {
    uint32_t owner;
    uint32_t worker;
    uint32_t shape;
  };

  void run();
  Peer& welcome(bool is_driver, std::unique_ptr<Runtime>& runtime);
  void read_uplink(Peer& peer);
  void handle(Peer& peer, const wire::fb::ToDaemon& message);
  void grant();
  shm::Mapping& channel_between(Peer& owner, Peer& worker, uint64_t& id);
  template <typename Body>
  void send(Peer& to, wire::Builder& builder, flatbuffers::Offset<Body> body,
            const std::vector<int>& fds);

  std::mutex mutex_;
  std::map<uint32_t, std::unique_ptr<Peer>> peers_;
  std::map<uint64_t, Lease> leases_;
  std::map<std::pair<uint32_t, uint32_t>, std::pair<uint64_t, shm::Mapping>> channels_;
  shm::Fd daemon_bell_;
  shm::Fd event_;
  Seen seen_;
  uint64_t next_lease_ = 1;
  uint64_t next_channel_ = 1;
  uint32_t next_process_ = 1;
  std::atomic<bool> stop_{false};
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

// One value: None, or an int.
PackedValues pack_none();
PackedValues pack_int(int64_t value);
int64_t int_of(const StoredValue& value);

}  // namespace mobula::process
