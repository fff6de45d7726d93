#pragma once
// What a function is called on the wire and in traces: what people see and, if that was given by the
// `name` option, the function's own name behind a mark.
//
// Threads: any.

#include <string_view>

namespace mobula {

constexpr char kOwnNameMark = '\x1f';  // A unit separator: no part of any name.

constexpr std::string_view shown_name(std::string_view name) {
  return name.substr(0, name.find(kOwnNameMark));
}

constexpr std::string_view own_name(std::string_view name) {
  const size_t mark = name.find(kOwnNameMark);
  return mark == std::string_view::npos ? name : name.substr(mark + 1);
}

}  // namespace mobula
