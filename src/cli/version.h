#pragma once
// The version of this program.

namespace mobula::cli {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace mobula::cli
