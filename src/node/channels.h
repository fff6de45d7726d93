#pragma once
// Channels: the shared memory between callers and callees, made on first use and kept while both
// live. The daemon keeps only the first pages mapped: the lease epoch and the claim words.
//
// Threads: the loop's.
// Limits:  kBellBits channels a process.

#include <map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "node/sessions.h"
#include "shm/channel.h"

namespace mobula::node {

class Channels {
 public:
  explicit Channels(Sessions& sessions) : sessions_(sessions) {}

  bool exists(ProcessId caller, ProcessId callee) const {
    return channels_.contains({caller, callee});
  }
  // kNotFound: there is none.
  Result<ChannelId> find(ProcessId caller, ProcessId callee) const;
  // The channel of the pair; made, and both told, if there is none. kUnavailable: one of them is
  // gone. kRetryLater: out of descriptors, memory or bell bits.
  Result<ChannelId> open(ProcessId caller, ProcessId callee);
  // The callee may start tasks of this epoch only; 0: none.
  void set_epoch(ProcessId caller, ProcessId callee, uint32_t epoch);
  // Of the tasks that `callee` has started, which it tells by their claim words: are there any, and
  // may all be run again?
  struct Started {
    bool any = false;
    bool retriable = true;
  };
  Started started(ProcessId callee) const;
  // `process` is gone: what it had queued and nobody has started is taken back, its channels go.
  void forget(ProcessId process);
  size_t size() const { return channels_.size(); }

 private:
  struct Channel {
    ChannelId id{};
    uint32_t caller_bit = 0;  // In the caller's bell.
    uint32_t callee_bit = 0;
    shm::Mapping memory;  // Header and claim words.
  };
  using Key = std::pair<ProcessId, ProcessId>;

  void announce(const Channel& channel, wire::fb::ChannelRole role, Session& to, Session& peer,
                int memory);
  static void revoke_queued(Channel& channel);

  Sessions& sessions_;
  uint64_t next_ = 1;
  std::map<Key, Channel> channels_;
};

}  // namespace mobula::node
