#pragma once
// KeyValueShell answers what processes ask of the node's table of keys and values.
//
// Threads: the loop's.
// Limits:  those of KeyValues; the pieces of one value of each process.

#include <map>
#include <string>

#include "core/keyvalues/key_values.h"
#include "node/sessions.h"

namespace mobula::node {

class KeyValueShell {
 public:
  explicit KeyValueShell(Sessions& sessions) : sessions_(sessions) {}

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);
  void on_process_gone(ProcessId process) { pieces_.erase(process); }

 private:
  struct Reply {
    bool found = false;
    size_t count = 0;
    bool full = false;
    std::string bytes;
    std::string error;
  };

  Reply answer(const wire::fb::KeyValue& record, std::string value);
  void send(ProcessId process, uint64_t request, const Reply& reply);

  Sessions& sessions_;
  keyvalues::KeyValues table_;
  std::map<ProcessId, std::string> pieces_;  // Of a value that is not complete.
};

}  // namespace mobula::node
