#include "shm/bell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

namespace mobula::shm {

namespace {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

Woken wait_on(std::atomic<uint32_t>& word, uint32_t expected, Duration timeout, int operation) {
  const int64_t nanoseconds = timeout.count() < 0 ? 0 : timeout.count();
  const timespec relative{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  const int64_t result = ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation,
                                   expected, &relative, nullptr, 0);
  if (result == 0 || errno == EAGAIN) return Woken::kByBell;
  return errno == EINTR ? Woken::kBySignal : Woken::kByTimeout;
}

}  // namespace

void wake(BellPage& bell) {
  bell.sequence.fetch_add(1);
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&bell.sequence), FUTEX_WAKE, INT_MAX, nullptr,
            nullptr, 0);
}

Woken sleep(BellPage& bell, uint32_t sequence, Duration timeout) {
  return wait_on(bell.sequence, sequence, timeout, FUTEX_WAIT);
}

void ring_daemon(DaemonBell& bell, int event_fd) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (bell.sleeping.load(std::memory_order_relaxed) == 0 || bell.sleeping.exchange(0) == 0) return;
  const uint64_t one = 1;
  // The counter cannot overflow in practice; if the daemon is gone the reader of its socket says so.
  [[maybe_unused]] const ssize_t written = ::write(event_fd, &one, sizeof one);
}

Woken futex_sleep(std::atomic<uint32_t>& word, uint32_t expected, Duration timeout) {
  return wait_on(word, expected, timeout, FUTEX_WAIT | FUTEX_PRIVATE_FLAG);
}

void futex_wake(std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX,
            nullptr, nullptr, 0);
}

}  // namespace mobula::shm
