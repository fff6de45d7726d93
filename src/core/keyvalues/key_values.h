#pragma once
// KeyValues is a table of bytes by namespace and key, for small notes between the programs of a node.
//
// Nobody owns an entry: it stays until it is removed, or until the daemon ends.
//
// Threads: none. Owned and called by the node loop only.
// Limits:  kKeyBytesMax a key and a namespace, kValueBytesMax a value, kTableBytesMax and kEntriesMax in
//          all. What does not fit is refused, and nothing changes.

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace mobula::keyvalues {

class KeyValues {
 public:
  static constexpr size_t kKeyBytesMax = size_t{8} << 10;
  static constexpr size_t kValueBytesMax = size_t{16} << 20;
  static constexpr size_t kTableBytesMax = size_t{128} << 20;
  static constexpr size_t kEntriesMax = 1'000'000;
  // What an entry takes beside its bytes, about.
  static constexpr size_t kEntryBytes = 128;

  // True: there was no such key. Without `overwrite` a value that is there stays. kInvalidArgument: the
  // key or the value is too long; kStoreFull: the table has no room for it.
  Result<bool> put(std::string_view space, std::string_view key, std::string value, bool overwrite);
  // nullptr: there is none. Valid until the next call that changes something.
  const std::string* get(std::string_view space, std::string_view key) const;
  bool remove(std::string_view space, std::string_view key);
  // How many there were.
  size_t remove_all(std::string_view space, std::string_view prefix);
  // In order.
  std::vector<std::string_view> keys(std::string_view space, std::string_view prefix) const;

  size_t size() const { return entries_.size(); }
  size_t bytes() const { return bytes_; }
  void check_invariants() const;

 private:
  using Name = std::pair<std::string, std::string>;  // Namespace and key.
  using Entries = std::map<Name, std::string>;

  static size_t cost(const Name& name, const std::string& value);
  static bool begins(const Entries::value_type& entry, const Name& prefix);

  Entries entries_;
  size_t bytes_ = 0;
};

}  // namespace mobula::keyvalues
