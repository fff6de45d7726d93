#include "io/packet_listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace mobula::io {

namespace {

constexpr int kBacklog = 64;
constexpr int kConnectionsPerTurn = 16;
constexpr auto kPause = std::chrono::milliseconds(100);

Error errno_error(const std::string& what) {
  return {ErrorCode::kUnavailable, what + ": " + std::strerror(errno)};
}

// A socket's address holds 107 bytes; the folder's descriptor stands for a path of any length.
Result<void> bind_in(const shm::Fd& socket, const shm::Fd& folder, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int size = std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s",
                                 folder.get(), name.c_str());
  if (size < 0 || static_cast<size_t>(size) >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument, "the socket's name is too long");
  }
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return tl::unexpected(errno_error("bind"));
  }
  if (::fchmodat(folder.get(), name.c_str(), 0600, 0) != 0) {
    return tl::unexpected(errno_error("chmod"));
  }
  return {};
}

}  // namespace

PacketListener::PacketListener(Loop& loop, shm::Fd socket, OnConnection on_connection,
                               OnRefused on_refused)
    : loop_(loop),
      socket_(std::move(socket)),
      on_connection_(std::move(on_connection)),
      on_refused_(std::move(on_refused)) {}

Result<std::unique_ptr<PacketListener>> PacketListener::open(Loop& loop,
                                                             const std::string& directory,
                                                             const std::string& name,
                                                             OnConnection on_connection,
                                                             OnRefused on_refused) {
  const shm::Fd folder(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return tl::unexpected(errno_error(directory));
  shm::Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return tl::unexpected(errno_error("socket"));
  MOBULA_TRY(bind_in(socket, folder, name));
  if (::listen(socket.get(), kBacklog) != 0) return tl::unexpected(errno_error("listen"));
  std::unique_ptr<PacketListener> listener(
      new PacketListener(loop, std::move(socket), std::move(on_connection), std::move(on_refused)));
  MOBULA_TRY(listener->look());
  return listener;
}

Result<void> PacketListener::look() {
  auto watch = loop_.watch(socket_.get(), [this] { on_readable(); });
  MOBULA_TRY(watch);
  watch_ = std::move(*watch);
  return {};
}

void PacketListener::on_readable() {
  for (int taken = 0; taken < kConnectionsPerTurn; ++taken) {
    shm::Fd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid()) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
      on_refused_(std::string("accept: ") + std::strerror(errno));
      watch_.reset();  // It would be readable all the time.
      pause_ = loop_.at(monotonic_now() + kPause, [this] {
        if (const auto looking = look(); !looking) on_refused_(looking.error().message);
      });
      return;
    }
    const auto peer = peer_credentials(connection);
    if (!peer) {
      on_refused_(peer.error().message);
    } else if (peer->user != ::geteuid()) {
      on_refused_("process " + std::to_string(peer->pid) + " belongs to user " +
                  std::to_string(peer->user));
    } else {
      on_connection_(std::move(connection), peer->pid);
    }
  }
}

}  // namespace mobula::io
