#include "process/runtime_test_support.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstring>

namespace mobula::process {

TestNode::TestNode()
    : daemon_bell_(std::move(*shm::create_memory("bell", 4096))),
      event_(::eventfd(0, EFD_NONBLOCK)) {
  thread_ = std::thread([this] { run(); });
}

TestNode::~TestNode() {
  stop_.store(true);
  thread_.join();
  for (auto& [number, peer] : peers_) ::shutdown(peer->socket.get(), SHUT_WR);
  for (auto& [number, peer] : peers_) {
    wire::Builder builder;
    if (peer->executor.joinable()) peer->executor.join();
  }
}

template <typename Body>
void TestNode::send(Peer& to, wire::Builder& builder, flatbuffers::Offset<Body> body,
                    const std::vector<int>& fds) {
  const auto packet = wire::finish_to_process(builder, body);
  iovec part{const_cast<std::byte*>(packet.data()), packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_SOCKET;
    message->cmsg_type = SCM_RIGHTS;
    message->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(message), fds.data(), fds.size() * sizeof(int));
  }
  MOBULA_CHECK(::sendmsg(to.socket.get(), &header, MSG_NOSIGNAL) >= 0);
}

TestNode::Peer& TestNode::welcome(bool is_driver, std::unique_ptr<Runtime>& runtime) {
  int sockets[2];
  MOBULA_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
  auto peer = std::make_unique<Peer>();
  peer->socket = shm::Fd(sockets[0]);
  peer->is_driver = is_driver;
  peer->bell = std::move(*shm::create_memory("bell", shm::kBellBytes));
  peer->home = std::move(*shm::create_memory("home", shm::kHomeBytes));
  peer->home_memory =
      std::move(*shm::Mapping::map(peer->home, shm::kHomeBytes, shm::Access::kReadWrite));
  Peer& added = *peer;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    peer->number = next_process_++;
    wire::Builder builder;
    const auto body = wire::fb::CreateWelcomeDirect(builder, 77, peer->number, 1, "", "test", "");
    send(*peer, builder, body,
         {peer->bell.get(), peer->home.get(), event_.get(), daemon_bell_.get()});
    peers_[peer->number] = std::move(peer);
  }
  NoGate gate;
  RuntimeOptions options;
  options.is_driver = is_driver;
  options.worker_dies_with_daemon = false;
  auto connected = Runtime::connect(shm::Fd(sockets[1]), options, gate);
  MOBULA_CHECK(connected.has_value());
  runtime = std::move(*connected);
  const std::lock_guard<std::mutex> lock(mutex_);
  added.uplink = std::make_unique<shm::RingConsumer>(added.home_memory.data() + shm::kUplinkOffset);
  return added;
}

std::unique_ptr<Runtime> TestNode::connect_driver() {
  std::unique_ptr<Runtime> runtime;
  welcome(true, runtime);
  return runtime;
}

uint32_t TestNode::add_worker(Execute execute) {
  std::unique_ptr<Runtime> runtime;
  Peer& peer = welcome(false, runtime);
  const std::lock_guard<std::mutex> lock(mutex_);
  peer.runtime = std::move(runtime);
  peer.executor = std::thread([&peer, execute] {
    NoGate gate;
    ClaimedTask task;
    while (peer.runtime->next_task(task, gate) == NextTask::kTask) {
      PackedValues results = execute(*peer.runtime, task);
      peer.runtime->finish_task(task, {std::move(results), false, {}});
    }
  });
  return peer.number;
}

TestNode::Seen TestNode::seen() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return seen_;
}

void TestNode::run() {
  while (!stop_.load()) {
    if (!stopped_.load()) {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (auto& [number, peer] : peers_) read_uplink(*peer);
      grant();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [number, peer] : peers_) {
    wire::Builder builder;
    if (!peer->is_driver) send(*peer, builder, wire::fb::CreateExitDirect(builder, "end"), {});
  }
}

void TestNode::read_uplink(Peer& peer) {
  if (!peer.uplink) return;
  while (true) {
    const auto frame = peer.uplink->peek();
    MOBULA_CHECK(frame.has_value());
    if (frame->empty()) return;
    const auto body = wire::record_body(*frame);
    MOBULA_CHECK(body.has_value());
    const auto message = wire::ToDaemonMessage::parse(*body);
    MOBULA_CHECK(message.has_value());
    handle(peer, message->root());
    peer.uplink->pop();
  }
}

void TestNode::handle(Peer& peer, const wire::fb::ToDaemon& message) {
  if (const auto* target = message.body_as_LeaseTarget()) {
    peer.targets[target->shape()] = target->target();
    seen_.targets.push_back(target->target());
  } else if (const auto* returned = message.body_as_LeaseReturn()) {
    const auto found = leases_.find(returned->lease());
    MOBULA_CHECK(found != leases_.end());
    --peer.held[found->second.shape];
    peers_.at(found->second.worker)->leased_by = 0;
    leases_.erase(found);
    ++seen_.leases_returned;
  } else if (message.body_as_Blocked() != nullptr) {
    ++seen_.blocked;
  } else if (message.body_as_Unblocked() != nullptr) {
    ++seen_.unblocked;
  } else if (message.body_as_BrokenPeer() != nullptr) {
    ++seen_.broken_peers;
  } else if (message.body_as_Leave() != nullptr) {
    wire::Builder builder;
    send(peer, builder, wire::fb::CreateGoodbye(builder), {});
  }
}

void TestNode::with_channels(const std::function<void(std::byte* memory)>& act) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [ends, channel] : channels_) act(channel.second.data());
}

shm::Mapping& TestNode::channel_between(Peer& owner, Peer& worker, uint64_t& id) {
  auto& [known, memory] = channels_[{owner.number, worker.number}];
  if (memory.valid()) {
    id = known;
    return memory;
  }
  known = id = next_channel_++;
  const shm::Fd fd = std::move(*shm::create_memory("channel", shm::kChannelBytes));
  memory = std::move(*shm::Mapping::map(fd, shm::kChannelBytes, shm::Access::kReadWrite));
  const uint32_t owner_bit = owner.next_bit++;
  const uint32_t worker_bit = worker.next_bit++;
  wire::Builder first;
  send(worker, first,
       wire::fb::CreateChannelOpened(first, id, owner.number, 1, wire::fb::ChannelRole::callee,
                                     worker_bit, owner_bit),
       {fd.get(), owner.bell.get()});
  wire::Builder second;
  send(owner, second,
       wire::fb::CreateChannelOpened(second, id, worker.number, 2, wire::fb::ChannelRole::caller,
                                     owner_bit, worker_bit),
       {fd.get(), worker.bell.get()});
  return memory;
}

void TestNode::grant() {
  for (auto& [number, owner] : peers_) {
    for (const auto& [shape, target] : owner->targets) {
      while (owner->held[shape] < static_cast<int>(target)) {
        Peer* free = nullptr;
        for (auto& [other, peer] : peers_) {
          if (!peer->is_driver && !peer->dead && peer->leased_by == 0 && peer->uplink != nullptr &&
              peer.get() != owner.get()) {
            free = peer.get();
            break;
          }
        }
        if (free == nullptr) return;
        uint64_t channel = 0;
        shm::Mapping& memory = channel_between(*owner, *free, channel);
        const uint64_t lease = next_lease_++;
        leases_[lease] = {owner->number, free->number, shape};
        free->leased_by = lease;
        shm::channel_header(memory.data()).lease_epoch.store(++free->epoch);
        ++owner->held[shape];
        ++seen_.leases_granted;
        wire::Builder builder;
        send(*owner, builder,
             wire::fb::CreateLeaseGranted(builder, lease, shape, channel, free->epoch), {});
      }
    }
  }
}

void TestNode::bury_worker(uint32_t process, int signal) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Peer& worker = *peers_.at(process);
  worker.dead = true;
  for (auto& [number, peer] : peers_) {
    if (number == process || channels_.count({number, process}) == 0) continue;
    for (auto entry = leases_.begin(); entry != leases_.end();) {
      if (entry->second.worker == process && entry->second.owner == number) {
        --peer->held[entry->second.shape];
        entry = leases_.erase(entry);
      } else {
        ++entry;
      }
    }
    wire::Builder builder;
    send(*peer, builder,
         wire::fb::CreatePeerDiedDirect(builder, process, 4711, signal, 0, "killed by SIGKILL",
                                        "its last words"),
         {});
  }
}

PackedValues pack_none() {
  PackedValues values;
  const wire::ValueHeader header{0, 0, wire::ValueKind::kNone, {}};
  values.bytes.resize(sizeof header);
  std::memcpy(values.bytes.data(), &header, sizeof header);
  values.value_count = 1;
  return values;
}

PackedValues pack_int(int64_t value) {
  PackedValues values;
  const wire::ValueHeader header{sizeof value, 0, wire::ValueKind::kInt64, {}};
  values.bytes.resize(sizeof header + sizeof value);
  std::memcpy(values.bytes.data(), &header, sizeof header);
  std::memcpy(values.bytes.data() + sizeof header, &value, sizeof value);
  values.value_count = 1;
  return values;
}

int64_t int_of(const StoredValue& value) {
  MOBULA_CHECK(value.kind() == wire::ValueKind::kInt64);
  int64_t number = 0;
  std::memcpy(&number, value.payload().data(), sizeof number);
  return number;
}

}  // namespace mobula::process
