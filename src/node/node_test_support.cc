#include "node/node_test_support.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/large_packet.h"
#include "io/packet_socket.h"
#include "node/log.h"
#include "node/node.h"
#include "node/session_file.h"

namespace mobula::node {

namespace {

using nlohmann::json;

constexpr int kPatienceMs = 60'000;  // Only a bug takes so long.

// Blocks. Empty: the other end has closed.
std::vector<std::byte> receive_packet(int socket, std::vector<shm::Fd>& descriptors) {
  std::vector<std::byte> bytes(io::kPacketBytesMax);
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 250)> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
  if (size <= 0) return bytes;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  return bytes;
}

// ---- the fake interpreter
// ------------------------------------------------------------------------

void on_last_word(int) {
  constexpr char kText[] = "last words\n";
  [[maybe_unused]] const ssize_t size = ::write(2, kText, sizeof kText - 1);
  ::_exit(7);
}
void on_print(int) {
  constexpr char kText[] =
      "nameless\n\x01\x02mobula:name:fun\nfirst\nbad \xff byte\n\x01\x02mobula:name:other\nsecond";
  [[maybe_unused]] const ssize_t size = ::write(1, kText, sizeof kText - 1);
}

[[noreturn]] void play_worker(int socket) {
  ::signal(SIGUSR1, on_last_word);
  ::signal(SIGUSR2, on_print);
  FakeProcess process{shm::Fd(socket)};
  process.say_hello(wire::fb::ProcessKind::worker, wire::kControlProtocol, "");
  if (!process.accept_welcome()) ::_exit(1);
  while (const auto received = process.receive()) {
    if (received->message.type() == wire::fb::DownlinkBody::Exit) ::_exit(0);
    if (const auto* died = received->message.root().body_as_PeerDied()) {
      process.send(
          [&](wire::Builder& builder) { return wire::fb::CreateDrained(builder, died->peer()); });
    }
  }
  ::_exit(1);
}

[[noreturn]] void play_zygote(int socket, pid_t daemon) {
  while (true) {
    std::vector<shm::Fd> ends;
    const std::vector<std::byte> packet = receive_packet(socket, ends);
    if (packet.empty()) ::_exit(0);
    const json request =
        json::parse(std::string_view(reinterpret_cast<const char*>(packet.data()), packet.size()));
    if (::getenv("MOBULA_TEST_CANNOT_FORK") != nullptr) {
      const std::string text = json{{"worker", request["worker"]}, {"error", "told not to"}}.dump();
      ::send(socket, text.data(), text.size(), 0);
      continue;
    }
    const pid_t between = ::fork();
    if (between != 0) {
      ::waitpid(between, nullptr, 0);
      continue;
    }
    const pid_t pid = ::fork();
    if (pid != 0) {
      const std::string text = json{{"worker", request["worker"]}, {"pid", pid}}.dump();
      ::send(socket, text.data(), text.size(), 0);
      ::_exit(0);
    }
    ::setsid();
    ::dup2(ends[1].get(), 1);
    ::dup2(ends[2].get(), 2);
    ends[1].reset();
    ends[2].reset();
    ::close(socket);
    while (::getppid() != daemon) std::this_thread::yield();
    play_worker(ends[0].release());
  }
}

// Before main(): is this the test program, or an interpreter? argv: program -c code role socket pid setup.
__attribute__((constructor)) void play_interpreter(int argc, char** argv) {
  if (argc != 7 || std::strcmp(argv[1], "-c") != 0) return;
  const int socket = std::atoi(argv[4]);
  if (std::strcmp(argv[3], "zygote") == 0)
    play_zygote(socket, static_cast<pid_t>(std::atoi(argv[5])));
  if (std::strcmp(argv[3], "worker") == 0) play_worker(socket);
}

}  // namespace

// ---- a process
// -----------------------------------------------------------------------------------

void FakeProcess::send_packet(std::span<const std::byte> bytes) const {
  EXPECT_TRUE(io::send_packet(socket_, bytes).has_value());
}

void FakeProcess::say_hello(wire::fb::ProcessKind kind, uint32_t protocol,
                            const std::string& directory, const std::string& token) {
  wire::Builder builder;
  const auto said_token = builder.CreateString(token);
  const auto python = builder.CreateString("/proc/self/exe");
  const auto where = builder.CreateString(directory);
  std::vector<flatbuffers::Offset<wire::fb::EnvironmentVariable>> variables;
  for (const char* name : {"PATH", "MOBULA_TEST_CANNOT_FORK", "MOBULA_TEST_RUN", "ASAN_OPTIONS"}) {
    if (const char* value = ::getenv(name)) {
      variables.push_back(wire::fb::CreateEnvironmentVariableDirect(builder, name, value));
    }
  }
  const auto environment = builder.CreateVector(variables);
  send_packet(wire::finish_to_daemon(
      builder, wire::fb::CreateHello(builder, protocol, kind, static_cast<uint32_t>(::getpid()),
                                     said_token, python, where, 0, environment, true)));
}

std::optional<Received> FakeProcess::receive() {
  pollfd readable{socket_.get(), POLLIN, 0};
  if (::poll(&readable, 1, kPatienceMs) == 0) {
    std::fprintf(stderr, "nothing comes from the daemon\n");
    std::abort();
  }
  std::vector<shm::Fd> descriptors;
  std::vector<std::byte> bytes = receive_packet(socket_.get(), descriptors);
  if (bytes.empty()) return std::nullopt;
  if (io::is_stand_in(bytes)) {
    auto large = io::take_from_memory(bytes, descriptors);
    MOBULA_CHECK(large.has_value());
    bytes = std::move(*large);
  }
  auto message = wire::ToProcessMessage::parse(bytes);
  MOBULA_CHECK(message.has_value());
  return Received{std::move(*message), std::move(descriptors)};
}

bool FakeProcess::accept_welcome() {
  auto received = receive();
  if (!received || received->message.type() != wire::fb::DownlinkBody::Welcome) return false;
  std::vector<shm::Fd>& fds = received->descriptors;
  MOBULA_CHECK(fds.size() == 4);
  const auto map = [](const shm::Fd& fd, size_t size) {
    auto mapping = shm::Mapping::map(fd, size, shm::Access::kReadWrite);
    MOBULA_CHECK(mapping.has_value());
    return std::move(*mapping);
  };
  bell_ = map(fds[0], shm::kBellBytes);
  home_ = map(fds[1], shm::kHomeBytes);
  event_ = std::move(fds[2]);
  daemon_bell_ = map(fds[3], sizeof(shm::DaemonBell));
  uplink_ = std::make_unique<shm::RingProducer>(home_.data() + shm::kUplinkOffset);
  const auto* welcome = received->message.root().body_as_Welcome();
  node_ = NodeId{welcome->node()};
  process_ = ProcessId{welcome->process()};
  return true;
}

void FakeProcess::push(std::span<const std::byte> message) {
  constexpr size_t kPartBytes = 64 * 1024;
  while (message.size() > kPartBytes) {
    push_frame(message.first(kPartBytes), wire::FrameKind::kPart);
    message = message.subspan(kPartBytes);
  }
  push_frame(message, wire::kControlRecord);
}

void FakeProcess::push_frame(std::span<const std::byte> bytes, wire::FrameKind kind) {
  const size_t size = wire::record_bytes(bytes.size());
  std::byte* room = nullptr;
  while ((room = uplink_->reserve(size)) == nullptr) std::this_thread::yield();
  wire::write_record(bytes, room);
  const wire::FrameHeader header{static_cast<uint32_t>(size), kind, 0};
  std::memcpy(room, &header, sizeof header);
  uplink_->publish();
  shm::ring_daemon(*reinterpret_cast<shm::DaemonBell*>(daemon_bell_.data()), event_.get());
}

// ---- a node
// --------------------------------------------------------------------------------------

FakeNode::FakeNode(double cpus) {
  std::string pattern = std::filesystem::temp_directory_path() / "mobula-node-test-XXXXXX";
  MOBULA_CHECK(::mkdtemp(pattern.data()) != nullptr);
  directory_ = pattern;
  auto pair = io::make_packet_pair();
  MOBULA_CHECK(pair.has_value());
  pid_ = ::fork();
  MOBULA_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    ::setsid();
    pair->theirs.reset();
    const int log = ::open((directory_ + "/daemon.log").c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(log, 2);
    set_log_level("debug");
    NodeOptions options;
    options.driver_fd = pair->ours.release();
    options.resources.set(kCpu, static_cast<ResourceAmount>(cpus * 10'000));
    options.object_store_bytes = 256 << 20;
    options.session_directory = directory_;
    {
      auto node = Node::open(options);
      if (!node) ::_exit(3);
      (*node)->run();
    }
    ::_exit(0);
  }
  driver_ = std::make_unique<FakeProcess>(std::move(pair->theirs));
}

FakeProcess FakeNode::guest() const {
  shm::Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory_.c_str(),
                kSessionSocket);
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  return FakeProcess(std::move(socket));
}

std::string FakeNode::token() const {
  std::ifstream file(directory_ + "/session.json");
  return json::parse(file).at("token").get<std::string>();
}

int FakeNode::wait() {
  int status = -1;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = 0;
  return status;
}

FakeNode::~FakeNode() {
  if (pid_ > 0) {
    if (testing::Test::HasFailure()) ::kill(pid_, SIGTERM);
    driver_->close();
    wait();
  }
}

}  // namespace mobula::node
