#pragma once
// SessionFile: what the daemon writes into its session's directory for drivers that did not start it:
// session.json, readable by this user only. python/mobula/_sessions_here.py reads it.
//
//   {"format": 1, "kind": "private" | "standing", "pid": ..., "token": ..., "node_id": ...,
//    "started": seconds since 1970, "version": ..., "resources": {...}, "labels": {...}, ...}
//
// The file exists once the daemon can be connected to, and is never seen half written.
//
// Threads: none.

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "node/options.h"

namespace mobula::node {

constexpr const char* kSessionSocket = "daemon.sock";
constexpr const char* kSessionLock = "lock";  // Locked as long as the daemon lives.

// A secret that nobody guesses, in hexadecimal digits. kUnavailable: the kernel gives no random bytes.
Result<std::string> make_token();
// In a time that says nothing about where they differ.
bool same_token(std::string_view one, std::string_view other);

// kUnavailable: it cannot be written; the text says why.
Result<void> write_session_file(const NodeOptions& options, NodeId node, const std::string& token);

// Removes the session's directory and the link to it. Who is killed meanwhile leaves what others know
// as a dead session's, and remove: the lock goes last, and the link after the directory.
// kUnavailable: something could not be removed; the rest was.
Result<void> remove_session_directory(const NodeOptions& options);

}  // namespace mobula::node
