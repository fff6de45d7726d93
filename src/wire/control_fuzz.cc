// Fuzzes control messages. An input is either taken as a message, or it damages a good one:
//   0 | message                         1 | which | (position, position, byte)...

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "wire/control.h"
#include "wire/frame_reader.h"

namespace mobula::wire {
namespace {

using Bytes = std::vector<std::byte>;

template <typename Make>
Bytes message(Make make) {
  Builder builder;
  const auto made = finish_to_daemon(builder, make(builder));
  return {made.begin(), made.end()};
}

fb::ObjectId an_object(uint64_t index) { return {1, 2, index}; }

// One of each that has anything in it.
std::vector<Bytes> good_messages() {
  const std::vector<ObjectId> ids = {{NodeId{1}, ProcessId{2}, 3}, {NodeId{4}, ProcessId{5}, 6}};
  const std::vector<StoreLocation> locations = {{SegmentId{9}, 8, 7, 0, 6, 5}};
  ResourceSet resources;
  resources.set("CPU", 5'000);
  resources.set("room", 20'000);
  std::vector<Bytes> good;
  good.push_back(message([](Builder& b) {
    const std::vector<flatbuffers::Offset<flatbuffers::String>> path = {b.CreateString("/a"),
                                                                        b.CreateString("/b")};
    const auto variable = fb::CreateEnvironmentVariableDirect(b, "NAME", "value");
    const auto paths = b.CreateVector(path);
    const auto environment = b.CreateVector(&variable, 1);
    const auto python = b.CreateString("python3");
    fb::HelloBuilder hello(b);
    hello.add_protocol(kControlProtocol);
    hello.add_pid(7);
    hello.add_python(python);
    hello.add_sys_path(paths);
    hello.add_environment(environment);
    return hello.Finish();
  }));
  good.push_back(message([&](Builder& b) {
    return fb::CreateDefineShape(b, 7, build_resources(b, resources), 3, -1);
  }));
  good.push_back(message([&](Builder& b) {
    const std::array<uint8_t, 24> inline_bytes{};
    const auto value = fb::CreateValue(b, b.CreateVector(inline_bytes.data(), inline_bytes.size()),
                                       nullptr, build_objects(b, ids));
    const auto id = an_object(3);
    const auto share = fb::CreateShare(b, &id, value, build_objects(b, ids));
    return fb::CreateShares(b, b.CreateVector(&share, 1));
  }));
  good.push_back(message([&](Builder& b) {
    const auto location = to_wire(locations[0]);
    const auto value = fb::CreateValue(b, 0, &location, build_objects(b, ids));
    const auto id = an_object(4);
    return fb::CreateReady(b, &id, value);
  }));
  good.push_back(message([&](Builder& b) {
    return fb::CreateParcel(b, 11, 12, build_objects(b, ids), build_locations(b, locations));
  }));
  good.push_back(message([&](Builder& b) { return fb::CreateClaims(b, build_objects(b, ids)); }));
  good.push_back(message([&](Builder& b) {
    const std::array<uint64_t, 3> calls = {1, 2, 3};
    return fb::CreateDrained(b, 5, b.CreateVector(calls.data(), calls.size()));
  }));
  good.push_back(
      message([](Builder& b) { return fb::CreateBrokenPeerDirect(b, 3, "it said nonsense"); }));
  good.push_back(message([](Builder& b) { return fb::CreateCancel(b, 3, 9, true, false); }));
  good.push_back(message([](Builder& b) {
    const auto id = an_object(9);
    return fb::CreateCancelObject(b, &id, true, false);
  }));
  return good;
}

void touch(const flatbuffers::String* text) {
  if (text != nullptr) static_cast<void>(text->str());
}

void touch(const fb::Value* value) {
  if (value == nullptr) return;
  static_cast<void>(read_objects(value->refs()));
  if (value->location() != nullptr) static_cast<void>(from_wire(*value->location()));
  if (const auto* bytes = value->inline_()) {
    size_t offset = 0;
    static_cast<void>(read_value(std::as_bytes(std::span(bytes->data(), bytes->size())), offset));
  }
}

// What the daemon reads of each.
void use(const fb::ToDaemon& root) {
  if (const auto* hello = root.body_as_Hello()) {
    touch(hello->python());
    touch(hello->job_namespace());
    if (hello->sys_path() != nullptr) {
      for (const auto* entry : *hello->sys_path()) touch(entry);
    }
    if (hello->environment() != nullptr) {
      for (const auto* variable : *hello->environment()) {
        touch(variable->name());
        touch(variable->value());
      }
    }
  } else if (const auto* shape = root.body_as_DefineShape()) {
    static_cast<void>(read_resources(shape->resources()));
  } else if (const auto* shares = root.body_as_Shares()) {
    for (const auto* share : *shares->list()) {
      if (share->object() != nullptr) static_cast<void>(from_wire(*share->object()));
      touch(share->value());
      static_cast<void>(read_objects(share->spec_refs()));
    }
  } else if (const auto* ready = root.body_as_Ready()) {
    if (ready->object() != nullptr) static_cast<void>(from_wire(*ready->object()));
    touch(ready->value());
  } else if (const auto* parcel = root.body_as_Parcel()) {
    static_cast<void>(read_objects(parcel->refs()));
    static_cast<void>(read_locations(parcel->locations()));
  } else if (const auto* claims = root.body_as_Claims()) {
    static_cast<void>(read_objects(claims->objects()));
  } else if (const auto* broken = root.body_as_BrokenPeer()) {
    touch(broken->reason());
  }
}

void parse(std::span<const std::byte> bytes) {
  if (const auto message = ToDaemonMessage::parse(bytes)) use(message->root());
  static_cast<void>(ToProcessMessage::parse(bytes));
  if (const auto body = record_body(bytes)) static_cast<void>(ToDaemonMessage::parse(*body));
}

}  // namespace
}  // namespace mobula::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobula::wire;
  static const std::vector<Bytes> good = good_messages();
  if (size < 2) return 0;
  if (data[0] % 2 == 0) {
    parse(std::as_bytes(std::span(data + 1, size - 1)));
    return 0;
  }
  Bytes damaged = good[data[1] % good.size()];
  for (size_t i = 2; i + 2 < size; i += 3) {
    const size_t position = (data[i] * size_t{256} + data[i + 1]) % damaged.size();
    damaged[position] = static_cast<std::byte>(data[i + 2]);
  }
  parse(damaged);
  return 0;
}
