// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Worker: the role, and the API that training programs call.
//
//   worker.join();                                    // the job is complete, servers are connected
//   worker.declare({{key, spec, gradients, parameters}, …});   // parameters now hold the initial
//   values for (Round round = 1; …; ++round) {
//     … fill gradients …
//     worker.push_pull(key, round);                   // buffers are lent until wait() returns OK
//     worker.wait(key, round);                        // parameters hold the result of the round
//   }
//   worker.leave();
//
// join, declare, remove, barrier, share are collective: every worker makes the same calls in the
// same order. Each exists as begin_…(), which returns a Ticket at once, and as a blocking call.
//
// Threads: the public functions from any thread, except start() and the Loop functions, which
// belong to whoever runs the control loop. Calls on one key: from one thread at a time. Errors:
// every wait ends by its deadline, with kTimeout naming what is missing. A lost peer ends every
// call that needed it with kPeerLost naming it. After failure() the worker takes no more calls.

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/protocol/limits.h"
#include "engine/protocol/shard_map.h"
#include "engine/runtime/links.h"
#include "engine/runtime/loop.h"
#include "engine/runtime/notes.h"
#include "engine/runtime/redial.h"
#include "engine/runtime/region_cache.h"
#include "engine/worker/worker_lane.h"
#include "kernels/table.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

struct WorkerOptions {
  std::string scheduler_address;  // of its control hub
  std::string name;               // "host:pid", for people
  Rank rank = kAnyRank;
  Incarnation incarnation = 0;          // the device's
  TimeNs detect_ns = kDefaultDetectNs;  // until the roster says otherwise
  TimeNs call_timeout_ns = kDefaultCallTimeoutNs;
  MessageReceiver* messages = nullptr;  // outlives the worker; nullptr: no open messages
  NoteReceiver* notes = nullptr;        // outlives the worker; nullptr: notes to it are dropped
  RegionCache::KindOf kind_of = {};     // of buffers that are lent; empty: all are host memory
};

// A tensor and the caller's buffers for it: contiguous elements in the spec's dtypes, of exactly
// gradient_bytes() and parameter_bytes(), in host memory or, over verbs, in a GPU's: kernels may
// read the parameters once wait() or finished() said that the round is over. They stay registered,
// and must live, until remove() or the end of the worker.
struct Tensor {
  Key key = 0;
  TensorSpec spec;
  std::span<std::byte> gradients;
  std::span<std::byte> parameters;
  // Read the parameters in the servers' memory, with view(), instead of receiving a copy: on one
  // host and where the transport maps memory, or declare() fails with kUnsupported. `parameters`
  // may then be empty, except on worker 0 when it brings the initial values.
  bool view = false;
};

// Some of a tensor's parameters where the server keeps them, in the spec's parameter dtype.
struct ParameterPiece {
  std::uint64_t first_element = 0;
  std::span<const std::byte> bytes;
};

using Ticket = std::uint64_t;

class Worker final : public Loop, private LinkHandler {
 public:
  Worker(const Clock& clock, Device& device, ControlHub& hub, const KernelTable& kernels,
         LaneHost& host, WorkerOptions options);
  ~Worker() override;

  // Connects to the scheduler; join() waits for the rest. Call once, before the first run_once().
  Status start();

  // ---- memory ----

  // Zeroed memory, registered: servers on this host read gradients in it where they are, and
  // tensors in it need no registration of their own. Lives until the last reference and the last
  // key in it are gone.
  Result<std::shared_ptr<const MemoryRegion>> allocate(std::size_t bytes);
  // Registers memory of the caller's once, for all tensors that will lie in it. It must live until
  // the last reference and the last key in it are gone.
  Result<std::shared_ptr<const MemoryRegion>> register_memory(std::span<std::byte> bytes);
  std::uint64_t registrations() const { return regions_.registrations(); }

  // ---- calls of a training program ----

  Status join();
  // Initial values are in the parameter buffers when it returns. kMismatch if workers disagree,
  // kAlreadyExists for a declared key: to change a key, remove it first.
  Status declare(std::vector<Tensor> tensors);
  Status remove(std::vector<Key> keys);  // no round of them may be running
  Status barrier();
  // Gives everybody the bytes of worker `root`, through the scheduler: `bytes` is what root gives
  // and what the others receive, 1 byte to kMaxShareBytes. For keys and addresses, such as NCCL's
  // unique id. kMismatch naming both if workers disagree about the name, the root or the size.
  Status share(const std::string& name, std::span<std::byte> bytes, Rank root = 0);
  // Ends this worker's part: others go on without it. No round may be running.
  Status leave();

  Ticket begin_declare(std::vector<Tensor> tensors);
  Ticket begin_remove(std::vector<Key> keys);
  Ticket begin_barrier();
  Ticket begin_share(const std::string& name, std::span<std::byte> bytes, Rank root = 0);  // lent
  Ticket begin_leave();
  Ticket join_ticket() const { return kJoinTicket; }
  std::optional<Status> poll(Ticket ticket);  // set once when done; then the ticket is gone
  Status wait(Ticket ticket);                 // the calls' own deadlines end it

  // Starts round `round` of the key: 1, 2, 3, … one at a time. Returns at once; the gradients must
  // not change and the parameters not be read until the round is finished. Where the key's
  // not_finite policy is skip or fail, the gradients are read through first.
  // kInvalidArgument for a wrong round, kNotFound for an unknown key, kExhausted when too many
  // rounds are started at once.
  Status push_pull(Key key, Round round);
  // The same with nothing to add: counts as this worker's contribution, receives the parameters.
  Status push_nothing(Key key, Round round);
  Result<bool> finished(Key key, Round round);  // a failed round is finished, too
  // kNotFinite when some worker's gradient ended the round (NotFinite::kFail): parameters and state
  // are those from before, and the next round goes on as usual. Its number counts as a step, in
  // bias corrections and schedules, like that of any round.
  Status wait(Key key, Round round, TimeNs deadline_ns);  // on the clock
  Status wait(Key key, Round round) { return wait(key, round, call_deadline_ns()); }

  // The parameters of a key declared with `view`, from the first element to the last: what the
  // last finished round left. They hold still until this worker starts the next round of the key,
  // and stay readable until remove(). kNotFound, or kInvalidArgument for a key without a view.
  Result<std::vector<ParameterPiece>> view(Key key) const;

  // An open message to a server, exactly once and after those sent to it before on the same channel
  // (any number; channels share the lanes). Returns at once; the parts' bytes must not change until
  // their owner is released, which is when the server has them. After join(). Any thread.
  Status send(Rank server, std::uint32_t channel, OpenMessage&& message);
  // See engine/runtime/notes.h. After join(). Any thread.
  Status send_note(Note&& note);

  // Rounds of keys that skip or fail to which this worker brought a gradient that is not finite.
  std::uint64_t not_finite() const { return not_finite_.load(std::memory_order_relaxed); }

  std::optional<Status> failure() const;
  Rank rank() const;  // after join()
  std::uint32_t workers() const;
  std::uint32_t servers() const;
  std::uint64_t slice_bytes() const;  // of the job; see cut()
  TimeNs call_deadline_ns() const { return clock_.now_ns() + options_.call_timeout_ns; }

  // ---- the control loop ----

  std::size_t run_once() override;
  bool arm() override;
  int fd() const override { return links_.fd(); }
  int device_fd() const override { return device_.fd(); }
  TimeNs next_deadline_ns() const override;
  Waker& waker() override { return waker_; }
  const std::vector<std::unique_ptr<WorkerLane>>& lanes() const { return lanes_; }

 private:
  Status dial_scheduler();
  static constexpr Ticket kJoinTicket = 0;

  struct Operation {
    WaitPoint wait_point;
    std::atomic<bool> done{false};
    Status status;  // written before `done`
  };
  // A collective call on its way, or a leave.
  struct Call {
    Ticket ticket = 0;
    enum class Kind : std::uint8_t {
      kDeclare,
      kRemove,
      kBarrier,
      kShare,
      kLeave
    } kind = Kind::kBarrier;
    std::vector<InflightKey*> keys;
    wire::ShareT share;  // kShare, and where its bytes go
    std::span<std::byte> bytes;
    TimeNs deadline_ns = 0;
    // kDeclare, after its commit:
    std::uint64_t order = 0;
    Placement placement;
    std::vector<std::vector<LaneGrant>> grants;  // [server][lane]
    std::uint32_t grants_missing = 0;
    std::uint32_t keys_missing = 0;   // not initialised
    std::uint32_t lanes_missing = 0;  // kRemove: lanes that still hold them
  };
  struct LaneLink {  // one data connection
    std::uint32_t attempt = 0;
    ProviderKind provider{};
    TimeNs delay_ns = 0;
    TimeNs retry_ns = kNever;
    bool up = false;
    bool asked = false;
  };
  struct ServerLink {
    Member member;
    std::optional<ChannelId> link;
    std::string route;  // what was last said of the way to it
    bool welcome = false;
    std::vector<LaneLink> lanes;
  };

  // user's threads (worker.cc)
  Ticket begin(Call call);
  Ticket failed_ticket(Status status);
  Result<std::unique_ptr<InflightKey>> make_key(Tensor& tensor);
  Status check_lendable(const Declaration& declaration, const Tensor& tensor) const;
  static Status flush_parameters(const InflightKey& key);
  Status start_round(Key key, Round round, bool nothing);
  Result<InflightKey*> ready_key(Key key) const REQUIRES(mutex_);
  Status global_norm_at_rest(const InflightKey& removed) const REQUIRES(mutex_);
  Status missing(const InflightKey& key, Round round) const;
  bool has_not_finite(const InflightKey& key) const;
  void complete(Ticket ticket, Status status);

  // control loop (worker_control.cc, worker_links.cc)
  void on_link_up(ChannelId link) override;
  void on_message(ChannelId link, wire::MessageT& message) override;
  void on_link_down(ChannelId link, const Status& reason) override;
  void on_scheduler_message(wire::MessageT& message);
  void on_server_message(Rank server, wire::MessageT& message);
  void on_roster(const wire::RosterT& roster);
  Status start_lanes(const wire::RosterT& roster);
  void on_lane_opened(Rank server, wire::LaneOpenedT& opened);
  void on_lane_lost(Rank server, const wire::LaneLostT& lost);
  void lane_down(std::uint32_t lane, const ServerDisconnected& down);
  void send_open_lane(std::uint32_t lane, NextRounds& rounds);
  Result<ProviderKind> choose_route(ServerLink& server);
  std::size_t open_lanes();
  void check_joined();
  void on_commit(const wire::CommitT& commit);
  void commit_declare(Call& call, const wire::CommitT& commit);
  void commit_remove(Call& call, const wire::CommitT& commit);
  void commit_share(const Call& call, const wire::CommitT& commit);
  Status place_encoded(const Call& call);
  void on_grant(Rank server, const wire::GrantT& grant);
  void start_initial_round(Call& call);
  void on_key_initialised(InflightKey* key);
  void on_key_failed(const InflightKey* key, const Status& reason);
  void on_keys_removed(std::uint64_t sequence);
  void finish_call(std::uint64_t sequence, Status status);
  void drop_keys(const std::vector<InflightKey*>& keys);
  std::size_t take_calls();
  std::size_t send_notes();
  void send_call(Call call);
  void leave_job(Ticket ticket);
  void finish_leave();
  std::size_t take_notices();
  std::size_t check_deadlines();
  void fail(const Status& status);
  void command(std::uint32_t lane, WorkerLaneCommand&& command);
  Rank server_of(ChannelId link) const;

  const Clock& clock_;
  Device& device_;
  const KernelTable& kernels_;
  RegionCache regions_;
  LaneHost& host_;
  const WorkerOptions options_;
  Waker waker_;

  // Control loop only.
  Links links_;
  Redial redial_;
  Member self_;
  std::uint64_t job_ = 0;
  Epoch epoch_ = 0;
  std::optional<ChannelId> scheduler_;
  TimeNs join_deadline_ns_ = kNever;
  std::vector<ServerLink> server_links_;  // [server]
  std::unique_ptr<ShardMap> map_;
  std::vector<std::unique_ptr<WorkerLane>> lanes_;
  std::map<std::uint64_t, Call> running_;  // by collective sequence
  std::uint64_t next_sequence_ = 0;
  NoteOutbox notes_;
  std::optional<Ticket> leaving_;
  TimeNs leave_deadline_ns_ = kNever;

  // Shared with user's threads; never touched by lanes.
  mutable Mutex mutex_;
  Mutex lane_producer_;  // lanes' rings have one producer at a time
  std::map<Key, std::unique_ptr<InflightKey>> keys_ GUARDED_BY(mutex_);
  std::map<Ticket, std::unique_ptr<Operation>> operations_ GUARDED_BY(mutex_);
  std::vector<Call> calls_ GUARDED_BY(mutex_);
  Ticket next_ticket_ GUARDED_BY(mutex_) = kJoinTicket + 1;
  std::optional<Status> failure_ GUARDED_BY(mutex_);
  Rank rank_ GUARDED_BY(mutex_) = 0;
  std::uint32_t workers_ GUARDED_BY(mutex_) = 0;
  std::uint32_t servers_ GUARDED_BY(mutex_) = 0;
  std::uint64_t slice_bytes_ GUARDED_BY(mutex_) = 0;
  std::atomic<bool> failed_{false};  // mirrors failure_, for waiters
  std::atomic<bool> joined_{false};
  std::atomic<std::uint64_t> not_finite_{0};
};

}  // namespace penstock
