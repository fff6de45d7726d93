#include "io/signals.h"

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <utility>

namespace mobula::io {

Signals::Signals(shm::Fd fd, std::function<void(int)> on_signal)
    : fd_(std::move(fd)), on_signal_(std::move(on_signal)) {}

Result<std::unique_ptr<Signals>> Signals::open(Loop& loop, const std::vector<int>& signals,
                                               std::function<void(int)> on_signal) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  shm::Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return fail(ErrorCode::kUnavailable, std::string("signalfd: ") + std::strerror(errno));
  }
  std::unique_ptr<Signals> opened(new Signals(std::move(fd), std::move(on_signal)));
  auto watch = loop.watch(opened->fd_.get(), [raw = opened.get()] { raw->on_readable(); });
  if (!watch) return tl::unexpected<Error>(watch.error());
  opened->watch_ = std::move(*watch);
  return opened;
}

void Signals::on_readable() {
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) == sizeof info) {
    on_signal_(static_cast<int>(info.ssi_signo));
  }
}

std::optional<pid_t> peek_ended_child() {
  siginfo_t info{};
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return std::nullopt;
  if (info.si_pid == 0) return std::nullopt;
  return info.si_pid;
}

ExitStatus collect_child(pid_t pid) {
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0) return {};
  if (info.si_code == CLD_EXITED) return {0, info.si_status};
  return {info.si_status, 0};
}

void adopt_orphans() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

}  // namespace mobula::io
