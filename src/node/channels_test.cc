#include "node/channels.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>

#include "io/loop.h"

namespace mobula::node {
namespace {

class ChannelsTest : public testing::Test {
 protected:
  void SetUp() override {
    loop_ = std::move(*io::Loop::open());
    doorbell_ = std::move(*Doorbell::open());
    sessions_ = std::make_unique<Sessions>(*doorbell_);
    channels_ = std::make_unique<Channels>(*sessions_);
    for (uint32_t i = 1; i <= 3; ++i) add(ProcessId{i});
  }

  void add(ProcessId id) {
    Session& session = sessions_->add(id, JobId{1}, false);
    ASSERT_TRUE(sessions_->share_memory(session).has_value());
    auto pair = io::make_packet_pair();
    ASSERT_TRUE(pair.has_value());
    session.socket = std::move(*io::PacketSocket::open(*loop_, std::move(pair->ours),
                                                       {[](auto, auto) {}, [](const auto&) {}}));
    session.welcomed = true;
    peers_.push_back(std::move(pair->theirs));
  }

  // The channel's memory as the process `index` (from 0) got it.
  shm::Mapping memory_of(size_t index) {
    std::array<std::byte, 1024> bytes{};
    iovec part{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    EXPECT_GT(::recvmsg(peers_[index].get(), &message, 0), 0);
    std::array<int, 2> fds{-1, -1};
    std::memcpy(fds.data(), CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
    const shm::Fd memory(fds[0]);
    const shm::Fd bell(fds[1]);
    return std::move(*shm::Mapping::map(memory, shm::kChannelBytes, shm::Access::kReadWrite));
  }

  std::unique_ptr<io::Loop> loop_;
  std::unique_ptr<Doorbell> doorbell_;
  std::unique_ptr<Sessions> sessions_;
  std::unique_ptr<Channels> channels_;
  std::vector<shm::Fd> peers_;
};

TEST_F(ChannelsTest, a_pair_has_one_channel_and_the_other_direction_another) {
  const auto first = channels_->open(ProcessId{1}, ProcessId{2});
  const auto again = channels_->open(ProcessId{1}, ProcessId{2});
  const auto back = channels_->open(ProcessId{2}, ProcessId{1});
  ASSERT_TRUE(first && again && back);
  EXPECT_EQ(*first, *again);
  EXPECT_NE(*first, *back);
  EXPECT_EQ(channels_->size(), 2);
}

TEST_F(ChannelsTest, what_a_dead_caller_had_queued_is_taken_back_and_what_had_started_is_not) {
  ASSERT_TRUE(channels_->open(ProcessId{1}, ProcessId{2}).has_value());
  channels_->set_epoch(ProcessId{1}, ProcessId{2}, 4);
  const shm::Mapping memory = memory_of(1);
  shm::channel_claim(memory.data(), 0).queue(10);
  shm::channel_claim(memory.data(), 1).queue(11);
  EXPECT_TRUE(shm::channel_claim(memory.data(), 1).move(11, shm::ClaimState::kStarted));
  channels_->forget(ProcessId{1});
  EXPECT_FALSE(shm::channel_claim(memory.data(), 0).move(10, shm::ClaimState::kStarted));
  EXPECT_EQ(shm::claim_state(shm::channel_claim(memory.data(), 1).word.load()),
            shm::ClaimState::kStarted);
  EXPECT_EQ(shm::channel_header(memory.data()).lease_epoch.load(), 0);
}

TEST_F(ChannelsTest, a_dead_callees_channels_keep_their_claims_for_the_owner_to_read) {
  ASSERT_TRUE(channels_->open(ProcessId{1}, ProcessId{2}).has_value());
  const shm::Mapping memory = memory_of(0);
  shm::channel_claim(memory.data(), 0).queue(10);
  channels_->forget(ProcessId{2});
  EXPECT_EQ(shm::claim_state(shm::channel_claim(memory.data(), 0).word.load()),
            shm::ClaimState::kQueued);
}

TEST_F(ChannelsTest, bell_bits_are_free_again_after_a_death_and_an_end_of_them_is_an_error) {
  for (uint32_t round = 0; round < 2 * shm::kBellBits; ++round) {
    const ProcessId callee{100 + round};
    add(callee);
    ASSERT_TRUE(channels_->open(ProcessId{1}, callee).has_value()) << round;
    channels_->forget(callee);
    sessions_->remove(callee);
    peers_.pop_back();
    // Nobody reads these here; keep the socket of process 1 from filling up.
    memory_of(0);
  }
  EXPECT_EQ(channels_->size(), 0);
  EXPECT_EQ(sessions_->find(ProcessId{1})->bell_bits.count(), 0);
  sessions_->find(ProcessId{1})->bell_bits.set();
  const auto full = channels_->open(ProcessId{1}, ProcessId{2});
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, ErrorCode::kRetryLater);
}

TEST_F(ChannelsTest, no_channel_to_a_process_that_is_gone) {
  sessions_->find(ProcessId{2})->socket.reset();
  EXPECT_EQ(channels_->open(ProcessId{1}, ProcessId{2}).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(channels_->open(ProcessId{9}, ProcessId{1}).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace mobula::node
