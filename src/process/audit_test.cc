// What is written over in a channel's memory is found, whichever word it is, and nobody waits for ever.

#include <gtest/gtest.h>

#include <functional>
#include <future>

#include "process/runtime_test_support.h"

namespace mobula::process {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kNobodysEpoch = 0x12345678;

shm::RingHeader& task_ring(std::byte* memory) {
  return *reinterpret_cast<shm::RingHeader*>(memory + shm::kTaskRingOffset);
}
shm::RingHeader& result_ring(std::byte* memory) {
  return *reinterpret_cast<shm::RingHeader*>(memory + shm::kResultRingOffset);
}

class AuditTest : public testing::Test {
 protected:
  // One worker, which executes nothing before it is let go.
  void SetUp() override {
    node_.add_worker([this](Runtime&, const ClaimedTask&) {
      if (!std::exchange(has_started_, true)) started_.set_value();
      gate_.wait();
      return pack_none();
    });
    driver_ = node_.connect_driver();
    function_ = driver_->define_function("f", pack_none());
    ResourceSet one_cpu;
    one_cpu.set(kCpu, kResourceUnit);
    shape_ = driver_->shape(one_cpu);
  }
  void TearDown() override {
    for (Object* object : objects_) driver_->drop(object);
  }
  Object* submit() {
    Object* object = nullptr;
    PackedValues nothing;
    EXPECT_TRUE(
        driver_->submit({function_, shape_, 1, 3}, nothing, std::span<Object*>(&object, 1)));
    objects_.push_back(object);
    return object;
  }
  bool arrives(Object* object, Duration patience) {
    NoGate gate;
    return driver_->wait({&object, 1}, 1, monotonic_now() + patience, gate) == Waited::kEnough;
  }

  std::promise<void> let_go_;
  std::shared_future<void> gate_ = let_go_.get_future().share();
  std::promise<void> started_;
  bool has_started_ = false;
  TestNode node_;
  std::unique_ptr<Runtime> driver_;
  Function* function_ = nullptr;
  uint32_t shape_ = 0;
  std::vector<Object*> objects_;
};

struct Overwrite {
  const char* what;
  std::function<void(std::byte*)> act;
};

class AuditOfOverwrites : public AuditTest, public testing::WithParamInterface<Overwrite> {};

TEST_P(AuditOfOverwrites, is_found_while_a_task_runs) {
  Object* object = submit();
  started_.get_future().wait();
  node_.with_channels(GetParam().act);
  const Instant deadline = monotonic_now() + 30s;
  while (node_.seen().broken_peers == 0 && monotonic_now() < deadline) arrives(object, 50ms);
  EXPECT_GT(node_.seen().broken_peers, 0);
  let_go_.set_value();
}

INSTANTIATE_TEST_SUITE_P(
    Words, AuditOfOverwrites,
    testing::Values(
        Overwrite{"task_ring_tail", [](std::byte* memory) { task_ring(memory).tail.store(0); }},
        Overwrite{
            "task_ring_capacity",
            [](std::byte* memory) { task_ring(memory).capacity.store(2 * shm::kRingBytesMin); }},
        Overwrite{"task_ring_head", [](std::byte* memory) { task_ring(memory).head.fetch_add(8); }},
        Overwrite{"result_ring_head",
                  [](std::byte* memory) { result_ring(memory).head.fetch_add(8); }},
        Overwrite{"claims",
                  [](std::byte* memory) {
                    for (uint32_t slot = 0; slot < shm::kClaimSlots; ++slot) {
                      shm::channel_claim(memory, slot).word.store(0);
                    }
                  }},
        Overwrite{"epoch",
                  [](std::byte* memory) {
                    shm::channel_header(memory).lease_epoch.store(kNobodysEpoch);
                  }}),
    [](const auto& tested) { return tested.param.what; });

TEST_F(AuditTest, a_task_that_was_read_and_not_started_is_sent_again) {
  Object* first = submit();
  started_.get_future().wait();
  Object* second = submit();  // Behind it, in the ring.
  uint32_t epoch = 0;
  node_.with_channels([&](std::byte* memory) {
    epoch = shm::channel_header(memory).lease_epoch.exchange(kNobodysEpoch);
  });
  let_go_.set_value();
  ASSERT_TRUE(arrives(first, 30s));
  bool read = false;
  const Instant deadline = monotonic_now() + 30s;
  while (!read && monotonic_now() < deadline) {
    node_.with_channels([&](std::byte* memory) {
      read = task_ring(memory).head.load() == task_ring(memory).tail.load();
      if (read) shm::channel_header(memory).lease_epoch.store(epoch);
    });
  }
  ASSERT_TRUE(read);
  EXPECT_TRUE(arrives(second, 30s));
  EXPECT_EQ(node_.seen().broken_peers, 0);
}

}  // namespace
}  // namespace mobula::process
