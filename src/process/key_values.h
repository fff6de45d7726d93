#pragma once
// What is asked of the daemon's table of keys and values, and what it answers.
//
// Threads: plain values.

#include <cstdint>
#include <string>
#include <string_view>

namespace mobula::process {

struct KeyValueCall {
  uint8_t op = 0;  // wire::fb::KeyValueOp
  std::string_view space;
  std::string_view key;
  std::string_view value;
};

struct KeyValueOut {
  bool found = false;  // There is, or was, such a key.
  uint64_t count = 0;  // So many were removed.
  std::string bytes;   // The value; or the keys, each after its length, a uint32.
};

}  // namespace mobula::process
