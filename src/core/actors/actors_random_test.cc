// Random histories of actors and their callers: the production registry and call queues, with workers,
// rings and the daemon's messages played by the test. MOBULA_SEED=n replays one.
//
// What must hold: every call ends; none is run more often than its retries allow; a caller's calls of one
// actor start in the order of their submission; a name has one owner; when all handles are gone every
// table is empty. tools/planted_bugs.py shows that mistakes are found.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>

#include "core/actors/actor_registry.h"
#include "core/actors/call_queue.h"

namespace mobula::actors {
namespace {

constexpr uint32_t kCallers = 3;
constexpr int kSteps = 400;
constexpr uint64_t kSeeds = 400;

struct Call : CallNode {
  int32_t retries_left = 0;
  int runs_allowed = 1;
  int runs = 0;
  bool started = false;  // Its claim word, in this worker's ring.
  bool ended = false;
  bool infinite = false;
};

struct Message {
  enum Kind { kReached, kLost, kDead, kPeerDied } kind;
  ObjectId actor;
  ProcessId worker{};
};

// One caller's view of one actor.
struct View {
  CallQueue queue;
  bool in_order = true;
  ProcessId channel{};
  bool holds = true;
  bool connected = false;
  uint64_t last_started = 0;
};

struct Caller {
  ProcessId id;
  std::map<ObjectId, View> views;
  std::deque<Message> messages;
};

// What lies in shared memory between a caller and a worker.
struct Ring {
  std::deque<Call*> calls;
  std::deque<Call*> results;
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    for (uint32_t i = 0; i < kCallers; ++i) callers_.push_back({ProcessId{i + 1}, {}, {}});
  }

  void run() {
    for (int step = 0; step < kSteps; ++step) {
      random_step();
      check();
    }
    finish();
  }

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }
  Caller& any_caller() { return callers_[below(callers_.size())]; }

  void random_step() {
    switch (below(13)) {
      case 0:
        return create();
      case 1:
      case 2:
      case 3:
        return submit();
      case 4:
        return make_ready();
      case 5:
        return place();
      case 6:
        return construct(below(20) == 0, true);
      case 7:
      case 8:
        return execute(true);
      case 9:
        if (below(4) == 0) return kill();
        return;
      case 10:
        return drop_handle();
      case 11:
        if (below(12) == 0) return caller_dies(any_caller());
        return;
      default:
        return read_something(any_caller());
    }
  }

  void create() {
    if (ids_.size() >= 6) return;
    const ObjectId id{NodeId{1}, ProcessId{1}, ++last_id_};
    ActorOptions options;
    options.restarts_max = static_cast<int32_t>(below(4)) - 1;
    if (below(2) == 0) options.name = std::string(1, static_cast<char>('a' + below(2)));
    const ObjectId owner = registry_.find_name("", options.name);
    const bool created = registry_.create(id, std::move(options), effects_).has_value();
    ASSERT_EQ(created, owner.is_nil());
    if (!created) return;
    ids_.push_back(id);
    carry_out();
    const bool in_order = below(3) != 0;
    for (Caller& caller : callers_) {
      View& view = caller.views[id];
      view.in_order = in_order;
      if (!in_order) view.queue.allow_any_order();
    }
  }

  void submit() {
    Caller& caller = any_caller();
    if (caller.views.empty()) return;
    auto& [id, view] =
        *std::next(caller.views.begin(), static_cast<ptrdiff_t>(below(caller.views.size())));
    if (!view.holds) return;
    calls_.push_back(std::make_unique<Call>());
    Call& call = *calls_.back();
    call.retries_left = static_cast<int32_t>(below(4)) - 1;
    call.infinite = call.retries_left < 0;
    call.runs_allowed = 1 + std::max(call.retries_left, 0);
    const bool ready = below(3) != 0;
    if (!view.connected) {
      view.connected = true;
      registry_.connect(id, caller.id, effects_);
      carry_out();
    }
    if (view.queue.submit(call, ready, call.retries_left != 0) != Fate::kWaits) {
      call.ended = true;
      return;
    }
    if (!ready) unready_.push_back({&call, &view, &caller});
    push(caller, view);
  }

  void make_ready() {
    if (unready_.empty()) return;
    const auto at = unready_.begin() + static_cast<ptrdiff_t>(below(unready_.size()));
    const auto [call, view, caller] = *at;
    unready_.erase(at);
    if (call->ended) return;
    if (below(10) == 0) {  // Its argument is an error.
      view->queue.withdraw(*call);
      call->ended = true;
    } else {
      view->queue.on_ready(*call);
    }
    push(*caller, *view);
    fail_unavailable(*view);
  }

  void push(Caller& caller, View& view) {
    while (CallNode* node = view.queue.next()) {
      Call& call = static_cast<Call&>(*node);
      view.queue.on_sent(call);
      call.started = false;
      rings_[{caller.id, view.channel}].calls.push_back(&call);
    }
  }

  void place() {
    for (const ObjectId id : ids_) {
      const auto* actor = registry_.find(id);
      if (actor == nullptr || actor->phase != Phase::kPlacing || below(2) == 0) continue;
      registry_.on_placed(id, ProcessId{++last_worker_});
      return;
    }
  }

  void construct(bool fails, bool may_die) {
    for (const ObjectId id : ids_) {
      const auto* actor = registry_.find(id);
      if (actor == nullptr || actor->phase != Phase::kCreating) continue;
      if (fails) {
        registry_.on_constructor_failed(actor->worker, "raised", {}, effects_);
      } else if (may_die && below(5) == 0) {
        return worker_dies(actor->worker);
      } else {
        made_.insert(id);
        registry_.on_created(actor->worker, effects_);
      }
      return carry_out();
    }
  }

  // Some actor starts the next call of somebody, and finishes it or dies.
  void execute(bool may_die) {
    for (auto& [key, ring] : rings_) {
      const auto& [caller, worker] = key;
      const ObjectId id = registry_.actor_of(worker);
      if (ring.calls.empty() || id.is_nil() || below(2) == 0) continue;
      Call& call = *ring.calls.front();
      ring.calls.pop_front();
      call.started = true;
      // What killed one worker kills the next one, too, as often as not.
      const bool dies = may_die && below(call.runs == 0 ? 6 : 2) == 0;
      ++call.runs;
      View& view = callers_[number(caller) - 1].views.at(id);
      EXPECT_TRUE(call.infinite || call.runs <= call.runs_allowed);
      if (view.in_order) {
        EXPECT_GE(call.sequence, view.last_started);
        view.last_started = call.sequence;
      }
      if (dies) {
        lost_.push_back(&call);
        worker_dies(worker);
      } else {
        ring.results.push_back(&call);
      }
      return;
    }
  }

  void worker_dies(ProcessId worker) {
    registry_.on_worker_died(worker, "killed", effects_);
    carry_out();
    tell_peers(worker);
  }

  void tell_peers(ProcessId worker) {
    if (!gone_.insert(worker).second) return;
    for (Caller& caller : callers_) {
      if (!rings_.contains({caller.id, worker})) continue;
      caller.messages.push_back({Message::kPeerDied, {}, worker});
    }
  }

  void kill() {
    if (ids_.empty()) return;
    registry_.kill(ids_[below(ids_.size())], below(2) == 0, effects_);
    carry_out();
  }

  void drop_handle() {
    Caller& caller = any_caller();
    for (auto& [id, view] : caller.views) {
      if (!view.holds || view.queue.pending() > 0 || below(3) != 0) continue;
      view.holds = false;
      if (view.connected) registry_.disconnect(id, caller.id);
      if (!is_held(id)) registry_.on_unreachable(id, effects_);
      return carry_out();
    }
  }

  // Its calls end with it, and another takes its place.
  void caller_dies(Caller& caller) {
    for (auto& [id, view] : caller.views) {
      for (const auto* list :
           {&view.queue.line(), &view.queue.unready(), &view.queue.in_flight()}) {
        while (!list->empty()) {
          Call& call = static_cast<Call&>(*list->front());
          if (list == &view.queue.in_flight()) {
            view.queue.on_done(call);
          } else {
            view.queue.withdraw(call);
          }
          call.ended = true;
        }
      }
      view.holds = view.connected = false;
      view.channel = ProcessId{};
    }
    std::erase_if(rings_, [&](const auto& ring) { return ring.first.first == caller.id; });
    caller.messages.clear();
    registry_.on_process_gone(caller.id);
    for (const ObjectId id : ids_) {
      const auto* actor = registry_.find(id);
      if (actor != nullptr && !actor->unreachable && !is_held(id)) {
        registry_.on_unreachable(id, effects_);
      }
    }
    carry_out();
  }

  bool is_held(ObjectId id) const {
    return std::ranges::any_of(callers_, [&](const Caller& one) { return one.views.at(id).holds; });
  }

  void carry_out() {
    for (const Effect& effect : std::exchange(effects_, {})) {
      if (const auto* to = std::get_if<Introduce>(&effect)) {
        rings_[{to->caller, to->worker}];
        tell(to->caller, {Message::kReached, to->actor, to->worker});
      } else if (const auto* lost = std::get_if<TellRestarting>(&effect)) {
        tell(lost->caller, {Message::kLost, lost->actor, {}});
      } else if (const auto* dead = std::get_if<TellDead>(&effect)) {
        tell(dead->caller, {Message::kDead, dead->actor, {}});
      } else if (const auto* exit = std::get_if<AskToExit>(&effect)) {
        dying_.push_back(exit->worker);
      } else if (const auto* killed = std::get_if<KillWorker>(&effect)) {
        dying_.push_back(killed->worker);
      } else if (const auto* dismissed = std::get_if<DismissWorker>(&effect)) {
        // Whatever worker it had is killed, and its peers hear of that.
        dismissed_.push_back(dismissed->actor);
      }
    }
    while (!dying_.empty()) {
      const ProcessId worker = dying_.front();
      dying_.pop_front();
      worker_dies(worker);
    }
    for (const ObjectId id : std::exchange(dismissed_, {})) {
      for (const auto& [key, ring] : rings_) {
        const ProcessId worker = key.second;
        if (homes_.contains(worker) && homes_.at(worker) == id &&
            registry_.actor_of(worker).is_nil()) {
          tell_peers(worker);
        }
      }
    }
  }

  void tell(ProcessId caller, Message message) {
    if (message.kind == Message::kReached) homes_[message.worker] = message.actor;
    callers_[number(caller) - 1].messages.push_back(message);
  }

  void read_something(Caller& caller) {
    if (below(2) == 0 && !caller.messages.empty()) return read_message(caller);
    for (auto& [key, ring] : rings_) {
      if (key.first == caller.id && !ring.results.empty()) return read_result(caller, key.second);
    }
  }

  void read_result(Caller& caller, ProcessId worker) {
    Ring& ring = rings_.at({caller.id, worker});
    View& view = caller.views.at(homes_.at(worker));
    Call& call = *ring.results.front();
    ring.results.pop_front();
    view.queue.on_done(call);
    call.ended = true;
    push(caller, view);
  }

  void read_message(Caller& caller) {
    const Message message = caller.messages.front();
    caller.messages.pop_front();
    if (message.kind == Message::kPeerDied) return on_peer_died(caller, message.worker);
    View& view = caller.views.at(message.actor);
    if (!view.holds) return;
    switch (message.kind) {
      case Message::kReached:
        view.channel = message.worker;
        view.queue.set_reach(Reach::kOpen);
        return push(caller, view);
      case Message::kLost:
        view.queue.set_reach(Reach::kRestarting);
        return fail_unavailable(view);
      default:
        view.queue.set_reach(Reach::kDead);
        while (view.queue.has_waiting()) {
          const bool in_line = !view.queue.line().empty();
          auto* node = in_line ? view.queue.line().front() : view.queue.unready().front();
          Call& call = static_cast<Call&>(*node);
          view.queue.withdraw(call);
          call.ended = true;
        }
    }
  }

  void on_peer_died(Caller& caller, ProcessId worker) {
    if (!rings_.contains({caller.id, worker})) return;
    while (!rings_.at({caller.id, worker}).results.empty()) read_result(caller, worker);
    View& view = caller.views.at(homes_.at(worker));
    rings_.erase({caller.id, worker});
    if (view.channel != worker) return;
    if (view.queue.reach() == Reach::kOpen) view.queue.set_reach(Reach::kRestarting);
    std::vector<Call*> lost;
    for (auto* node = view.queue.in_flight().front(); node != nullptr; node = node->next) {
      lost.insert(lost.begin(), static_cast<Call*>(node));
    }
    for (Call* call : lost) {
      if (view.queue.on_lost(*call, call->started, call->retries_left) != Fate::kWaits) {
        call->ended = true;
      } else if (call->started && call->retries_left > 0) {
        --call->retries_left;
      }
      if (!call->ended && call->started) view.last_started = 0;  // It runs again.
    }
    view.channel = ProcessId{};
    fail_unavailable(view);
  }

  void fail_unavailable(View& view) {
    while (CallNode* node = view.queue.next_unavailable()) {
      Call& call = static_cast<Call&>(*node);
      view.queue.withdraw(call);
      call.ended = true;
    }
  }

  void check() {
    registry_.check_invariants();
    for (const Caller& caller : callers_) {
      for (const auto& [id, view] : caller.views) {
        view.queue.check_invariants();
        if (view.queue.reach() != Reach::kRestarting) continue;
        EXPECT_TRUE(made_.contains(id)) << "there was no instance yet: its calls wait for one";
        for (const auto* node = view.queue.line().front(); node != nullptr; node = node->next) {
          const auto& call = static_cast<const Call&>(*node);
          EXPECT_TRUE(!call.ready || call.is_retried) << "nobody wants it to wait";
        }
      }
    }
  }

  bool all_ended() const {
    return std::ranges::all_of(calls_, [](const auto& call) { return call->ended; });
  }

  void finish() {
    for (int round = 0; round < 20'000 && !all_ended(); ++round) {
      while (!unready_.empty()) make_ready();
      place();
      construct(false, false);
      execute(false);
      for (Caller& caller : callers_) {
        if (!caller.messages.empty()) read_message(caller);
        read_something(caller);
      }
    }
    EXPECT_TRUE(all_ended());
    for (int round = 0; round < 20'000 && !registry_.all().empty(); ++round) {
      drop_handle();
      place();
      construct(false, false);
    }
    check();
    EXPECT_TRUE(registry_.all().empty());
  }

  struct Unready {
    Call* call;
    View* view;
    Caller* caller;
  };

  std::mt19937_64 random_;
  ActorRegistry registry_{ActorRegistry::Options{}};
  Effects effects_;
  std::vector<Caller> callers_;
  std::vector<ObjectId> ids_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Unready> unready_;
  std::vector<Call*> lost_;
  std::map<std::pair<ProcessId, ProcessId>, Ring> rings_;
  std::set<ObjectId> made_;              // Of which there has been an instance.
  std::map<ProcessId, ObjectId> homes_;  // Of workers that somebody was introduced to.
  std::set<ProcessId> gone_;
  std::deque<ProcessId> dying_;
  std::vector<ObjectId> dismissed_;
  uint64_t last_id_ = 0;
  uint32_t last_worker_ = 100;
};

TEST(ActorsRandom, every_call_ends_in_order_and_not_too_often) {
  const char* fixed = std::getenv("MOBULA_SEED");
  const uint64_t first = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : 1;
  const uint64_t last = fixed != nullptr ? first : kSeeds;
  for (uint64_t seed = first; seed <= last && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("replay with MOBULA_SEED=" + std::to_string(seed));
    World(seed).run();
  }
}

}  // namespace
}  // namespace mobula::actors
