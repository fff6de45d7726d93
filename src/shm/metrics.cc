#include "shm/metrics.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mobula::shm {

namespace {

constexpr size_t kSeriesOffset = sizeof(MetricsHeader);
constexpr uint64_t kSeriesBytesMax = kMetricsBytes - kSeriesOffset;

MetricsHeader& header_of(std::byte* metrics) { return *reinterpret_cast<MetricsHeader*>(metrics); }
const MetricsHeader& header_of(const std::byte* metrics) {
  return *reinterpret_cast<const MetricsHeader*>(metrics);
}

size_t padded(size_t size) { return (size + 7) / 8 * 8; }

size_t value_count(SeriesKind kind, size_t boundaries) {
  return kind == SeriesKind::kHistogram ? boundaries + 2 : 1;
}

void add_to(std::atomic<uint64_t>& cell, double by) {
  const double before = std::bit_cast<double>(cell.load(std::memory_order_relaxed));
  cell.store(std::bit_cast<uint64_t>(before + by), std::memory_order_relaxed);
}

double read_double(const std::byte* from) {
  const uint64_t bits =
      reinterpret_cast<const std::atomic<uint64_t>*>(from)->load(std::memory_order_relaxed);
  return std::bit_cast<double>(bits);
}

// The texts of a series. False: they do not end as they should.
bool read_texts(std::string_view text, SeriesSpec& spec) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = text.find('\0');
    if (end == std::string_view::npos) return false;
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  if (parts.size() < 2 || parts.size() % 2 != 0) return false;
  spec.name = std::move(parts[0]);
  spec.description = std::move(parts[1]);
  for (size_t i = 2; i < parts.size(); i += 2) {
    spec.tags.emplace_back(std::move(parts[i]), std::move(parts[i + 1]));
  }
  return true;
}

// The series at `from`, of which `room` bytes may be read. Its header is copied before it is believed.
std::optional<std::pair<SeriesValue, size_t>> read_series(const std::byte* from, size_t room) {
  SeriesHeader header{};
  if (room < sizeof header) return std::nullopt;
  std::memcpy(&header, from, sizeof header);
  const bool known = header.kind == SeriesKind::kCounter || header.kind == SeriesKind::kGauge ||
                     header.kind == SeriesKind::kHistogram;
  if (!known || header.text_size > kSeriesTextMax || header.boundaries > kBoundariesMax) {
    return std::nullopt;
  }
  const size_t boundaries_at = sizeof header + padded(header.text_size);
  const size_t values_at = boundaries_at + header.boundaries * sizeof(double);
  const size_t size = values_at + value_count(header.kind, header.boundaries) * sizeof(double);
  if (header.size != size || size > room) return std::nullopt;
  SeriesValue series;
  series.spec.kind = header.kind;
  const std::string text(reinterpret_cast<const char*>(from) + sizeof header, header.text_size);
  if (!read_texts(text, series.spec)) return std::nullopt;
  for (size_t i = 0; i < header.boundaries; ++i) {
    series.spec.boundaries.push_back(read_double(from + boundaries_at + i * sizeof(double)));
  }
  const std::byte* values = from + values_at;
  if (header.kind == SeriesKind::kHistogram) {
    for (size_t i = 0; i <= header.boundaries; ++i) {
      const double count = read_double(values + i * sizeof(double));
      series.buckets.push_back(count >= 0 && count < 1e18 ? static_cast<uint64_t>(count) : 0);
    }
    values += (header.boundaries + 1) * sizeof(double);
  }
  series.value = read_double(values);
  return std::pair(std::move(series), size);
}

}  // namespace

std::optional<uint32_t> MetricsWriter::add(const SeriesSpec& spec) {
  std::string text;
  const auto put = [&text](std::string_view part) {
    text += part;
    text += '\0';
  };
  put(spec.name);
  put(spec.description);
  for (const auto& [key, value] : spec.tags) {
    put(key);
    put(value);
  }
  const size_t boundaries = spec.boundaries.size();
  const size_t size = sizeof(SeriesHeader) + padded(text.size()) + boundaries * sizeof(double) +
                      value_count(spec.kind, boundaries) * sizeof(double);
  if (text.size() > kSeriesTextMax || boundaries > kBoundariesMax ||
      used_ + size > kSeriesBytesMax) {
    header_of(metrics_).refused.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  std::byte* at = metrics_ + kSeriesOffset + used_;
  const SeriesHeader header{static_cast<uint32_t>(size), spec.kind,
                            static_cast<uint32_t>(text.size()), static_cast<uint32_t>(boundaries)};
  std::memcpy(at, &header, sizeof header);
  std::memcpy(at + sizeof header, text.data(), text.size());
  if (boundaries > 0) {
    std::memcpy(at + sizeof header + padded(text.size()), spec.boundaries.data(),
                boundaries * sizeof(double));
  }
  const auto series = static_cast<uint32_t>(used_);
  used_ += size;
  header_of(metrics_).used.store(used_, std::memory_order_release);  // The values are zero.
  return series;
}

std::atomic<uint64_t>* MetricsWriter::values(uint32_t series) {
  std::byte* at = metrics_ + kSeriesOffset + series;
  const auto& header = *reinterpret_cast<const SeriesHeader*>(at);
  return reinterpret_cast<std::atomic<uint64_t>*>(at + sizeof header + padded(header.text_size) +
                                                  header.boundaries * sizeof(double));
}

void MetricsWriter::increase(uint32_t series, double by) { add_to(values(series)[0], by); }

void MetricsWriter::set(uint32_t series, double value) {
  values(series)[0].store(std::bit_cast<uint64_t>(value), std::memory_order_relaxed);
}

void MetricsWriter::observe(uint32_t series, double value) {
  const std::byte* at = metrics_ + kSeriesOffset + series;
  const auto& header = *reinterpret_cast<const SeriesHeader*>(at);
  const auto* boundaries =
      reinterpret_cast<const double*>(at + sizeof header + padded(header.text_size));
  const size_t bucket = static_cast<size_t>(
      std::lower_bound(boundaries, boundaries + header.boundaries, value) - boundaries);
  std::atomic<uint64_t>* cells = values(series);
  add_to(cells[bucket], 1);
  add_to(cells[header.boundaries + 1], value);
}

void read_metrics(const std::byte* metrics, const std::function<void(SeriesValue)>& take) {
  const uint64_t used =
      std::min(header_of(metrics).used.load(std::memory_order_acquire), kSeriesBytesMax);
  for (uint64_t at = 0; at < used;) {
    auto series = read_series(metrics + kSeriesOffset + at, used - at);
    if (!series) return;
    at += series->second;
    take(std::move(series->first));
  }
}

uint64_t refused_series(const std::byte* metrics) {
  return header_of(metrics).refused.load(std::memory_order_relaxed);
}

}  // namespace mobula::shm
