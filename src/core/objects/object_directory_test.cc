#include "core/objects/object_directory.h"

#include <gtest/gtest.h>

namespace mobula::objects {
namespace {

constexpr NodeId kNode{7};
constexpr JobId kJob{1};
constexpr ProcessId p{1};
constexpr ProcessId q{2};
constexpr ProcessId r{3};

ObjectId object_of(ProcessId creator, uint64_t index) { return {kNode, creator, index}; }
const ObjectId x = object_of(p, 1);
const ObjectId y = object_of(p, 2);
const ObjectId z = object_of(p, 3);

wire::StoreLocation extent(uint32_t segment, uint32_t entry) {
  return {SegmentId{segment}, entry, 1, 0, 4096, 100};
}

ValuePtr value_of(std::vector<ObjectId> refs = {},
                  std::optional<wire::StoreLocation> location = std::nullopt) {
  auto value = std::make_shared<ObjectValue>();
  value->refs = std::move(refs);
  value->location = location;
  return value;
}

template <typename T>
std::vector<T> take(Effects& effects) {
  std::vector<T> taken;
  std::erase_if(effects, [&](const Effect& effect) {
    const T* match = std::get_if<T>(&effect);
    if (match != nullptr) taken.push_back(*match);
    return match != nullptr;
  });
  return taken;
}

// A directory with three processes of one job, all with rings to each other.
class Directory : public testing::Test {
 protected:
  Directory() {
    for (const ProcessId process : {p, q, r}) {
      EXPECT_TRUE(directory.add_process(process, kJob));
    }
    EXPECT_TRUE(directory.on_channel_opened(p, q));
    EXPECT_TRUE(directory.on_channel_opened(p, r));
    EXPECT_TRUE(directory.on_channel_opened(q, r));
  }
  ~Directory() override { directory.check_invariants(); }

  void share(ObjectId object, ValuePtr value = value_of()) {
    EXPECT_TRUE(directory.on_share(object.creator, object, std::move(value), effects));
  }
  void share_pending(ObjectId object, std::vector<ObjectId> spec = {}) {
    EXPECT_TRUE(directory.on_share_pending(object.creator, object, std::move(spec)));
  }
  void claim(ProcessId process, ObjectId object) {
    EXPECT_TRUE(directory.on_claim(process, {&object, 1}));
  }
  void release(ProcessId process, ObjectId object) {
    EXPECT_TRUE(directory.on_release(process, {&object, 1}));
  }
  void get(ProcessId process, ObjectId object) {
    EXPECT_TRUE(directory.on_get(process, {&object, 1}, effects));
  }
  void parcel(const ParcelKey& key, std::vector<ObjectId> refs,
              std::vector<wire::StoreLocation> locations = {}) {
    EXPECT_TRUE(directory.on_parcel(key, std::move(refs), locations, effects));
  }
  void drained(ProcessId process, ProcessId dead, std::vector<CallId> open = {}) {
    EXPECT_TRUE(directory.on_drained(process, dead, open, effects));
  }
  // A pass over uplinks in which there is nothing to read.
  void pass() {
    directory.begin_pass();
    directory.complete_pass(effects);
    directory.check_invariants();
  }
  void expect_no_more() { EXPECT_TRUE(effects.empty()); }

  ObjectDirectory directory{{.node = kNode}};
  Effects effects;
};

// ---- the basics

TEST_F(Directory, an_entry_lives_as_long_as_somebody_holds_it) {
  share(x);
  claim(q, x);
  release(p, x);
  pass();
  EXPECT_TRUE(directory.contains(x));
  release(q, x);
  EXPECT_TRUE(directory.wants_pass());
  pass();
  EXPECT_FALSE(directory.contains(x));
  EXPECT_FALSE(directory.wants_pass());
  expect_no_more();
}

TEST_F(Directory, every_getter_is_given_the_same_bytes) {
  const ValuePtr value = value_of();
  share(x, value);
  get(q, x);
  get(r, x);
  const auto delivered = take<DeliverValue>(effects);
  ASSERT_EQ(delivered.size(), 2);
  EXPECT_EQ(delivered[0].value.get(), value.get());
  EXPECT_EQ(delivered[1].value.get(), value.get());
  expect_no_more();
}

TEST_F(Directory, getters_of_a_pending_object_wait_for_its_value) {
  share_pending(z);
  get(q, z);
  get(q, z);  // Asking again changes nothing.
  expect_no_more();
  EXPECT_TRUE(directory.on_ready(p, z, value_of(), effects));
  EXPECT_EQ(take<DeliverValue>(effects).size(), 1);
  expect_no_more();
}

TEST_F(Directory, a_get_of_what_nobody_shared_is_answered_after_a_pass) {
  get(q, x);
  expect_no_more();  // The SHARE may stand in an uplink.
  pass();
  const auto delivered = take<DeliverValue>(effects);
  ASSERT_EQ(delivered.size(), 1);
  EXPECT_EQ(delivered[0].value, nullptr);
  EXPECT_FALSE(delivered[0].error.empty());
  EXPECT_EQ(directory.entry_count(), 0);
}

TEST_F(Directory, a_claim_may_be_read_before_the_share) {
  claim(q, x);
  get(q, x);
  pass();
  expect_no_more();
  share(x);
  EXPECT_EQ(take<DeliverValue>(effects).size(), 1);
  EXPECT_EQ(directory.hold_count(x), 2);
}

TEST_F(Directory, stored_bytes_are_freed_once_with_their_last_owner) {
  parcel({p, q, CallId{1}}, {}, {extent(2, 0)});
  EXPECT_EQ(take<AdoptExtent>(effects).size(), 1);
  share(x, value_of({}, extent(2, 0)));  // Takes the bytes of the result over,
  EXPECT_TRUE(directory.on_close({p, q, CallId{1}}));
  pass();
  expect_no_more();
  release(p, x);
  pass();
  pass();
  EXPECT_EQ(take<FreeExtent>(effects).size(), 1);
  EXPECT_EQ(directory.extent_count(), 0);
  expect_no_more();
}

TEST_F(Directory, a_value_that_came_too_late_frees_its_bytes_once) {
  share_pending(z);
  release(p, z);
  pass();
  ASSERT_FALSE(directory.contains(z));
  // READY and CLOSE are read before the PARCEL that brought the same bytes.
  EXPECT_TRUE(directory.on_ready(p, z, value_of({}, extent(2, 0)), effects));
  EXPECT_TRUE(directory.on_close({p, q, CallId{1}}));
  parcel({p, q, CallId{1}}, {}, {extent(2, 0)});
  EXPECT_EQ(take<AdoptExtent>(effects).size(), 1);
  pass();
  EXPECT_EQ(take<FreeExtent>(effects).size(), 1);
  expect_no_more();
}

TEST_F(Directory, what_a_job_holds_stays_until_its_end) {
  share(x);
  EXPECT_TRUE(directory.on_job_holds(p, std::vector{x}));
  release(p, x);
  pass();
  EXPECT_TRUE(directory.contains(x));
  directory.on_job_ended(kJob, value_of(), effects);
  pass();
  EXPECT_FALSE(directory.contains(x));
}

// ---- the counterexamples of the protocol's model (OWNERSHIP.md, section 7)

TEST_F(Directory, a_release_never_overtakes_another_process) {
  // p passed x to q by ring; q claimed and dropped it. q's uplink is read first.
  directory.begin_pass();
  claim(q, x);
  release(q, x);
  directory.complete_pass(effects);  // p's SHARE came after this pass looked at p's uplink.
  EXPECT_TRUE(directory.contains(x));
  directory.begin_pass();
  share(x);
  directory.complete_pass(effects);
  EXPECT_TRUE(directory.contains(x));
  EXPECT_EQ(directory.hold_count(x), 1);
  expect_no_more();
}

TEST_F(Directory, a_hold_that_returns_during_the_sweep_starts_a_new_one) {
  share(x);
  release(p, x);
  directory.begin_pass();
  claim(q, x);
  release(q, x);  // In the pass that was to prove the first loss: proves nothing of the second.
  directory.complete_pass(effects);
  EXPECT_TRUE(directory.contains(x));
  pass();
  EXPECT_FALSE(directory.contains(x));
}

TEST_F(Directory, a_value_arriving_during_the_sweep_is_kept) {
  share_pending(z);
  get(q, z);
  release(p, z);  // The last known hold; q's CLAIM is unread.
  directory.begin_pass();
  EXPECT_TRUE(directory.on_ready(p, z, value_of(), effects));
  EXPECT_EQ(take<DeliverValue>(effects).size(), 1);
  claim(q, z);
  directory.complete_pass(effects);
  EXPECT_TRUE(directory.contains(z));
  expect_no_more();
}

TEST_F(Directory, a_dead_callers_holds_outlive_its_unread_frames) {
  share(x);
  directory.on_process_died(p, effects);
  EXPECT_EQ(take<SendPeerDied>(effects).size(), 2);
  pass();
  EXPECT_TRUE(directory.contains(x));  // q may yet read a TASK with x in p's ring.
  claim(q, x);                         // It did.
  drained(q, p);
  EXPECT_TRUE(take<Buried>(effects).empty());
  drained(r, p);
  EXPECT_EQ(take<Buried>(effects).size(), 1);
  pass();
  EXPECT_EQ(directory.hold_count(x), 1);
  expect_no_more();
}

TEST_F(Directory, an_uplink_is_read_before_death) {
  // The shell reads it first; afterwards a record of a dead process is refused, not believed.
  directory.on_process_died(p, effects);
  EXPECT_EQ(directory.on_share(p, x, value_of(), effects).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_FALSE(directory.contains(x));
}

TEST_F(Directory, an_unpublished_result_leaves_no_parcel) {
  share(x);
  parcel({p, q, CallId{1}}, {x}, {extent(2, 0)});
  parcel({p, q, CallId{2}}, {x});
  directory.on_process_died(q, effects);
  drained(p, q, {CallId{2}});  // Call 2's result was read and is open; call 1's never came.
  EXPECT_EQ(directory.parcel_count(), 1);
  EXPECT_EQ(directory.hold_count(x), 2);
  pass();
  EXPECT_EQ(take<FreeExtent>(effects).size(), 1);
}

TEST_F(Directory, burial_waits_for_the_unnoticed_dead) {
  directory.on_process_died(p, effects);
  drained(r, p);
  // q is dead too, but nobody has noticed. Its PARCEL for p is still to be read.
  EXPECT_TRUE(take<Buried>(effects).empty());
  share(object_of(q, 1));
  parcel({p, q, CallId{1}}, {object_of(q, 1)});
  directory.on_process_died(q, effects);
  drained(r, q);
  EXPECT_EQ(take<Buried>(effects).size(), 2);
  EXPECT_EQ(directory.parcel_count(), 0);
  pass();
  EXPECT_EQ(directory.entry_count(), 0);
}

TEST_F(Directory, close_may_come_before_its_parcel) {
  share(x);
  EXPECT_TRUE(directory.on_close({p, q, CallId{1}}));
  EXPECT_EQ(directory.early_close_count(), 1);
  parcel({p, q, CallId{1}}, {x}, {extent(2, 0)});
  EXPECT_EQ(directory.parcel_count(), 0);
  EXPECT_EQ(directory.early_close_count(), 0);
  EXPECT_EQ(directory.hold_count(x), 1);
  pass();
  EXPECT_EQ(take<FreeExtent>(effects).size(), 1);
}

TEST_F(Directory, a_close_of_a_dead_callees_parcel_is_not_remembered) {
  directory.on_process_died(q, effects);
  EXPECT_TRUE(directory.on_close({p, q, CallId{1}}));
  EXPECT_EQ(directory.early_close_count(), 0);
}

TEST_F(Directory, sharing_a_container_shares_its_content) {
  share(x);
  share(y, value_of({x}));
  release(p, x);
  pass();
  EXPECT_TRUE(directory.contains(x));  // The container holds it.
  release(p, y);
  pass();
  EXPECT_FALSE(directory.contains(y));
  EXPECT_TRUE(directory.contains(x));  // One sweep after the other.
  pass();
  EXPECT_FALSE(directory.contains(x));
}

TEST_F(Directory, a_pending_entry_keeps_its_arguments) {
  share(x);
  share_pending(z, {x});
  claim(q, z);
  directory.on_process_died(p, effects);
  drained(q, p);
  drained(r, p);
  pass();
  EXPECT_TRUE(directory.contains(x));  // The task can be run again.
  EXPECT_TRUE(directory.settle_estate(z, value_of(), effects));
  pass();
  EXPECT_FALSE(directory.contains(x));
  EXPECT_TRUE(directory.contains(z));
}

TEST_F(Directory, a_dead_creators_pending_object_is_finished) {
  share_pending(z);
  claim(q, z);
  get(q, z);
  directory.on_process_died(p, effects);
  drained(q, p);
  drained(r, p);
  const auto owed = take<OwedReady>(effects);
  ASSERT_EQ(owed.size(), 1);
  EXPECT_EQ(owed[0].object, z);
  EXPECT_TRUE(take<DeliverValue>(effects).empty());
  const ValuePtr error = value_of();
  EXPECT_TRUE(directory.settle_estate(z, error, effects));
  const auto delivered = take<DeliverValue>(effects);
  ASSERT_EQ(delivered.size(), 1);
  EXPECT_EQ(delivered[0].value.get(), error.get());
  EXPECT_EQ(directory.settle_estate(z, error, effects).error().code, ErrorCode::kNotFound);
}

// ---- loss

ValuePtr rebuildable(std::vector<ObjectId> refs, wire::StoreLocation location) {
  auto value = std::make_shared<ObjectValue>(*value_of(std::move(refs), location));
  value->rebuild = Rebuild::kByCreator;
  return value;
}

TEST_F(Directory, a_lost_value_is_asked_of_its_creator_once_and_given_to_all) {
  share(x, rebuildable({}, extent(1, 0)));
  EXPECT_EQ(take<AdoptExtent>(effects).size(), 1);
  claim(q, x);
  EXPECT_TRUE(directory.on_lost(q, x, extent(1, 0), effects));
  EXPECT_TRUE(directory.on_lost(r, x, extent(1, 0), effects));
  const auto asked = take<AskRebuild>(effects);
  ASSERT_EQ(asked.size(), 1);
  EXPECT_EQ(asked[0].creator, p);
  expect_no_more();
  EXPECT_TRUE(directory.on_ready(p, x, rebuildable({}, extent(1, 5)), effects));
  EXPECT_EQ(take<DeliverValue>(effects).size(), 2);
  pass();
  EXPECT_EQ(take<FreeExtent>(effects).size(), 1);  // The lost one's.
}

TEST_F(Directory, a_loss_of_an_old_value_is_answered_with_the_new_one) {
  share(x, rebuildable({}, extent(1, 5)));
  EXPECT_TRUE(directory.on_lost(q, x, extent(1, 0), effects));
  const auto values = take<DeliverValue>(effects);
  ASSERT_EQ(values.size(), 1);
  EXPECT_EQ(values[0].value->location->entry, 5);
  EXPECT_TRUE(take<AskRebuild>(effects).empty());
}

TEST_F(Directory, what_cannot_be_made_again_is_lost_for_good) {
  share(x, value_of({}, extent(1, 0)));
  EXPECT_TRUE(directory.on_lost(q, x, extent(1, 0), effects));
  const auto lost = take<LostForGood>(effects);
  ASSERT_EQ(lost.size(), 1);
  EXPECT_EQ(lost[0].why, Rebuild::kNever);
  EXPECT_TRUE(directory.settle_estate(x, value_of(), effects));
  EXPECT_EQ(take<DeliverValue>(effects).size(), 1);
}

TEST_F(Directory, refs_read_from_a_lost_value_stay_held) {
  share(y);
  share(x, rebuildable({y}, extent(1, 0)));
  EXPECT_TRUE(directory.on_lost(q, x, extent(1, 0), effects));
  release(p, y);
  pass();
  EXPECT_TRUE(directory.contains(y));
  EXPECT_TRUE(directory.on_ready(p, x, rebuildable({}, extent(1, 5)), effects));
  release(p, x);
  pass();
  pass();
  EXPECT_FALSE(directory.contains(y));
}

TEST_F(Directory, the_creator_is_told_when_nobody_wants_what_it_could_make_again) {
  share(x, rebuildable({}, extent(1, 0)));
  share(y, value_of({}, extent(1, 1)));
  release(p, x);
  release(p, y);
  pass();
  const auto unwanted = take<Unwanted>(effects);
  ASSERT_EQ(unwanted.size(), 1);
  EXPECT_EQ(unwanted[0].object, x);
}

TEST_F(Directory, a_released_object_is_held_again_while_it_exists) {
  share(x);
  claim(q, x);
  release(p, x);
  EXPECT_TRUE(directory.on_revive(p, {&x, 1}, effects));
  release(q, x);
  pass();
  EXPECT_TRUE(directory.contains(x));
  release(p, x);
  pass();
  EXPECT_TRUE(directory.on_revive(p, {&x, 1}, effects));
  const auto revived = take<Revived>(effects);
  ASSERT_EQ(revived.size(), 2);
  EXPECT_TRUE(revived[0].held);
  EXPECT_FALSE(revived[1].held);
}

TEST_F(Directory, a_dead_creators_task_goes_with_its_estate) {
  const auto spec = std::make_shared<std::vector<std::byte>>(3);
  EXPECT_TRUE(directory.on_share_pending(p, x, {}, spec));
  claim(q, x);
  directory.on_process_died(p, effects);
  drained(q, p);
  drained(r, p);
  const auto owed = take<OwedReady>(effects);
  ASSERT_EQ(owed.size(), 1);
  EXPECT_EQ(owed[0].spec, spec);
  EXPECT_EQ(owed[0].job, kJob);
}

TEST_F(Directory, self_reference_leaks_until_job_end) {
  // A value does not hold its own id, but two can hold each other.
  share_pending(y);
  share_pending(z);
  EXPECT_TRUE(directory.on_ready(p, y, value_of({y, z}), effects));
  EXPECT_TRUE(directory.on_ready(p, z, value_of({y}, extent(1, 0)), effects));
  effects.clear();
  release(p, y);
  release(p, z);
  pass();
  pass();
  EXPECT_EQ(directory.entry_count(), 2);
  directory.on_job_ended(kJob, value_of(), effects);
  for (const ProcessId process : {p, q, r}) directory.on_process_died(process, effects);
  EXPECT_EQ(take<Buried>(effects).size(), 3);
  for (int i = 0; i < 3; i++) pass();
  EXPECT_EQ(take<JobCollected>(effects).size(), 1);
  EXPECT_EQ(take<FreeExtent>(effects).size(), 1);
  EXPECT_EQ(directory.entry_count(), 0);
  EXPECT_FALSE(directory.wants_pass());
}

// ---- the end of a job

TEST_F(Directory, what_another_job_holds_outlives_its_own) {
  const ProcessId other{9};
  EXPECT_TRUE(directory.add_process(other, JobId{2}));
  share(x);
  share(y, value_of({x}));
  share_pending(z);
  claim(other, y);
  claim(other, z);
  get(other, z);
  const ValuePtr error = value_of();
  directory.on_job_ended(kJob, error, effects);
  for (const ProcessId process : {p, q, r}) directory.on_process_died(process, effects);
  const auto delivered = take<DeliverValue>(effects);
  ASSERT_EQ(delivered.size(), 1);
  EXPECT_EQ(delivered[0].value.get(), error.get());
  pass();
  pass();
  EXPECT_TRUE(directory.contains(y));
  EXPECT_TRUE(directory.contains(x));  // Reached through y.
  EXPECT_TRUE(directory.contains(z));
  EXPECT_EQ(directory.add_process(ProcessId{10}, JobId{2}).has_value(), true);
}

TEST_F(Directory, nobody_joins_a_job_that_is_over) {
  directory.on_job_ended(kJob, value_of(), effects);
  EXPECT_EQ(directory.add_process(ProcessId{8}, kJob).error().code, ErrorCode::kCancelled);
}

// ---- hostile input

TEST_F(Directory, a_process_speaks_only_of_its_own_objects) {
  const ObjectId foreign{NodeId{8}, p, 1};
  EXPECT_FALSE(directory.on_share(q, x, value_of(), effects));
  EXPECT_FALSE(directory.on_ready(q, x, value_of(), effects));
  EXPECT_FALSE(directory.on_share(p, foreign, value_of(), effects));
  EXPECT_FALSE(directory.on_claim(q, std::vector{foreign}));
  EXPECT_FALSE(directory.on_claim(q, std::vector{ObjectId{}}));
  EXPECT_FALSE(directory.on_claim(q, std::vector{object_of(ProcessId{99}, 1)}));
  EXPECT_FALSE(directory.on_share(p, x, value_of({foreign}), effects));
  EXPECT_FALSE(directory.on_share(p, x, nullptr, effects));
  EXPECT_FALSE(directory.on_claim(ProcessId{99}, std::vector{x}));
  EXPECT_EQ(directory.entry_count(), 0);
  expect_no_more();
}

TEST_F(Directory, records_out_of_turn_are_refused) {
  share(x);
  EXPECT_FALSE(directory.on_share(p, x, value_of(), effects));
  EXPECT_FALSE(directory.on_share_pending(p, x, {}));
  EXPECT_FALSE(directory.on_ready(p, x, value_of(), effects));
  EXPECT_FALSE(directory.on_release(q, std::vector{x}));
  parcel({p, q, CallId{1}}, {x});
  EXPECT_FALSE(directory.on_parcel({p, q, CallId{1}}, {x}, {}, effects));
  EXPECT_FALSE(directory.on_parcel({ProcessId{99}, q, CallId{1}}, {x}, {}, effects));
  EXPECT_FALSE(directory.on_drained(q, p, {}, effects));
  directory.on_process_died(p, effects);
  drained(q, p);
  EXPECT_FALSE(directory.on_drained(q, p, {}, effects));
  EXPECT_FALSE(directory.on_channel_opened(p, q));
}

TEST_F(Directory, limits_are_errors) {
  ObjectDirectory small({.node = kNode, .entries_max = 2, .early_closes_max = 1, .waits_max = 1});
  EXPECT_TRUE(small.add_process(p, kJob));
  EXPECT_TRUE(small.add_process(q, kJob));
  EXPECT_EQ(small.on_claim(p, std::vector{x, y, z}).error().code, ErrorCode::kRetryLater);
  EXPECT_TRUE(small.on_close({p, q, CallId{1}}));
  EXPECT_EQ(small.on_close({p, q, CallId{2}}).error().code, ErrorCode::kRetryLater);
  EXPECT_EQ(small.on_get(q, std::vector{x, y}, effects).error().code, ErrorCode::kRetryLater);
  small.check_invariants();
}

TEST_F(Directory, ten_thousand_refs_in_one_value) {
  std::vector<ObjectId> many;
  for (uint64_t i = 0; i < 10'000; i++) {
    many.push_back(object_of(p, 100 + i));
    share(many.back());
  }
  share(y, value_of(many));
  EXPECT_TRUE(directory.on_release(p, many));
  pass();
  EXPECT_EQ(directory.entry_count(), 10'001);
  release(p, y);
  pass();
  pass();
  EXPECT_EQ(directory.entry_count(), 0);
}

}  // namespace
}  // namespace mobula::objects
