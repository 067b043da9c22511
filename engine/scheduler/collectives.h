// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The n-th collective call of every worker must be the same call. Gathers them, compares them and
// says what came of it. Knows no connection: the scheduler carries the answers.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/protocol/messages.h"
#include "transport/base/clock.h"

namespace penstock {

// What a worker asked for.
struct CollectiveCall {
  wire::CollectiveKind kind = wire::CollectiveKind::Barrier;
  std::vector<Declaration> declarations;
  std::vector<Key> keys;
  wire::ShareT share{};
};

class Collectives {
 public:
  struct Outcome {
    std::uint64_t sequence = 0;
    std::vector<Rank> waiting;  // who asked and gets the answer
    Status error;               // OK: everybody agreed
    CollectiveCall call;
  };

  explicit Collectives(std::vector<Member> workers) : workers_(std::move(workers)) {
    for (const Member& worker : workers_) live_.insert(worker.rank);
  }

  // A call came in; its timeout runs from the first worker's arrival. An outcome when it was the
  // last one missing, or when it comes after the others gave up.
  std::optional<Outcome> add(Rank worker, std::uint64_t sequence, CollectiveCall call,
                             TimeNs deadline_ns);

  // The worker left: nobody waits for it. Outcomes of the calls it was the last one missing in.
  std::vector<Outcome> leave(Rank worker);

  // Calls whose deadline has passed: kTimeout naming who is missing.
  std::vector<Outcome> expire(TimeNs now_ns);
  TimeNs next_deadline_ns() const;

 private:
  struct Pending {
    std::map<Rank, CollectiveCall> calls;
    TimeNs deadline_ns = 0;
  };
  bool complete(const Pending& pending) const;
  Outcome conclude(std::uint64_t sequence);
  Status compare(const Pending& pending) const;

  const std::vector<Member> workers_;
  std::set<Rank> live_;
  std::map<std::uint64_t, Pending> pending_;
  std::set<std::uint64_t> abandoned_;
};

}  // namespace penstock
