#pragma once
// Uplinks reads the control records that processes put into their rings, a slice of each in turn, and
// tells the object directory when everything that stood in all of them has been read (a pass).
//
// Threads: the loop's.
// Limits:  kRecordsPerTurn records of one process before the others are looked at.

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "node/object_shell.h"
#include "node/sessions.h"

namespace mobula::node {

constexpr int kRecordsPerTurn = 256;

class Uplinks {
 public:
  struct Handlers {
    std::function<void(Session&, const wire::ToDaemonMessage&)> on_record;
    std::function<void(Session&, const std::string& reason)> on_broken;
  };

  Uplinks(Sessions& sessions, ObjectShell& objects, Handlers handlers)
      : sessions_(sessions), objects_(objects), handlers_(std::move(handlers)) {}

  // True if something was done.
  bool read_some();
  // Everything that stands there now.
  void drain(Session& session);
  bool any_unread() const;
  uint64_t records_read() const { return records_read_; }

 private:
  // Reads up to `records`, and no further than to `end`.
  bool read(Session& session, int records, uint64_t end);
  void advance_pass();

  Sessions& sessions_;
  ObjectShell& objects_;
  const Handlers handlers_;
  uint64_t records_read_ = 0;
  bool in_pass_ = false;
  std::map<ProcessId, uint64_t> tails_;                // Where each ring must have been read to.
  std::map<ProcessId, std::vector<std::byte>> parts_;  // Of records that are not whole yet.
};

}  // namespace mobula::node
