// Drivers and observers that join a node which they did not start.

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "node/node_test_support.h"
#include "node/session_file.h"

namespace mobula::node {
namespace {

using wire::fb::DownlinkBody;
using wire::fb::ProcessKind;

class GuestsTest : public testing::Test {
 protected:
  void SetUp() override {
    driver().say_hello(ProcessKind::driver, wire::kControlProtocol, "");
    ASSERT_TRUE(driver().accept_welcome());
  }
  FakeProcess& driver() { return node_.driver(); }

  FakeProcess join(ProcessKind kind) {
    FakeProcess guest = node_.guest();
    guest.say_hello(kind, wire::kControlProtocol, "", node_.token());
    EXPECT_TRUE(guest.accept_welcome());
    return guest;
  }
  static std::string refusal_of(FakeProcess& guest) {
    const Received refused = guest.expect<wire::fb::Refused>();
    EXPECT_FALSE(guest.receive().has_value());
    return refused.message.root().body_as_Refused()->message()->str();
  }
  static void leave(FakeProcess& process) {
    process.send([](wire::Builder& builder) { return wire::fb::CreateLeave(builder); });
  }
  static bool stays(FakeProcess& process) {
    return process.expect<wire::fb::Goodbye>().message.root().body_as_Goodbye()->stays();
  }
  static void ask(FakeProcess& process, uint64_t request) {
    process.send([&](wire::Builder& builder) {
      return wire::fb::CreateQuery(builder, request, wire::fb::QueryKind::cluster_resources);
    });
  }
  void expect_the_driver_is_fine() {
    ask(driver(), 99);
    EXPECT_EQ(driver().expect<wire::fb::Answer>().message.root().body_as_Answer()->request(), 99);
  }

  FakeNode node_;
};

TEST_F(GuestsTest, who_knows_the_token_becomes_a_driver) {
  FakeProcess guest = join(ProcessKind::driver);
  EXPECT_NE(guest.process(), driver().process());
  EXPECT_EQ(guest.node(), driver().node());
  expect_the_driver_is_fine();
}

TEST_F(GuestsTest, who_says_another_token_is_refused) {
  for (const std::string& token : {std::string(), std::string("00"), std::string(64, '0')}) {
    for (const ProcessKind kind : {ProcessKind::driver, ProcessKind::observer}) {
      FakeProcess guest = node_.guest();
      guest.say_hello(kind, wire::kControlProtocol, "", token);
      EXPECT_NE(refusal_of(guest).find("wrong token"), std::string::npos);
    }
  }
  expect_the_driver_is_fine();
}

TEST_F(GuestsTest, nobody_joins_as_a_worker_or_by_another_protocol) {
  FakeProcess worker = node_.guest();
  worker.say_hello(ProcessKind::worker, wire::kControlProtocol, "", node_.token());
  EXPECT_NE(refusal_of(worker).find("only drivers"), std::string::npos);
  FakeProcess other = node_.guest();
  other.say_hello(ProcessKind::driver, wire::kControlProtocol + 1, "", node_.token());
  EXPECT_NE(refusal_of(other).find("protocol"), std::string::npos);
  expect_the_driver_is_fine();
}

TEST_F(GuestsTest, who_says_rubbish_is_shown_out) {
  FakeProcess guest = node_.guest();
  guest.send_packet(std::vector<std::byte>(100, std::byte{0xFF}));
  EXPECT_FALSE(guest.receive().has_value());
  expect_the_driver_is_fine();
}

TEST_F(GuestsTest, an_observer_is_answered) {
  FakeProcess observer = join(ProcessKind::observer);
  ask(observer, 7);
  EXPECT_EQ(observer.expect<wire::fb::Answer>().message.root().body_as_Answer()->request(), 7);
  leave(observer);
  EXPECT_TRUE(stays(observer));
}

TEST_F(GuestsTest, an_observer_that_wants_more_than_to_ask_is_shown_out) {
  FakeProcess observer = join(ProcessKind::observer);
  observer.send([](wire::Builder& builder) { return wire::fb::CreateDefineShape(builder, 1); });
  while (observer.receive().has_value()) continue;
  expect_the_driver_is_fine();
}

TEST_F(GuestsTest, an_observer_keeps_no_daemon_alive) {
  FakeProcess observer = join(ProcessKind::observer);
  driver().close();
  EXPECT_EQ(node_.wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(node_.directory()));
  EXPECT_FALSE(observer.receive().has_value());
}

TEST_F(GuestsTest, the_daemon_ends_with_its_last_driver) {
  FakeProcess second = join(ProcessKind::driver);
  leave(driver());
  EXPECT_TRUE(stays(driver()));
  driver().close();
  ask(second, 1);
  second.expect<wire::fb::Answer>();
  leave(second);
  EXPECT_FALSE(stays(second));
  second.close();
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(GuestsTest, nobody_joins_a_daemon_that_has_said_that_it_ends) {
  FakeProcess late = node_.guest();
  leave(driver());
  EXPECT_FALSE(stays(driver()));
  late.say_hello(ProcessKind::driver, wire::kControlProtocol, "", node_.token());
  EXPECT_NE(refusal_of(late).find("ending"), std::string::npos);
  driver().close();
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(GuestsTest, a_signal_tells_every_driver_why_the_daemon_ends) {
  FakeProcess second = join(ProcessKind::driver);
  ::kill(node_.pid(), SIGTERM);
  for (FakeProcess* process : {&driver(), &second}) {
    const Received exit = process->expect<wire::fb::Exit>();
    EXPECT_NE(exit.message.root().body_as_Exit()->reason()->str().find("SIGTERM"),
              std::string::npos);
  }
  EXPECT_EQ(node_.wait(), 0);
}

TEST(Token, tokens_are_long_and_differ) {
  const auto one = make_token();
  const auto other = make_token();
  ASSERT_TRUE(one.has_value() && other.has_value());
  EXPECT_EQ(one->size(), 64);
  EXPECT_NE(*one, *other);
  EXPECT_TRUE(same_token(*one, *one));
  EXPECT_FALSE(same_token(*one, *other));
  EXPECT_FALSE(same_token(*one, one->substr(1)));
  EXPECT_FALSE(same_token("", ""));
}

}  // namespace
}  // namespace mobula::node
