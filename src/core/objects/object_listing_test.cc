#include "core/objects/object_listing.h"

#include <gtest/gtest.h>

#include "core/objects/object_directory.h"

namespace mobula::objects {
namespace {

constexpr NodeId kNode{1};
constexpr ProcessId p{1};
constexpr ProcessId q{2};

ObjectId object(ProcessId creator, uint64_t index) { return {kNode, creator, index}; }

ValuePtr value_of(size_t bytes, std::vector<ObjectId> refs = {}) {
  auto value = std::make_shared<ObjectValue>();
  value->inline_bytes.resize(bytes);
  value->refs = std::move(refs);
  return value;
}

class Listing : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(directory.add_process(p, JobId{1}));
    ASSERT_TRUE(directory.add_process(q, JobId{1}));
  }
  ObjectDirectory directory{{.node = kNode}};
  Effects effects;
};

TEST_F(Listing, the_largest_come_first_and_others_are_counted) {
  ASSERT_TRUE(directory.on_share(p, object(p, 1), value_of(10), effects));
  ASSERT_TRUE(directory.on_share(p, object(p, 2), value_of(300), effects));
  ASSERT_TRUE(directory.on_share(p, object(p, 3), value_of(20), effects));
  ASSERT_TRUE(directory.on_share_pending(q, object(q, 1), {}));
  const ObjectListing listing = directory.list_largest(2);
  EXPECT_EQ(listing.entries, 4);
  EXPECT_EQ(listing.pending, 1);
  EXPECT_EQ(listing.inline_bytes, 330);
  ASSERT_EQ(listing.largest.size(), 2);
  EXPECT_EQ(listing.largest[0].object, object(p, 2));
  EXPECT_EQ(listing.largest[1].object, object(p, 3));
}

TEST_F(Listing, every_kind_of_hold_is_told) {
  const ObjectId x = object(p, 1);
  ASSERT_TRUE(directory.on_share(p, x, value_of(100), effects));
  ASSERT_TRUE(directory.on_claim(q, {&x, 1}));
  ASSERT_TRUE(directory.on_share(p, object(p, 2), value_of(8, {x, x}), effects));
  ASSERT_TRUE(directory.on_share_pending(p, object(p, 3), {x}));
  ASSERT_TRUE(directory.on_parcel({p, q, CallId{1}}, {x}, {}, effects));
  ASSERT_TRUE(directory.on_job_holds(p, {&x, 1}));
  const ObjectListing listing = directory.list_largest(1);
  ASSERT_EQ(listing.largest.size(), 1);
  const ListedObject& listed = listing.largest[0];
  EXPECT_EQ(listed.object, x);
  EXPECT_EQ(listed.state, ListedObject::State::kReady);
  EXPECT_EQ(listed.processes, (std::vector{p, q}));
  EXPECT_EQ(listed.containers, 2);
  EXPECT_EQ(listed.tasks, 1);
  EXPECT_EQ(listed.parcels, 1);
  EXPECT_EQ(listed.jobs, 1);
  EXPECT_EQ(directory.hold_count(x), 7);
}

TEST_F(Listing, without_objects_it_is_empty) {
  EXPECT_EQ(directory.list_largest(10).entries, 0);
  EXPECT_TRUE(directory.list_largest(10).largest.empty());
}

}  // namespace
}  // namespace mobula::objects
