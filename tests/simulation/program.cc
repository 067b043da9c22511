// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace penstock::test {

Tensor Program::tensor(Key key, std::uint64_t elements) {
  Buffers& buffers = buffers_[key];
  buffers = {};
  if (options_.in_place) {
    fresh_.push_back(worker_.allocate(elements * sizeof(float)).value());
    buffers.gradients = {reinterpret_cast<float*>(fresh_.back()->bytes().data()), elements};
  } else {
    buffers.own.resize(elements);
    buffers.gradients = buffers.own;
  }
  buffers.parameters.resize(elements);
  for (std::uint64_t i = 0; i < elements; ++i) {
    buffers.expected.push_back(ledger_initial(key, i));
    if (worker_.rank() == 0) buffers.parameters[i] = static_cast<float>(buffers.expected[i]);
  }
  Tensor tensor;
  tensor.key = key;
  tensor.spec.name = fmt::format("tensor{}", key);
  tensor.spec.shape = {elements};
  tensor.spec.optimizer = default_optimizer(OptimizerKind::kSgd);
  tensor.spec.optimizer.learning_rate = 1;
  if (options_.norms && key % 3 == 1) tensor.spec.optimizer.clip_norm = 1e30;
  if (options_.norms && key % 3 != 1) tensor.spec.optimizer.clip_global_norm = 1e30;
  tensor.spec.reduce = Reduce::kSum;
  tensor.spec.priority = static_cast<std::int32_t>(key % 3);
  if (options_.codecs && ledger_encoded(key)) {
    tensor.spec.codec.kind = CodecKind::kTwoBit;
    tensor.spec.codec.threshold = static_cast<float>(kLedgerThreshold);
    buffers.residuals.assign(options_.workers, std::vector<std::int64_t>(elements));
  }
  tensor.gradients = std::as_writable_bytes(buffers.gradients);
  tensor.parameters = std::as_writable_bytes(std::span(buffers.parameters));
  return tensor;
}

void Program::end(Status status) {
  result_ = std::move(status);
  phase_ = Phase::kDone;
}

void Program::next_phase(Phase phase, Ticket ticket) {
  phase_ = phase;
  ticket_ = ticket;
}

bool Program::run_once() {
  if (done()) return false;
  if (phase_ == Phase::kRounds) {
    if (!stepping_) start_rounds();
    return finish_rounds();
  }
  if (!ticket_) ticket_ = worker_.join_ticket();
  const std::optional<Status> status = worker_.poll(*ticket_);
  if (!status) return false;
  if (!status->ok()) {
    end(*status);
    return true;
  }
  switch (phase_) {
    case Phase::kJoin: {
      std::vector<Tensor> tensors;
      for (Key key = 0; key < options_.sizes.size(); ++key)
        tensors.push_back(tensor(key, options_.sizes[key]));
      next_phase(Phase::kDeclare, worker_.begin_declare(std::move(tensors)));
      fresh_.clear();  // the declared keys hold it now
      break;
    }
    case Phase::kDeclare:
    case Phase::kRedeclare:
      for (const auto& [key, buffers] : buffers_) audit(key, buffers);
      phase_ = Phase::kRounds;
      break;
    case Phase::kRemove: {
      buffers_.erase(0);
      const Key added = options_.sizes.size();
      next_phase(Phase::kRedeclare,
                 worker_.begin_declare({tensor(added, options_.sizes[0] / 2 + 1)}));
      fresh_.clear();
      break;
    }
    case Phase::kBarrier:
      next_phase(Phase::kLeave, worker_.begin_leave());
      break;
    default:
      end({});
  }
  return true;
}

// All keys of a step are started in a random order, as back-propagation overlapping with the wire.
void Program::start_rounds() {
  std::vector<Key> order;
  for (const auto& [key, buffers] : buffers_) order.push_back(key);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
  for (const Key key : order) {
    Buffers& buffers = buffers_[key];
    const Round round = buffers.round + 1;
    const bool nothing = ledger_nothing(worker_.rank(), key, round);
    for (std::uint64_t i = 0; i < buffers.gradients.size(); ++i)
      buffers.gradients[i] =
          nothing ? 1e9F : static_cast<float>(ledger_gradient(worker_.rank(), key, round, i));
    const Status started =
        nothing ? worker_.push_nothing(key, round) : worker_.push_pull(key, round);
    if (!started.ok()) return end(started);
    buffers.running = round;
  }
  stepping_ = true;
}

bool Program::finish_rounds() {
  if (done()) return true;
  for (auto& [key, buffers] : buffers_) {
    const Result<bool> finished = worker_.finished(key, buffers.running);
    if (!finished.ok()) {
      end(finished.status());
      return true;
    }
    if (!finished.value()) return false;
  }
  for (auto& [key, buffers] : buffers_) {
    buffers.round = buffers.running;
    advance_expected(key, buffers, buffers.round);
    audit(key, buffers);
  }
  stepping_ = false;
  if (++steps_ == options_.rounds) {
    next_phase(Phase::kBarrier, worker_.begin_barrier());
  } else if (options_.change_keys && !changed_ && steps_ == options_.rounds / 2) {
    changed_ = true;
    next_phase(Phase::kRemove, worker_.begin_remove({0}));
  }
  return true;
}

void Program::advance_expected(Key key, Buffers& buffers, Round round) const {
  for (Rank worker = 0; worker < options_.workers; ++worker)
    if (!ledger_nothing(worker, key, round))
      for (std::uint64_t i = 0; i < buffers.expected.size(); ++i) {
        std::int64_t sent = ledger_gradient(worker, key, round, i);
        if (!buffers.residuals.empty()) {
          std::int64_t& residual = buffers.residuals[worker][i];
          residual += sent;
          sent = ledger_sent(residual);
        }
        buffers.expected[i] -= sent;
      }
}

void Program::audit(Key key, const Buffers& buffers) {
  for (std::uint64_t i = 0; i < buffers.expected.size() && audit_error_.empty(); ++i)
    if (buffers.parameters[i] != static_cast<float>(buffers.expected[i]))
      audit_error_ =
          fmt::format("worker {} key {} round {} element {}: {} instead of {}", worker_.rank(), key,
                      buffers.round, i, buffers.parameters[i], buffers.expected[i]);
}

void Program::audit_running() {
  for (auto& [key, buffers] : buffers_) {
    if (phase_ == Phase::kJoin || buffers.running == buffers.round) continue;
    Buffers next = buffers;
    advance_expected(key, next, buffers.running);
    for (std::uint64_t i = 0; i < buffers.expected.size() && audit_error_.empty(); ++i)
      if (buffers.parameters[i] != static_cast<float>(buffers.expected[i]) &&
          buffers.parameters[i] != static_cast<float>(next.expected[i]))
        audit_error_ = fmt::format("worker {} key {} element {}: {} is neither round {} nor {}",
                                   worker_.rank(), key, i, buffers.parameters[i], buffers.round,
                                   buffers.running);
  }
}

std::uint64_t Program::fingerprint() const {
  std::uint64_t hash = 0;
  for (const auto& [key, buffers] : buffers_) {
    hash = SeededRandom::mix(hash ^ key);
    for (const float value : buffers.parameters) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      hash = SeededRandom::mix(hash ^ bits);
    }
  }
  return hash;
}

}  // namespace penstock::test
