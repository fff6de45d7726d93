// A whole node, with a driver and workers over real sockets, rings and processes.

#include "node/node.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "node/node_test_support.h"
#include "shm/channel.h"
#include "shm/segment.h"

namespace mobula::node {
namespace {

using wire::fb::ProcessKind;

class NodeTest : public testing::Test {
 protected:
  FakeProcess& driver() { return node_.driver(); }

  void connect() {
    driver().say_hello(ProcessKind::driver, wire::kControlProtocol, node_.directory());
    ASSERT_TRUE(driver().accept_welcome());
  }
  void want(uint32_t shape, uint32_t leases) {
    driver().send([&](wire::Builder& builder) {
      ResourceSet one;
      one.set(kCpu, kResourceUnit);
      return wire::fb::CreateDefineShape(builder, shape, wire::build_resources(builder, one), 1);
    });
    driver().send([&](wire::Builder& builder) {
      return wire::fb::CreateLeaseTarget(builder, shape, leases);
    });
  }
  struct Leased {
    uint64_t lease = 0;
    uint32_t worker = 0;
    pid_t pid = 0;
    uint32_t epoch = 0;
    shm::Mapping channel;
  };
  Leased lease_one() {
    want(1, 1);
    Received opened = driver().expect<wire::fb::ChannelOpened>();
    const Received granted = driver().expect<wire::fb::LeaseGranted>();
    const auto* channel = opened.message.root().body_as_ChannelOpened();
    const auto* lease = granted.message.root().body_as_LeaseGranted();
    EXPECT_EQ(channel->role(), wire::fb::ChannelRole::caller);
    EXPECT_EQ(lease->channel(), channel->channel());
    EXPECT_EQ(opened.descriptors.size(), 2);
    auto memory =
        shm::Mapping::map(opened.descriptors.at(0), shm::kChannelBytes, shm::Access::kReadWrite);
    EXPECT_TRUE(memory.has_value());
    return {lease->lease(), channel->peer(), static_cast<pid_t>(channel->peer_pid()),
            lease->epoch(), std::move(*memory)};
  }
  // Everything that was in the uplink before has been handled when this returns.
  void settle() {
    driver().send([](wire::Builder& builder) {
      return wire::fb::CreateQuery(builder, 99, wire::fb::QueryKind::state);
    });
    driver().expect<wire::fb::Answer>();
  }

  FakeNode node_;
};

TEST_F(NodeTest, a_node_ends_with_its_driver_and_leaves_no_folder) {
  connect();
  driver().close();
  EXPECT_EQ(node_.wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(node_.directory()));
}

TEST_F(NodeTest, a_node_ends_if_its_driver_never_says_hello) {
  driver().close();
  EXPECT_EQ(node_.wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(node_.directory()));
}

TEST_F(NodeTest, a_driver_of_another_version_is_refused_with_a_reason) {
  driver().say_hello(ProcessKind::driver, wire::kControlProtocol + 1, node_.directory());
  const Received refused = driver().expect<wire::fb::Refused>();
  EXPECT_NE(refused.message.root().body_as_Refused()->message()->str().find("version"),
            std::string::npos);
  EXPECT_EQ(driver().receive().has_value(), false);
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(NodeTest, a_driver_that_sends_rubbish_is_cut_off) {
  const std::vector<std::byte> rubbish(100, std::byte{0xA5});
  driver().send_packet(rubbish);
  EXPECT_EQ(driver().receive().has_value(), false);
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(NodeTest, a_broken_record_ends_its_writer) {
  connect();
  driver().push(std::vector<std::byte>(64, std::byte{0x5A}));
  while (driver().receive()) {
  }
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(NodeTest, a_large_record_in_parts_is_read_whole_and_told_of_in_short) {
  connect();
  constexpr int kKinds = 20'000;
  driver().send([](wire::Builder& builder) {
    std::vector<flatbuffers::Offset<wire::fb::Resource>> kinds;
    for (int i = 0; i < kKinds; ++i) {
      const auto name = builder.CreateString("kind" + std::to_string(i));
      kinds.push_back(wire::fb::CreateResource(builder, name, 10'000));
    }
    const auto list = builder.CreateVector(kinds);
    return wire::fb::CreateDefineShape(builder, 1, list, 1);
  });
  driver().send([](wire::Builder& builder) { return wire::fb::CreateLeaseTarget(builder, 1, 1); });
  const Received told = driver().expect<wire::fb::Infeasible>();
  const std::string text = told.message.root().body_as_Infeasible()->message()->str();
  EXPECT_NE(text.find(" and 19980 more"), std::string::npos) << text;
  EXPECT_LT(text.size(), 2000);
}

TEST_F(NodeTest, a_part_is_no_record_and_rubbish_in_parts_ends_its_writer) {
  connect();
  driver().push(std::vector<std::byte>(400'000, std::byte{0x5A}));
  while (driver().receive()) {
  }
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(NodeTest, a_driver_says_hello_in_memory_of_its_own) {
  const std::string token(1'000'000, 'x');
  driver().say_hello(wire::fb::ProcessKind::driver, wire::kControlProtocol, "", token);
  EXPECT_TRUE(driver().accept_welcome());
}

TEST_F(NodeTest, a_lease_comes_with_a_channel_whose_epoch_ends_with_it) {
  connect();
  const Leased leased = lease_one();
  auto& epoch = shm::channel_header(leased.channel.data()).lease_epoch;
  EXPECT_EQ(epoch.load(), leased.epoch);
  EXPECT_GT(leased.epoch, 0);
  EXPECT_EQ(::kill(leased.pid, 0), 0);
  driver().send([&](wire::Builder& builder) { return wire::fb::CreateLeaseTarget(builder, 1, 0); });
  driver().send(
      [&](wire::Builder& builder) { return wire::fb::CreateLeaseReturn(builder, leased.lease); });
  settle();
  EXPECT_EQ(epoch.load(), 0);

  want(1, 1);  // The same worker, the same channel, another epoch.
  const Received again = driver().expect<wire::fb::LeaseGranted>();
  EXPECT_EQ(again.message.root().body_as_LeaseGranted()->epoch(), leased.epoch + 1);
  EXPECT_EQ(epoch.load(), leased.epoch + 1);
}

TEST_F(NodeTest, workers_are_children_of_the_node_in_groups_of_their_own) {
  connect();
  const Leased leased = lease_one();
  std::ifstream stat("/proc/" + std::to_string(leased.pid) + "/stat");
  std::string line;
  std::getline(stat, line);
  std::istringstream words(line.substr(line.rfind(')') + 2));
  std::string state;
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
  words >> state >> parent >> group >> session;
  EXPECT_EQ(parent, node_.pid());
  EXPECT_EQ(group, leased.pid);
  EXPECT_EQ(session, leased.pid);
}

TEST_F(NodeTest, a_killed_worker_is_reported_with_its_signal_and_replaced) {
  connect();
  const Leased leased = lease_one();
  ::kill(leased.pid, SIGKILL);
  const Received died = driver().expect<wire::fb::PeerDied>();
  const auto* news = died.message.root().body_as_PeerDied();
  EXPECT_EQ(news->peer(), leased.worker);
  EXPECT_EQ(news->pid(), leased.pid);
  EXPECT_EQ(news->signal(), SIGKILL);
  EXPECT_EQ(news->cause()->str(), "killed by SIGKILL");
  EXPECT_EQ(shm::channel_header(leased.channel.data()).lease_epoch.load(), 0);
  driver().send(
      [&](wire::Builder& builder) { return wire::fb::CreateDrained(builder, leased.worker); });
  const Received granted = driver().expect<wire::fb::LeaseGranted>();  // The target still stands.
  EXPECT_NE(granted.message.root().body_as_LeaseGranted()->lease(), leased.lease);
}

TEST_F(NodeTest, a_worker_that_exits_is_reported_with_its_code_and_last_words) {
  connect();
  const Leased leased = lease_one();
  ::kill(leased.pid, SIGUSR1);
  const Received died = driver().expect<wire::fb::PeerDied>();
  const auto* news = died.message.root().body_as_PeerDied();
  EXPECT_EQ(news->signal(), 0);
  EXPECT_EQ(news->exit_code(), 7);
  EXPECT_EQ(news->cause()->str(), "it exited with code 7");
  EXPECT_EQ(news->stderr_tail()->str(), "last words");
}

TEST_F(NodeTest, what_a_worker_prints_reaches_the_driver_with_names_also_its_unfinished_line) {
  connect();
  const Leased leased = lease_one();
  ::kill(leased.pid, SIGUSR2);
  std::vector<std::pair<std::string, std::string>> lines;
  const auto take = [&](const Received& received) {
    for (const auto* line : *received.message.root().body_as_LogLines()->lines()) {
      EXPECT_EQ(line->pid(), leased.pid);
      EXPECT_FALSE(line->is_stderr());
      lines.emplace_back(line->name()->str(), line->text()->str());
    }
  };
  while (lines.size() < 3) take(driver().expect<wire::fb::LogLines>());
  driver().send([](wire::Builder& builder) { return wire::fb::CreateLeave(builder); });
  take(driver().expect<wire::fb::LogLines>());
  driver().expect<wire::fb::Goodbye>();
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"", "nameless"}, {"fun", "first"}, {"fun", "bad \xEF\xBF\xBD byte"}, {"other", "second"}};
  EXPECT_EQ(lines, expected);
}

TEST_F(NodeTest, goodbye_comes_when_nothing_of_the_job_runs_any_more) {
  connect();
  const Leased leased = lease_one();
  ::kill(leased.pid, SIGSTOP);  // It cannot even exit when asked to.
  driver().send([](wire::Builder& builder) { return wire::fb::CreateLeave(builder); });
  driver().expect<wire::fb::Goodbye>();
  EXPECT_EQ(::kill(leased.pid, 0), -1);
  driver().close();
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(NodeTest, a_worker_that_ends_when_the_zygote_is_killed_is_not_lost_and_others_can_start) {
  connect();
  const Leased leased = lease_one();
  // The zygote is the child of the node that leads the session of the first one started.
  const std::string children =
      "/proc/" + std::to_string(node_.pid()) + "/task/" + std::to_string(node_.pid()) + "/children";
  std::ifstream file(children);
  pid_t zygote = 0;
  file >> zygote;
  ASSERT_GT(zygote, 0);
  ASSERT_NE(zygote, leased.pid);
  ::kill(zygote, SIGKILL);
  ::kill(leased.pid, SIGKILL);
  driver().expect<wire::fb::PeerDied>();
  driver().expect<wire::fb::LeaseGranted>();
}

TEST_F(NodeTest, a_request_that_can_never_be_met_is_told) {
  connect();
  driver().send([&](wire::Builder& builder) {
    ResourceSet many;
    many.set(kCpu, 1000 * kResourceUnit);
    return wire::fb::CreateDefineShape(builder, 1, wire::build_resources(builder, many), 1);
  });
  driver().send([&](wire::Builder& builder) { return wire::fb::CreateLeaseTarget(builder, 1, 1); });
  const Received told = driver().expect<wire::fb::Infeasible>();
  EXPECT_EQ(told.message.root().body_as_Infeasible()->shape(), 1);
}

TEST_F(NodeTest, sigterm_ends_the_job_and_the_node) {
  connect();
  lease_one();
  ::kill(node_.pid(), SIGTERM);
  driver().expect<wire::fb::Goodbye>();
  EXPECT_EQ(node_.wait(), 0);
}

TEST_F(NodeTest, a_shared_value_is_delivered_and_a_pending_one_when_it_is_ready) {
  connect();
  const std::string text = "any bytes";
  const auto value = [&](wire::Builder& builder) {
    const auto bytes =
        builder.CreateVector(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    return wire::fb::CreateValue(builder, bytes);
  };
  const auto expect_value = [&](uint64_t index) {
    const Received arrived = driver().expect<wire::fb::ValueArrived>();
    const auto* body = arrived.message.root().body_as_ValueArrived();
    EXPECT_EQ(body->object()->index(), index);
    ASSERT_NE(body->value(), nullptr);
    const auto* bytes = body->value()->inline_();
    EXPECT_EQ(std::string(bytes->begin(), bytes->end()), text);
  };
  const auto share = [&](uint64_t index, bool ready) {
    driver().send([&](wire::Builder& builder) {
      const auto id = wire::to_wire(driver().object(index));
      const auto entry = wire::fb::CreateShare(
          builder, &id, ready ? value(builder) : flatbuffers::Offset<wire::fb::Value>());
      return wire::fb::CreateShares(builder, builder.CreateVector(&entry, 1));
    });
  };
  share(1, true);
  share(2, false);
  driver().send([&](wire::Builder& builder) {
    const std::vector<ObjectId> ids = {driver().object(1), driver().object(2)};
    return wire::fb::CreateGetObjects(builder, wire::build_objects(builder, ids));
  });
  expect_value(1);
  driver().send([&](wire::Builder& builder) {
    const auto id = wire::to_wire(driver().object(2));
    return wire::fb::CreateReady(builder, &id, value(builder));
  });
  expect_value(2);
}

TEST_F(NodeTest, a_segment_is_writable_for_one_and_read_only_for_others) {
  connect();
  driver().send(
      [](wire::Builder& builder) { return wire::fb::CreateSegmentRequest(builder, 5, 1 << 20); });
  Received granted = driver().expect<wire::fb::SegmentGranted>();
  const auto* segment = granted.message.root().body_as_SegmentGranted();
  EXPECT_EQ(segment->request(), 5);
  EXPECT_GE(segment->bytes(), 1 << 20);
  const size_t file_bytes =
      shm::segment_file_bytes(segment->bytes(), shm::segment_entries_for(segment->bytes()));
  EXPECT_TRUE(shm::Mapping::map(granted.descriptors.at(0), file_bytes, shm::Access::kReadWrite)
                  .has_value());
  driver().send([&](wire::Builder& builder) {
    return wire::fb::CreateSegmentOpen(builder, segment->segment());
  });
  Received opened = driver().expect<wire::fb::SegmentOpened>();
  EXPECT_FALSE(
      shm::Mapping::map(opened.descriptors.at(0), file_bytes, shm::Access::kReadWrite).has_value());
  EXPECT_TRUE(
      shm::Mapping::map(opened.descriptors.at(0), file_bytes, shm::Access::kReadOnly).has_value());
  driver().send([](wire::Builder& builder) { return wire::fb::CreateSegmentOpen(builder, 12345); });
  driver().expect<wire::fb::SegmentGone>();
  driver().send([](wire::Builder& builder) {
    return wire::fb::CreateSegmentRequest(builder, 6, uint64_t{1} << 40);
  });
  const Received refused = driver().expect<wire::fb::SegmentRefused>();
  EXPECT_EQ(refused.message.root().body_as_SegmentRefused()->request(), 6);
}

// The next one's: those that a process asks for follow each other.
TEST_F(NodeTest, who_opens_a_segment_that_is_being_made_is_told_so) {
  connect();
  driver().send(
      [](wire::Builder& builder) { return wire::fb::CreateSegmentRequest(builder, 5, 1 << 20); });
  const Received first = driver().expect<wire::fb::SegmentGranted>();
  const uint32_t next = first.message.root().body_as_SegmentGranted()->segment() + 1;
  driver().send([](wire::Builder& builder) {  // Larger than the store: in a file.
    return wire::fb::CreateSegmentRequest(builder, 6, 300 << 20);
  });
  driver().send([&](wire::Builder& builder) { return wire::fb::CreateSegmentOpen(builder, next); });
  bool answered = false;
  bool granted = false;
  while (!answered || !granted) {
    const auto received = driver().receive();
    ASSERT_TRUE(received.has_value()) << "the daemon has ended";
    const auto type = received->message.type();
    ASSERT_NE(type, wire::fb::DownlinkBody::SegmentRefused);
    answered = answered || type == wire::fb::DownlinkBody::SegmentGone ||
               type == wire::fb::DownlinkBody::SegmentOpened;
    granted = granted || type == wire::fb::DownlinkBody::SegmentGranted;
  }
}

TEST_F(NodeTest, equal_bundles_with_long_names_are_refused_before_they_take_any_memory) {
  connect();
  ResourceSet long_one;
  long_one.set(std::string(100'000, 'x'), kResourceUnit);
  driver().send([&](wire::Builder& builder) {
    const std::vector<flatbuffers::Offset<wire::fb::Bundles>> list = {
        wire::fb::CreateBundles(builder, wire::build_resources(builder, long_one), 10'000)};
    return wire::fb::CreateGroupCreateDirect(builder, 7, "", "", wire::fb::GroupStrategy::pack,
                                             &list);
  });
  const Received answer = driver().expect<wire::fb::GroupAnswer>();
  const auto* refused = answer.message.root().body_as_GroupAnswer();
  EXPECT_EQ(refused->request(), 7);
  ASSERT_NE(refused->error(), nullptr);
  EXPECT_NE(refused->error()->str().find("names"), std::string::npos) << refused->error()->str();
}

TEST_F(NodeTest, the_timeline_names_workers_that_live_and_that_have_ended) {
  connect();
  const Leased leased = lease_one();
  ::kill(leased.pid, SIGKILL);
  driver().expect<wire::fb::PeerDied>();
  driver().send([](wire::Builder& builder) {
    return wire::fb::CreateQuery(builder, 1, wire::fb::QueryKind::timeline);
  });
  const Received answer = driver().expect<wire::fb::Answer>();
  const auto* body = answer.message.root().body_as_Answer();
  EXPECT_TRUE(body->last());
  ASSERT_NE(body->traces(), nullptr);
  EXPECT_EQ(body->traces()->size(), answer.descriptors.size());
  bool found = false;
  for (const auto* trace : *body->traces()) found |= trace->process() == leased.worker;
  EXPECT_TRUE(found);
}

TEST_F(NodeTest, processes_that_do_not_answer_are_named_once_patience_is_over) {
  connect();
  const Leased leased = lease_one();  // Our workers, and the driver, never answer StateWanted.
  driver().send([](wire::Builder& builder) {
    return wire::fb::CreateQuery(builder, 7, wire::fb::QueryKind::state, 50, 100);
  });
  bool has_state = false;
  std::vector<uint32_t> silent;
  for (bool last = false; !last;) {
    const Received answer = driver().expect<wire::fb::Answer>();
    const auto* body = answer.message.root().body_as_Answer();
    EXPECT_EQ(body->request(), 7);
    has_state |= body->state() != nullptr && answer.descriptors.size() == 1;
    last = body->last();
    if (body->live() == nullptr) continue;
    for (const auto* live : *body->live()) {
      EXPECT_GT(live->error()->size(), 0);
      silent.push_back(live->process());
    }
  }
  EXPECT_TRUE(has_state);
  EXPECT_TRUE(std::ranges::find(silent, leased.worker) != silent.end());
}

TEST_F(NodeTest, what_a_process_says_of_its_tasks_is_passed_on) {
  connect();
  driver().send([](wire::Builder& builder) {
    return wire::fb::CreateQuery(builder, 8, wire::fb::QueryKind::state, 100, 100);
  });
  const Received wanted = driver().expect<wire::fb::StateWanted>();
  wire::Builder builder;
  const auto packet = wire::finish_to_daemon(
      builder,
      wire::fb::CreateLiveStateDirect(
          builder, wanted.message.root().body_as_StateWanted()->gathering(), 0, "no room"));
  driver().send_packet(packet);
  driver().send_packet(packet);  // Said twice, it counts once.
  int told = 0;
  for (bool last = false; !last;) {
    const Received answer = driver().expect<wire::fb::Answer>();
    const auto* body = answer.message.root().body_as_Answer();
    last = body->last();
    if (body->live() == nullptr) continue;
    for (const auto* live : *body->live()) told += live->error()->str() == "no room" ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
}

TEST_F(NodeTest, resources_are_told_as_they_are_and_as_they_are_left) {
  connect();
  lease_one();
  const auto ask = [&](wire::fb::QueryKind kind) {
    driver().send([&](wire::Builder& builder) { return wire::fb::CreateQuery(builder, 1, kind); });
    const Received answer = driver().expect<wire::fb::Answer>();
    return *wire::read_resources(answer.message.root().body_as_Answer()->resources());
  };
  EXPECT_EQ(ask(wire::fb::QueryKind::cluster_resources).get(kCpu), 2 * kResourceUnit);
  EXPECT_EQ(ask(wire::fb::QueryKind::available_resources).get(kCpu), 1 * kResourceUnit);
}

TEST(NodeWithoutFork, a_worker_is_started_afresh_where_the_zygote_cannot_fork) {
  ::setenv("MOBULA_TEST_CANNOT_FORK", "1", 1);
  FakeNode node;
  node.driver().say_hello(ProcessKind::driver, wire::kControlProtocol, node.directory());
  ::unsetenv("MOBULA_TEST_CANNOT_FORK");
  ASSERT_TRUE(node.driver().accept_welcome());
  node.driver().send(
      [](wire::Builder& builder) { return wire::fb::CreateDefineShape(builder, 1, 0, 1); });
  node.driver().send(
      [](wire::Builder& builder) { return wire::fb::CreateLeaseTarget(builder, 1, 1); });
  node.driver().expect<wire::fb::LeaseGranted>();
}

}  // namespace
}  // namespace mobula::node
