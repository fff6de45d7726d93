#include "node/sessions.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mobula::node {

Result<std::unique_ptr<Doorbell>> Doorbell::open() {
  auto bell = std::make_unique<Doorbell>();
  bell->event_ = shm::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell->event_.valid()) {
    return fail(ErrorCode::kUnavailable, std::string("eventfd: ") + std::strerror(errno));
  }
  auto page = shm::create_memory("mobula-daemon-bell", shm::kPageBytes);
  MOBULA_TRY(page);
  auto memory = shm::Mapping::map(*page, shm::kPageBytes, shm::Access::kReadWrite);
  MOBULA_TRY(memory);
  bell->page_fd_ = std::move(*page);
  bell->memory_ = std::move(*memory);
  return bell;
}

void Doorbell::clear() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t size = ::read(event_.get(), &count, sizeof count);
}

Session& Sessions::add(ProcessId id, JobId job, bool is_driver) {
  auto session = std::make_unique<Session>();
  session->id = id;
  session->job = job;
  session->is_driver = is_driver;
  const auto [position, is_new] = sessions_.try_emplace(id, std::move(session));
  MOBULA_CHECK(is_new);
  return *position->second;
}

Session* Sessions::find(ProcessId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

Result<void> Sessions::share_memory(Session& session) {
  auto bell = shm::create_memory("mobula-bell", shm::kBellBytes);
  MOBULA_TRY(bell);
  auto home = shm::create_memory("mobula-home", shm::kHomeBytes);
  MOBULA_TRY(home);
  auto mapped = shm::Mapping::map(*home, shm::kHomeBytes, shm::Access::kReadWrite);
  MOBULA_TRY(mapped);
  session.bell_fd = std::move(*bell);
  session.home_fd = std::move(*home);
  session.home = std::move(*mapped);
  auto& header = *reinterpret_cast<shm::HomeHeader*>(session.home.data());
  header.pid = static_cast<uint32_t>(session.pid);
  header.process = number(session.id);
  session.uplink = std::make_unique<shm::RingConsumer>(session.home.data() + shm::kUplinkOffset);
  return {};
}

std::vector<int> Sessions::welcome_descriptors(const Session& session) const {
  return {session.bell_fd.get(), session.home_fd.get(), doorbell_.event_fd(), doorbell_.page_fd()};
}

}  // namespace mobula::node
