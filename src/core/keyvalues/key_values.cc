#include "core/keyvalues/key_values.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::keyvalues {

size_t KeyValues::cost(const Name& name, const std::string& value) {
  return kEntryBytes + name.first.size() + name.second.size() + value.size();
}

Result<bool> KeyValues::put(std::string_view space, std::string_view key, std::string value,
                            bool overwrite) {
  if (space.size() > kKeyBytesMax || key.size() > kKeyBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                "a key, and a namespace, has at most " + std::to_string(kKeyBytesMax) + " bytes");
  }
  if (value.size() > kValueBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                "a value has at most " + std::to_string(kValueBytesMax) + " bytes, this one has " +
                    std::to_string(value.size()));
  }
  Name name{space, key};
  const auto found = entries_.find(name);
  const bool is_new = found == entries_.end();
  if (!is_new && !overwrite) return false;
  const size_t before = is_new ? 0 : cost(name, found->second);
  const size_t after = cost(name, value);
  if (bytes_ - before + after > kTableBytesMax || (is_new && entries_.size() >= kEntriesMax)) {
    return fail(ErrorCode::kRetryLater, "the node's table of keys and values is full: it has " +
                                            std::to_string(entries_.size()) + " entries with " +
                                            std::to_string(bytes_) + " bytes; remove some");
  }
  bytes_ = bytes_ - before + after;
  if (is_new) {
    entries_.emplace(std::move(name), std::move(value));
  } else {
    found->second = std::move(value);
  }
  return is_new;
}

const std::string* KeyValues::get(std::string_view space, std::string_view key) const {
  const auto found = entries_.find(Name{space, key});
  return found == entries_.end() ? nullptr : &found->second;
}

bool KeyValues::remove(std::string_view space, std::string_view key) {
  const auto found = entries_.find(Name{space, key});
  if (found == entries_.end()) return false;
  bytes_ -= cost(found->first, found->second);
  entries_.erase(found);
  return true;
}

bool KeyValues::begins(const Entries::value_type& entry, const Name& prefix) {
  return entry.first.first == prefix.first && entry.first.second.starts_with(prefix.second);
}

size_t KeyValues::remove_all(std::string_view space, std::string_view prefix) {
  const Name from{space, prefix};
  size_t removed = 0;
  auto at = entries_.lower_bound(from);
  while (at != entries_.end() && begins(*at, from)) {
    bytes_ -= cost(at->first, at->second);
    at = entries_.erase(at);
    ++removed;
  }
  return removed;
}

std::vector<std::string_view> KeyValues::keys(std::string_view space,
                                              std::string_view prefix) const {
  const Name from{space, prefix};
  std::vector<std::string_view> found;
  for (auto at = entries_.lower_bound(from); at != entries_.end() && begins(*at, from); ++at) {
    found.emplace_back(at->first.second);
  }
  return found;
}

void KeyValues::check_invariants() const {
  size_t bytes = 0;
  for (const auto& [name, value] : entries_) bytes += cost(name, value);
  MOBULA_CHECK(bytes == bytes_);
  MOBULA_CHECK(bytes_ <= kTableBytesMax && entries_.size() <= kEntriesMax);
}

}  // namespace mobula::keyvalues
