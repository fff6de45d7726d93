#pragma once
// PacketListener lets processes connect to a name in a folder: an AF_UNIX SOCK_SEQPACKET socket that
// only this user can reach, and of which only this user's processes are taken in.
//
// Who connects is asked of the kernel (SO_PEERCRED), not of the peer. Others are closed at once.
//
// Threads: the loop's.
// Limits:  kBacklog connections wait to be taken in, a few a turn. Without descriptors left it stops
//          looking for a moment; who connects waits.

#include <functional>
#include <memory>
#include <string>

#include "io/loop.h"
#include "io/packet_socket.h"

namespace mobula::io {

class PacketListener {
 public:
  using OnConnection = std::function<void(shm::Fd socket, pid_t peer)>;
  using OnRefused = std::function<void(const std::string& reason)>;

  // Makes `name` in `directory`, whatever the length of its path. kUnavailable: it cannot be made.
  static Result<std::unique_ptr<PacketListener>> open(Loop& loop, const std::string& directory,
                                                      const std::string& name,
                                                      OnConnection on_connection,
                                                      OnRefused on_refused);

 private:
  PacketListener(Loop& loop, shm::Fd socket, OnConnection on_connection, OnRefused on_refused);
  Result<void> look();
  void on_readable();

  Loop& loop_;
  const shm::Fd socket_;
  const OnConnection on_connection_;
  const OnRefused on_refused_;
  std::unique_ptr<Timer> pause_;
  std::unique_ptr<Watch> watch_;
};

}  // namespace mobula::io
