#pragma once
// EnvironmentSpecs keeps what the runtime environments of jobs are, by their ids. The specs are opaque
// here: who prepares an environment reads them.
//
// Threads: the loop's.

#include <map>
#include <optional>
#include <string>

#include "core/workers/environments.h"
#include "wire/control.h"
#include "wire/limits.h"

namespace mobula::node {

class EnvironmentSpecs {
 public:
  // Of a record: what it needs. kInvalidArgument: too long.
  static Result<workers::Environments::Needs> needs_of(const wire::fb::RuntimeEnvironment* record);

  void add(workers::EnvironmentKey key, std::string spec) {
    ids_[{key.job, spec}] = key.id;
    specs_[key] = std::move(spec);
  }
  std::optional<EnvironmentId> find(JobId job, const std::string& spec) const {
    const auto found = ids_.find({job, spec});
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  // Empty: nothing special.
  std::string spec(workers::EnvironmentKey key) const {
    const auto found = specs_.find(key);
    return found == specs_.end() ? "" : found->second;
  }
  void forget_job(JobId job) {
    std::erase_if(ids_, [job](const auto& entry) { return entry.first.first == job; });
    std::erase_if(specs_, [job](const auto& entry) { return entry.first.job == job; });
  }

 private:
  std::map<std::pair<JobId, std::string>, EnvironmentId> ids_;
  std::map<workers::EnvironmentKey, std::string> specs_;
};

inline Result<workers::Environments::Needs> EnvironmentSpecs::needs_of(
    const wire::fb::RuntimeEnvironment* record) {
  if (record == nullptr) return workers::Environments::Needs{};
  if (record->spec()->size() > wire::kRuntimeEnvironmentBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "the spec of a runtime environment is too long");
  }
  // Longer than anybody waits.
  constexpr uint64_t kLimitMax = uint64_t{365} * 24 * 3600 * 1000;
  workers::Environments::Needs needs{.preparation = true, .early = record->early()};
  if (record->time_limit_ms() > 0) {
    needs.time_limit = std::chrono::milliseconds(std::min(record->time_limit_ms(), kLimitMax));
  }
  return needs;
}

}  // namespace mobula::node
