#include "io/large_packet.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace mobula::io {

namespace {

// The first word of a FlatBuffer is never 0, and JSON begins with a brace.
struct StandIn {
  uint32_t zero = 0;
  uint32_t mark = 0x4c415247;
  uint64_t size = 0;
};
static_assert(sizeof(StandIn) == sizeof(LargePacket::stand_in));

}  // namespace

Result<shm::Fd> fill_memory(std::string_view name, std::span<const std::byte> bytes) {
  auto memory = shm::create_memory(name, bytes.size());
  MOBULA_TRY(memory);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t size =
        ::pwrite(memory->get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) {
      return fail(ErrorCode::kRetryLater,
                  std::string("no memory for a large message: ") + std::strerror(errno));
    }
    done += static_cast<size_t>(size);
  }
  return std::move(*memory);
}

Result<LargePacket> put_into_memory(std::span<const std::byte> bytes) {
  if (bytes.size() > kLargePacketBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                "a message of " + std::to_string(bytes.size()) + " bytes: at most " +
                    std::to_string(kLargePacketBytesMax) + " can be sent");
  }
  auto memory = fill_memory("mobula-packet", bytes);
  MOBULA_TRY(memory);
  LargePacket packet{{}, std::move(*memory)};
  const StandIn stand_in{.size = bytes.size()};
  std::memcpy(packet.stand_in.data(), &stand_in, sizeof stand_in);
  return packet;
}

bool is_stand_in(std::span<const std::byte> packet) {
  StandIn stand_in{.mark = 0};
  if (packet.size() != sizeof stand_in) return false;
  std::memcpy(&stand_in, packet.data(), sizeof stand_in);
  return stand_in.zero == 0 && stand_in.mark == StandIn{}.mark;
}

// Read, not mapped: whatever the other end does to its memory meanwhile, this ends.
Result<std::vector<std::byte>> take_from_memory(std::span<const std::byte> packet,
                                                std::vector<shm::Fd>& descriptors) {
  StandIn stand_in;
  if (packet.size() != sizeof stand_in || descriptors.empty()) {
    return fail(ErrorCode::kInvalidArgument, "a large packet without its memory");
  }
  std::memcpy(&stand_in, packet.data(), sizeof stand_in);
  const shm::Fd memory = std::move(descriptors.back());
  descriptors.pop_back();
  struct stat status {};
  if (::fstat(memory.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      stand_in.size > kLargePacketBytesMax ||
      static_cast<uint64_t>(status.st_size) != stand_in.size) {
    return fail(ErrorCode::kInvalidArgument, "the memory of a large packet is of another size");
  }
  std::vector<std::byte> bytes(stand_in.size);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t size =
        ::pread(memory.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return fail(ErrorCode::kInvalidArgument, "a large packet cannot be read");
    done += static_cast<size_t>(size);
  }
  return bytes;
}

Result<void> send_packet(const shm::Fd& socket, std::span<const std::byte> bytes) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  LargePacket large{};
  if (bytes.size() > kPacketBytesMax) {
    auto put = put_into_memory(bytes);
    MOBULA_TRY(put);
    large = std::move(*put);
    bytes = large.stand_in;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = large.memory.get();
    std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  }
  iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno != EPIPE) return fail(ErrorCode::kUnavailable, std::strerror(errno));
  return {};
}

}  // namespace mobula::io
