// RuntimeImpl: how it starts and ends.

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "io/large_packet.h"
#include "process/daemon_log.h"
#include "process/quiet_thread.h"
#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

constexpr auto kWelcomeWithin = std::chrono::seconds(30);
constexpr auto kObserverWelcomeWithin = std::chrono::seconds(5);  // Somebody looks at the screen.
constexpr auto kGoodbyeWithin = std::chrono::seconds(10);
constexpr size_t kDescriptorsMax = 253;  // Of one packet (SCM_MAX_FD).

// Room for one packet. Only the pages that packets fill take memory: nothing is cleared.
class PacketRoom {
 public:
  std::byte* data() { return bytes_.get(); }
  void set_size(size_t size) { size_ = size; }
  // For a large one.
  void put(std::vector<std::byte> bytes) { large_ = std::move(bytes); }
  // What was received last. Once: a large one is let go by the next packet.
  std::span<const std::byte> packet() const {
    return large_.empty() ? std::span<const std::byte>{bytes_.get(), size_} : large_;
  }

 private:
  std::unique_ptr<std::byte[]> bytes_ =
      std::make_unique_for_overwrite<std::byte[]>(io::kPacketBytesMax);
  size_t size_ = 0;
  std::vector<std::byte> large_;
};

// One packet and its descriptors. Size 0: the daemon is gone. Negative: errno.
ssize_t receive_packet(int socket, PacketRoom& room, std::vector<shm::Fd>& fds) {
  room.put({});
  iovec part{room.data(), io::kPacketBytesMax};
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  // Said once, before what the daemon sent last: that it closed with something unread.
  if (size < 0 && errno == ECONNRESET) size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  if (size < 0) return -errno;
  for (cmsghdr* message = CMSG_FIRSTHDR(&header); message != nullptr;
       message = CMSG_NXTHDR(&header, message)) {
    if (message->cmsg_level != SOL_SOCKET || message->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (message->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(message) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return -EMSGSIZE;
  room.set_size(static_cast<size_t>(size));
  if (!io::is_stand_in(room.packet())) return size;
  auto large = io::take_from_memory(room.packet(), fds);
  if (!large) return -EBADMSG;
  room.put(std::move(*large));
  return static_cast<ssize_t>(room.packet().size());
}

std::string how_the_daemon_went(const std::string& session_directory) {
  const std::string said = last_complaints(session_directory);
  return said.empty() ? "the node daemon is gone: it was killed, or its session was ended"
                      : "the node daemon is gone. The last lines of its log:" + said;
}

}  // namespace

Result<std::unique_ptr<Runtime>> Runtime::connect(shm::Fd socket, RuntimeOptions options,
                                                  Gate& gate) {
  auto runtime = std::make_unique<RuntimeImpl>(std::move(socket), std::move(options));
  MOBULA_TRY(runtime->start(gate));
  return runtime;
}

RuntimeState::RuntimeState(shm::Fd socket, RuntimeOptions options)
    : socket_(std::move(socket)),
      options_(std::move(options)),
      pid_(::getpid()),
      dispatcher_(tasks::Dispatcher::Options{}),
      refs_([this](ObjectId id) {
        const auto found = known_.find(id);
        return found != known_.end() && found->second->count.load() > 0;
      }),
      lineage_({.bytes_max = options_.lineage_bytes_max}) {}

RuntimeImpl::RuntimeImpl(shm::Fd socket, RuntimeOptions options)
    : RuntimeState(std::move(socket), std::move(options)) {}

Result<void> RuntimeImpl::start(Gate& gate) {
  MOBULA_TRY(say_hello());
  PacketRoom room;
  std::vector<shm::Fd> fds;
  pollfd readable{socket_.get(), POLLIN, 0};
  const Instant deadline =
      monotonic_now() + (options_.is_observer ? kObserverWelcomeWithin : kWelcomeWithin);
  gate.release();
  int ready = 0;
  while ((ready = ::poll(&readable, 1, 100)) == 0 || (ready < 0 && errno == EINTR)) {
    if (monotonic_now() > deadline) break;
  }
  const ssize_t size = ready > 0 ? receive_packet(socket_.get(), room, fds) : -ETIMEDOUT;
  gate.acquire();
  if (size <= 0) {
    return fail(ErrorCode::kUnavailable, size == 0
                                             ? "the node daemon ended during the handshake"
                                             : std::string("no welcome from the node daemon: ") +
                                                   std::strerror(static_cast<int>(-size)));
  }
  const auto message = wire::ToProcessMessage::parse(room.packet());
  MOBULA_TRY(message);
  if (const auto* refused = message->root().body_as_Refused()) {
    return fail(ErrorCode::kUnavailable, refused->message()->str());
  }
  const auto* welcome = message->root().body_as_Welcome();
  if (welcome == nullptr) {
    return fail(ErrorCode::kUnavailable, "the node daemon did not answer with a welcome");
  }
  MOBULA_TRY(accept_welcome(*welcome, std::move(fds)));
  link_thread_ = quiet_thread("mobula-link", [this] { run_link(); });
  reader_thread_ = quiet_thread("mobula-reader", [this] { run_reader(); });
  return {};
}

Result<void> RuntimeImpl::say_hello() {
  wire::Builder builder(1024);
  const auto python = builder.CreateString(options_.python);
  const auto directory = builder.CreateString(options_.working_directory);
  const auto path = builder.CreateVectorOfStrings(options_.sys_path);
  std::vector<flatbuffers::Offset<wire::fb::EnvironmentVariable>> variables;
  for (const auto& [name, value] : options_.environment) {
    variables.push_back(
        wire::fb::CreateEnvironmentVariableDirect(builder, name.c_str(), value.c_str()));
  }
  const auto environment = builder.CreateVector(variables);
  const auto job_namespace = builder.CreateString(options_.job_namespace);
  const auto token = builder.CreateString(options_.token);
  const auto runtime_environment = build_environment(builder, options_.runtime_environment);
  const auto kind = options_.is_observer ? wire::fb::ProcessKind::observer
                    : options_.is_driver ? wire::fb::ProcessKind::driver
                                         : wire::fb::ProcessKind::worker;
  const auto hello = wire::fb::CreateHello(
      builder, wire::kControlProtocol, kind, static_cast<uint32_t>(pid_), token, python, directory,
      path, environment, options_.log_to_driver, job_namespace, runtime_environment);
  const auto packet = wire::finish_to_daemon(builder, hello);
  // A daemon that cannot start says why before it closes: that is there to be read.
  const auto sent = io::send_packet(socket_, packet);
  if (sent) return {};
  return fail(sent.error().code, "cannot reach the node daemon: " + sent.error().message);
}

Result<void> RuntimeImpl::accept_welcome(const wire::fb::Welcome& welcome,
                                         std::vector<shm::Fd> fds) {
  if (fds.size() != 4) {
    return fail(ErrorCode::kUnavailable, "welcome without its descriptors (is `ulimit -n` low?)");
  }
  auto bell = shm::Mapping::map(fds[0], shm::kBellBytes, shm::Access::kReadWrite);
  MOBULA_TRY(bell);
  auto home = shm::Mapping::map(fds[1], shm::kHomeBytes, shm::Access::kReadWrite);
  MOBULA_TRY(home);
  auto daemon_bell = shm::Mapping::map(fds[3], sizeof(shm::DaemonBell), shm::Access::kReadWrite);
  MOBULA_TRY(daemon_bell);
  bell_memory_ = std::move(*bell);
  home_memory_ = std::move(*home);
  daemon_bell_memory_ = std::move(*daemon_bell);
  daemon_event_ = std::move(fds[2]);
  bell_ = reinterpret_cast<shm::BellPage*>(bell_memory_.data());
  daemon_bell_ = reinterpret_cast<shm::DaemonBell*>(daemon_bell_memory_.data());
  node_ = NodeId{welcome.node()};
  process_ = ProcessId{welcome.process()};
  job_ = JobId{welcome.job()};
  if (welcome.session_directory() != nullptr) {
    session_directory_ = welcome.session_directory()->str();
  }
  if (welcome.namespace_name() != nullptr) {
    options_.job_namespace = welcome.namespace_name()->str();
  }
  uplink_ = std::make_unique<Uplink>(home_memory_.data() + shm::kUplinkOffset);
  trace_.open(home_memory_.data());
  output_label_.open(home_memory_.data());
  start_store();
  return {};
}

RuntimeImpl::~RuntimeImpl() {
  if (!alive_here()) {
    // A forked child: the threads do not exist here, the mappings do not either.
    if (clock_.thread.joinable()) clock_.thread.detach();
    if (link_thread_.joinable()) link_thread_.detach();
    if (reader_thread_.joinable()) reader_thread_.detach();
    return;
  }
  stop_.store(true);
  ::shutdown(socket_.get(), SHUT_RDWR);
  reader_word_.fetch_add(1);
  shm::futex_wake(reader_word_);
  if (bell_ != nullptr) shm::wake(*bell_);
  if (clock_.thread.joinable()) {
    const std::lock_guard<std::mutex> lock(lock_);  // Not between its look at stop_ and its wait.
    clock_.news.notify_all();
  }
  if (clock_.thread.joinable()) clock_.thread.join();
  if (link_thread_.joinable()) link_thread_.join();
  if (reader_thread_.joinable()) reader_thread_.join();
  free_everything();
}

bool RuntimeImpl::alive_here() const { return ::getpid() == pid_; }

std::string RuntimeImpl::disconnected_reason() const {
  const std::lock_guard<std::mutex> lock(lock_);
  return disconnected_;
}

void RuntimeImpl::run_link() {
  PacketRoom room;
  while (!stop_.load()) {
    std::vector<shm::Fd> fds;
    const ssize_t size = receive_packet(socket_.get(), room, fds);
    if (size == -EINTR) continue;
    if (size <= 0) {
      const bool expected = size == 0 || size == -ECONNRESET;
      disconnect(expected ? how_the_daemon_went(session_directory_)
                          : std::string("the connection to the node daemon broke: ") +
                                std::strerror(static_cast<int>(-size)));
      return;
    }
    const auto message = wire::ToProcessMessage::parse(room.packet());
    if (!message.has_value()) {
      disconnect("the node daemon sent a malformed message: " + message.error().message);
      return;
    }
    on_packet(message->root(), std::move(fds));
  }
}

// The daemon is gone, so are all workers: everything pending fails, every waiter wakes.
void RuntimeImpl::disconnect(const std::string& reason) {
  if (!options_.is_driver && options_.worker_dies_with_daemon && !stop_.load()) {
    // A worker has no reason to live on; its process group (what user code started) goes with it.
    ::kill(0, SIGKILL);
  }
  Locked lock(*this);
  if (!disconnected_.empty()) return;
  disconnected_ = reason;
  const std::vector<std::byte> error = system_error(wire::SystemErrorCode::kNodeDied, reason);
  fail_everything(error);
  answered_.notify_all();  // Who waits for an answer looks at disconnected_ too.
  notifications_.news.notify_all();
  lines_.notify();
  poke_reader();
  for (Waiter* waiter : parked_) {
    waiter->word.store(1);
    deferred().words.push_back(&waiter->word);
  }
}

// With the lock. Tasks in the dispatcher's books are let go one by one; what waits for arguments
// fails when they do.
void RuntimeImpl::fail_everything(std::span<const std::byte> error) {
  std::vector<Task*> tasks;
  for (Task* task = live_tasks_; task != nullptr; task = task->live_next) tasks.push_back(task);
  for (Task* task : tasks) {
    const bool queued = task->state == tasks::TaskState::kQueued;
    if (task->calls != nullptr) {
      task->calls->queue.set_reach(actors::Reach::kDead);
      if (queued) task->calls->queue.withdraw(*task);
      if (task->state == tasks::TaskState::kInFlight) task->calls->queue.on_done(*task);
    } else {
      if (queued) dispatcher_.withdraw(*task);
      if (task->state == tasks::TaskState::kInFlight) dispatcher_.on_lost(*task);
    }
    task->unresolved = ~uint32_t{0} / 2;  // Never startable again.
  }
  std::vector<Object*> foreign;
  for (const auto& [id, object] : known_) {
    if (object->sharing == Sharing::kForeign && !object->is_ready()) foreign.push_back(object);
  }
  for (Object* object : foreign) {
    object->dependents.clear();
    complete(*object, error, {});
  }
  for (Task* task : tasks) {
    for (Object* object : task->returns) object->dependents.clear();
  }
  for (auto& [id, channel] : outbound_) {
    channel->slots.fill(nullptr);
    channel->started.clear();
  }
  delayed_.clear();
  for (Task* task : tasks) fail_task(*task, error);
}

// Objects that the binding still refers to stay allocated: it may look at them until it lets go.
void RuntimeImpl::free_everything() {
  Locked lock(*this);
  for (const auto& function : functions_) {
    for (Object* ref : std::exchange(function->refs, {})) release(ref);
  }
  for (auto& [id, channel] : inbound_) {
    for (auto& [number, function] : channel->functions) {
      for (Object* ref : std::exchange(function->refs, {})) release(ref);
    }
  }
  drain_dropped();
  free_lineage();
}

bool RuntimeImpl::leave(Gate& gate) {
  Locked lock(*this);
  if (disconnected_.empty() && !leaving_) {
    leaving_ = true;
    uplink_->send([](wire::Builder& builder) { return wire::fb::CreateLeave(builder); });
    ring_daemon_later();
  }
  lock.unlock();
  gate.release();
  {
    std::unique_lock<std::mutex> wait(lock_);
    answered_.wait_for(wait, kGoodbyeWithin,
                       [this] { return goodbye_.has_value() || !disconnected_.empty(); });
  }
  gate.acquire();
  disconnect("this process has left (shutdown was called)");
  const std::lock_guard<std::mutex> again(lock_);
  return !goodbye_.value_or(false);
}

}  // namespace mobula::process
