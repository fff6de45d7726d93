#pragma once
// A process's own metrics: counters, gauges and histograms that its program made, in its home region. The
// node daemon reads them when somebody asks, also after the process's death: nothing is sent, and
// nothing is lost.
//
//   MetricsHeader | series | series | ...
//   series: SeriesHeader | text (name, description, key, value, key, value ..., each with a NUL) |
//           boundaries (histogram) | values
//   values: counter, gauge: one double; histogram: a count for each boundary and for +Inf (not
//           cumulative), then the sum.
//
// Series are only ever added. Values are doubles in 64 bits, changed by the writer alone.
//
// Threads: one writer at a time; any readers.
// Limits:  kMetricsBytes in all; what does not fit is refused and counted. kSeriesTextMax bytes of
//          text and kBoundariesMax boundaries a series.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shm/home.h"

namespace mobula::shm {

constexpr size_t kSeriesTextMax = 8 * 1024;
constexpr size_t kBoundariesMax = 256;

enum class SeriesKind : uint32_t { kCounter = 1, kGauge = 2, kHistogram = 3 };

struct MetricsHeader {
  alignas(64) std::atomic<uint64_t> used;  // Bytes of series, published last.
  std::atomic<uint64_t> refused;           // Series that did not fit.
};

struct SeriesHeader {
  uint32_t size;  // Of the whole series, a multiple of 8.
  SeriesKind kind;
  uint32_t text_size;
  uint32_t boundaries;
};
static_assert(sizeof(SeriesHeader) == 16);

struct SeriesSpec {
  SeriesKind kind{};
  std::string name;
  std::string description;
  std::vector<std::pair<std::string, std::string>> tags;
  std::vector<double> boundaries;  // Ascending.
};

struct SeriesValue {
  SeriesSpec spec;
  double value = 0;               // Counter, gauge; of a histogram: the sum.
  std::vector<uint64_t> buckets;  // One more than boundaries.
};

class MetricsWriter {
 public:
  explicit MetricsWriter(std::byte* metrics) : metrics_(metrics) {}
  // Where the new series is; nullopt: there is no room. The text must not contain NULs.
  std::optional<uint32_t> add(const SeriesSpec& spec);
  // `series`: from add().
  void increase(uint32_t series, double by);
  void set(uint32_t series, double value);
  void observe(uint32_t series, double value);

 private:
  std::atomic<uint64_t>* values(uint32_t series);
  std::byte* const metrics_;
  uint64_t used_ = 0;
};

// Calls `take` for each series that another process has there. What is malformed ends it.
void read_metrics(const std::byte* metrics, const std::function<void(SeriesValue)>& take);
uint64_t refused_series(const std::byte* metrics);

}  // namespace mobula::shm
