#include "process/runtime.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <future>

#include "process/runtime_test_support.h"
#include "wire/frame_reader.h"

namespace mobula::process {
namespace {

using namespace std::chrono_literals;

// The first argument of a task.
int64_t argument(const ClaimedTask& task) {
  size_t offset = 0;
  const auto value = wire::read_value(task.values, offset);
  MOBULA_CHECK(value.has_value() && value->header.kind == wire::ValueKind::kInt64);
  int64_t number = 0;
  std::memcpy(&number, value->payload.data(), sizeof number);
  return number;
}

PackedValues run(Runtime&, const ClaimedTask& task) {
  return task.value_count == 0 ? pack_none() : pack_int(argument(task) + 1);
}

class RuntimeTest : public testing::Test {
 protected:
  void SetUp() override {
    driver_ = node_.connect_driver();
    function_ = driver_->define_function("f", pack_none());
    ResourceSet one_cpu;
    one_cpu.set(kCpu, kResourceUnit);
    shape_ = driver_->shape(one_cpu);
  }
  Object* submit(PackedValues arguments, int32_t retries_max = 3) {
    Object* object = nullptr;
    EXPECT_TRUE(driver_
                    ->submit({function_, shape_, 1, retries_max}, std::move(arguments),
                             std::span<Object*>(&object, 1))
                    .has_value());
    return object;
  }
  // The first task: it runs in a worker of its own, and ends when the gate opens.
  Object* submit_held(std::shared_future<void> gate) {
    const auto started = std::make_shared<std::atomic<bool>>(false);
    node_.add_worker([started, gate](Runtime& runtime, const ClaimedTask& task) {
      *started = true;
      gate.wait();
      return run(runtime, task);
    });
    Object* object = submit(pack_int(1));
    while (!*started) std::this_thread::yield();
    return object;
  }
  Waited wait(std::span<Object* const> objects) {
    return driver_->wait(objects, objects.size(), monotonic_now() + 60s, gate_);
  }
  void expect_quiet() {
    EXPECT_NE(driver_->debug_state().find("unfinished_tasks=0 queued=0 in_flight=0"),
              std::string::npos)
        << driver_->debug_state();
  }

  TestNode node_;
  NoGate gate_;
  std::unique_ptr<Runtime> driver_;
  Function* function_ = nullptr;
  uint32_t shape_ = 0;
};

PackedValues nothing() { return {}; }

TEST_F(RuntimeTest, a_task_runs_and_its_value_arrives) {
  node_.add_worker(run);
  Object* object = submit(pack_int(41));
  ASSERT_EQ(wait({&object, 1}), Waited::kEnough);
  EXPECT_EQ(int_of(object->value), 42);
  driver_->drop(object);
  expect_quiet();
}

TEST_F(RuntimeTest, an_argument_that_is_a_ref_is_resolved_before_the_task_is_sent) {
  node_.add_worker(run);
  Object* object = submit(pack_int(0));
  for (int i = 0; i < 100; ++i) {
    PackedValues reference;
    const wire::ValueHeader header{0, 1, wire::ValueKind::kReference, {}};
    reference.bytes.resize(sizeof header + sizeof(ObjectId));
    std::memcpy(reference.bytes.data(), &header, sizeof header);
    std::memcpy(reference.bytes.data() + sizeof header, &object->id, sizeof object->id);
    reference.value_count = 1;
    reference.refs.push_back(object);  // Hands over our count.
    object = submit(std::move(reference));
  }
  ASSERT_EQ(wait({&object, 1}), Waited::kEnough);
  EXPECT_EQ(int_of(object->value), 101);
  driver_->drop(object);
  expect_quiet();
}

TEST_F(RuntimeTest, many_tasks_complete_on_two_workers_while_the_daemon_looks_away) {
  node_.add_worker(run);
  node_.add_worker(run);
  std::vector<Object*> warm{submit(nothing()), submit(nothing())};
  ASSERT_EQ(wait(warm), Waited::kEnough);
  node_.stop_looking(true);
  const Instant begun = monotonic_now();
  constexpr int kTasks = 100'000;
  std::vector<Object*> objects;
  for (int i = 0; i < kTasks; ++i) objects.push_back(submit(pack_int(i)));
  ASSERT_EQ(wait(objects), Waited::kEnough);
  std::printf("%.0f tasks/s\n",
              kTasks / std::chrono::duration<double>(monotonic_now() - begun).count());
  for (int i = 0; i < kTasks; ++i) ASSERT_EQ(int_of(objects[static_cast<size_t>(i)]->value), i + 1);
  node_.stop_looking(false);
  for (Object* object : objects) driver_->drop(object);
  for (Object* object : warm) driver_->drop(object);
  expect_quiet();
}

TEST_F(RuntimeTest, one_by_one_works_as_well_as_in_bulk) {
  node_.add_worker(run);
  const Instant begun = monotonic_now();
  constexpr int kTasks = 20'000;
  for (int i = 0; i < kTasks; ++i) {
    Object* object = submit(nothing());
    ASSERT_EQ(wait({&object, 1}), Waited::kEnough);
    driver_->drop(object);
  }
  std::printf("%.2f us a call\n",
              std::chrono::duration<double, std::micro>(monotonic_now() - begun).count() / kTasks);
  expect_quiet();
}

TEST_F(RuntimeTest, large_arguments_and_results_pass_in_parts) {
  node_.add_worker([](Runtime&, const ClaimedTask& task) {
    PackedValues echo;  // All arguments but the first are dropped: results have one value.
    size_t offset = 0;
    const auto value = wire::read_value(task.values, offset);
    echo.bytes.assign(value->whole.begin(), value->whole.end());
    echo.value_count = 1;
    return echo;
  });
  PackedValues large;
  const std::vector<std::byte> body(5'000'000, std::byte{7});
  const wire::ValueHeader header{body.size(), 0, wire::ValueKind::kBytes, {}};
  large.bytes.resize(sizeof header);
  std::memcpy(large.bytes.data(), &header, sizeof header);
  large.bytes.insert(large.bytes.end(), body.begin(), body.end());
  large.value_count = 1;
  std::vector<Object*> objects;
  for (int i = 0; i < 5; ++i) objects.push_back(submit(large));
  ASSERT_EQ(wait(objects), Waited::kEnough);
  for (Object* object : objects) {
    EXPECT_EQ(object->value.payload().size(), body.size());
    EXPECT_EQ(std::memcmp(object->value.payload().data(), body.data(), body.size()), 0);
    driver_->drop(object);
  }
  expect_quiet();
}

TEST_F(RuntimeTest, one_slow_task_delays_none_of_those_pipelined_behind_it) {
  std::promise<void> let_go;
  std::shared_future<void> gate = let_go.get_future().share();
  const auto execute = [gate](Runtime& runtime, const ClaimedTask& task) {
    if (task.value_count > 0 && argument(task) == 500) gate.wait();
    return run(runtime, task);
  };
  node_.add_worker(execute);
  node_.add_worker(execute);
  std::vector<Object*> objects;
  for (int i = 0; i < 1000; ++i) objects.push_back(submit(pack_int(i)));
  std::vector<Object*> others = objects;
  Object* slow = others[500];
  others.erase(others.begin() + 500);
  EXPECT_EQ(wait(others), Waited::kEnough);  // Although the slow one still runs.
  EXPECT_FALSE(slow->is_ready());
  let_go.set_value();
  EXPECT_EQ(wait({&slow, 1}), Waited::kEnough);
  for (Object* object : objects) driver_->drop(object);
  expect_quiet();
}

TEST_F(RuntimeTest, a_task_of_a_dead_worker_runs_again_elsewhere) {
  std::promise<void> never;
  std::shared_future<void> gate = never.get_future().share();
  const uint32_t victim = node_.add_worker([gate](Runtime& runtime, const ClaimedTask& task) {
    gate.wait();
    return run(runtime, task);
  });
  Object* object = submit(pack_int(1));
  while (node_.seen().leases_granted == 0) std::this_thread::yield();
  std::this_thread::sleep_for(20ms);  // Let it start; if it has not, the test is only weaker.
  node_.add_worker(run);
  node_.bury_worker(victim, 9);
  EXPECT_EQ(wait({&object, 1}), Waited::kEnough);
  EXPECT_EQ(int_of(object->value), 2);
  never.set_value();
  driver_->drop(object);
  expect_quiet();
}

TEST_F(RuntimeTest, without_retries_the_cause_of_death_arrives_as_the_value) {
  std::promise<void> started;
  std::promise<void> never;
  std::shared_future<void> gate = never.get_future().share();
  const uint32_t victim = node_.add_worker([&, gate](Runtime& runtime, const ClaimedTask& task) {
    started.set_value();
    gate.wait();
    return run(runtime, task);
  });
  Object* object = submit(pack_int(1), 0);
  started.get_future().wait();
  node_.bury_worker(victim, 9);
  EXPECT_EQ(wait({&object, 1}), Waited::kEnough);
  ASSERT_EQ(object->value.kind(), wire::ValueKind::kSystemError);
  const auto payload = object->value.payload();
  const std::string text(reinterpret_cast<const char*>(payload.data()) + 8, payload.size() - 8);
  EXPECT_NE(text.find("killed by SIGKILL"), std::string::npos) << text;
  EXPECT_NE(text.find("its last words"), std::string::npos) << text;
  never.set_value();
  driver_->drop(object);
  expect_quiet();
}

TEST_F(RuntimeTest, a_worker_waiting_inside_a_task_gives_its_cpus_back_until_it_goes_on) {
  node_.add_worker([](Runtime& worker, const ClaimedTask&) {
    NoGate gate;
    Function* inner = worker.define_function("inner", pack_none());
    ResourceSet cpu;
    cpu.set(kCpu, kResourceUnit);
    Object* object = nullptr;
    MOBULA_CHECK(
        worker.submit({inner, worker.shape(cpu), 1, 0}, pack_int(5), std::span<Object*>(&object, 1))
            .has_value());
    MOBULA_CHECK(worker.wait({&object, 1}, 1, std::nullopt, gate) == Waited::kEnough);
    PackedValues result = pack_int(int_of(object->value));
    worker.drop(object);
    return result;
  });
  Object* object = submit(pack_int(0));
  while (node_.seen().blocked == 0) std::this_thread::yield();
  node_.add_worker(run);
  EXPECT_EQ(wait({&object, 1}), Waited::kEnough);
  EXPECT_EQ(int_of(object->value), 6);
  driver_->drop(object);
  while (node_.seen().unblocked == 0) std::this_thread::yield();
  expect_quiet();
}

TEST_F(RuntimeTest, a_wait_ends_at_its_deadline_and_at_an_interrupt) {
  Object* object = submit(nothing());
  EXPECT_EQ(driver_->wait({&object, 1}, 1, monotonic_now() + 30ms, gate_), Waited::kTimeout);
  gate_.interrupt.store(true);
  EXPECT_EQ(driver_->wait({&object, 1}, 1, std::nullopt, gate_), Waited::kInterrupted);
  driver_->drop(object);
}

TEST_F(RuntimeTest, several_threads_may_wait_at_once) {
  node_.add_worker(run);
  node_.add_worker(run);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      NoGate gate;
      for (int i = 0; i < 500; ++i) {
        std::vector<Object*> objects{submit(pack_int(i)), submit(pack_int(i))};
        ASSERT_EQ(driver_->wait(objects, 2, monotonic_now() + 60s, gate), Waited::kEnough);
        for (Object* object : objects) {
          EXPECT_EQ(int_of(object->value), i + 1);
          driver_->drop(object);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect_quiet();
}

// Counts how often a thread asks for the interpreter's lock.
class CountingGate final : public Gate {
 public:
  void release() override { ++releases; }
  void acquire() override { ++acquires; }
  bool interrupted() override { return false; }
  int releases = 0;
  int acquires = 0;
};

TEST_F(RuntimeTest, a_wait_asks_for_the_interpreters_lock_once_whatever_comes_meanwhile) {
  std::promise<void> go;
  Object* late = submit_held(go.get_future());
  node_.add_worker(run);
  CountingGate counting;
  std::atomic<bool> over{false};
  std::thread waiting([&] {
    EXPECT_EQ(driver_->wait({&late, 1}, 1, std::nullopt, counting), Waited::kEnough);
    over = true;
  });
  // Results of others come, for which this thread may read, in far less than kSleepMax.
  const Instant begun = monotonic_now();
  for (int i = 0; i < 300; ++i) {
    Object* object = submit(pack_int(i));
    ASSERT_EQ(wait({&object, 1}), Waited::kEnough);
    driver_->drop(object);
  }
  EXPECT_FALSE(over.load());
  go.set_value();
  waiting.join();
  EXPECT_EQ(counting.releases, counting.acquires);
  const auto looks_for_signals = (monotonic_now() - begun) / 90ms;
  EXPECT_LE(counting.acquires, 1 + looks_for_signals);
  driver_->drop(late);
  expect_quiet();
}

TEST_F(RuntimeTest, who_gets_beside_a_thread_that_sleeps_as_the_reader_need_not_let_go_each_time) {
  std::promise<void> go;
  Object* late = submit_held(go.get_future());
  node_.add_worker(run);
  std::thread reader([&] {
    NoGate none;
    EXPECT_EQ(driver_->wait({&late, 1}, 1, std::nullopt, none), Waited::kEnough);
  });
  CountingGate counting;
  constexpr int kGets = 2000;
  for (int i = 0; i < kGets; ++i) {
    Object* object = submit(pack_int(i));
    ASSERT_EQ(driver_->wait({&object, 1}, 1, monotonic_now() + 60s, counting), Waited::kEnough);
    EXPECT_EQ(int_of(object->value), i + 1);
    driver_->drop(object);
  }
  EXPECT_EQ(counting.releases, counting.acquires);
  EXPECT_LT(counting.releases, kGets);
  go.set_value();
  reader.join();
  driver_->drop(late);
  expect_quiet();
}

TEST_F(RuntimeTest, idle_leases_are_given_back) {
  node_.add_worker(run);
  Object* object = submit(nothing());
  ASSERT_EQ(wait({&object, 1}), Waited::kEnough);
  driver_->drop(object);
  const Instant deadline = monotonic_now() + 30s;
  while (node_.seen().leases_returned == 0 && monotonic_now() < deadline) std::this_thread::yield();
  EXPECT_EQ(node_.seen().leases_returned, 1);
}

}  // namespace
}  // namespace mobula::process
