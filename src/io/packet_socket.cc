#include "io/packet_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/large_packet.h"

namespace mobula::io {

namespace {

using namespace std::chrono_literals;

constexpr int kPacketsPerEvent = 64;  // Others wait too.
constexpr auto kDescriptorPause = 5ms;

struct alignas(cmsghdr) ControlBuffer {
  std::array<char, CMSG_SPACE(sizeof(int) * (kPacketDescriptorsMax + 1))> bytes;
};

// Takes ownership of every descriptor in the message.
std::vector<shm::Fd> take_descriptors(msghdr& message) {
  std::vector<shm::Fd> descriptors;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  return descriptors;
}

}  // namespace

Result<SocketPair> make_packet_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(ErrorCode::kRetryLater, std::string("socketpair: ") + std::strerror(errno));
  }
  return SocketPair{shm::Fd(ends[0]), shm::Fd(ends[1])};
}

Result<PeerCredentials> peer_credentials(const shm::Fd& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0 ||
      credentials.pid <= 0) {
    return fail(ErrorCode::kUnavailable, "the peer's credentials are unknown");
  }
  return PeerCredentials{credentials.pid, credentials.uid};
}

PacketSocket::PacketSocket(Loop& loop, shm::Fd socket, Callbacks callbacks)
    : loop_(loop),
      socket_(std::move(socket)),
      callbacks_(std::make_shared<const Callbacks>(std::move(callbacks))),
      incoming_(kPacketBytesMax) {}

PacketSocket::~PacketSocket() { *alive_ = false; }

Result<std::unique_ptr<PacketSocket>> PacketSocket::open(Loop& loop, shm::Fd socket,
                                                         Callbacks callbacks) {
  std::unique_ptr<PacketSocket> opened(
      new PacketSocket(loop, std::move(socket), std::move(callbacks)));
  auto watch = loop.watch(opened->socket_.get(), [raw = opened.get()] { raw->on_readable(); });
  if (!watch) return tl::unexpected<Error>(watch.error());
  opened->watch_ = std::move(*watch);
  return opened;
}

PacketSocket::Sent PacketSocket::try_send(std::span<const std::byte> bytes,
                                          std::span<const int> descriptors) {
  iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return Sent::kYes;
  kernel_wants_a_pause_ = errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM;
  return kernel_wants_a_pause_ || errno == EAGAIN ? Sent::kNotNow : Sent::kNever;
}

void PacketSocket::send(std::span<const std::byte> bytes, std::span<const int> descriptors) {
  if (closed_ || ending_) return;
  LargePacket large;
  std::vector<int> with_memory;
  if (bytes.size() > kPacketBytesMax) {
    auto packet = put_into_memory(bytes);
    if (!packet) return end_with(packet.error().message);
    large = std::move(*packet);
    with_memory.assign(descriptors.begin(), descriptors.end());
    with_memory.push_back(large.memory.get());
    bytes = large.stand_in;
    descriptors = with_memory;
  }
  if (outbox_.empty()) {
    const Sent sent = try_send(bytes, descriptors);
    if (sent != Sent::kNotNow) return;  // Sent, or never: reading finds out why.
  }
  Packet packet{{bytes.begin(), bytes.end()}, {}};
  for (const int fd : descriptors) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return end_with("out of descriptors");
    packet.descriptors.emplace_back(copy);
  }
  queued_bytes_ += packet.bytes.size();
  outbox_.push_back(std::move(packet));
  if (outbox_.size() == 1) wait_to_flush();
}

// The order of packets would be broken without the one that cannot be sent.
void PacketSocket::end_with(const std::string& reason) {
  ending_ = true;
  loop_.post([this, alive = alive_, reason] {
    if (*alive && !closed_) close(reason);
  });
}

void PacketSocket::wait_to_flush() {
  if (kernel_wants_a_pause_) {  // The socket counts as writable, so only time helps.
    retry_ = loop_.at(monotonic_now() + kDescriptorPause, [this] { flush(); });
  } else {
    watch_->when_writable([this] { flush(); });
  }
}

void PacketSocket::flush() {
  while (!outbox_.empty()) {
    const Packet& packet = outbox_.front();
    std::vector<int> descriptors;
    for (const shm::Fd& fd : packet.descriptors) descriptors.push_back(fd.get());
    if (try_send(packet.bytes, descriptors) == Sent::kNotNow) return wait_to_flush();
    queued_bytes_ -= packet.bytes.size();
    outbox_.pop_front();
  }
  if (when_sent_) std::exchange(when_sent_, nullptr)();
}

void PacketSocket::when_sent(Callback callback) {
  when_sent_ = std::move(callback);
  if (outbox_.empty() || closed_) std::exchange(when_sent_, nullptr)();
}

void PacketSocket::on_readable() {
  const std::shared_ptr<bool> alive = alive_;
  const std::shared_ptr<const Callbacks> callbacks = callbacks_;
  for (int count = 0; count < kPacketsPerEvent; ++count) {
    iovec data{incoming_.data(), incoming_.size()};
    ControlBuffer control{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t size = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    // ECONNRESET is said once, before what the peer sent last: that it closed with something unread.
    if (size < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
    if (size < 0 && errno == EAGAIN) return;
    if (size < 0) return close(std::strerror(errno));
    std::vector<shm::Fd> descriptors = take_descriptors(message);
    if (size == 0) return close("end of file");
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return close("oversized packet");
    const std::span<const std::byte> packet(incoming_.data(), static_cast<size_t>(size));
    if (is_stand_in(packet)) {
      const auto large = take_from_memory(packet, descriptors);
      if (!large) return close(large.error().message);
      callbacks->on_packet(*large, std::move(descriptors));
    } else {
      callbacks->on_packet(packet, std::move(descriptors));
    }
    if (!*alive) return;
  }
}

void PacketSocket::close(const std::string& reason) {
  closed_ = true;
  watch_.reset();
  retry_.reset();
  outbox_.clear();
  queued_bytes_ = 0;
  const std::shared_ptr<bool> alive = alive_;
  const std::shared_ptr<const Callbacks> callbacks = callbacks_;
  if (when_sent_) std::exchange(when_sent_, nullptr)();
  if (*alive) callbacks->on_closed(reason);
}

}  // namespace mobula::io
