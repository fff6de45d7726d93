#pragma once
// PacketSocket sends and receives whole packets with descriptors over one AF_UNIX SOCK_SEQPACKET
// socket. A packet that the kernel cannot take now waits in an outbox, in order, with duplicates of
// its descriptors. It knows nothing of what packets mean.
//
// Threads: the loop's.
// Limits:  kPacketBytesMax bytes and kPacketDescriptorsMax descriptors a packet. The outbox has no
//          limit of its own: who sends what can be dropped looks at queued_bytes() first.

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/loop.h"
#include "shm/memory.h"

namespace mobula::io {

constexpr size_t kPacketBytesMax = 128 * 1024;
constexpr size_t kPacketDescriptorsMax = 200;

struct SocketPair {
  shm::Fd ours;    // Non-blocking.
  shm::Fd theirs;  // Blocking.
};
// kRetryLater: out of descriptors.
Result<SocketPair> make_packet_pair();

struct PeerCredentials {
  pid_t pid = 0;
  uid_t user = 0;
};
// The process at the other end when the connection was made. kUnavailable: the kernel does not know.
Result<PeerCredentials> peer_credentials(const shm::Fd& socket);

class PacketSocket {
 public:
  struct Callbacks {
    // The bytes are valid during the call only. The socket may be destroyed inside.
    std::function<void(std::span<const std::byte> bytes, std::vector<shm::Fd> descriptors)>
        on_packet;
    // The last call: the other end is gone, or broke the rules. The socket may be destroyed inside.
    std::function<void(const std::string& reason)> on_closed;
  };

  static Result<std::unique_ptr<PacketSocket>> open(Loop& loop, shm::Fd socket,
                                                    Callbacks callbacks);
  ~PacketSocket();
  PacketSocket(const PacketSocket&) = delete;
  PacketSocket& operator=(const PacketSocket&) = delete;

  // Sends now, or as soon as it can. `descriptors` stay the caller's. If the other end is gone the
  // packet is dropped; on_closed tells.
  void send(std::span<const std::byte> bytes, std::span<const int> descriptors = {});
  size_t queued_bytes() const { return queued_bytes_; }
  // Calls once, when the outbox is empty; at once if it is.
  void when_sent(Callback callback);

 private:
  struct Packet {
    std::vector<std::byte> bytes;
    std::vector<shm::Fd> descriptors;
  };
  enum class Sent { kYes, kNotNow, kNever };

  PacketSocket(Loop& loop, shm::Fd socket, Callbacks callbacks);
  Sent try_send(std::span<const std::byte> bytes, std::span<const int> descriptors);
  void on_readable();
  void flush();
  void wait_to_flush();
  void end_with(const std::string& reason);
  void close(const std::string& reason);

  Loop& loop_;
  const shm::Fd socket_;
  // Shared with the call that is under way: it may destroy this object.
  const std::shared_ptr<const Callbacks> callbacks_;
  std::vector<std::byte> incoming_;
  std::deque<Packet> outbox_;
  size_t queued_bytes_ = 0;
  Callback when_sent_;
  bool kernel_wants_a_pause_ = false;  // Too many descriptors are on their way.
  bool closed_ = false;
  bool ending_ = false;  // Something could not be sent: it closes in a moment.
  // Tells code that called back whether this object still exists.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Timer> retry_;
  std::unique_ptr<Watch> watch_;
};

}  // namespace mobula::io
