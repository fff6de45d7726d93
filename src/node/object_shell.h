#pragma once
// ObjectShell carries out what ObjectDirectory decides: values to those who ask, the news of deaths
// to peers, extents to and from the store; and turns the records of processes about objects into its
// events.
//
// Threads: the loop's.

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/objects/object_directory.h"
#include "node/sessions.h"
#include "node/store_shell.h"
#include "node/worker_processes.h"

namespace mobula::node {

// What the peers of a dead process are told.
struct Obituary {
  pid_t pid = 0;
  Death death;
  std::string stderr_tail;
};

class ObjectShell {
 public:
  struct Callbacks {
    std::function<void(ProcessId)> on_buried;  // The process's memory may go.
    // Who runs the tasks that a dead process of this job still owed: its driver; kDaemonProcess if
    // that is gone.
    std::function<ProcessId(JobId)> heir;
  };
  ObjectShell(Sessions& sessions, StoreShell& store, NodeId node, Callbacks callbacks);

  Result<void> add_process(ProcessId process, JobId job) {
    return directory_.add_process(process, job);
  }
  Result<void> before_channel(ProcessId one, ProcessId other) {
    return directory_.on_channel_opened(one, other);
  }
  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

  // A look at all uplinks, which proves that nothing unread refers to what was let go (R11).
  bool wants_pass() const { return directory_.wants_pass(); }
  void begin_pass() { directory_.begin_pass(); }
  void complete_pass();

  // A holder that is no process keeps `objects` until on_process_died() of it.
  Result<void> hold(ProcessId holder, std::span<const ObjectId> objects) {
    return directory_.on_claim(holder, objects);
  }
  Result<void> let_go(ProcessId holder, std::span<const ObjectId> objects) {
    return directory_.on_release(holder, objects);
  }
  // `on_dropped` hears of the end of what is watched.
  void watch(ObjectId object) { directory_.watch(object); }
  void tell_dropped(std::function<void(ObjectId)> on_dropped) {
    on_dropped_ = std::move(on_dropped);
  }

  // Its uplink was read to the end. PeerDied goes out before this returns.
  void on_process_died(ProcessId process, Obituary obituary);
  void on_job_ended(JobId job, const std::string& reason);

  const objects::ObjectDirectory& directory() const { return directory_; }
  // Where and when its maker says that it was made; null: it does not.
  struct Origin {
    std::string call_site;
    Instant made{};
  };
  const Origin* origin_of(ObjectId object) const;

 private:
  Result<void> on_shares(ProcessId process, const wire::fb::Shares& record,
                         objects::Effects& effects);
  Result<void> on_parcel(ProcessId process, const wire::fb::Parcel& record,
                         objects::Effects& effects);
  Result<void> on_drained(ProcessId process, const wire::fb::Drained& record,
                          objects::Effects& effects);
  void remember_origin(ObjectId object, const wire::fb::Share& share);
  void on_find(ProcessId process, const wire::fb::FindObject& record);
  Result<void> on_lost(ProcessId process, const wire::fb::Lost& record, objects::Effects& effects);
  Result<void> on_refs_ahead(ProcessId process, const wire::fb::RefsAhead& record);
  // The whole list of which `last` is the end: what came ahead, then that.
  std::vector<ObjectId> whole_list(ProcessId process, const wire::ObjectIdList* last);
  Result<objects::ValuePtr> read_value(ProcessId process, const wire::fb::Value& value);
  void send_refs_ahead(ProcessId to, std::span<const ObjectId> refs);

  void carry_out(const objects::Effects& effects);
  void carry_out(const objects::DeliverValue& deliver);
  void carry_out(const objects::SendPeerDied& news);
  void carry_out(const objects::OwedReady& owed);
  bool hand_over(const objects::OwedReady& owed);
  Result<void> on_ready(ProcessId process, const wire::fb::Ready& record,
                        objects::Effects& effects);
  void carry_out(const objects::AskRebuild& ask);
  void carry_out(const objects::LostForGood& lost);
  void carry_out(const objects::Revived& revived) { revived_[revived.process].push_back(revived); }
  void carry_out(const objects::Unwanted& unwanted) {
    unwanted_[unwanted.creator].push_back(unwanted.object);
  }
  void send_lists();
  void settle(ObjectId object, wire::SystemErrorCode code, const std::string& text);
  void carry_out(const objects::Buried& buried);
  void carry_out(const objects::JobCollected& collected);
  void carry_out(const objects::Dropped& dropped) { on_dropped_(dropped.object); }
  void carry_out(const objects::AdoptExtent& adopt) { store_.adopt(adopt.location); }
  void carry_out(const objects::FreeExtent& free) { store_.free_extent(free.location); }

  Sessions& sessions_;
  StoreShell& store_;
  objects::ObjectDirectory directory_;
  std::function<void(ObjectId)> on_dropped_ = [](ObjectId) {};
  const Callbacks callbacks_;
  std::map<ProcessId, std::vector<ObjectId>> refs_ahead_;  // Of a record that is yet to come.
  std::map<ProcessId, Obituary> obituaries_;               // Of the dead that are not buried.
  std::map<ObjectId, Origin> origins_;   // Of some that do not exist any more, too.
  std::map<ObjectId, ProcessId> heirs_;  // Who is to make these objects of the dead.
  std::map<ProcessId, std::vector<objects::Revived>> revived_;  // To be sent.
  std::map<ProcessId, std::vector<ObjectId>> unwanted_;         // To be sent.
};

}  // namespace mobula::node
