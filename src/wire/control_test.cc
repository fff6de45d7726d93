#include "wire/control.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>

namespace mobula::wire {
namespace {

std::vector<std::byte> copied(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> a_shape() {
  Builder builder;
  ResourceSet resources;
  resources.set("CPU", 5'000);
  resources.set("room", 20'000);
  return copied(finish_to_daemon(
      builder, fb::CreateDefineShape(builder, 7, build_resources(builder, resources), 3)));
}

TEST(Control, a_message_survives_the_way_through_a_record) {
  const std::vector<std::byte> message = a_shape();
  std::vector<std::byte> frame(record_bytes(message.size()));
  write_record(message, frame.data());

  const auto body = record_body(frame);
  ASSERT_TRUE(body.has_value());
  const auto parsed = ToDaemonMessage::parse(*body);
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  ASSERT_EQ(parsed->type(), fb::UplinkBody::DefineShape);
  const auto* shape = parsed->root().body_as_DefineShape();
  EXPECT_EQ(shape->shape(), 7);
  EXPECT_EQ(shape->depth(), 3);
  const auto resources = read_resources(shape->resources());
  ASSERT_TRUE(resources.has_value());
  EXPECT_EQ(resources->get("CPU"), 5'000);
  EXPECT_EQ(resources->get("room"), 20'000);
}

TEST(Control, a_record_of_another_kind_is_refused) {
  const std::vector<std::byte> message = a_shape();
  std::vector<std::byte> frame(record_bytes(message.size()));
  write_record(message, frame.data());
  const FrameHeader header{static_cast<uint32_t>(frame.size()), FrameKind::kTask, 0};
  std::memcpy(frame.data(), &header, sizeof header);
  EXPECT_FALSE(record_body(frame).has_value());
  EXPECT_FALSE(record_body(std::span(frame).first(4)).has_value());
}

TEST(Control, a_message_without_a_body_is_refused) {
  Builder builder;
  builder.Finish(
      fb::CreateToProcess(builder, fb::DownlinkBody::NONE, fb::CreateGoodbye(builder).Union()));
  EXPECT_FALSE(
      ToProcessMessage::parse(
          {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()})
          .has_value());
}

TEST(Control, a_truncated_or_damaged_message_never_reads_out_of_bounds) {
  const std::vector<std::byte> message = a_shape();
  // Padding at the end may be missing; anything shorter than the last table may not.
  EXPECT_FALSE(ToDaemonMessage::parse(std::span(message).first(message.size() / 2)).has_value());
  std::mt19937_64 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> damaged = message;
    for (int change = 0; change < 3; ++change) {
      damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    }
    const auto parsed = ToDaemonMessage::parse(damaged);
    if (!parsed || parsed->type() != fb::UplinkBody::DefineShape) continue;
    static_cast<void>(read_resources(parsed->root().body_as_DefineShape()->resources()));
  }
}

TEST(Control, amounts_that_are_added_up_end_at_the_largest) {
  constexpr ResourceAmount kLargest = std::numeric_limits<ResourceAmount>::max();
  ResourceSet most;
  most.set("CPU", kLargest - 1);
  ResourceSet sum = most;
  sum.add(most);
  EXPECT_EQ(sum.get("CPU"), kLargest);
}

TEST(Control, negative_and_repeated_and_huge_resources_are_refused) {
  Builder builder;
  const auto build = [&](std::vector<std::pair<std::string, int64_t>> amounts) {
    builder.Clear();
    std::vector<flatbuffers::Offset<fb::Resource>> list;
    for (const auto& [name, amount] : amounts) {
      list.push_back(fb::CreateResource(builder, builder.CreateString(name), amount));
    }
    return copied(finish_to_daemon(
        builder, fb::CreateDefineShape(builder, 1, builder.CreateVector(list), 1)));
  };
  const auto read = [](const std::vector<std::byte>& message) {
    const auto parsed = ToDaemonMessage::parse(message);
    EXPECT_TRUE(parsed.has_value());
    return read_resources(parsed->root().body_as_DefineShape()->resources());
  };
  EXPECT_FALSE(read(build({{"CPU", -1}})).has_value());
  EXPECT_FALSE(read(build({{"CPU", 1}, {"CPU", 2}})).has_value());
  EXPECT_TRUE(read(build({{"CPU", kAmountMax}})).has_value());
  EXPECT_FALSE(read(build({{"CPU", kAmountMax + 1}})).has_value());
  EXPECT_TRUE(read(build({{"CPU", 1}, {"GPU", 2}})).has_value());
}

TEST(Control, object_ids_and_locations_keep_every_field) {
  Builder builder;
  const std::vector<ObjectId> ids = {{NodeId{1}, ProcessId{2}, 3}, {NodeId{4}, ProcessId{5}, 6}};
  const std::vector<StoreLocation> locations = {{SegmentId{9}, 8, 7, 0, 6, 5}};
  const auto refs = build_objects(builder, ids);
  const auto places = build_locations(builder, locations);
  const auto message =
      copied(finish_to_daemon(builder, fb::CreateParcel(builder, 11, 12, refs, places)));
  const auto parsed = ToDaemonMessage::parse(message);
  ASSERT_TRUE(parsed.has_value());
  const auto* parcel = parsed->root().body_as_Parcel();
  EXPECT_EQ(read_objects(parcel->refs()), ids);
  const auto read = read_locations(parcel->locations());
  ASSERT_EQ(read.size(), 1);
  EXPECT_EQ(std::memcmp(&read[0], &locations[0], sizeof(StoreLocation)), 0);
  EXPECT_TRUE(read_objects(nullptr).empty());
}

}  // namespace
}  // namespace mobula::wire
