#include "process/unhandled_errors.h"

#include <cstring>

namespace mobula::process {

bool UnhandledErrors::add(Object& object) {
  // Of what is shared, somebody else may see the error.
  if (object.sharing != Sharing::kPrivate || object.proxy) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return false;
  if (waiting_.size() >= kWaitingMax) {
    ++not_kept_;
    return false;
  }
  object.count.store(1);
  object.on_drop_list.store(false);
  waiting_.push_back(&object);
  if (!begun_) {
    begun_ = true;
    begin_();
  }
  changed_.notify_one();
  return true;
}

bool UnhandledErrors::next(std::vector<Object*>& objects, uint64_t& not_kept) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
  objects = std::exchange(waiting_, {});
  not_kept = std::exchange(not_kept_, 0);
  return !objects.empty() || not_kept != 0;
}

void UnhandledErrors::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

bool is_worth_telling(const Object& object) {
  // What comes from elsewhere is for its owner to tell of.
  if (object.sharing == Sharing::kForeign) return false;
  const wire::ValueKind kind = object.value.kind();
  if (kind == wire::ValueKind::kTaskError || kind == wire::ValueKind::kDependencyError) return true;
  wire::SystemErrorPayload payload{};
  const auto bytes = object.value.payload();
  if (kind != wire::ValueKind::kSystemError || bytes.size() < sizeof payload) return false;
  std::memcpy(&payload, bytes.data(), sizeof payload);
  return payload.code == wire::SystemErrorCode::kWorkerCrashed ||
         payload.code == wire::SystemErrorCode::kTaskTimeout ||
         payload.code == wire::SystemErrorCode::kInternal;
}

}  // namespace mobula::process
