#pragma once
// OwnershipWorld plays several processes and their node daemon in one thread, from one seed: model
// processes that put, call, return, get, drop and crash, each with a RefTable and the little of a
// runtime that the table's header asks for; FIFO uplinks and rings; a daemon with an ObjectDirectory
// that reads uplinks in passes, record by record, while everything else goes on.
//
// After every step it checks that nothing which a live process refers to was freed; at the end, when
// everybody has let go, that nothing is left.
//
// A Fault breaks one rule on purpose, to prove that the checks find it.

#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/objects/object_directory.h"
#include "core/objects/ref_table.h"

namespace mobula::objects {

enum class Fault {
  kNone,
  kSweepReadsNothing,     // R11: passes complete without having read anything.
  kNoClaimBeforeSend,     // R4.
  kClaimsAfterResult,     // R6.
  kBurialWithoutDrained,  // R18: nobody is asked.
  kOpenParcelsNotListed,  // R18: DRAINED lists nothing.
  kAllParcelsListed,      // R18: parcels of unpublished results stay.
  kContentNotShared,      // R2: SHARE of a container alone.
  kEstateForgotten,       // R19.
  kReadyForgotten,        // R9.
  kFrameBeforeRecords,    // R3: a frame overtakes the record before it.
  kUplinkNotRead,         // R18: what a dead process had published is thrown away.
  kRebuildForgotten,      // R21: a creator that is asked for a lost value does nothing.
  kLossNotTold,           // Who finds a value lost tells nobody, and waits.
};

class OwnershipWorld {
 public:
  struct Options {
    uint64_t seed = 1;
    int processes = 3;
    int steps = 300;
    int crashes_max = 1;
    size_t refs_max = 1000;  // A process with more in user hands makes no new objects.
    bool cycles =
        false;  // Values may end up holding their own refs; then only the job's end frees.
    // In one of so many steps a process may find bytes lost; 0: never.
    uint64_t loss_every = 40;
    Fault fault = Fault::kNone;
  };

  explicit OwnershipWorld(const Options& options);

  // Plays everything. Empty, or what went wrong.
  std::string run();

  // What was seen, so that a test can tell that it was worth something.
  struct Seen {
    int crashes = 0;
    int values_delivered = 0;
    int parcels = 0;
    int early_closes = 0;
    int extents_freed = 0;
    int estates = 0;
    int claims = 0;
    int losses = 0;
    int rebuilds = 0;
    uint64_t steps = 0;
  };
  const Seen& seen() const { return seen_; }

 private:
  using Refs = std::vector<ObjectId>;
  // Uplink records that a RefTable does not write.
  struct ShareRecord {
    ObjectId object;
    ValuePtr value;  // Null: pending.
    Refs spec;
  };
  struct ReadyRecord {
    ObjectId object;
    ValuePtr value;
  };
  struct ParcelRecord {
    ParcelKey key;
    Refs refs;
    std::vector<wire::StoreLocation> locations;
  };
  struct GetRecord {
    ObjectId object;
  };
  struct LostRecord {
    ObjectId object;
    wire::StoreLocation location;
  };
  struct TaskFrame {
    CallId call;
    Refs args;
  };
  struct ResultFrame {
    CallId call;
    ValuePtr value;
    bool parcel;
  };
  using Record =
      std::variant<UplinkRecord, ShareRecord, ReadyRecord, ParcelRecord, GetRecord, LostRecord>;
  using Frame = std::variant<TaskFrame, ResultFrame>;
  struct ToRing {
    int to;
    Frame frame;
  };
  using Publication = std::variant<Record, ToRing>;
  using Notice = std::variant<DeliverValue, SendPeerDied, AskRebuild>;

  struct Local {  // What a process knows of an object.
    uint32_t count = 0;
    bool is_private = false;
    bool pending = false;
    ValuePtr value;
    Refs spec;  // Pending and its own.
  };
  struct Sent {
    int callee;
    Refs args;
    ObjectId result;
    bool result_shared = false;
  };
  struct Running {
    int caller;
    CallId call;
    Refs args;
    bool orphan = false;
  };
  struct Process {
    bool alive = true;
    bool noticed = false;
    int asleep = 0;  // Steps in which it does nothing.
    std::map<ObjectId, Local> objects;
    std::map<ObjectId, uint32_t> user;  // Refs in user hands.
    std::map<CallId, Sent> sent;
    std::vector<Running> running;
    std::set<ObjectId> asked;
    std::set<int> known_dead;
    std::optional<RefTable> refs;
    std::deque<Publication> out;  // Done, but not published yet: lost in a crash.
    std::deque<Record> uplink;
    std::map<int, std::deque<Frame>> ring_from;
    std::deque<Notice> downlink;
    std::map<int, size_t> unread_in_pass;
    uint64_t next_object = 1;
    uint64_t next_call = 1;
  };

  // A process's steps. Each returns false if there was nothing to do.
  bool put(int p);
  bool call(int p);
  bool drop(int p);
  bool get(int p);
  bool look_inside(int p);
  bool finish(int p);
  bool read_ring(int p);
  bool read_notice(int p);
  bool publish(int p);
  bool lose(int p);
  void make_again(int p, ObjectId object);
  void crash(int p);

  void on_task(int p, int from, const TaskFrame& task);
  void on_result(int p, int from, const ResultFrame& result);
  void on_value(int p, const DeliverValue& answer);
  void on_peer_died(int p, int dead);
  void complete(int p, CallId call, const ValuePtr& value, std::optional<ParcelKey> parcel);
  void share_all(int p, const Refs& roots);
  void share_one(int p, ObjectId object);
  void retain(int p, ObjectId object);
  void release(int p, ObjectId object);
  void take_user(int p, ObjectId object);
  void drop_user(int p, ObjectId object);
  void keep_value(int p, Local& local, const ValuePtr& value);
  void queue(int p, UplinkRecords& records);
  void send(int p, Record record) { processes_[p].out.emplace_back(std::move(record)); }

  // The daemon's steps.
  bool daemon_step();
  void visit(int p);
  void read_record(int p);
  void notice_death(int p);
  void carry_out();
  bool notice_some_death();
  bool settle_some_estate();

  // Play: anything. Settle: only what ends by itself. LetGo: that, and user code drops its refs.
  enum class Mode { kPlay, kSettle, kLetGo };
  bool process_step(int p, Mode mode);
  bool waking_step(int p, Mode mode);
  bool any_step(Mode mode);
  void settle(Mode mode);
  void check();
  void check_end();
  void fail_with(const std::string& what);

  Refs some_users(int p, size_t max);
  ObjectId new_object(int p);
  wire::StoreLocation new_extent(int p);
  ValuePtr new_value(int p, Refs refs, bool in_store);
  bool reaches(const Refs& from, ObjectId to) const;
  uint64_t pick(uint64_t below) { return random_() % below; }
  bool chance(uint64_t percent) { return pick(100) < percent; }
  static ProcessId id_of(int p) { return ProcessId{static_cast<uint32_t>(p + 1)}; }
  static int index_of(ProcessId id) { return static_cast<int>(number(id)) - 1; }

  const Options options_;
  std::mt19937_64 random_;
  ObjectDirectory directory_;
  Effects effects_;
  std::vector<Process> processes_;
  bool in_pass_ = false;
  std::map<int, size_t> unread_;  // In this pass: records still to read, once the tail was seen.
  std::vector<ObjectId> owed_;
  std::set<ObjectId> share_read_;
  std::map<ObjectId, Refs> contents_;  // Of every object that ever was: for cycles.
  std::set<std::pair<uint32_t, uint32_t>> adopted_;
  std::set<std::pair<uint32_t, uint32_t>> freed_;
  std::set<std::pair<uint32_t, uint32_t>> lost_;  // Found by somebody to have no bytes.
  uint32_t next_entry_ = 0;
  int crashes_left_;
  std::string violation_;
  Seen seen_;
};

}  // namespace mobula::objects
