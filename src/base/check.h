#pragma once
// MOBULA_CHECK is for our own bugs. It is on in every build; it aborts with file:line.
// What another process sent is never our bug: reject it with a Result.

#include <cstdio>
#include <cstdlib>

#define MOBULA_CHECK(condition)                                                          \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
