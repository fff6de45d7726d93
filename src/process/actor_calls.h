#pragma once
// ActorCalls: what a caller knows of one actor, and its calls of it. It belongs to the actor's handle
// object and lives as long as that is known here; every pending call holds the object.
//
// ActorRole: what an actor's own process knows of itself.
//
// Threads: guarded by the runtime's lock.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/actors/call_queue.h"
#include "process/claimed_task.h"
#include "process/object.h"

namespace mobula::process {

struct OutboundChannel;
struct InboundChannel;

struct ActorCalls {
  Object* actor = nullptr;
  actors::CallQueue queue;
  OutboundChannel* channel = nullptr;  // While queue.reach() is kOpen, until its end is known.
  uint32_t epoch = 0;
  bool concurrent = false;       // Calls end in any order.
  uint32_t since_pump = 0;       // Calls that were submitted since results were looked for.
  std::string lost_text;         // While it is restarting.
  std::vector<std::byte> death;  // A wire value, once it is dead.
};

// A call that was read from its ring and has not started: its concurrency group is busy.
struct StashedCall {
  ChannelId channel{};
  std::vector<std::byte> frame;
};

struct ActorRole {
  ActorIdentity identity;
  LeaseInfo lease;
  bool is_new = false;  // Not handed to the binding yet.
  bool made = false;
  // Calls that run on threads or event loops, by channel and tag, with their numbers; those among them
  // that were cancelled; and of these the ones that the binding has yet to hear of.
  using CallKey = std::pair<uint64_t, uint64_t>;
  struct CallKeyHash {
    size_t operator()(const CallKey& key) const {
      return std::hash<uint64_t>{}((key.first << 48) ^ key.second);
    }
  };
  std::unordered_map<CallKey, uint64_t, CallKeyHash> running;
  std::set<CallKey> cancelled;
  std::deque<CallKey> cancelled_news;
  std::vector<std::deque<StashedCall>> groups;  // By number; empty: there is one, and no stash.
};

}  // namespace mobula::process
