#include "node/running_name.h"

#include "base/function_name.h"
#include "shm/trace.h"

namespace mobula::node {

std::string running_name(const Session& session) {
  if (session.home.size() == 0) return {};
  const auto running = shm::home_header(session.home.data()).running.load();
  if (!running || running->task == 0) return {};
  const shm::TraceReader reader(session.home.data() + shm::kTraceOffset);
  const std::string name(shown_name(reader.total(running->name).name));
  return running->is_call != 0 ? name.substr(0, name.rfind('.')) : name;
}

}  // namespace mobula::node
