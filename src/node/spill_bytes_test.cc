#include "node/spill_bytes.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>

namespace mobula::node {
namespace {

constexpr uint64_t kMiB = 1ULL << 20;

class SpillBytes : public testing::Test {
 protected:
  SpillBytes() {
    std::string name = (std::filesystem::path(testing::TempDir()) / "spill-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    segment = std::make_shared<shm::Fd>(::memfd_create("values", MFD_CLOEXEC));
    std::mt19937_64 random(1);
    std::string bytes(kBytes, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    EXPECT_EQ(::pwrite(segment->get(), bytes.data(), bytes.size(), 0), ssize_t{kBytes});
    content = std::move(bytes);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::string path() const { return folder + "/values"; }
  // Reads it back to where the segment ends.
  std::string read_back(const store::DiskCopy& copy, store::ReadOutcome& outcome) {
    outcome = read_value(path(), copy, {segment, kBytes, copy.size}, stop);
    std::string bytes(copy.size, '\0');
    static_cast<void>(::pread(segment->get(), bytes.data(), bytes.size(), off_t{kBytes}));
    return bytes;
  }

  static constexpr uint64_t kBytes = 24 * kMiB;
  std::string folder;
  std::string content;
  std::shared_ptr<shm::Fd> segment;
  SpillStop stop{false};
};

TEST_F(SpillBytes, values_of_any_size_and_place_come_back_as_they_were) {
  const std::vector<uint64_t> sizes = {1,       64,   4095,     4096,         4097,
                                       100'001, kMiB, 4 * kMiB, 4 * kMiB + 1, 12 * kMiB - 7};
  std::vector<SpillPart> parts;
  uint64_t at = 64;
  for (const uint64_t size : sizes) {
    parts.push_back({segment, at, size});
    at += size + 64;
  }
  ASSERT_LE(at, kBytes);
  const store::WriteOutcome written = write_values(path(), parts, stop);
  ASSERT_EQ(written.kind, store::WriteOutcome::Kind::kDone) << written.why;
  uint64_t offset = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    store::ReadOutcome outcome;
    const store::DiskCopy copy{{}, offset, parts[i].size, written.checksums[i]};
    EXPECT_EQ(read_back(copy, outcome), content.substr(parts[i].offset, parts[i].size));
    EXPECT_TRUE(outcome.ok) << outcome.why;
    offset += parts[i].size;
  }
  EXPECT_EQ(std::filesystem::file_size(path()), offset);
}

TEST_F(SpillBytes, a_file_that_is_too_short_or_missing_or_changed_is_said) {
  const uint64_t size = 9 * kMiB + 5;
  const store::WriteOutcome written = write_values(path(), {{segment, 0, size}}, stop);
  ASSERT_EQ(written.kind, store::WriteOutcome::Kind::kDone) << written.why;
  const store::DiskCopy copy{{}, 0, size, written.checksums[0]};
  store::ReadOutcome outcome;
  read_back({{}, 0, size, copy.checksum + 1}, outcome);
  EXPECT_NE(outcome.why.find("checksum"), std::string::npos) << outcome.why;
  std::filesystem::resize_file(path(), size - 1);
  read_back(copy, outcome);
  EXPECT_NE(outcome.why.find("too short"), std::string::npos) << outcome.why;
  std::filesystem::resize_file(path(), 10);
  read_back(copy, outcome);
  EXPECT_NE(outcome.why.find("too short"), std::string::npos) << outcome.why;
  std::filesystem::remove(path());
  read_back(copy, outcome);
  EXPECT_NE(outcome.why.find("No such file"), std::string::npos) << outcome.why;
}

TEST_F(SpillBytes, a_write_that_fails_leaves_no_file) {
  const store::WriteOutcome outcome = write_values(path(), {{segment, kBytes - 10, 20}}, stop);
  EXPECT_EQ(outcome.kind, store::WriteOutcome::Kind::kFailed);
  EXPECT_FALSE(std::filesystem::exists(path()));
  stop = true;
  EXPECT_EQ(write_values(path(), {{segment, 0, 10}}, stop).kind,
            store::WriteOutcome::Kind::kFailed);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(SpillBytes, a_last_write_that_fails_is_a_failure) {
  // A file may be as long as the values, not as long as the last block: that write fails, and setting
  // the length afterwards would not.
  const uint64_t size = 2 * kSpillChunkBytes + 5;
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit low{size, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &low), 0);
  const store::WriteOutcome fits = write_values(path(), {{segment, 0, size - 5}}, stop);
  std::filesystem::remove(path());
  const store::WriteOutcome outcome = write_values(path(), {{segment, 0, size}}, stop);
  EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  EXPECT_EQ(fits.kind, store::WriteOutcome::Kind::kDone) << fits.why;
  EXPECT_EQ(outcome.kind, store::WriteOutcome::Kind::kFailed);
  EXPECT_NE(outcome.why.find("File too large"), std::string::npos) << outcome.why;
  EXPECT_FALSE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace mobula::node
