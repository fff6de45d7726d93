// RuntimeImpl: waiting. One waiting thread at a time reads for all (`reader_`); the others are parked on
// futexes of their own and one of them takes over when the reader leaves.
//
// The reader looks for news for a microsecond, then yields and looks for up to 50 us if such looking has
// paid off lately (credit), then sleeps on the process's bell. Figures and reasons: HOTPATH R1-R4, kept
// in docs/decisions/waiting.md.

#include <sched.h>

#include <algorithm>
#include <cstring>

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr Duration kPause = microseconds(1);
constexpr Duration kLookMax = microseconds(50);
constexpr Duration kAwayMax = microseconds(20);  // A longer yield: this CPU is wanted.
constexpr Duration kKeepInterpreter = microseconds(20);
constexpr Duration kBlockedAfter = milliseconds(1);  // Then a worker gives its CPUs back.
constexpr Duration kSleepMax = milliseconds(100);    // Ctrl-C is looked for at least this often.
constexpr Duration kFlushEvery = milliseconds(1);    // While frames wait for room in a ring.
constexpr Duration kKeepSegments = std::chrono::seconds(5);
constexpr Duration kContended =
    milliseconds(1);  // So long for the interpreter's lock: others compute.
constexpr Duration kHeldLookMax =
    microseconds(200);  // Looking for news without letting others compute.
constexpr int64_t kHeldCreditMax = 1000;
constexpr int64_t kCreditMax = 100;
constexpr int64_t kCreditMin = -4000;

void relax() { __builtin_ia32_pause(); }

// How long a thread may keep the interpreter's lock and look, seen what it costs to get it back.
Duration held_look_max(Duration interpreter_wait) {
  return std::clamp(interpreter_wait / 16, kLookMax, kHeldLookMax);
}

bool is_error_of(const Object& object) { return wire::is_error(object.value.kind()); }

}  // namespace

bool RuntimeImpl::satisfied(const Waiter& waiter) const {
  if (waiter.for_notified) {
    return !notifications_.ready.empty() || notifications_.pending == 0 || !disconnected_.empty();
  }
  if (waiter.for_room != nullptr) return may_yield(*waiter.for_room);
  if (waiter.for_task) {
    return has_call(waiter.group) || exit_asked_ || !disconnected_.empty() ||
           (execution_.retiring && may_exit());
  }
  return waiter.remaining <= 0;
}

// With the lock: a waiter's condition may have become true.
void RuntimeImpl::satisfy(Waiter& waiter) {
  if (--waiter.remaining > 0) return;
  if (waiter.parked) {
    waiter.word.store(1);
    deferred().words.push_back(&waiter.word);
  } else if (&waiter == reader_) {
    // The reader is us, or it sleeps and the link or reader thread has its value.
    poke_reader();
  }
}

Waited RuntimeImpl::wait(std::span<Object* const> objects, size_t needed,
                         std::optional<Instant> deadline, Gate& gate) {
  const bool ends_at_error = needed == kAllOrAnError;
  if (ends_at_error) needed = objects.size();
  const bool is_wait = (needed & kOfWait) != 0;
  needed &= ~kOfWait;
  size_t ready = 0;
  for (const Object* object : objects) {
    if (!object->is_ready()) continue;
    if (++ready >= needed || (ends_at_error && is_error_of(*object))) return Waited::kEnough;
  }
  Locked lock(*this);
  ++waits_;
  pump();
  request_values(objects);
  std::vector<WaitNode> nodes(objects.size());
  Waiter waiter;
  size_t pending = 0;
  ready = 0;
  for (Object* object : objects) {
    if (object->is_ready()) {
      ready = ends_at_error && is_error_of(*object) ? needed : ready + 1;
      continue;
    }
    WaitNode& node = nodes[pending++];
    node.object = object;
    node.waiter = &waiter;
    node.next = object->waiters;
    if (node.next != nullptr) node.next->previous = &node;
    object->waiters = &node;
  }
  waiter.ends_at_error = ends_at_error;
  waiter.is_wait = is_wait;
  waiter.may_look = true;
  waiter.remaining = static_cast<int64_t>(needed) - static_cast<int64_t>(ready);
  waiter.wants_first = static_cast<size_t>(std::max<int64_t>(waiter.remaining, 0)) < pending;
  const Waited waited = wait_for(waiter, deadline, gate, lock, get_credit_);
  for (size_t i = 0; i < pending; ++i) {
    WaitNode& node = nodes[i];
    if (node.next != nullptr) node.next->previous = node.previous;
    (node.previous != nullptr ? node.previous->next : node.object->waiters) = node.next;
  }
  return waited;
}

// Called with the lock and the interpreter's lock, returns with both. Until it returns the interpreter's
// lock is asked for only to look for signals: who waits for that lock cannot read for others.
Waited RuntimeImpl::wait_for(Waiter& waiter, std::optional<Instant> deadline, Gate& gate,
                             Locked& lock, SpinCredit& credit) {
  bool released = false;
  const auto let_go = [&] {
    if (!std::exchange(released, true)) gate.release();
  };
  Waited outcome = Waited::kEnough;
  const Instant begun = monotonic_now();
  Instant signals_seen = begun;
  HeldLook held{.until = begun + held_look_max(interpreter_wait_)};
  bool gave_up_cpus = false;
  while (true) {
    pump();
    if (satisfied(waiter)) break;
    const Instant now = monotonic_now();
    if (deadline && now >= *deadline) {
      outcome = Waited::kTimeout;
      break;
    }
    if (!released && waiter.may_look && look_held(waiter, held, lock)) continue;
    Slept woken;
    if (reader_ != nullptr && reader_ != &waiter) {
      woken = park(waiter, sleep_limit(deadline, now), lock, let_go);
    } else {
      reader_ = &waiter;
      // The reader thread need not be woken: we read.
      if (bell_->sleeping.load(std::memory_order_relaxed) != 0) bell_->sleeping.store(0);
      lock.unlock();
      if (!look_for_news(credit, gate, released)) {
        let_go();
        lock.lock();
        woken = sleep_on_bell(waiter, deadline, lock, credit);
      } else {
        lock.lock();
      }
    }
    if (!woken) continue;
    const Instant after = monotonic_now();
    if (!gave_up_cpus && execution_.running && std::this_thread::get_id() == execution_.thread &&
        after - begun >= kBlockedAfter && !satisfied(waiter)) {
      gave_up_cpus = true;
      enter_blocked(waiter);
    }
    if (*woken == shm::Woken::kByBell && after - signals_seen < kSleepMax) continue;
    signals_seen = after;
    lock.unlock();
    gate.acquire();
    released = false;
    const bool stop = gate.interrupted();
    lock.lock();
    if (stop) {
      outcome = Waited::kInterrupted;
      break;
    }
  }
  if (gave_up_cpus) leave_blocked();
  leave_reading(waiter);
  if (released) {
    lock.unlock();
    const Instant asked = monotonic_now();
    gate.acquire();
    lock.lock();
    if (waiter.may_look) interpreter_wait_ += (monotonic_now() - asked - interpreter_wait_) / 4;
  }
  return outcome;
}

// Another thread reads for all. Called and left with the lock.
Slept RuntimeImpl::park(Waiter& waiter, Duration limit, Locked& lock,
                        const std::function<void()>& let_go) {
  waiter.word.store(0);
  waiter.parked = true;
  parked_.push_back(&waiter);
  // The reader does not know yet that our results matter too.
  poke_reader();
  lock.unlock();
  let_go();
  const Slept woken = shm::futex_sleep(waiter.word, 0, limit);
  lock.lock();
  waiter.parked = false;
  std::erase(parked_, &waiter);
  return woken;
}

// With the lock: the thread that sleeps on the bell has something to see to.
void RuntimeImpl::poke_reader() {
  deferred().bells.push_back({bell_, shm::kOwnBellBit, true});
  poked_ = true;
}

// Called and left with the lock, and with the interpreter's, which it keeps: it looks for news, also
// while another thread reads for all, or sleeps for that. True: there is some.
//
// Else threads that get small results in turn would put each other to sleep, and wait for the
// interpreter's lock after each result. Credit is what the looks have saved lately of such waits.
bool RuntimeImpl::look_held(Waiter& waiter, HeldLook& held, Locked& lock) {
  const bool beside = reader_ != nullptr && reader_ != &waiter;
  const bool contended = interpreter_wait_ >= kContended;
  if (!beside && !contended) return false;  // Looks as the reader, then.
  const Instant begun = monotonic_now();
  held.over = held.over || begun >= held.until;
  if (held.over || held_look_) return false;
  int64_t& c = held_credit_.microseconds;
  if (c < 0) {
    c += std::max<int64_t>(1, interpreter_wait_ / microseconds(100));
    held.over = true;
    return false;
  }
  held_look_ = true;
  if (!beside) reader_ = &waiter;
  // Nobody need be woken: we look.
  if (bell_->sleeping.load(std::memory_order_relaxed) != 0) bell_->sleeping.store(0);
  lock.unlock();
  bool news = shm::has_news(*bell_);
  for (Instant now = begun; !news && now < held.until; now = monotonic_now()) {
    if (now - begun >= kPause) {
      ::sched_yield();
      // This CPU is wanted. But who lets go of the interpreter's lock now is away for longer.
      if (!contended && monotonic_now() - now > kAwayMax) break;
    }
    for (int i = 0; i < 8 && !news; ++i) {
      relax();
      news = shm::has_news(*bell_);
    }
  }
  news = news || shm::has_news(*bell_);
  lock.lock();
  held_look_ = false;
  if (reader_sleeps_) {
    // It is to be told of what comes from now on, and of what it was to see to meanwhile.
    bell_->sleeping.store(1);
    if (poked_) poke_reader();
    news = news || shm::has_news(*bell_);
  }
  if (news) {
    c = std::min(c + std::max<int64_t>(15, interpreter_wait_ / microseconds(2)), kHeldCreditMax);
  } else {
    held.over = true;
    const Duration took = monotonic_now() - begun;
    const Duration counted = contended ? std::min(took, kHeldLookMax) : took;
    c = std::max(std::min<int64_t>(c, 0) - 4 * (counted / microseconds(1)), kCreditMin);
  }
  return news;
}

void RuntimeImpl::leave_reading(const Waiter& waiter) {
  if (reader_ != &waiter) return;
  reader_ = nullptr;
  if (!parked_.empty()) {
    parked_.front()->word.store(1);
    deferred().words.push_back(&parked_.front()->word);
  } else if (unfinished_ != 0 || dispatcher_.next_deadline()) {
    wake_reader_thread();
  }
}

// HOTPATH R1, up to the sleep. Without the lock; keeps the interpreter's lock for its first 20 us.
// True if there is some.
bool RuntimeImpl::look_for_news(SpinCredit& credit, Gate& gate, bool& released) {
  int64_t& c = credit.microseconds;
  const auto gained = [&] { c = std::min<int64_t>(c + 15, c < 0 ? 0 : kCreditMax); };
  if (shm::has_news(*bell_)) return true;
  Instant begun = monotonic_now();
  Instant now = begun;
  while (now - begun < kPause) {
    for (int i = 0; i < 8; ++i) relax();
    if (shm::has_news(*bell_)) {
      gained();
      return true;
    }
    now = monotonic_now();
  }
  while (c >= 0) {
    if (!released && now - begun > kKeepInterpreter) {
      released = true;
      gate.release();
      if (shm::has_news(*bell_)) {
        gained();
        return true;
      }
      // What the gate did was no time away from this CPU.
      const Instant after = monotonic_now();
      begun += after - now;
      now = after;
    }
    ::sched_yield();
    const Instant after = monotonic_now();
    const Duration away = after - now;
    now = after;
    if (away > kAwayMax) {
      c = std::max(std::min<int64_t>(c, 0) - 4 * (away.count() / 1000), kCreditMin);
      break;
    }
    for (int i = 0; i < 8; ++i) {
      if (shm::has_news(*bell_)) {
        gained();
        return true;
      }
      relax();
    }
    if (now - begun > kLookMax) {
      c = std::min<int64_t>(c, 0) - 4 * (kLookMax.count() / 1000);
      break;
    }
  }
  return shm::has_news(*bell_);
}

Duration RuntimeImpl::sleep_limit(std::optional<Instant> deadline, Instant now) const {
  Duration limit = kSleepMax;
  if (deadline) limit = std::min(limit, *deadline - now);
  if (const auto next = dispatcher_.next_deadline()) limit = std::min(limit, *next - now);
  if (senders_waiting_) limit = std::min(limit, Duration(kFlushEvery));
  if (execution_.running && !execution_.blocked &&
      std::this_thread::get_id() == execution_.thread) {
    limit = std::min(limit, Duration(kBlockedAfter));
  }
  return std::max(limit, Duration(microseconds(50)));
}

// HOTPATH R3: how many results of each channel we want to be woken for.
void RuntimeImpl::publish_wake_positions(const Waiter& waiter) {
  const bool any = waiter.wants_first || !parked_.empty();
  for (auto& [id, channel] : outbound_) {
    if (channel->calls != nullptr) {
      publish_wake_position(waiter, *channel);
      continue;
    }
    const tasks::Lease* lease = dispatcher_.lease_of(id);
    if (lease == nullptr || lease->in_flight.empty()) {
      channel->header().wake_at_result.store(shm::kNeverWake, std::memory_order_relaxed);
      continue;
    }
    uint64_t position = 0;
    uint64_t at = 0;
    for (const tasks::TaskNode* node = lease->in_flight.front(); node != nullptr;
         node = node->next) {
      const Task& task = static_cast<const Task&>(*node);
      ++at;
      const bool needed = std::ranges::any_of(task.returns, [](const Object* object) {
        return object->waiters != nullptr || !object->dependents.empty();
      });
      const bool depended = std::ranges::any_of(
          task.returns, [](const Object* object) { return !object->dependents.empty(); });
      const bool item_needed =
          task.rerun_of() != nullptr || (task.stream && task.stream->has_pending() &&
                                         task.stream->items.back()->waiters != nullptr);
      if (!needed && !item_needed) continue;
      position = at;
      if (any || depended) break;
    }
    if (dispatcher_.has_queued()) {  // Refill while a quarter is left.
      const uint64_t refill = std::max<uint64_t>(1, lease->in_flight.size() * 3 / 4);
      position = position == 0 ? refill : std::min(position, refill);
    }
    channel->header().wake_at_result.store(
        position == 0 ? shm::kNeverWake : channel->results_seen + position,
        std::memory_order_relaxed);
  }
}

// Called and left with the lock. Nothing: it did not sleep.
Slept RuntimeImpl::sleep_on_bell(const Waiter& waiter, std::optional<Instant> deadline,
                                 Locked& lock, SpinCredit& credit) {
  if (satisfied(waiter)) return std::nullopt;
  publish_wake_positions(waiter);
  const Instant begun = monotonic_now();
  const Duration limit = sleep_limit(deadline, begun);
  const uint32_t sequence = shm::prepare_sleep(*bell_);
  poked_ = false;
  reader_sleeps_ = true;
  lock.unlock();
  if (shm::has_news(*bell_)) {
    shm::cancel_sleep(*bell_);
    lock.lock();
    reader_sleeps_ = false;
    return std::nullopt;
  }
  const shm::Woken woken = shm::sleep(*bell_, sequence, limit);
  const Duration slept = monotonic_now() - begun;
  int64_t& c = credit.microseconds;
  if (c < 0) {
    // Two half microseconds make one: long sleeps earn back slowly, short ones fast.
    static thread_local int halves = 0;
    if (slept < kLookMax) {
      c = std::min<int64_t>(c + 10, 0);
    } else if (++halves % 2 == 0) {
      c = std::min<int64_t>(c + 1, 0);
    }
  }
  lock.lock();
  reader_sleeps_ = false;
  if (woken != shm::Woken::kByBell) shm::cancel_sleep(*bell_);
  return woken;
}

// This worker waits inside a task: its CPUs can be used, and what is queued behind it is taken back.
void RuntimeImpl::enter_blocked(const Waiter& waiter) {
  execution_.blocked = true;
  trace_.note_waiting(waiter.is_wait ? shm::WaitsIn::kWait : shm::WaitsIn::kGet);
  uplink_->send([](wire::Builder& builder) { return wire::fb::CreateBlocked(builder); });
  ring_daemon_later();
  if (role_ != nullptr) return;  // What is queued behind this call can run nowhere else.
  if (const auto found = inbound_.find(execution_.channel); found != inbound_.end()) {
    std::vector<std::byte> frame(sizeof(wire::FrameHeader));
    const wire::FrameHeader header{sizeof header, wire::FrameKind::kBlocked, 0};
    std::memcpy(frame.data(), &header, sizeof header);
    send_result_frame(*found->second, std::move(frame));
    ring_later(*found->second, true);
  }
}

void RuntimeImpl::leave_blocked() {
  execution_.blocked = false;
  trace_.note_waiting(shm::WaitsIn::kNothing);
  uplink_->send([](wire::Builder& builder) { return wire::fb::CreateUnblocked(builder); });
  ring_daemon_later();
  if (role_ != nullptr) return;
  if (const auto found = inbound_.find(execution_.channel); found != inbound_.end()) {
    std::vector<std::byte> frame(sizeof(wire::FrameHeader));
    const wire::FrameHeader header{sizeof header, wire::FrameKind::kUnblocked, 0};
    std::memcpy(frame.data(), &header, sizeof header);
    send_result_frame(*found->second, std::move(frame));
    ring_later(*found->second, true);
  }
}

// HOTPATH R4. With nobody in get/wait: ticks while there is activity, takes over reading while work is
// outstanding, sleeps for good after 50 idle ticks.
void RuntimeImpl::run_reader() {
  uint64_t waits_seen = 0;
  int idle_ticks = 0;
  while (!stop_.load()) {
    Locked lock(*this);
    const bool somebody_reads = reader_ != nullptr || waits_ != waits_seen;
    waits_seen = waits_;
    const bool work = unfinished_ != 0 || senders_waiting_ ||
                      dispatcher_.next_deadline().has_value() || dropped_.load() != nullptr;
    if (reader_ == nullptr && work) {
      pump();
    } else {
      drain_dropped();
    }
    if (store_->has_rest()) {
      lock.unlock();
      return_segments(false);  // Until nothing is left; what was seen above is old by then.
      continue;
    }
    const Instant now = monotonic_now();
    if (!work || (reader_ != nullptr && ++idle_ticks > 50)) {
      if (!work && ++idle_ticks <= 50) {
        lock.unlock();
        shm::futex_sleep(reader_word_, reader_word_.load(), milliseconds(1));
        continue;
      }
      const uint32_t word = reader_word_.load();
      reader_asleep_.store(true);
      lock.unlock();
      const bool has_segments = store_->own_segments() > 0;
      const Duration rest = has_segments ? Duration(kKeepSegments) : std::chrono::hours(1);
      const bool idle = !stop_.load() && dropped_.load() == nullptr;
      if (idle) shm::futex_sleep(reader_word_, word, rest);
      reader_asleep_.store(false);
      if (has_segments) return_segments(false);
      idle_ticks = 0;
      continue;
    }
    if (work && reader_ == nullptr) idle_ticks = 0;
    if (somebody_reads) {
      lock.unlock();
      shm::futex_sleep(reader_word_, reader_word_.load(), milliseconds(1));
      continue;
    }
    // Nobody else reads: sleep on the bell until a ring needs refilling or something is depended on.
    Waiter background;
    background.remaining = 1;
    publish_wake_positions(background);
    Duration limit = milliseconds(100);
    if (const auto next = dispatcher_.next_deadline()) limit = std::min(limit, *next - now);
    if (senders_waiting_) limit = std::min(limit, Duration(kFlushEvery));
    const uint32_t sequence = shm::prepare_sleep(*bell_);
    lock.unlock();
    const bool news = shm::has_news(*bell_);
    if (!news && limit > Duration(0)) shm::sleep(*bell_, sequence, limit);
    lock.lock();
    // The flag is another thread's if one reads by now, and perhaps sleeps.
    if (reader_ == nullptr) shm::cancel_sleep(*bell_);
    if (!news) continue;
    lock.unlock();
    // What has come does not need us yet: leave it for a tick, so that it comes in batches.
    shm::futex_sleep(reader_word_, reader_word_.load(), milliseconds(1));
  }
}

void RuntimeImpl::wake_reader_thread() {
  if (!reader_asleep_.load()) return;
  if (!reader_asleep_.exchange(false)) return;
  reader_word_.fetch_add(1);
  deferred().words.push_back(&reader_word_);
}

}  // namespace mobula::process
