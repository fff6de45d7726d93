#pragma once
// Result<T>: a value, or an Error that the caller is expected to handle.
// An alias of tl::expected, until every toolchain we support has std::expected.

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "base/check.h"

namespace mobula {

// One code per thing the caller can do about it. The text is for people.
enum class ErrorCode {
  kRetryLater,       // Overloaded or out of memory now. Back off, then retry.
  kDiskFull,         // No disk is left. Free some of it, then retry.
  kUnavailable,      // The peer or connection is gone. Reconnect or fail over.
  kNotFound,         // The named thing does not exist. Retrying cannot help.
  kInvalidArgument,  // The request is malformed. Retrying cannot help.
  kCancelled,        // The caller, or shutdown, asked us to stop.
};

struct Error {
  ErrorCode code;
  std::string message;  // Lower case, no full stop, names the ids involved.
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace mobula

// Returns the error of `expression` from the enclosing function, if it is one.
#define MOBULA_TRY(expression)                                 \
  do {                                                         \
    if (auto&& result_ = (expression); !result_.has_value()) { \
      return tl::unexpected<::mobula::Error>(result_.error()); \
    }                                                          \
  } while (false)
