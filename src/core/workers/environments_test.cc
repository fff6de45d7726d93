#include "core/workers/environments.h"

#include <gtest/gtest.h>

#include <random>

namespace mobula::workers {
namespace {

using namespace std::chrono_literals;

constexpr EnvironmentKey kOne{JobId{1}, EnvironmentId{1}};
constexpr EnvironmentKey kTwo{JobId{1}, EnvironmentId{2}};

class EnvironmentsTest : public testing::Test {
 protected:
  void TearDown() override { environments_.check_invariants(); }

  // What a look with these wishes decides: "+1" prepares, "-1" releases, "!1" took too long.
  std::string look(Instant now, std::vector<EnvironmentKey> wanted,
                   std::vector<EnvironmentKey> in_use = {}) {
    for (const EnvironmentKey key : wanted) environments_.want(key);
    for (const EnvironmentKey key : in_use) environments_.note_in_use(key);
    EnvironmentEffects effects;
    std::vector<Environments::Failure> failures;
    environments_.finish_look(now, effects, failures);
    environments_.check_invariants();
    std::string text = said(effects);
    for (const auto& failure : failures)
      text += "!" + std::to_string(number(failure.environment.id));
    return text;
  }

  static std::string said(const EnvironmentEffects& effects) {
    std::string text;
    for (const EnvironmentEffect& effect : effects) {
      if (const auto* prepare = std::get_if<PrepareEnvironment>(&effect)) {
        text += "+" + std::to_string(number(prepare->environment.id));
      } else {
        text += "-" + std::to_string(number(std::get<ReleaseEnvironment>(effect).environment.id));
      }
    }
    return text;
  }

  Environments environments_{{.preparing_max = 1, .unused_timeout = 10s}};
};

TEST_F(EnvironmentsTest, one_that_needs_no_preparation_is_always_ready) {
  environments_.add(kOne, {});
  EXPECT_TRUE(environments_.is_ready(kOne));
  EXPECT_EQ(look(0s, {kOne}), "");
  EXPECT_EQ(look(100s, {}), "");
  EXPECT_TRUE(environments_.is_ready(kOne));
}

TEST_F(EnvironmentsTest, it_is_prepared_once_for_all_who_want_it) {
  environments_.add(kOne, {.preparation = true});
  EXPECT_EQ(look(0s, {}), "");
  EXPECT_EQ(look(1s, {kOne}), "+1");
  EXPECT_EQ(look(2s, {kOne}), "");
  EXPECT_FALSE(environments_.is_ready(kOne));
  EXPECT_TRUE(environments_.prepared(kOne, 3s));
  EXPECT_TRUE(environments_.is_ready(kOne));
  EXPECT_EQ(look(4s, {kOne}), "");
}

TEST_F(EnvironmentsTest, what_nobody_wants_any_more_is_given_up) {
  environments_.add(kOne, {.preparation = true});
  EXPECT_EQ(look(0s, {kOne}), "+1");
  EXPECT_EQ(look(1s, {}), "-1");
  EXPECT_FALSE(environments_.prepared(kOne, 2s));
  EXPECT_FALSE(environments_.is_ready(kOne));
  EXPECT_EQ(look(3s, {kOne}), "+1");
}

TEST_F(EnvironmentsTest, one_that_is_ready_is_kept_while_workers_are_in_it_and_a_while_longer) {
  environments_.add(kOne, {.preparation = true});
  look(0s, {kOne});
  environments_.prepared(kOne, 0s);
  EXPECT_EQ(look(20s, {}, {kOne}), "");
  EXPECT_EQ(environments_.next_deadline(), 30s);
  EXPECT_EQ(look(29s, {}), "");
  EXPECT_EQ(look(30s, {}), "-1");
  EXPECT_EQ(environments_.next_deadline(), std::nullopt);
}

TEST_F(EnvironmentsTest, workers_in_one_that_is_not_ready_do_not_make_it_wanted) {
  environments_.add(kOne, {.preparation = true});
  EXPECT_EQ(look(0s, {}, {kOne}), "");
  look(1s, {kOne});
  EnvironmentEffects effects;
  EXPECT_TRUE(environments_.failed(kOne, effects));
  EXPECT_EQ(said(effects), "-1");
  EXPECT_FALSE(environments_.failed(kOne, effects));
  EXPECT_EQ(look(2s, {}, {kOne}), "");
  EXPECT_EQ(look(3s, {kOne}), "+1");
}

TEST_F(EnvironmentsTest, what_takes_too_long_is_stopped) {
  environments_.add(kOne, {.preparation = true, .time_limit = 5s});
  EXPECT_EQ(look(1s, {kOne}), "+1");
  EXPECT_EQ(environments_.next_deadline(), 6s);
  EXPECT_EQ(look(5s, {kOne}), "");
  EXPECT_EQ(look(6s, {kOne}), "-1!1");
}

TEST_F(EnvironmentsTest, they_wait_for_their_turn) {
  environments_.add(kOne, {.preparation = true});
  environments_.add(kTwo, {.preparation = true});
  EXPECT_EQ(look(0s, {kTwo}), "+2");
  EXPECT_EQ(look(1s, {kOne, kTwo}), "");
  environments_.prepared(kTwo, 2s);
  EXPECT_EQ(look(2s, {kOne}), "+1");
}

TEST_F(EnvironmentsTest, that_of_a_job_is_prepared_before_it_is_wanted_and_stays) {
  environments_.add(kOne, {.preparation = true, .early = true});
  EXPECT_EQ(look(0s, {}), "+1");
  EXPECT_EQ(look(1s, {}), "");
  environments_.prepared(kOne, 2s);
  EXPECT_EQ(look(100s, {}), "");
  EXPECT_EQ(environments_.next_deadline(), std::nullopt);
  environments_.end_job(JobId{1});
  EXPECT_FALSE(environments_.knows(kOne));
}

}  // namespace
}  // namespace mobula::workers
