#pragma once
// StoreShell carries out what StoreBooks decides: it makes and destroys the segments of the object
// store, hands out their descriptors, and looks through the pin tables before an extent is reused.
//
// Fresh segments get their pages from a thread that runs when nothing else does (HOTPATH.md R8).
//
// Threads: the loop's, besides that one.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/store/store_books.h"
#include "io/idle_thread.h"
#include "io/loop.h"
#include "node/sessions.h"
#include "shm/segment.h"

namespace mobula::node {

class StoreShell {
 public:
  StoreShell(io::Loop& loop, Sessions& sessions, uint64_t capacity_bytes);
  ~StoreShell();

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

  // For what the object directory says.
  Result<void> check_location(const wire::StoreLocation& location) const {
    return books_.check_location(location);
  }
  // Is there a stored value at this location? False: its bytes are lost.
  bool has_bytes(const wire::StoreLocation& location) const;
  void adopt(const wire::StoreLocation& location) { books_.adopt(location); }
  void free_extent(const wire::StoreLocation& location);
  void on_buried(ProcessId process);

  // Once a turn of the loop: extents that nobody looks at any more are free.
  void run();

  uint64_t capacity_bytes() const { return books_.capacity_bytes(); }
  uint64_t granted_bytes() const { return books_.granted_bytes(); }
  uint64_t resident_bytes() const { return measure().store_resident; }
  size_t segment_count() const { return segments_.size(); }

 private:
  struct Segment {
    shm::Fd fd;
    shm::Mapping table;
    shm::SegmentView view;
    std::shared_ptr<std::atomic<bool>> dropped;  // Tells the populating thread to stop.
  };

  store::Headroom measure() const;
  void carry_out(const store::Effects& effects);
  void carry_out(const store::CreateSegment& create);
  void carry_out(const store::RefuseSegment& refuse);
  void carry_out(const store::AskForEmpty& ask);
  void carry_out(const store::DestroySegment& destroy);
  void carry_out(const store::MarkEvicting& mark);
  void carry_out(const store::ReleaseExtent& release);
  Result<void> create(const store::CreateSegment& create);
  void populate(const Segment& segment, uint64_t file_bytes);
  void open_segment(const Session& session, SegmentId segment);
  void tick();
  void set_timer();
  void send_freed();

  io::Loop& loop_;
  Sessions& sessions_;
  store::StoreBooks books_;
  std::map<SegmentId, Segment> segments_;
  std::map<ProcessId, std::vector<wire::StoreLocation>> freed_;  // To be told, by writer.
  std::unique_ptr<io::Timer> timer_;
  io::IdleThread idle_;
};

}  // namespace mobula::node
