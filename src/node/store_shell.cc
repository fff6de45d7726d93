#include "node/store_shell.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <variant>

#include "node/log.h"
#include "node/machine.h"
#include "shm/pins.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

constexpr auto kTick = std::chrono::milliseconds(50);
// Without any progress, for those who wait for room.
constexpr auto kLookersAfter = std::chrono::milliseconds(200);
constexpr uint64_t kPopulateStepBytes = 2ULL << 20;
constexpr const char* kInMaking = "the segment is being made";

store::StoreBooks::Options books_options(uint64_t capacity_bytes) {
  store::StoreBooks::Options options;
  options.capacity_bytes = capacity_bytes;
  return options;
}

store::Spiller::Options spiller_options(bool enabled) {
  store::Spiller::Options options;
  options.enabled = enabled;
  return options;
}

}  // namespace

StoreShell::StoreShell(io::Loop& loop, Sessions& sessions, Options options)
    : loop_(loop),
      sessions_(sessions),
      disk_(std::move(options.disk)),
      why_no_disk_(std::move(options.why_no_disk)),
      books_(books_options(options.capacity_bytes)),
      spiller_(spiller_options(disk_ != nullptr), books_) {}

StoreShell::~StoreShell() {
  for (auto& [id, segment] : segments_) segment.dropped->store(true);
}

store::Headroom StoreShell::measure() const {
  store::Headroom headroom;
  headroom.memory_available = memory_available();
  headroom.cgroup_available = cgroup_memory_available();
  headroom.store_resident = 0;
  if (disk_) headroom.files = disk_->room();
  for (const auto& [id, segment] : segments_) {
    if (segment.in_file) continue;
    struct stat status {};
    if (::fstat(segment.fd->get(), &status) == 0) {
      headroom.store_resident += static_cast<uint64_t>(status.st_blocks) * 512;
    }
  }
  return headroom;
}

Result<bool> StoreShell::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  store::Effects effects;
  changed_ = true;
  switch (record.body_type()) {
    case UplinkBody::SegmentRequest: {
      const auto* request = record.body_as_SegmentRequest();
      MOBULA_TRY(
          books_.request({session.id, request->request(), request->bytes(), request->ahead()},
                         measure(), monotonic_now(), effects));
      break;
    }
    case UplinkBody::SegmentOpen:
      open_segment(session, SegmentId{record.body_as_SegmentOpen()->segment()});
      break;
    case UplinkBody::SegmentReturn: {
      const SegmentId segment{record.body_as_SegmentReturn()->segment()};
      if (in_making(segment)) return fail(ErrorCode::kInvalidArgument, kInMaking);
      MOBULA_TRY(books_.return_segment(session.id, segment, effects));
      serve_waiting(effects);
      break;
    }
    case UplinkBody::SegmentCancel:
      books_.cancel(session.id, record.body_as_SegmentCancel()->request());
      break;
    case UplinkBody::StoredLookup:
      MOBULA_TRY(look_up(session, *record.body_as_StoredLookup()));
      break;
    default:
      return false;
  }
  carry_out(effects);
  return true;
}

// In a file, which takes a while: nobody has been told of it.
bool StoreShell::in_making(SegmentId id) const {
  return books_.exists(id) && !segments_.contains(id);
}

void StoreShell::open_segment(const Session& session, SegmentId id) {
  const auto open = [&]() -> Result<std::pair<uint64_t, shm::Fd>> {
    if (in_making(id)) return fail(ErrorCode::kNotFound, kInMaking);
    const auto bytes = books_.open(session.id, id);
    MOBULA_TRY(bytes);
    auto fd = shm::reopen_read_only(*segments_.at(id).fd);
    MOBULA_TRY(fd);
    return std::pair{*bytes, std::move(*fd)};
  };
  const auto opened = open();
  if (!opened) {
    sessions_.send(session.id, [&](wire::Builder& builder) {
      return wire::fb::CreateSegmentGoneDirect(builder, number(id), opened.error().message.c_str());
    });
    return;
  }
  const std::array<int, 1> descriptors = {opened->second.get()};
  sessions_.send(
      session.id,
      [&](wire::Builder& builder) {
        return wire::fb::CreateSegmentOpened(builder, number(id), opened->first);
      },
      descriptors);
}

// A value may have left the segment that it is named after, and that may be gone.
Result<void> StoreShell::check_location(const wire::StoreLocation& location) const {
  if (spiller_.knows(location)) return {};
  if (in_making(location.segment)) return fail(ErrorCode::kInvalidArgument, kInMaking);
  return books_.check_location(location);
}

void StoreShell::adopt(const wire::StoreLocation& location) {
  spiller_.adopt(location, monotonic_now());
  changed_ = true;
}

void StoreShell::free_extent(const wire::StoreLocation& location) {
  store::Effects effects;
  store::SpillEffects spill;
  spiller_.free(location, effects, spill);
  changed_ = true;
  carry_out(effects);
  carry_out(spill);
}

void StoreShell::prefetch(const wire::StoreLocation& location) {
  store::SpillEffects spill;
  spiller_.prefetch(location, monotonic_now(), spill);
  carry_out(spill);
}

void StoreShell::on_buried(ProcessId process) {
  store::Effects effects;
  books_.on_process_buried(process, effects);
  spiller_.on_process_buried(process);
  freed_.erase(process);
  changed_ = true;
  carry_out(effects);
}

bool StoreShell::run() {
  if (!books_.evicting().empty()) {
    const shm::PinScan scan = scan_pins();
    const std::vector<wire::StoreLocation> evicting = books_.evicting();
    store::Effects effects;
    for (const wire::StoreLocation& location : evicting) {
      if (!scan.pinned(location)) spiller_.on_unpinned(location, monotonic_now(), effects);
    }
    carry_out(effects);
  }
  if (changed_) step();
  send_freed();
  set_timer();
  return changed_;
}

void StoreShell::set_timer() {
  const bool needed = !books_.evicting().empty() || books_.waiting() > 0 || spiller_.busy();
  if (!needed) return timer_.reset();
  if (timer_) return;
  timer_ = loop_.at(monotonic_now() + kTick, [this] {
    timer_.reset();
    tick();
  });
}

void StoreShell::tick() {
  store::Effects effects;
  serve_waiting(effects);
  carry_out(effects);
  changed_ = true;  // Time has passed.
}

void StoreShell::serve_waiting(store::Effects& effects) {
  const Instant now = monotonic_now();
  if (books_.waited(now) >= kLookersAfter) look_at_lookers();
  if (books_.waiting() > 0) books_.tick(measure(), now, effects);
  if (books_.waiting() == 0) tell_at_.reset();
}

void StoreShell::send_freed() {
  for (const auto& [writer, all] : std::exchange(freed_, {})) {
    for (size_t next = 0; next < all.size(); next += wire::kControlListMax) {
      const auto some =
          std::span(all).subspan(next, std::min(wire::kControlListMax, all.size() - next));
      sessions_.send(writer, [&](wire::Builder& builder) {
        return wire::fb::CreateExtentsFreed(builder, wire::build_locations(builder, some),
                                            books_.waiting() > 0);
      });
    }
  }
}

void StoreShell::carry_out(const store::Effects& effects) {
  for (const store::Effect& effect : effects) {
    std::visit([this](const auto& decided) { carry_out(decided); }, effect);
  }
}

Result<void> StoreShell::create(const store::CreateSegment& create, Result<shm::NewSegment> made) {
  MOBULA_TRY(made);
  auto view = shm::SegmentView::attach(made->table.data(), made->table.size(), create.segment);
  MOBULA_TRY(view);
  Segment& segment =
      segments_
          .try_emplace(
              create.segment,
              Segment{std::make_shared<shm::Fd>(std::move(made->fd)), std::move(made->table), *view,
                      std::make_shared<std::atomic<bool>>(false), create.in_file})
          .first->second;
  if (create.in_file) {
    tell_of_file(create);
  } else {
    populate(segment, view->data_offset() + view->data_bytes());
  }
  if (create.process == kDaemonProcess) {
    own_segment_created(create.segment, *view);
    return {};
  }
  const std::array<int, 1> descriptors = {segment.fd->get()};
  sessions_.send(
      create.process,
      [&](wire::Builder& builder) {
        return wire::fb::CreateSegmentGranted(builder, create.request, number(create.segment),
                                              create.data_bytes);
      },
      descriptors);
  return {};
}

// In the daemon, so that the pages are charged to its cgroup and not to a worker's.
void StoreShell::populate(const Segment& segment, uint64_t file_bytes) {
  struct Progress {
    std::shared_ptr<shm::Fd> fd;
    std::shared_ptr<std::atomic<bool>> dropped;
    uint64_t done = 0;
  };
  auto progress = std::make_shared<Progress>(Progress{segment.fd, segment.dropped});
  idle_.add([progress, file_bytes] {
    const uint64_t step = std::min(kPopulateStepBytes, file_bytes - progress->done);
    if (step == 0 || progress->dropped->load()) return false;
    if (::fallocate(progress->fd->get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(progress->done),
                    static_cast<off_t>(step)) != 0) {
      return false;
    }
    progress->done += step;
    return true;
  });
}

void StoreShell::carry_out(const store::CreateSegment& wanted) {
  if (!wanted.in_file) {
    return finish(wanted, shm::create_segment(wanted.segment, wanted.data_bytes));
  }
  const uint64_t bytes =
      shm::segment_file_bytes(wanted.data_bytes, shm::segment_entries_for(wanted.data_bytes));
  files_in_making_++;
  disk_->make_file(bytes, [this, wanted](Result<shm::Fd> file) {
    files_in_making_--;
    if (!books_.exists(wanted.segment)) return;  // Who wanted it is dead.
    changed_ = true;
    if (!file) return finish(wanted, tl::unexpected(file.error()));
    finish(wanted, shm::create_segment_in(std::move(*file), wanted.segment, wanted.data_bytes));
  });
}

void StoreShell::tell_of_file(const store::CreateSegment& create) {
  const double size = static_cast<double>(create.data_bytes) / (1 << 20);
  const double capacity = static_cast<double>(capacity_bytes()) / (1 << 20);
  log_info(fmt::format("segment={} process={} event=in_file size_mib={:.1f}",
                       number(create.segment), number(create.process), size));
  if (!on_file_) return;
  const std::vector<ProcessId> whose =
      create.process == kDaemonProcess ? spiller_.waiting_for_room() : std::vector{create.process};
  on_file_(whose,
           fmt::format("the object store of {:.1f} MiB has no room left, so values go to files "
                       "in {} now ({:.1f} MiB for the first), which is slower. A larger store: "
                       "init(object_store_memory=...), or mobula start --object-store-memory",
                       capacity, spill_folder(), size));
}

void StoreShell::finish(const store::CreateSegment& wanted, Result<shm::NewSegment> made) {
  const auto created = create(wanted, std::move(made));
  if (created) return;
  log_warning(fmt::format("segment={} process={} event=not_created why=\"{}\"",
                          number(wanted.segment), number(wanted.process), created.error().message));
  store::Effects effects;
  books_.on_create_failed(wanted, created.error(), effects);
  carry_out(effects);
}

void StoreShell::carry_out(const store::RefuseSegment& refuse) {
  std::string message = refuse.message;
  if (!refuse.ahead) {
    message += explain();
    log_warning(
        fmt::format("process={} event=store_full why=\"{}\"", number(refuse.process), message));
  }
  if (refuse.process == kDaemonProcess) {
    store::SpillEffects spill;
    spiller_.on_own_refused(message, spill);
    changed_ = true;
    return carry_out(spill);
  }
  sessions_.send(refuse.process, [&](wire::Builder& builder) {
    return wire::fb::CreateSegmentRefusedDirect(builder, refuse.request, message.c_str(),
                                                refuse.disk_full || spiller_.disk_is_full());
  });
}

void StoreShell::reclaim() {
  store::Effects effects;
  books_.reclaim(effects);
  carry_out(effects);
}

void StoreShell::carry_out(const store::AskForEmpty& ask) {
  sessions_.send(ask.process, [&](wire::Builder& builder) {
    return wire::fb::CreateSegmentsWanted(builder, ask.share_bytes);
  });
}

void StoreShell::carry_out(const store::DestroySegment& destroy) {
  const auto found = segments_.find(destroy.segment);
  if (found != segments_.end()) {
    found->second.dropped->store(true);
    segments_.erase(found);
    if (books_.waiting() > 0) {  // They need not wait for the next tick.
      timer_.reset();
      timer_ = loop_.at(monotonic_now(), [this] {
        timer_.reset();
        tick();
      });
    }
  }
  for (const ProcessId reader : destroy.readers) {
    sessions_.send(reader, [&](wire::Builder& builder) {
      return wire::fb::CreateSegmentGoneDirect(builder, number(destroy.segment), "");
    });
  }
}

void StoreShell::carry_out(const store::MarkEvicting& mark) {
  const auto found = segments_.find(mark.location.segment);
  if (found == segments_.end() || !found->second.view.evict(mark.location)) {
    log_warning(fmt::format("segment={} entry={} event=not_sealed", number(mark.location.segment),
                            mark.location.entry));
  }
}

void StoreShell::carry_out(const store::ReleaseExtent& release) {
  const auto found = segments_.find(release.location.segment);
  if (found != segments_.end()) found->second.view.release(release.location);
  if (release.writer != kDaemonProcess) freed_[release.writer].push_back(release.location);
}

}  // namespace mobula::node
