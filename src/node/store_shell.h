#pragma once
// StoreShell carries out what StoreBooks decides: it makes and destroys the segments of the object
// store, hands out their descriptors, and looks through the pin tables before an extent is reused.
//
// And what a Spiller decides: it has values written to disk and read back (SpillDisk), and tells
// processes where they are (store_shell_spill.cc).
//
// Fresh segments get their pages from a thread that runs when nothing else does (HOTPATH.md R8).
//
// Threads: the loop's, besides that one and SpillDisk's.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/store/spiller.h"
#include "core/store/store_books.h"
#include "io/job_thread.h"
#include "io/loop.h"
#include "node/sessions.h"
#include "node/spill_disk.h"
#include "shm/pins.h"
#include "shm/segment.h"

namespace mobula::node {

class StoreShell {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    std::unique_ptr<SpillDisk> disk;  // Null: nothing is spilled,
    std::string why_no_disk;          // for this reason.
  };
  // The only copy of a stored value is gone, and why.
  using OnLost = std::function<void(const wire::StoreLocation&, const std::string&)>;

  StoreShell(io::Loop& loop, Sessions& sessions, Options options);
  ~StoreShell();

  void on_lost(OnLost callback) { on_lost_ = std::move(callback); }
  // These wait for room for long, because tasks work with what takes it: something for their users.
  using OnLongWait = std::function<void(const std::vector<ProcessId>&, const std::string&)>;
  void on_long_wait(OnLongWait callback) { on_long_wait_ = std::move(callback); }
  // A value of these processes goes to a file, as memory has no room: something for their users, once.
  void on_file(OnLongWait callback) { on_file_ = std::move(callback); }

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

  // For what the object directory says.
  Result<void> check_location(const wire::StoreLocation& location) const;
  // Can the value that is named after this location be had, from memory or from disk? False: it is lost.
  bool has_bytes(const wire::StoreLocation& location) const;
  void adopt(const wire::StoreLocation& location);
  void free_extent(const wire::StoreLocation& location);
  // A process is about to be told of this value, which may have to be read back.
  void prefetch(const wire::StoreLocation& location);
  void on_buried(ProcessId process);

  // The machine's memory is short: processes are to give back the segments they keep empty.
  void reclaim();
  // Once a turn of the loop: extents that nobody looks at any more are free. True: there is more to do.
  bool run();

  uint64_t capacity_bytes() const { return books_.capacity_bytes(); }
  uint64_t granted_bytes() const { return books_.granted_bytes(); }
  // What values take in memory.
  uint64_t taken_bytes() const;
  std::vector<SegmentId> segments_in_files(size_t max) const {
    return books_.segments_in_files(max);
  }
  uint64_t in_file_bytes() const { return books_.in_file_bytes(); }
  uint64_t resident_bytes() const { return measure().store_resident; }
  // Of shared values in memory that processes look at. Takes time for every one of them.
  uint64_t pinned_bytes() const;
  const store::Spiller& spiller() const { return spiller_; }
  std::string spill_folder() const { return disk_ ? disk_->folder() : ""; }
  size_t segment_count() const { return segments_.size(); }

 private:
  bool is_damaged(const wire::StoreLocation& value) const;
  struct Segment {
    std::shared_ptr<shm::Fd> fd;
    shm::Mapping table;
    shm::SegmentView view;
    std::shared_ptr<std::atomic<bool>> dropped;  // Tells the populating thread to stop.
    bool in_file = false;
  };

  store::Headroom measure() const;
  void carry_out(const store::Effects& effects);
  void carry_out(const store::CreateSegment& create);
  void carry_out(const store::RefuseSegment& refuse);
  void carry_out(const store::AskForEmpty& ask);
  void carry_out(const store::DestroySegment& destroy);
  void carry_out(const store::MarkEvicting& mark);
  void carry_out(const store::ReleaseExtent& release);
  Result<void> create(const store::CreateSegment& create, Result<shm::NewSegment> made);
  void finish(const store::CreateSegment& wanted, Result<shm::NewSegment> made);
  void tell_of_file(const store::CreateSegment& create);
  void populate(const Segment& segment, uint64_t file_bytes);
  void open_segment(const Session& session, SegmentId segment);
  void tick();
  void set_timer();
  void send_freed();
  std::string explain() const;

  // store_shell_spill.cc
  void carry_out(const store::SpillEffects& effects);
  void carry_out(const store::WriteOut& write);
  void carry_out(const store::ReadIn& read);
  void carry_out(const store::TryEvict& evict);
  void carry_out(const store::RemoveFile& remove);
  void carry_out(const store::PunchHole& hole);
  void carry_out(const store::TellPlace& tell);
  void carry_out(const store::TellNoPlace& tell);
  void carry_out(const store::ValueLost& lost);
  Result<void> look_up(const Session& session, const wire::fb::StoredLookup& record);
  bool let_go_to_file(ProcessId process);
  bool in_making(SegmentId id) const;
  void own_segment_created(SegmentId segment, const shm::SegmentView& view);
  void step();
  void finish_evictions();
  shm::PinScan scan_pins() const;
  void look_at_lookers();
  void tell_of_long_wait(const std::vector<ProcessId>& waiting, Instant now);
  void serve_waiting(store::Effects& effects);

  io::Loop& loop_;
  Sessions& sessions_;
  std::unique_ptr<SpillDisk> disk_;
  const std::string why_no_disk_;
  OnLost on_lost_;
  OnLongWait on_long_wait_;
  OnLongWait on_file_;
  std::optional<Instant>
      tell_at_;  // Of a long wait; nothing while nobody waits for tasks that work.
  store::StoreBooks books_;
  store::Spiller spiller_;
  bool changed_ = false;                   // A step of the spiller is due.
  size_t files_in_making_ = 0;             // For segments.
  std::vector<store::TryEvict> evicting_;  // Marked; their pins are looked for next.
  std::map<SegmentId, Segment> segments_;
  std::map<ProcessId, std::vector<wire::StoreLocation>> freed_;  // To be told, by writer.
  std::unique_ptr<io::Timer> timer_;
  io::JobThread idle_{"mobula-idle", io::JobPriority::kIdle};
};

}  // namespace mobula::node
