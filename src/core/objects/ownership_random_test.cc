// Random histories of processes that share objects, crashes included. MOBULA_SEED=n replays one.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/objects/ownership_world_test_support.h"

namespace mobula::objects {
namespace {

// The first seed of a run of some: MOBULA_SEED, or always the same.
uint64_t first_seed() {
  const char* text = std::getenv("MOBULA_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

struct Totals {
  int crashes = 0;
  int values = 0;
  int parcels = 0;
  int early_closes = 0;
  int extents = 0;
  int estates = 0;
  int claims = 0;
  int losses = 0;
  int rebuilds = 0;
  uint64_t steps = 0;
};

Totals run_many(OwnershipWorld::Options options, int runs) {
  Totals totals;
  const uint64_t first = first_seed();
  for (int run = 0; run < runs; run++) {
    options.seed = first + static_cast<uint64_t>(run);
    options.refs_max = options.seed % 2 == 0 ? 1000 : 1 + options.seed % 5;
    OwnershipWorld world(options);
    const std::string violation = world.run();
    EXPECT_EQ(violation, "") << "replay with MOBULA_SEED=" << options.seed;
    if (!violation.empty()) break;
    totals.crashes += world.seen().crashes;
    totals.values += world.seen().values_delivered;
    totals.parcels += world.seen().parcels;
    totals.early_closes += world.seen().early_closes;
    totals.extents += world.seen().extents_freed;
    totals.estates += world.seen().estates;
    totals.claims += world.seen().claims;
    totals.losses += world.seen().losses;
    totals.rebuilds += world.seen().rebuilds;
    totals.steps += world.seen().steps;
  }
  return totals;
}

TEST(OwnershipRandom, nothing_is_freed_too_early_or_never) {
  const Totals totals = run_many({.crashes_max = 0}, 200);
  EXPECT_GT(totals.values, 100);
  EXPECT_GT(totals.parcels, 100);
  EXPECT_GT(totals.early_closes, 10);
  EXPECT_GT(totals.extents, 100);
  EXPECT_GT(totals.claims, 100);
}

TEST(OwnershipRandom, nor_when_processes_crash) {
  const Totals totals = run_many({.processes = 4, .steps = 500, .crashes_max = 2}, 200);
  EXPECT_GT(totals.crashes, 100);
  EXPECT_GT(totals.estates, 20);
}

TEST(OwnershipRandom, nor_when_bytes_are_lost) {
  const Totals totals = run_many({.processes = 4, .steps = 1000, .crashes_max = 1}, 200);
  EXPECT_GT(totals.losses, 100);
  EXPECT_GT(totals.rebuilds, 20);
}

TEST(OwnershipRandom, cycles_go_with_the_job) {
  run_many({.processes = 3, .steps = 500, .crashes_max = 1, .cycles = true}, 150);
}

// Long lives with many crashes and losses.
TEST(OwnershipRandom, a_million_steps) {
  uint64_t steps = 0;
  steps += run_many({.processes = 6, .steps = 4000, .crashes_max = 5, .refs_max = 12}, 100).steps;
  steps += run_many({.crashes_max = 1}, 800).steps;
  EXPECT_GE(steps, 1'000'000);
}

// Each rule off in turn: if the checks above could not fail, these would.
void expect_found(Fault fault, int crashes_max, int processes = 3, int steps = 300) {
  for (uint64_t run = 0; run < 20'000; run++) {
    OwnershipWorld world({.seed = 1 + run,
                          .processes = processes,
                          .steps = steps,
                          .crashes_max = crashes_max,
                          .refs_max = run % 2 == 0 ? 1000 : 1 + run % 5,
                          .fault = fault});
    if (!world.run().empty()) return;
  }
  ADD_FAILURE() << "fault " << static_cast<int>(fault) << " was not noticed";
}

TEST(OwnershipFaults, a_drop_without_a_sweep_is_found) {
  expect_found(Fault::kSweepReadsNothing, 0);
}
TEST(OwnershipFaults, a_guarded_ref_sent_on_without_a_claim_is_found) {
  expect_found(Fault::kNoClaimBeforeSend, 1, 4, 500);
}
TEST(OwnershipFaults, claims_after_the_result_are_found) {
  expect_found(Fault::kClaimsAfterResult, 0);
}
TEST(OwnershipFaults, a_burial_before_everybody_has_drained_is_found) {
  expect_found(Fault::kBurialWithoutDrained, 1);
}
TEST(OwnershipFaults, open_parcels_that_are_not_listed_are_found) {
  expect_found(Fault::kOpenParcelsNotListed, 1);
}
TEST(OwnershipFaults, parcels_of_unpublished_results_are_found) {
  expect_found(Fault::kAllParcelsListed, 1);
}
TEST(OwnershipFaults, a_container_shared_without_its_content_is_found) {
  expect_found(Fault::kContentNotShared, 0);
}
TEST(OwnershipFaults, a_forgotten_ready_is_found) { expect_found(Fault::kReadyForgotten, 0); }
TEST(OwnershipFaults, a_frame_that_overtakes_its_records_is_found) {
  expect_found(Fault::kFrameBeforeRecords, 1);
}
TEST(OwnershipFaults, an_uplink_that_is_not_read_before_death_is_found) {
  expect_found(Fault::kUplinkNotRead, 1);
}
TEST(OwnershipFaults, a_rebuild_that_never_comes_is_found) {
  expect_found(Fault::kRebuildForgotten, 0, 4, 1000);
}
TEST(OwnershipFaults, a_loss_that_nobody_is_told_of_is_found) {
  expect_found(Fault::kLossNotTold, 0, 4, 1000);
}
TEST(OwnershipFaults, a_forgotten_estate_is_found) { expect_found(Fault::kEstateForgotten, 1); }

}  // namespace
}  // namespace mobula::objects
