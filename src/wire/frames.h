#pragma once
// The frames of the direct rings between a caller and a callee on one node, and the values in them.
//
//   caller -> callee   LeaseStart, Function, Task
//   callee -> caller   Yield, Result, Blocked, Unblocked
//
// A message larger than a frame may be is sent as Part frames, which the next frame of another kind
// continues: header of that frame, then the bytes of the parts, then the rest of that frame.
//
// Uplink records use the same framing (control.h).
//
// Every struct is little-endian, 8-byte aligned, without padding bytes, and copied to private memory
// and verified (frame_reader.h) before anything in it is used. Only opaque payloads are read in place.
//
// A value, everywhere (argument, return, put):
//   ValueHeader | ref_count x ObjectId | size bytes of payload | padding to 8
// A frame names every ref that it carries in these lists; nobody unpickles to count.

#include <cstddef>
#include <cstdint>

#include "base/ids.h"

namespace mobula::wire {

// Values whose header, refs and payload are larger travel as store objects. Bytes.
constexpr size_t kInlineValueBytesMax = 100 * 1024;
// A ring never carries a larger frame (1/8 of the largest ring). Bytes.
constexpr size_t kFrameBytesMax = 128 * 1024;
// A message in parts is at most this large. Bytes.
constexpr size_t kMessageBytesMax = size_t{1} << 30;
constexpr size_t kFrameAlignment = 8;

enum class ValueKind : uint8_t {
  // Plain Python values, encoded without pickle (payload in brackets).
  kNone = 0,
  kTrue = 1,
  kFalse = 2,
  kInt64 = 3,    // [8 bytes]
  kFloat64 = 4,  // [8 bytes]
  kString = 5,   // [UTF-8]
  kBytes = 6,    // [bytes]
  // Pickle protocol 5. Out-of-band buffers: uint64 count, count x (uint64 offset, uint64 size)
  // relative to the payload's start, then the pickle (offset, size last in that table), buffers
  // aligned to 64.
  kPickle = 16,
  kPickleWithBuffers = 17,
  // Text that names one string per keyword argument, NUL-separated: last value of a Task's list.
  kKeywordNames = 18,
  // An exception that user code raised: pickle of what python/mobula/exceptions.py describes.
  kTaskError = 32,
  // An error that the runtime raised: SystemErrorPayload followed by UTF-8 text.
  kSystemError = 33,
  // An argument of the task is an error: DependencyErrorPayload, name of the function, then the
  // payload of that error (kTaskError or kSystemError), whose refs are the value's.
  kDependencyError = 34,
  // Only in packed arguments before they are sent: the value of refs[0], not known yet.
  kReference = 48,
  // StoreLocation of refs[0]; the bytes there are again ValueHeader, refs, payload.
  kInStore = 49,
};

constexpr bool is_error(ValueKind kind) {
  return kind == ValueKind::kTaskError || kind == ValueKind::kSystemError ||
         kind == ValueKind::kDependencyError;
}

struct ValueHeader {
  uint64_t size;  // Payload bytes, without padding.
  uint32_t ref_count;
  ValueKind kind;
  uint8_t reserved[3];
};
static_assert(sizeof(ValueHeader) == 16);

struct StoreLocation {
  SegmentId segment;
  uint32_t entry;  // Index entry within the segment (shm/segment.h).
  uint32_t generation;
  uint32_t reserved;
  uint64_t offset;  // From the segment's start.
  uint64_t size;    // Bytes of the whole stored value, header included.
};
static_assert(sizeof(StoreLocation) == 32);

// What the binding turns into an exception class. Numbers are wire format.
enum class SystemErrorCode : uint32_t {
  kWorkerCrashed = 1,
  kTaskCancelled = 2,
  kObjectLost = 3,
  kOwnerDied = 4,
  kOutOfMemory = 5,
  kObjectStoreFull = 6,
  kNodeDied = 7,
  kRuntimeEnvSetup = 8,
  kTaskUnschedulable = 9,
  kInternal = 10,
  kEndOfStream =
      11,  // There is no such item: the stream has ended before it. Never leaves a process.
  // Text: id of the actor, NUL, "1" if its constructor failed (else "0"), NUL, a sentence.
  kActorDied = 12,
  kActorUnavailable = 13,
  kActorUnschedulable = 14,
  kTaskTimeout = 15,  // It ran for longer than its time limit.
  // The value is lost and cannot be made again: id of the object (56 digits), NUL, text.
  kRebuildFailed = 16,
  kRebuildMaxAttempts = 17,
  kRebuildLineageEvicted = 18,
  kTaskPlacementGroupRemoved = 19,
  kActorPlacementGroupRemoved = 20,
};

struct SystemErrorPayload {
  SystemErrorCode code;
  uint32_t reserved;
};

struct DependencyErrorPayload {
  uint32_t name_size;
  ValueKind kind;
  uint8_t reserved[3];
};
static_assert(sizeof(DependencyErrorPayload) == 8);

enum class FrameKind : uint16_t {
  kWrap = 0,  // Ring filler up to its end; never handed out.
  kLeaseStart = 1,
  kFunction = 2,
  kTask = 3,
  kResult = 4,
  kBlocked = 5,    // The callee waits in get: take back what it has not started.
  kUnblocked = 6,  // It runs again.
  kPart = 7,
  kYield = 8,  // One item of a task that yields its results.
};

struct FrameHeader {
  uint32_t size;  // Of the whole frame, a multiple of 8.
  FrameKind kind;
  uint16_t flags;
};
static_assert(sizeof(FrameHeader) == 8);

// The lease under which the following tasks run. The callee sets CUDA_VISIBLE_DEVICES and thread
// counts from it. Followed by gpu_count x uint32 GPU indices, then resources_size bytes of text: a line
// "name=amount" for each resource of the lease, in fixed point.
struct LeaseStartHeader {
  FrameHeader frame;
  LeaseId lease;
  uint32_t epoch;  // Tasks of another epoch are not started.
  uint32_t gpu_count;
  int64_t cpu_amount;  // Fixed point, kResourceUnit is one CPU.
  uint32_t depth;      // Nesting depth of the tasks: the driver's are 1.
  uint32_t resources_size;
  int32_t priority;  // That of tasks submitted under this lease, unless they have one of their own.
  int32_t bundle_index;  // base/bundle.h
  PlacementGroupId group;
  uint32_t captures;
  uint32_t reserved;
};
static_assert(sizeof(LeaseStartHeader) == 64);

// Defines a function for later tasks of this caller. Followed by name_size bytes of its qualified
// name, padding to 8, then one Value (the pickled function). With flags it is a method of the actor at
// the other end: they are one more than the number of its concurrency group.
struct FunctionHeader {
  FrameHeader frame;
  uint32_t function;
  uint32_t name_size;
};
static_assert(sizeof(FunctionHeader) == 16);

// In TaskHeader.num_returns: the task is a generator, whose items are sent as Yield frames and whose
// one return is None. The other bits say how many items it may be ahead of its consumer; 0: any number.
constexpr uint32_t kStreaming = uint32_t{1} << 31;

// Followed by value_count Values: positional arguments, then keyword arguments, then (only if
// keyword_count > 0) one kKeywordNames value, which value_count includes.
struct TaskHeader {
  FrameHeader frame;
  uint64_t claim_tag;  // The claim word must hold it as queued, else the task was taken back.
  CallId call;
  ObjectId first_return;  // Return k is (node, creator, index + k).
  uint32_t function;
  uint32_t lease_epoch;
  uint32_t value_count;
  uint32_t keyword_count;
  uint32_t num_returns;
  uint16_t claim_slot;
  uint16_t attempt;
  uint32_t time_limit_ms;  // It may run for so long; 0: for ever.
  uint32_t reserved;
};
static_assert(sizeof(TaskHeader) == 72);

constexpr uint16_t kResultFailed = 1;  // FrameHeader.flags: every Value is the same error.
constexpr uint16_t kResultParcel = 2;  // A Parcel record stands in the callee's uplink; CLOSE it.

// Followed by num_returns Values (one, the error, if kResultFailed).
struct ResultHeader {
  FrameHeader frame;
  CallId call;
  uint64_t claim_tag;
  uint64_t run_time_ns;  // Of the user's function with its arguments decoded.
  uint32_t num_returns;
  uint16_t claim_slot;
  uint16_t reserved;
};
static_assert(sizeof(ResultHeader) == 40);

// Item number `index` of a generator task, from 0. Followed by one Value. A task that is run again
// sends all its items again.
struct YieldHeader {
  FrameHeader frame;  // flags: kResultParcel, whose call is `parcel`.
  CallId call;
  uint64_t claim_tag;
  CallId parcel;  // With kYieldParcel set; another for each item.
  uint64_t index;
  uint16_t claim_slot;
  uint16_t reserved[3];
};
static_assert(sizeof(YieldHeader) == 48);
// Parcels of items are numbered by the callee; this bit keeps them apart from calls.
constexpr uint64_t kYieldParcel = uint64_t{1} << 63;

constexpr size_t padded(size_t size) {
  return (size + kFrameAlignment - 1) & ~(kFrameAlignment - 1);
}

}  // namespace mobula::wire
