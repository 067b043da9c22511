// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A training program as a state machine, so that many run on one thread: join, declare, rounds with
// the ledger's gradients, a key removed and another declared half-way, a barrier, leave. Checks
// every finished round against the ledger.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/worker/worker.h"
#include "tests/simulation/ledger.h"

namespace penstock::test {

struct ProgramOptions {
  std::vector<std::uint64_t> sizes;  // elements of keys 0, 1, …
  Round rounds = 6;
  std::uint32_t workers = 1;
  bool in_place = false;    // gradients where servers can map them
  bool codecs = false;      // see ledger_encoded()
  bool norms = false;       // some keys are updated in two phases; their bounds never clip
  bool change_keys = true;  // remove key 0 after half of the rounds, declare another
};

class Program {
 public:
  Program(Worker& worker, const ProgramOptions& options, std::uint64_t seed)
      : worker_(worker), options_(options), random_(seed) {}

  // Advances as far as possible. Returns whether anything happened.
  bool run_once();

  bool done() const { return phase_ == Phase::kDone; }
  bool joined() const { return !buffers_.empty(); }  // the job had started
  const Status& result() const { return result_; }   // of the call that ended the program

  // Errors found against the ledger; "" when clean. Also valid after the program has died.
  const std::string& audit_error() const { return audit_error_; }
  void audit_running();  // buffers of unfinished rounds hold, slice by slice, one round or the next
  std::uint64_t fingerprint() const;  // of all parameters this worker holds

 private:
  enum class Phase { kJoin, kDeclare, kRounds, kRemove, kRedeclare, kBarrier, kLeave, kDone };
  struct Buffers {
    std::vector<float> own;      // the gradients, unless the transport allocated them
    std::span<float> gradients;  // allocated ones live as long as the key is declared
    std::vector<float> parameters;
    std::vector<std::int64_t> expected;                // after round `round`
    std::vector<std::vector<std::int64_t>> residuals;  // [worker], then, where they are encoded
    Round round = 0;                                   // finished
    Round running = 0;                                 // started; == round when idle
  };

  Tensor tensor(Key key, std::uint64_t elements);
  void start_rounds();
  bool finish_rounds();
  void advance_expected(Key key, Buffers& buffers, Round round) const;
  void audit(Key key, const Buffers& buffers);
  void next_phase(Phase phase, Ticket ticket);
  void end(Status status);

  Worker& worker_;
  const ProgramOptions options_;
  SeededRandom random_;
  Phase phase_ = Phase::kJoin;
  std::optional<Ticket> ticket_;
  std::map<Key, Buffers> buffers_;
  std::vector<std::shared_ptr<const MemoryRegion>> fresh_;  // allocated, not yet declared
  Round steps_ = 0;
  bool changed_ = false;
  bool stepping_ = false;
  Status result_;
  std::string audit_error_;
};

}  // namespace penstock::test
