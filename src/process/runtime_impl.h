#pragma once
// RuntimeImpl: the Runtime of one process. README.md says which of its parts is in which file;
// what it remembers is in runtime_state.h.
// Threads: see runtime.h. Wake-up calls are collected in Deferred, and made when Locked has unlocked.

#include "process/locked.h"
#include "process/runtime_state.h"
#include "wire/task_spec.h"

namespace mobula::process {

class RuntimeImpl final : public Runtime, private RuntimeState {
 public:
  RuntimeImpl(shm::Fd socket, RuntimeOptions options);
  ~RuntimeImpl() override;

  Result<void> start(Gate& gate);
  bool alive_here() const override;
  NodeId node() const override { return node_; }
  ProcessId process() const override { return process_; }
  JobId job() const override { return job_; }
  std::string session_directory() const override { return session_directory_; }
  std::string job_namespace() const override { return options_.job_namespace; }
  std::string disconnected_reason() const override;
  Function* define_function(std::string_view name, PackedValues pickled, uint16_t group) override;
  uint32_t shape(const ResourceSet& resources, const RuntimeEnvironment& environment,
                 const std::optional<BundleRef>& bundle, const LeaseLimit& limit) override;
  Result<void> submit(const Submission&, PackedValues arguments, std::span<Object*>) override;
  Result<std::shared_ptr<Stream>> submit_generator(const Submission& submission,
                                                   PackedValues arguments,
                                                   std::span<Object*> returns) override;
  Object* next_item(Stream& stream) override;
  bool take_item(Stream& stream, const Object* item) override;
  void abandon_stream(Stream& stream) override;
  bool cancel(Object* object, const Cancel& how) override;

  Result<Object*> create_actor(const ActorCreation& creation, Gate& gate) override;
  Result<Object*> find_actor(const std::string& name, const std::string& space, Gate&) override;
  Result<std::vector<std::pair<std::string, std::string>>> list_actors(
      const std::string& name_space, Gate& gate) override;
  void kill_actor(Object* actor, bool no_restart) override;
  bool is_pending_call(const Object& object, const Object* actor) override;
  Result<PlacementGroupId> create_group(const GroupCreation& creation, Gate& gate) override;
  void remove_group(PlacementGroupId group) override;
  Result<bool> wait_for_group(PlacementGroupId group, Duration patience, Gate& gate) override;
  Result<std::string> groups(Gate& gate) override;
  Result<KeyValueOut> key_value(const KeyValueCall& call, Gate& gate) override;
  BundleRef bundle() override;
  PlacementGroupId captured() const override { return captured_.load(std::memory_order_relaxed); }
  ActorIdentity actor_identity() override;
  LeaseInfo actor_lease() override;
  Object* adopt_object(ObjectId id) override;
  void actor_made(uint32_t groups, const std::string& repr) override;
  void actor_failed(const std::string& text, std::span<const std::byte> error) override;
  void actor_exiting(const std::string& reason) override;
  NextTask next_call(uint32_t group, ClaimedTask& task, Gate& gate) override;
  bool take_calls(uint32_t group, size_t most, Duration look,
                  std::vector<std::unique_ptr<ClaimedTask>>& calls) override;
  bool wait_for_call(uint32_t group) override;
  bool next_cancelled_call(uint64_t& channel, uint64_t& claim_tag) override;
  bool is_cancelled(const ClaimedTask& call) override;
  Object* put(PackedValues value) override;
  Result<StoreWrite> begin_store(size_t size, Gate& gate) override;
  void abandon_store(StoreWrite& write) override;
  Object* put_stored(StoreWrite& write, std::vector<Object*> refs) override;
  void note_call_site(std::span<Object* const> objects, std::string_view site) override;
  void drop(Object* object) override;
  Waited wait(std::span<Object* const> objects, size_t needed, Deadline, Gate& gate) override;
  void notify(Object* object, uint64_t token, uint32_t queue) override;
  LoopQueues& loop_queues() override;
  bool look_briefly(const Object& object, Gate* gate) override;
  bool next_notified(std::vector<uint64_t>& tokens, Deadline deadline) override;
  Result<Pinned> open_stored(const Object& object, Deadline deadline, Gate& gate) override;
  void prefetch(std::span<Object* const> objects) override;
  void unpin(uint64_t pin) override;
  std::optional<PlaceInFile> file_of(uint64_t pin);
  void recover(Object& object, const wire::StoreLocation& location) override;
  Result<Pinned> open_location(const wire::StoreLocation& at, Deadline, Gate& gate) override;
  NextTask next_task(ClaimedTask& task, Gate& gate) override;
  void finish_task(ClaimedTask& task, TaskOutcome outcome) override;
  NextTask finish_and_next(ClaimedTask& task, TaskOutcome, Instant now, Gate& gate) override;
  Waited yield_item(ClaimedTask&, PackedValues item, std::vector<StoreWrite>, Gate&) override;
  void retire() override;
  void interrupt_with(int signal) override { execution_.signal = signal; }
  Interrupt take_interrupt() override;
  bool is_past_time_limit() const override;
  OutputLabel& output_label() override { return output_label_; }
  bool next_log_lines(std::vector<LogLine>& lines) override;
  Result<std::vector<std::pair<std::string, double>>> cluster_resources(Gate& gate) override;
  Result<std::vector<std::pair<std::string, double>>> available_resources(Gate& gate) override;
  Result<std::vector<NodeInfo>> nodes(Gate& gate) override;
  Result<std::vector<TraceEventOut>> timeline(Gate& gate) override;
  Result<StateOut> state(const StateRequest& request, Gate& gate) override;
  shm::MetricsWriter& metrics() override { return trace_.metrics(); }
  bool leave(Gate& gate) override;
  std::string debug_state() override;
  Result<bool> has_value(ObjectId id, Gate& gate) override;
  std::optional<wire::StoreLocation> location(const Object& object) override;

 private:
  void wait_until(Locked& lock, const std::function<bool()>& is_out);
  // lifecycle.cc
  Result<void> say_hello();
  Result<void> accept_welcome(const wire::fb::Welcome& welcome, std::vector<shm::Fd> fds);
  void run_link();
  void run_reader();
  void disconnect(const std::string& reason);
  void fail_everything(std::span<const std::byte> error);
  void free_everything();
  void wake_reader_thread();
  // link.cc: each with the lock held.
  void on_packet(const wire::fb::ToProcess& message, std::vector<shm::Fd> fds);
  void on_channel_opened(const wire::fb::ChannelOpened& message, std::vector<shm::Fd> fds);
  void on_lease_granted(const wire::fb::LeaseGranted& message);
  void on_peer_died(const wire::fb::PeerDied& message);
  void on_value_arrived(const wire::fb::ValueArrived& message);
  void on_log_lines(const wire::fb::LogLines& message);
  void on_infeasible(const wire::fb::Infeasible& message);
  void fail_queued(uint32_t shape, wire::SystemErrorCode code, std::string_view why);
  void on_answer(const wire::fb::Answer& message, std::vector<shm::Fd> fds);
  bool on_group_packet(const wire::fb::ToProcess& message);
  void lose_tasks(OutboundChannel& channel, const wire::fb::PeerDied& message);
  void retire(std::unique_ptr<ChannelEnd> channel);
  bool try_later(Task& task, const wire::fb::PeerDied& message);
  void resume_delayed();

  // cancel.cc, time_limit.cc, stream.cc
  void watch_time_limit(const ClaimedTask* task, Locked& lock);
  void run_clock();
  void enforce_time_limits(bool of_own_tasks);
  bool cancel_task(Task& task, const Cancel& how);
  static bool has_started(const Task& task);
  void cancel_children(uint64_t parent, bool recursive);
  void withhold(Task& task);
  void on_cancel_task(const wire::fb::CancelTask& message);
  void on_cancel_object(const wire::fb::CancelObject& message);
  Result<void> on_yield_frame(OutboundChannel& channel, std::span<const std::byte> frame);
  Object& arriving_item(Stream& stream);
  void collect_items(Task& task);
  void finish_stream(Task& task, std::span<const std::byte> error);
  void tell_consumed(const Stream& stream);
  bool may_yield(const ClaimedTask& task) const;

  // actors.cc
  Result<void> check_pending(const Submission& submission, const PackedValues& arguments);
  Result<void> launch_call(Task& task, const Submission& submission);
  ActorCalls& calls_of(Object& actor, const Submission& submission);
  void start_call(Task& task);
  void send_calls(ActorCalls& calls);
  bool push_call(Task& task, ActorCalls& calls);
  void reclaim_started(OutboundChannel& channel);
  void lose_calls(OutboundChannel& channel, const wire::fb::PeerDied& message);
  void fail_waiting_calls(ActorCalls& calls, std::span<const std::byte> error);
  void fail_unavailable_calls(ActorCalls& calls);
  void forget_calls(Object& object);
  bool on_actor_packet(const wire::fb::ToProcess& message);
  void on_actor_reached(const wire::fb::ActorReached& message);
  void on_actor_lost(const wire::fb::ActorLost& message);
  void on_actor_dead(const wire::fb::ActorDead& message);
  void on_actor_answer(const wire::fb::ActorAnswer& message);
  ActorCalls* known_calls(const wire::fb::ObjectId* actor);
  Result<Object*> wait_for_actor(uint64_t request, Question& question, Locked& lock, Gate& gate);
  // actor_role.cc
  void on_actor_become(const wire::fb::ActorBecome& message);
  bool take_stashed(uint32_t group, ClaimedTask& task);
  bool take_of_group(uint32_t group, ClaimedTask& task);
  bool has_call(uint32_t group) const;
  Result<uint32_t> group_of(const InboundChannel& channel, const wire::TaskHeader& header) const;
  void stash(InboundChannel& channel, std::span<const std::byte> frame, uint32_t group);
  NextTask exit_or(NextTask otherwise) const;
  void wake_for_calls();
  void note_running(ClaimedTask& task);

  // submit.cc
  void send_task_frame(Task& task, OutboundChannel& channel, uint32_t epoch);
  Result<Task*> make_task(const Submission& submission, PackedValues arguments,
                          std::span<Object*> returns);
  void launch(Task& task);
  uint32_t shape_for(const Submission& submission);
  bool resolve_arguments(Task& task);
  void start_task(Task& task);
  bool make_ready_to_push(OutboundChannel& channel, Task& task, bool function_is_new);
  void push_task(Task& task, tasks::Lease& lease);
  void wake_for(OutboundChannel& channel, uint64_t in_flight);
  void announce_lease(OutboundChannel& channel, const tasks::Lease& lease, uint32_t shape);
  void start_startable();
  void announce_function(OutboundChannel& channel, Function& function);
  void fail_task(Task& task, std::span<const std::byte> error);
  void fail_dependent(Task& task, const Object& argument);
  void finish_returns(Task& task);
  void free_task(Task& task);
  void link_task(Task& task);
  void unlink_task(Task& task);

  // pump.cc
  size_t pump();
  void collect_news();
  bool drain_results(OutboundChannel& channel, size_t& budget);
  Result<void> on_result_frame(OutboundChannel& channel, std::span<const std::byte> frame);
  Result<void> complete_returns(OutboundChannel& channel, Task& task,
                                const wire::ResultHeader& header,
                                std::span<const std::byte> values);
  void complete_plainly(Task& task, std::span<const std::byte> value, bool failed);
  void close_parcel(ProcessId callee, CallId parcel, std::span<Object* const> objects,
                    std::vector<std::vector<ObjectId>> refs);
  void fail_cancelled(Task& task);
  void cut_off(ChannelEnd& channel, const std::string& reason);
  void settle();
  void carry_out();
  void tell_shape(uint32_t shape, uint32_t target);
  void audit(Instant now);  // audit.cc
  void flush_senders();
  void ring_later(ChannelEnd& channel, bool wake);
  void wake_later(ChannelEnd& channel);
  void ring_daemon_later();
  Deferred& deferred() { return *deferred_; }

  // wait.cc
  bool satisfied(const Waiter& waiter) const;
  Waited wait_for(Waiter& waiter, Deadline, Gate& gate, Locked& lock, SpinCredit& credit);
  bool look_for_news(SpinCredit& credit, Gate& gate, bool& released);
  void publish_wake_positions(const Waiter& waiter);
  void publish_wake_position(const Waiter& waiter, OutboundChannel& channel);
  bool look_held(Waiter& waiter, HeldLook& held, Locked& lock);
  Slept park(Waiter& waiter, Duration limit, Locked& lock, const std::function<void()>& let_go);
  void poke_reader();
  Slept sleep_on_bell(const Waiter& waiter, Deadline, Locked& lock, SpinCredit& credit);
  Duration sleep_limit(std::optional<Instant> deadline, Instant now) const;
  void leave_reading(const Waiter& waiter);
  void enter_blocked(const Waiter& waiter);
  void leave_blocked();
  void satisfy(Waiter& waiter);

  // worker.cc
  bool may_exit() const;
  bool goes_straight_on(Instant now);
  NextTask wait_for_task(ClaimedTask& task, Gate& gate, Locked& lock);
  void start(ClaimedTask& task, Instant now, Locked& lock);
  void finish(ClaimedTask& task, TaskOutcome& outcome, Instant now);
  bool take_task(ClaimedTask& task, uint32_t group = 0);
  Result<bool> take_from(InboundChannel& channel, ClaimedTask& task, uint32_t group);
  Result<void> on_function_frame(InboundChannel& channel, std::span<const std::byte> frame);
  Result<bool> on_task_frame(InboundChannel& channel, const wire::TaskHeader& header,
                             std::span<const std::byte> frame, ClaimedTask& task);
  Result<void> on_lease_start(InboundChannel& channel, std::span<const std::byte> frame);
  bool hand_over(InboundChannel& channel, CallId parcel, const PackedValues& results,
                 std::span<StoreWrite> stored);
  void send_parcel(InboundChannel& channel, CallId parcel, const PackedValues& results,
                   std::span<const StoreWrite> stored);
  void publish_result(InboundChannel& channel, std::span<std::byte> header,
                      const PackedValues& results);
  void send_result_frame(InboundChannel& channel, std::vector<std::byte> frame);
  void drop_result(ClaimedTask& task, const PackedValues& results, std::vector<StoreWrite>& stored);
  std::vector<Object*> receive_refs(std::span<const std::byte> values, uint32_t count);

  Object* new_object();  // objects.cc
  void complete(Object& object, std::span<const std::byte> value, std::vector<Object*> inner);
  void tell_waiters(Object& object);
  void tell(uint32_t queue, uint64_t token);
  void release(Object* object);
  void free_object(Object& object);
  void drain_dropped();
  Object* known_object(ObjectId id);  // With a count for the caller; made if unknown.
  void share(std::span<Object* const> roots);
  void share_one(Object& object);
  void share_inner(Object& object);
  void free_stored_bytes(Object& object);
  void discard_store(StoreWrite& write);
  void prepare_to_send(std::span<Object* const> refs);
  void request_values(std::span<Object* const> objects);
  std::span<const ObjectId> send_refs_ahead(std::span<const ObjectId> refs);
  void send_records(const objects::UplinkRecords& records);

  // stored.cc
  void start_store();
  Result<void> ask_segment(const NeedSegment& need, Question& question, Locked& lock, Gate& gate);
  Result<void> ask_open(SegmentId segment, Locked& lock, Gate& gate);
  Result<void> ask_place(const wire::StoreLocation& value, Deadline, Locked& lock, Gate& gate);
  void on_stored_at(const wire::fb::StoredAt& message);
  void on_extents_freed(const wire::fb::ExtentsFreed& message);
  void serve_waiting();
  void share_private(uint64_t bytes);
  void seal_store(StoreWrite& write);
  void give_away_bytes(const Object& object);
  bool on_store_packet(const wire::fb::ToProcess& message, std::vector<shm::Fd>& fds);
  void on_segment_granted(const wire::fb::SegmentGranted& message, std::vector<shm::Fd>& fds);
  void on_segment_opened(const wire::fb::SegmentOpened& message, std::vector<shm::Fd>& fds);
  void answer_question(uint64_t request, std::string error);
  void answer_opening(SegmentId segment, const std::string& error);
  void return_segments(bool wanted);

  // queries.cc, live_state.cc, live_objects.cc, estate.cc
  Result<Question> ask(wire::fb::QueryKind kind, Gate& gate, const StateRequest& request = {});
  void answer_state_wanted(const wire::fb::StateWanted& message);
  void look_at_objects(LiveObjects& objects);
  std::vector<std::byte> spec_of(const Task& task) const;
  void on_adopt(const wire::fb::Adopt& message);
  uint32_t adopted_shape(const wire::TaskSpecView& spec);
  Task* adopt_task(ObjectId object, std::span<const std::byte> spec);
  Function* adopted_function(std::string_view name, std::span<const std::byte> pickled,
                             std::vector<Object*> refs);

  // lineage.cc, items.cc
  void remember(Task& task);
  void remember_again(Task& task);
  void forget_result(ObjectId id);
  void complete_original(const Object& proxy);
  void forget_task(Task& task, objects::Rebuild why = objects::Rebuild::kNoRetries);
  void rest_task(Task& task);
  void settle_lineage();
  bool hibernate(Object& object, objects::UplinkRecords& records);
  void delete_if_unwanted(Object& object);
  void wake(Object& argument);
  void wake_inner(Object& object, std::vector<Object*>& open);
  void make_again(Object& object);
  Task* kept_task_of(ObjectId result);
  void prepare_rerun(Task& task);
  void give_return(Task& task, Object& object);
  void start_reruns();
  bool on_lineage_packet(const wire::fb::ToProcess& message);
  void on_rebuild_object(const wire::fb::RebuildObject& message);
  void on_revived(const wire::fb::Revived& message);
  void on_objects_dropped(const wire::fb::ObjectsDropped& message);
  void make_private(Object& object);
  void free_lineage();
  objects::Rebuild keep_item(Task& task, Object& item, uint64_t number);
  void rest_generator(Task& task);
  void want_item(Task& task, Object& object);
  void run_again(Task& task);
  Object* take_rerun_item(Task& run, uint64_t number, bool is_error);
  void end_rerun(Task& run, std::span<const std::byte> error);
  Result<void> wait_for_answer(uint64_t request, Question&, Locked&, Gate&, ErrorCode refused);
};

}  // namespace mobula::process
