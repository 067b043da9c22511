// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Server: the role. Its control loop joins the job, allocates what declarations need, opens data
// connections for workers and notices who left or died; the lanes do the work.
//
// Thread: run_once() and everything below it on one thread (LoopThread or by hand); finished() from
// any thread. Owner: the program. The device, hub, clock and kernels outlive it; the LaneHost's
// threads are stopped before it is destroyed.

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/protocol/shard_map.h"
#include "engine/runtime/links.h"
#include "engine/runtime/loop.h"
#include "engine/runtime/notes.h"
#include "engine/runtime/redial.h"
#include "engine/runtime/region_cache.h"
#include "engine/server/norm_exchange.h"
#include "engine/server/server_lane.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

struct ServerOptions {
  std::string scheduler_address;               // of its control hub
  std::string listen_address = "127.0.0.1:0";  // where workers' control connections come in
  std::string name;                            // "host:pid", for people
  Rank rank = kAnyRank;
  Incarnation incarnation = 0;          // the device's
  TimeNs detect_ns = kDefaultDetectNs;  // until the roster says otherwise
  TimeNs join_timeout_ns = kDefaultCallTimeoutNs;
  ComputeDevice* compute = nullptr;  // keeps parameters and state and updates them; else this host
  MessageReceiver* messages = nullptr;  // outlives the server; nullptr: no open messages
  NoteReceiver* notes = nullptr;        // outlives the server; nullptr: notes to it are dropped
};

class Server final : public Loop, private LinkHandler {
 public:
  Server(const Clock& clock, Device& device, ControlHub& hub, const KernelTable& kernels,
         LaneHost& host, ServerOptions options);

  // Listens and starts joining. Call once, before the first run_once().
  Status start();

  std::size_t run_once() override;
  bool arm() override;
  int fd() const override { return links_.fd(); }
  int device_fd() const override { return device_.fd(); }
  TimeNs next_deadline_ns() const override;
  Waker& waker() override { return waker_; }

  // An open message to a worker; see Worker::send(). kNotFound before the job runs. One to a worker
  // that left is dropped. Any thread.
  Status send(Rank worker, std::uint32_t channel, OpenMessage&& message);
  // See engine/runtime/notes.h. kNotFound before the job runs. Any thread.
  Status send_note(Note&& note);
  // Takes a key's state out or puts it back; see key_copy.h. `copy->done` is called once, unless
  // the server ends before. kNotFound before the job runs, kExhausted when too many wait. Any
  // thread.
  Status copy_key(std::shared_ptr<KeyCopy> copy);
  // In the job, once it runs; kAnyRank before. Any thread.
  Rank rank() const { return running_.load(std::memory_order_acquire) ? self_.rank : kAnyRank; }

  // Set once the job is over for this server: OK after every worker left, else the reason.
  std::optional<Status> finished() const;

  // Of parameters, state, outgoing copies and slots. Any thread, once the job runs.
  std::uint64_t memory_bytes() const;
  std::uint64_t registered_bytes() const;    // of the slabs they lie in
  std::uint64_t gradients_in_place() const;  // read where the workers have them, so far
  // Slices with a gradient or a sum that was not finite; those of one worker's gradients.
  std::uint64_t not_finite() const;
  std::uint64_t not_finite_from(Rank worker) const;
  const std::vector<std::unique_ptr<ServerLane>>& lanes() const { return lanes_; }

 private:
  Status dial_scheduler();
  struct WorkerLink {
    ChannelId link = 0;
    bool up = false;
    bool gone = false;     // left or died
    bool dropped = false;  // left: rounds go on without it
  };
  struct PeerLink {  // of another server, once a key's norms need it
    std::optional<ChannelId> link;
    bool up = false;    // messages may be sent
    bool gone = false;  // it finished
  };
  struct HeldLend {  // arrived before the commit it belongs to
    Rank worker;
    wire::LendT message;
  };

  void on_link_up(ChannelId link) override;
  void on_message(ChannelId link, wire::MessageT& message) override;
  void on_link_down(ChannelId link, const Status& reason) override;

  void on_scheduler_message(wire::MessageT& message);
  void on_worker_message(ChannelId link, Rank worker, wire::MessageT& message);
  void on_roster(const wire::RosterT& roster);
  void on_hello(ChannelId link, const wire::HelloT& hello);
  void admit(ChannelId link, const wire::HelloT& hello);
  void on_commit(const wire::CommitT& commit);
  Status place_memory(std::uint32_t workers, std::uint32_t lanes);
  Result<std::unique_ptr<Updater>> make_updater(NormRings& rings);
  Status check_supported(const std::vector<Declaration>& batch) const;
  Status add_tables(const wire::CommitT& commit);
  void on_lend(Rank worker, const wire::LendT& lend);
  void on_open_lane(Rank worker, wire::OpenLaneT& open);
  void on_membership(const wire::MembershipT& membership);
  void drop_worker(Rank worker);
  void worker_died(Rank worker, const Status& reason);
  void member_died(const Member& member, const Status& reason);
  void connect_peers(const std::set<Rank>& peers);
  void admit_peer(ChannelId link, const Member& member);
  void greet_peer(ChannelId link);
  void on_peer_message(ChannelId link, Rank server, const wire::MessageT& message);
  void peer_died(Rank server, const Status& reason);
  std::size_t exchange_norms();
  void send_norms();
  void leave_peers();
  void updates_failed(std::uint32_t lane, const Status& reason);
  void end_alone(const Status& reason);
  void report(const Member& member, const Status& reason);
  std::size_t take_notices();
  std::size_t send_notes();
  std::size_t start_copies();
  void finish(Status status);
  void command(std::uint32_t lane, ServerLaneCommand&& command);
  std::uint32_t live_workers() const;

  const Clock& clock_;
  Device& device_;
  const KernelTable& kernels_;
  RegionCache regions_;  // of open messages
  LaneHost& host_;
  ServerOptions options_;
  Links links_;
  Redial redial_;
  Waker waker_;
  Member self_;
  std::uint64_t job_ = 0;
  std::optional<ChannelId> scheduler_;
  std::optional<Status> reported_;  // what the scheduler was told, and has not decided on yet
  TimeNs join_deadline_ns_ = kNever;
  bool joined_ = false;
  std::atomic<bool> running_{false};  // joined_, for other threads
  NoteOutbox notes_;
  std::vector<Member> workers_, servers_;                  // by rank, from the roster
  std::vector<WorkerLink> worker_links_;                   // by rank
  std::map<ChannelId, Rank> rank_of_;                      // admitted worker links
  std::vector<PeerLink> peer_links_;                       // by rank
  std::map<ChannelId, Rank> peer_of_;                      // dialled or admitted
  std::vector<std::pair<ChannelId, wire::HelloT>> early_;  // Hellos before the roster
  std::unique_ptr<ShardMap> map_;
  std::deque<LaneMemory> memory_;     // [lane]; before lanes_, which hold ranges of it
  std::deque<NormRings> norm_rings_;  // [lane]; before lanes_, which use them
  std::unique_ptr<NormExchange> norms_;
  std::vector<std::unique_ptr<ServerLane>> lanes_;
  struct Batch {
    std::size_t keys = 0;
    std::vector<LaneGrant> grants;  // [worker * lanes + lane]
    Status failed;
  };
  std::map<std::uint64_t, Batch> batches_;  // by commit order
  std::vector<HeldLend> held_;
  std::shared_ptr<KeyCopy> copying_;  // one at a time
  mutable Mutex mutex_;
  std::optional<Status> finished_ GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<KeyCopy>> copies_ GUARDED_BY(mutex_);  // wait for copying_
};

}  // namespace penstock
