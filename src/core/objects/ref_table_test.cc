#include "core/objects/ref_table.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace mobula::objects {
namespace {

constexpr ProcessId kPeer{2};
constexpr ProcessId kOther{3};
constexpr CallId kCall{5};
const ObjectId x{NodeId{1}, ProcessId{2}, 1};
const ObjectId y{NodeId{1}, ProcessId{2}, 2};
const ObjectId mine{NodeId{1}, ProcessId{1}, 1};
const ObjectId result{NodeId{1}, ProcessId{1}, 2};

class Refs : public testing::Test {
 protected:
  ~Refs() override { table.check_invariants(); }

  // The records so far, as text in their order.
  std::string said() {
    std::string text;
    for (const UplinkRecord& record : std::exchange(records, {})) {
      if (const auto* claims = std::get_if<ClaimsRecord>(&record)) {
        for (const ObjectId object : claims->objects) text += "claim " + name(object) + "; ";
      } else if (const auto* releases = std::get_if<ReleasesRecord>(&record)) {
        for (const ObjectId object : releases->objects) text += "release " + name(object) + "; ";
      } else if (const auto* close = std::get_if<CloseRecord>(&record)) {
        text += "close " + std::to_string(number(close->call)) + "; ";
      } else {
        text += "drained";
        for (const CallId call : std::get<DrainedRecord>(record).open_calls) {
          text += " " + std::to_string(number(call));
        }
        text += "; ";
      }
    }
    return text;
  }
  static std::string name(ObjectId object) {
    return object == x ? "x" : object == y ? "y" : object == mine ? "mine" : "result";
  }

  std::set<ObjectId> alive;
  RefTable table{[this](ObjectId object) { return alive.contains(object); }};
  UplinkRecords records;
};

TEST_F(Refs, a_ref_used_only_inside_its_task_costs_nothing) {
  alive = {x};
  table.on_task(kPeer, kCall, std::vector{x});
  EXPECT_EQ(table.state(x), RefTable::State::kGuarded);
  alive.clear();
  table.on_count_zero(x, records);
  table.end_task(kPeer, kCall, records);
  EXPECT_EQ(said(), "");
  EXPECT_EQ(table.ref_count(), 0);
}

TEST_F(Refs, claims_come_before_the_result) {
  alive = {x, y};
  table.on_task(kPeer, kCall, std::vector{x, y});
  alive = {x};
  table.on_count_zero(y, records);
  table.end_task(kPeer, kCall, records);  // The runtime sends RESULT after this.
  EXPECT_EQ(said(), "claim x; ");
  alive.clear();
  table.on_count_zero(x, records);
  EXPECT_EQ(said(), "release x; ");
  EXPECT_EQ(table.ref_count(), 0);
}

TEST_F(Refs, a_ref_that_outlives_its_guard_is_claimed_in_spite_of_another_guard) {
  alive = {x};
  table.on_task(kPeer, kCall, std::vector{x});
  table.on_task(kOther, kCall, std::vector{x});
  table.end_task(kPeer, kCall, records);
  EXPECT_EQ(said(), "claim x; ");
  table.end_task(kOther, kCall, records);
  EXPECT_EQ(said(), "");
  EXPECT_EQ(table.state(x), RefTable::State::kHeld);
}

TEST_F(Refs, a_guarded_ref_is_claimed_before_it_is_sent_on) {
  alive = {x, mine};
  table.on_task(kPeer, kCall, std::vector{x});
  table.before_send(std::vector{x, mine}, records);  // A private one is not this table's business.
  EXPECT_EQ(said(), "claim x; ");
  table.before_send(std::vector{x}, records);
  EXPECT_EQ(said(), "");
}

TEST_F(Refs, a_released_ref_that_comes_back_starts_anew) {
  alive = {mine};
  table.on_shared(mine, records);
  alive.clear();
  table.on_count_zero(mine, records);
  EXPECT_EQ(said(), "release mine; ");
  alive = {mine};
  table.on_task(kPeer, kCall, std::vector{mine});
  EXPECT_EQ(table.state(mine), RefTable::State::kGuarded);
  table.end_task(kPeer, kCall, records);
  EXPECT_EQ(said(), "claim mine; ");
}

TEST_F(Refs, a_parcel_stays_open_while_its_private_result_lives) {
  alive = {result, x};  // x: in the result's value.
  const ParcelPart part{result, std::span(&x, 1), false};
  table.on_parcel(kPeer, kCall, std::span(&part, 1), records);
  EXPECT_EQ(said(), "");
  EXPECT_EQ(table.parcel_count(), 1);
  alive = {x};  // The user has taken x out and dropped the result.
  table.on_count_zero(result, records);
  EXPECT_EQ(said(), "claim x; close 5; ");
  EXPECT_EQ(table.guard_count(), 0);
}

TEST_F(Refs, a_parcel_of_several_results_closes_with_the_last) {
  alive = {result, mine};
  const ParcelPart parts[] = {{result, std::span(&x, 1), false}, {mine, std::span(&y, 1), false}};
  table.on_parcel(kPeer, kCall, parts, records);
  alive = {mine};
  table.on_count_zero(result, records);
  EXPECT_EQ(said(), "");
  alive.clear();
  table.on_count_zero(mine, records);
  EXPECT_EQ(said(), "close 5; ");
}

TEST_F(Refs, a_result_nobody_wants_closes_its_parcel_when_its_task_is_done) {
  alive = {};  // Of private objects this table asks nothing.
  const ParcelPart part{result, std::span(&x, 1), false};
  table.on_parcel(kPeer, kCall, std::span(&part, 1), records);
  EXPECT_EQ(said(), "");
  table.on_count_zero(result, records);
  EXPECT_EQ(said(), "close 5; ");
  EXPECT_EQ(table.ref_count(), 0);
}

TEST_F(Refs, a_parcel_without_private_results_is_closed_at_once) {
  table.on_parcel(kPeer, kCall, {}, records);
  EXPECT_EQ(said(), "close 5; ");
}

TEST_F(Refs, sharing_a_result_replaces_its_parcel_by_the_daemons_entry) {
  alive = {result, x};
  const ParcelPart part{result, std::span(&x, 1), false};
  table.on_parcel(kPeer, kCall, std::span(&part, 1), records);
  table.on_shared(result, records);  // After its SHARE.
  EXPECT_EQ(said(), "close 5; ");
  EXPECT_EQ(table.state(x), RefTable::State::kGuarded);
  alive = {x};
  table.on_count_zero(result, records);
  EXPECT_EQ(said(), "claim x; release result; ");  // The claim before the container goes.
}

TEST_F(Refs, a_shared_pending_result_hands_its_parcel_over) {
  alive = {result};
  table.on_shared(result, records);
  alive = {result, x};
  const ParcelPart part{result, std::span(&x, 1), true};  // After READY.
  table.on_parcel(kPeer, kCall, std::span(&part, 1), records);
  EXPECT_EQ(said(), "close 5; ");
  EXPECT_EQ(table.state(x), RefTable::State::kGuarded);
}

TEST_F(Refs, what_was_read_from_a_container_is_claimed_when_the_container_goes) {
  alive = {y};
  table.on_task(kPeer, kCall, std::vector{y});
  table.before_send(std::vector{y}, records);
  table.end_task(kPeer, kCall, records);
  alive = {y, x};
  table.on_value(y, std::vector{x});
  EXPECT_EQ(said(), "claim y; ");
  alive = {x};
  table.on_count_zero(y, records);
  EXPECT_EQ(said(), "claim x; release y; ");
}

TEST_F(Refs, a_lost_value_ends_its_guard_and_its_parcel_but_not_the_hold) {
  alive = {result, x, y};
  const std::vector inside{x};
  table.on_parcel(kPeer, kCall, std::array{ParcelPart{result, inside, false}}, records);
  EXPECT_EQ(said(), "");
  table.on_value_lost(result, records);
  EXPECT_EQ(said(), "claim x; close 5; ");
  table.on_task(kPeer, kCall, std::vector{y});
  table.before_send(std::vector{y}, records);
  table.end_task(kPeer, kCall, records);
  EXPECT_EQ(said(), "claim y; ");
  table.on_value_lost(y, records);
  EXPECT_EQ(said(), "");
  EXPECT_EQ(table.state(y), RefTable::State::kHeld);
}

TEST_F(Refs, a_revived_object_is_held_and_released_again) {
  alive = {x};
  table.on_revived(x);
  table.before_send(std::vector{x}, records);
  EXPECT_EQ(said(), "");
  alive = {};
  table.on_count_zero(x, records);
  EXPECT_EQ(said(), "release x; ");
  EXPECT_EQ(table.ref_count(), 0);
}

TEST_F(Refs, a_peers_death_ends_its_guards_and_lists_its_parcels) {
  alive = {x, y, result};
  table.on_task(kPeer, CallId{1}, std::vector{x});
  table.on_task(kOther, CallId{1}, std::vector{y});
  const ParcelPart part{result, {}, false};
  table.on_parcel(kPeer, kCall, std::span(&part, 1), records);
  table.on_peer_died(kPeer, records);
  EXPECT_EQ(said(), "claim x; drained 5; ");
  EXPECT_EQ(table.state(y), RefTable::State::kGuarded);
}

TEST_F(Refs, long_lists_become_several_records) {
  for (uint64_t i = 1; i <= 2 * kIdsPerRecord + 1; i++) {
    const ObjectId object{NodeId{1}, ProcessId{2}, i};
    alive.insert(object);
    table.on_task(kPeer, kCall, std::vector{object});
  }
  table.end_task(kPeer, kCall, records);
  ASSERT_EQ(records.size(), 3);
  EXPECT_EQ(std::get<ClaimsRecord>(records[2]).objects.size(), 1);
}

// ---- the order of sharing

TEST(ShareOrder, inner_objects_come_first_and_each_once) {
  const std::map<ObjectId, std::vector<ObjectId>> contents = {
      {mine, {result, x}}, {result, {y}}, {y, {}}};
  const std::vector<ObjectId> order = share_order(
      std::vector{mine, result}, [&](ObjectId object) -> std::optional<std::span<const ObjectId>> {
        const auto found = contents.find(object);
        if (found == contents.end()) return std::nullopt;  // x is not private.
        return found->second;
      });
  EXPECT_EQ(order, (std::vector{y, result, mine}));
}

TEST(ShareOrder, a_long_chain_does_not_recurse) {
  constexpr uint64_t kLength = 200'000;
  std::vector<ObjectId> chain;
  for (uint64_t i = 1; i <= kLength; i++) chain.push_back({NodeId{1}, ProcessId{1}, i});
  const std::vector<ObjectId> order = share_order(
      std::vector{chain[0]}, [&](ObjectId object) -> std::optional<std::span<const ObjectId>> {
        if (object.index == kLength) return std::span<const ObjectId>{};
        return std::span(&chain[object.index], 1);
      });
  ASSERT_EQ(order.size(), kLength);
  EXPECT_EQ(order.front(), chain.back());
}

TEST(ShareOrder, a_cycle_ends) {
  const std::vector<ObjectId> to_y = {y};
  const std::vector<ObjectId> to_x = {x};
  const std::vector<ObjectId> order =
      share_order(to_x, [&](ObjectId object) -> std::optional<std::span<const ObjectId>> {
        return object == x ? to_y : to_x;
      });
  EXPECT_EQ(order, (std::vector{y, x}));
}

}  // namespace
}  // namespace mobula::objects
