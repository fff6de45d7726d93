#include "process/output_label.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

namespace mobula::process {

namespace {

constexpr std::string_view kMark = "\x01\x02mobula:name:";
constexpr int64_t kLookCostNs = 500;  // Of two system calls, about.
constexpr int64_t kCreditMaxNs = 100 * kLookCostNs;
constexpr int64_t kShareOfTime = 64;
constexpr int kCarefulChanges = 256;  // After a sign that something was written.
constexpr int kPatienceMs = 1000;
// With more than that unread a mark that is for safety only is left out: the reader may be stopped.
constexpr int kUnreadForSafetyMax = 16 * 1024;

// As it can stand in a line, and not too long.
std::string shown(std::string_view name) {
  size_t size = std::min(name.size(), shm::OutputLabelCell::kBytesMax);
  // No part of a character.
  while (size < name.size() && size > 0 &&
         (static_cast<unsigned char>(name[size]) & 0xC0) == 0x80) {
    --size;
  }
  std::string text(name.substr(0, size));
  std::ranges::replace(text, '\n', ' ');
  std::ranges::replace(text, '\0', ' ');
  return text;
}

// 0: it is no pipe.
ino_t inode_of(int descriptor) {
  struct stat about {};
  return ::fstat(descriptor, &about) == 0 && S_ISFIFO(about.st_mode) ? about.st_ino : 0;
}

}  // namespace

void OutputLabel::change(std::string_view full_name, Instant now, bool wrote, Gate& gate) {
  std::string name = shown(full_name);
  if (home_ == nullptr || name == name_) return;
  const uint64_t reads = home_->stream_reads.load(std::memory_order_relaxed);
  if (reads != reads_seen_) stopped_ = false;
  if (wrote || reads != reads_seen_) careful_ = kCarefulChanges;
  const bool looks = affords_look(now) || careful_ > 0;
  reads_seen_ = reads;
  if (careful_ > 0) --careful_;
  std::array<bool, kOutputPipes> marked{};
  for (size_t pipe = 0; looks && pipe < kOutputPipes; ++pipe) {
    if (unread(pipe) <= 0) continue;
    careful_ = kCarefulChanges;
    mark(pipe, name, gate);
    marked[pipe] = true;
  }
  home_->output.store(name);
  // Either we see that the daemon reads, or it will see the new name.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (home_->stream_reads.load(std::memory_order_relaxed) % 2 == 1) {
    for (size_t pipe = 0; pipe < kOutputPipes; ++pipe) {
      if (!marked[pipe] && unread(pipe) < kUnreadForSafetyMax) mark(pipe, name, gate);
    }
  }
  name_ = std::move(name);
}

void OutputLabel::watch(std::array<int, kOutputPipes> pipes) {
  pipes_ = pipes;
  for (size_t pipe = 0; pipe < kOutputPipes; ++pipe) inodes_[pipe] = inode_of(pipes[pipe]);
}

bool OutputLabel::affords_look(Instant now) {
  const int64_t passed = std::max<int64_t>((now - changed_).count(), 0);
  changed_ = now;
  credit_ns_ = std::min(credit_ns_ + passed / kShareOfTime, kCreditMaxNs);
  if (credit_ns_ < kLookCostNs) return false;
  credit_ns_ -= kLookCostNs;
  return true;
}

int OutputLabel::unread(size_t pipe) const {
  int bytes = 0;
  return ::ioctl(pipes_[pipe], FIONREAD, &bytes) == 0 ? bytes : 0;
}

// What stands before it, after the last one, is name_'s; what follows is `next`'s. A write of so few bytes
// is never mixed with others.
void OutputLabel::mark(size_t pipe, std::string_view next, Gate& gate) {
  // Code that closes all descriptors may have left the number to a file of its own.
  if (inodes_[pipe] == 0 || inode_of(pipes_[pipe]) != inodes_[pipe]) return;
  if (!has_room(pipe, gate)) return;
  std::string text(kMark);
  text += next;
  text += '\0';
  text += name_;
  text += '\n';
  while (::write(pipes_[pipe], text.data(), text.size()) < 0 && errno == EINTR) {
  }
}

bool OutputLabel::has_room(size_t pipe, Gate& gate) {
  pollfd room{.fd = pipes_[pipe], .events = POLLOUT, .revents = 0};
  if (::poll(&room, 1, 0) > 0) return (room.revents & POLLOUT) != 0;
  if (stopped_) return false;
  gate.release();
  stopped_ = ::poll(&room, 1, kPatienceMs) == 0;
  gate.acquire();
  return (room.revents & POLLOUT) != 0;
}

}  // namespace mobula::process
