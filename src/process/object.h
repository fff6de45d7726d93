#pragma once
// Object: what one process knows of one object; the thing behind an ObjectRef.
//
//   pending ──value, error or location arrives──► ready        (never back; the value is immutable)
//
// `count` is the local count (OWNERSHIP.md R1): refs in user hands, pins of tasks in flight, packed
// values on their way, and private containers. Whoever holds one may use the pointer. Counts may be
// taken and dropped by any thread without the runtime's lock; the last drop hands the object to the
// runtime (Runtime::drop), which frees it under its lock.
//
// Threads: `count`, `ready` and `error_unseen` are atomic. The value may be read by anyone who saw `ready`. All else
//          belongs to the holder of the runtime's lock.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "core/objects/object_value.h"
#include "wire/frames.h"

namespace mobula::process {

struct Object;
struct WaitNode;
struct Task;
struct ActorCalls;

// A wire value (ValueHeader, refs, payload) in private memory. Small ones need no allocation.
class StoredValue {
 public:
  StoredValue() = default;
  StoredValue(const StoredValue&) = delete;
  StoredValue& operator=(const StoredValue&) = delete;
  ~StoredValue() { clear(); }

  // `bytes` starts with a ValueHeader and was verified.
  void assign(std::span<const std::byte> bytes);
  void clear();

  wire::ValueKind kind() const { return header().kind; }
  uint32_t ref_count() const { return header().ref_count; }
  std::span<const std::byte> payload() const;
  ObjectId ref(uint32_t index) const;
  std::span<const std::byte> bytes() const { return {data(), size_}; }

 private:
  static constexpr size_t kSmall = 32;
  const std::byte* data() const { return size_ <= kSmall ? small_ : large_; }
  const wire::ValueHeader& header() const {
    return *reinterpret_cast<const wire::ValueHeader*>(data());
  }

  size_t size_ = 0;
  union {
    alignas(8) std::byte small_[kSmall] = {};
    std::byte* large_;
  };
};

enum class Sharing : uint8_t {
  kPrivate,  // Ours, unknown to the daemon.
  kShared,   // Ours, the daemon has an entry and we hold it.
  kForeign,  // Another process made it; the ref table knows how we are protected.
};

struct Object {
  ObjectId id;
  std::atomic<uint32_t> count{1};
  std::atomic<bool> ready{false};
  Sharing sharing = Sharing::kPrivate;
  mutable std::atomic<bool> error_unseen{false};  // Of a task of ours; nobody has looked at it.
  std::atomic<bool> on_drop_list{false};
  StoredValue value;
  // The refs inside the value, in order, each with a count of ours. Set before `ready`.
  std::vector<Object*> inner;
  Task* producer = nullptr;       // Of ours, while pending.
  WaitNode* waiters = nullptr;    // Threads in get/wait.
  std::vector<Task*> dependents;  // Tasks of ours that wait for the value.
  Object* next_dropped = nullptr;
  ActorCalls* calls = nullptr;  // Of an actor's handle object, once it was called; owned.
  bool was_put = false;         // By this process: no task made it.
  bool requested = false;       // GetObjects was sent.
  bool in_ref_table = false;    // The ref table knows it: shared, foreign, or part of a parcel.
  // Lineage (lineage.cc).
  objects::Rebuild rebuild = objects::Rebuild::kNever;  // Of a value in the store.
  bool is_argument = false;  // Of a task that is kept: the object is not deleted while it is.
  bool entry_lives = false;  // The daemon says when nobody holds it any more.
  bool dormant = false;      // Without counts; kept for one of the two reasons above.
  bool is_item = false;      // Of a generator.
  bool proxy = false;        // Takes a value to the daemon that another Object of this id lost.

  bool is_ready() const { return ready.load(std::memory_order_acquire); }
  void note_seen() const {
    if (error_unseen.load(std::memory_order_relaxed)) error_unseen.store(false);
  }
  void retain() { count.fetch_add(1, std::memory_order_relaxed); }
};

}  // namespace mobula::process
