#include "io/packet_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "io/large_packet.h"

namespace mobula::io {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class PacketSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    loop_ = std::move(*Loop::open());
    auto pair = make_packet_pair();
    ASSERT_TRUE(pair.has_value());
    peer_ = std::move(pair->theirs);
    auto socket = PacketSocket::open(
        *loop_, std::move(pair->ours),
        {.on_packet =
             [this](std::span<const std::byte> bytes, std::vector<shm::Fd> descriptors) {
               received_.push_back(text_of(bytes));
               for (shm::Fd& fd : descriptors) descriptors_.push_back(std::move(fd));
               if (destroy_on_packet_) socket_.reset();
               if (received_.size() == stop_after_) loop_->stop();
             },
         .on_closed =
             [this](const std::string& reason) {
               closed_ = reason;
               socket_.reset();
               loop_->stop();
             }});
    ASSERT_TRUE(socket.has_value());
    socket_ = std::move(*socket);
  }

  void peer_sends(std::string_view text) const {
    ASSERT_EQ(::send(peer_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  // Waits for a packet.
  std::string peer_receives() const {
    std::string text(kPacketBytesMax, '\0');
    const ssize_t size = ::recv(peer_.get(), text.data(), text.size(), 0);
    EXPECT_GE(size, 0);
    text.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return text;
  }

  std::unique_ptr<Loop> loop_;
  shm::Fd peer_;
  std::unique_ptr<PacketSocket> socket_;
  std::vector<std::string> received_;
  std::vector<shm::Fd> descriptors_;
  std::string closed_;
  size_t stop_after_ = 0;
  bool destroy_on_packet_ = false;
};

TEST_F(PacketSocketTest, packets_stay_apart_and_in_order) {
  peer_sends("one");
  peer_sends("two");
  peer_sends(std::string(kPacketBytesMax, 'x'));
  stop_after_ = 3;
  loop_->run();
  ASSERT_EQ(received_.size(), 3);
  EXPECT_EQ(received_[0], "one");
  EXPECT_EQ(received_[1], "two");
  EXPECT_EQ(received_[2].size(), kPacketBytesMax);
}

TEST_F(PacketSocketTest, the_end_of_the_peer_is_told_once_after_its_last_packet) {
  peer_sends("last");
  peer_.reset();
  loop_->run();
  EXPECT_EQ(received_, std::vector<std::string>{"last"});
  EXPECT_EQ(closed_, "end of file");
}

#ifndef MOBULA_SANITIZED  // The sanitizer looks at objects through a pipe, for which nothing is left.
TEST_F(PacketSocketTest, what_cannot_be_sent_ends_it_with_the_reason) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::string large(kPacketBytesMax + 1, 'x');
  socket_->send(bytes_of(large));
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  socket_->send(bytes_of("behind it"));
  loop_->run();
  EXPECT_NE(closed_.find(std::strerror(EMFILE)), std::string::npos) << closed_;
  char byte = 0;
  EXPECT_LT(::recv(peer_.get(), &byte, 1, MSG_DONTWAIT), 1) << "out of order";
}
#endif

TEST_F(PacketSocketTest, the_last_packets_of_a_peer_that_did_not_read_ours_arrive) {
  socket_->send(bytes_of("never read"));
  peer_sends("one");
  peer_sends("last");
  peer_.reset();
  loop_->run();
  EXPECT_EQ(received_, (std::vector<std::string>{"one", "last"}));
  EXPECT_EQ(closed_, "end of file");
}

TEST_F(PacketSocketTest, a_socket_can_be_destroyed_in_its_own_callback) {
  peer_sends("one");
  peer_sends("two");
  destroy_on_packet_ = true;
  stop_after_ = 1;
  loop_->run();
  EXPECT_EQ(received_.size(), 1);
  EXPECT_EQ(socket_, nullptr);
}

TEST_F(PacketSocketTest, a_descriptor_arrives_with_its_packet_and_is_closed_on_exec) {
  auto other = make_packet_pair();
  ASSERT_TRUE(other.has_value());
  const std::array<int, 1> descriptors = {other->ours.get()};
  socket_->send(bytes_of("take this"), descriptors);
  std::array<char, 64> text{};
  iovec part{text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ASSERT_EQ(::recvmsg(peer_.get(), &message, MSG_CMSG_CLOEXEC), 9);
  int fd = -1;
  ASSERT_NE(CMSG_FIRSTHDR(&message), nullptr);
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  const shm::Fd received(fd);
  EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  ASSERT_EQ(::send(fd, "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(::recv(other->theirs.get(), &byte, 1, 0), 1);
}

TEST_F(PacketSocketTest, what_the_kernel_cannot_take_waits_in_order_and_is_sent_later) {
  constexpr size_t kPackets = 200;
  auto other = make_packet_pair();
  ASSERT_TRUE(other.has_value());
  const std::array<int, 1> descriptors = {other->ours.get()};
  for (size_t i = 0; i < kPackets; ++i) {
    std::string text(10'000, 'x');
    text.replace(0, 5, std::to_string(10'000 + i));
    socket_->send(bytes_of(text),
                  i % 2 == 0 ? std::span<const int>(descriptors) : std::span<const int>());
  }
  EXPECT_GT(socket_->queued_bytes(), 0);  // Nobody has read.
  size_t next = 0;
  bool sent = false;
  socket_->when_sent([&] { sent = true; });
  std::function<void()> read_more = [&] {
    EXPECT_EQ(peer_receives().substr(0, 5), std::to_string(10'000 + next));
    if (++next == kPackets) return loop_->stop();
    loop_->post(read_more);
  };
  loop_->post(read_more);
  loop_->run();
  EXPECT_TRUE(sent);
  EXPECT_EQ(socket_->queued_bytes(), 0);
}

TEST_F(PacketSocketTest, a_packet_too_large_for_a_socket_comes_in_its_turn) {
  std::string large(3'000'000, 'x');
  large.back() = 'y';
  peer_sends("one");
  ASSERT_TRUE(send_packet(peer_, bytes_of(large)).has_value());
  peer_sends("three");
  stop_after_ = 3;
  loop_->run();
  ASSERT_EQ(received_.size(), 3);
  EXPECT_EQ(received_[0], "one");
  EXPECT_TRUE(received_[1] == large);
  EXPECT_EQ(received_[2], "three");
  EXPECT_TRUE(descriptors_.empty());
}

TEST_F(PacketSocketTest, a_large_packet_is_sent_with_the_descriptors_of_others) {
  auto other = make_packet_pair();
  ASSERT_TRUE(other.has_value());
  const std::array<int, 1> descriptors = {other->ours.get()};
  const std::string large(kPacketBytesMax + 1, 'x');
  socket_->send(bytes_of(large), descriptors);
  loop_->post([this] { loop_->stop(); });
  loop_->run();
  // The peer is another PacketSocket.
  auto peer = PacketSocket::open(
      *loop_, std::move(peer_),
      {.on_packet =
           [this](std::span<const std::byte> bytes, std::vector<shm::Fd> received) {
             received_.push_back(text_of(bytes));
             for (shm::Fd& fd : received) descriptors_.push_back(std::move(fd));
             loop_->stop();
           },
       .on_closed = [](const std::string&) {}});
  ASSERT_TRUE(peer.has_value());
  loop_->run();
  ASSERT_EQ(received_.size(), 1);
  EXPECT_TRUE(received_[0] == large);
  EXPECT_EQ(descriptors_.size(), 1);
}

TEST_F(PacketSocketTest, a_stand_in_whose_memory_is_missing_ends_the_connection) {
  auto packet = put_into_memory(bytes_of("small"));
  ASSERT_TRUE(packet.has_value());
  peer_sends(text_of(packet->stand_in));
  loop_->run();
  EXPECT_EQ(closed_, "a large packet without its memory");
}

TEST(LargePacket, memory_of_another_size_is_refused) {
  const std::array<std::string, 2> texts = {"123456789", "12345"};
  for (const std::string& text : texts) {
    auto packet = put_into_memory(bytes_of("12345678"));
    ASSERT_TRUE(packet.has_value());
    auto other = fill_memory("other", bytes_of(text));
    ASSERT_TRUE(other.has_value());
    std::vector<shm::Fd> descriptors;
    descriptors.push_back(std::move(*other));
    EXPECT_FALSE(take_from_memory(packet->stand_in, descriptors).has_value());
  }
}

TEST(LargePacket, more_than_can_be_sent_is_refused) {
  const std::vector<std::byte> bytes(kLargePacketBytesMax + 1);
  EXPECT_FALSE(put_into_memory(bytes).has_value());
}

TEST_F(PacketSocketTest, sending_to_a_peer_that_is_gone_does_no_harm) {
  peer_.reset();
  socket_->send(bytes_of("anybody?"));
  loop_->run();
  EXPECT_FALSE(closed_.empty());
}

TEST(PacketPair, the_peer_is_the_process_that_made_the_pair) {
  const auto pair = make_packet_pair();
  ASSERT_TRUE(pair.has_value());
  const auto peer = peer_credentials(pair->ours);
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->user, ::geteuid());
}

}  // namespace
}  // namespace mobula::io
