#pragma once
// Uplink: control records from this process to its node daemon, in order, over the home region's ring.
//
// A record that does not fit waits here; `waiting()` tells that frames which depend on records must
// wait too (OWNERSHIP.md R3).
//
// Threads: guarded by the runtime's lock; the daemon's bell is rung by the caller, outside it.

#include "process/frame_stream.h"
#include "process/runtime_types.h"
#include "wire/control.h"

namespace mobula::process {

// Null for an environment without a spec.
flatbuffers::Offset<wire::fb::RuntimeEnvironment> build_environment(
    wire::Builder& builder, const RuntimeEnvironment& environment);

class Uplink {
 public:
  explicit Uplink(std::byte* ring_memory) : sender_(ring_memory) {}

  // `build` gets a cleared builder and returns the offset of a message body.
  template <typename Build>
  void send(Build build) {
    builder_.Clear();
    auto body = build(builder_);
    push(wire::finish_to_daemon(builder_, body));
  }
  bool flush() { return sender_.flush(); }
  bool waiting() const { return sender_.waiting(); }
  // Something in this process wrote over what we share with the daemon: no record may be missing. True
  // if so.
  bool mend() {
    if (sender_.intact()) return false;
    sender_.publish_again();
    return true;
  }

 private:
  void push(std::span<const std::byte> message);

  FrameSender sender_;
  wire::Builder builder_{1024};
};

}  // namespace mobula::process
