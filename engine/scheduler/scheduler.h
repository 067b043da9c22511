// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Scheduler: the role that admits nodes, gives ranks, publishes the roster, agrees on collective
// calls and ends the job when somebody dies. It is not on the data path: rounds go on without it.
//
// Thread: everything on the control loop's, except finished() and address().

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/protocol/limits.h"
#include "engine/runtime/links.h"
#include "engine/runtime/loop.h"
#include "engine/runtime/notes.h"
#include "engine/runtime/waker.h"
#include "engine/scheduler/collectives.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

struct SchedulerOptions {
  std::string listen_address = "127.0.0.1:0";
  std::string name;  // "host:pid", for people
  std::uint32_t workers = 1;
  std::uint32_t servers = 1;  // 0: collective calls only, no tensors
  std::uint32_t lanes = 1;    // per server and per worker
  std::uint64_t slice_bytes = kDefaultSliceBytes;
  TimeNs detect_ns = kDefaultDetectNs;
  TimeNs join_timeout_ns = kDefaultCallTimeoutNs;
  NoteReceiver* notes = nullptr;  // outlives the scheduler; nullptr: notes to it are dropped
};

// kInvalidArgument naming the option and its bounds.
Status validate(const SchedulerOptions& options);

class Scheduler final : public Loop, private LinkHandler {
 public:
  Scheduler(const Clock& clock, ControlHub& hub, SchedulerOptions options);

  // Validates, listens. Call once, before the first run_once().
  Status start();
  const std::string& address() const { return address_; }  // after start()

  std::size_t run_once() override;
  bool arm() override { return notes_.empty(); }
  int fd() const override { return links_.fd(); }
  TimeNs next_deadline_ns() const override;
  Waker& waker() override { return waker_; }

  // See engine/runtime/notes.h. One to a node that is not here is dropped. Any thread.
  Status send_note(Note&& note);

  // Set once the job is over: OK after every worker left, else the reason. Any thread.
  std::optional<Status> finished() const;

 private:
  struct Node {
    Member member;
    ChannelId link = 0;
    bool gone = false;
  };

  void on_link_up(ChannelId) override {}
  void on_message(ChannelId link, wire::MessageT& message) override;
  void on_link_down(ChannelId link, const Status& reason) override;
  void on_join(ChannelId link, const wire::JoinT& join);
  Result<Rank> give_rank(const Member& member) const;
  void publish_roster();
  void on_collective(Node& node, const wire::CollectiveT& message);
  void answer(const Collectives::Outcome& outcome);
  void commit(const Collectives::Outcome& outcome);
  void on_leave(Node& node);
  void on_report(const Node& from, const wire::ReportT& report);
  void pass_on(Role from, Rank rank, Note&& note);
  void lost(Node& node, const Status& reason);
  void stop(const Status& reason);
  bool stopping() const { return stop_deadline_ns_ != kNever; }
  void finish_if_drained();
  Node* node_of(ChannelId link);
  std::uint32_t live(Role role) const;
  std::string who_is_missing() const;

  const Clock& clock_;
  const SchedulerOptions options_;
  Links links_;
  Waker waker_;
  std::string address_;
  const std::uint64_t job_;
  Epoch epoch_ = 1;
  TimeNs join_deadline_ns_ = kNever;
  TimeNs stop_deadline_ns_ = kNever;  // the job is over: nodes are told and close their links
  Status outcome_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::unique_ptr<Collectives> collectives_;  // once the job runs
  std::uint64_t order_ = 0;                   // of commits that change the shard map
  std::set<Key> declared_;
  NoteOutbox notes_;
  mutable Mutex mutex_;
  std::optional<Status> finished_ GUARDED_BY(mutex_);
};

}  // namespace penstock
