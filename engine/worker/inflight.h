// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One declared key on a worker: its buffers, and how far its rounds are. The user's threads start a
// round and wait for it; every lane that holds slices of the key counts them down; the lane that
// counts to zero finishes the round.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/protocol/tensor_spec.h"
#include "engine/runtime/region_cache.h"
#include "engine/runtime/wait_point.h"
#include "engine/worker/gradient_encoder.h"

namespace penstock {

class InflightKey {
 public:
  InflightKey(Declaration what, RegisteredBuffer gradient_buffer, RegisteredBuffer parameter_buffer,
              bool reads_in_place)
      : declaration(std::move(what)),
        gradients(std::move(gradient_buffer)),
        parameters(std::move(parameter_buffer)),
        view(reads_in_place) {}

  // User's side, one caller at a time: the round begins with every slice missing. `not_finite`: so
  // is our gradient.
  void start(Round round, bool not_finite = false) {
    not_finite_ = not_finite;
    remaining_.store(slices, std::memory_order_relaxed);
    started_.store(round + 1, std::memory_order_release);
  }

  // Lane: one slice of the round that runs is back. True when it was the last.
  bool slice_done() {
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
    finished_.store(started_.load(std::memory_order_relaxed), std::memory_order_release);
    wait_point.notify();
    return true;
  }

  // Lane, before slice_done(): the round that runs changed nothing.
  void fail_round() {
    failed_.store(started_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  // Of a finished round, until the next one that fails.
  bool failed(Round round) const { return failed_.load(std::memory_order_relaxed) == round + 1; }
  bool pushed_not_finite() const { return not_finite_; }  // to the last round; user's side

  // Rounds below these are started, finished. The parameters of a finished round are in the buffer.
  Round started() const { return started_.load(std::memory_order_acquire); }
  Round finished() const { return finished_.load(std::memory_order_acquire); }
  std::uint32_t missing_slices() const { return remaining_.load(std::memory_order_relaxed); }

  const Declaration declaration;
  const RegisteredBuffer gradients;
  const RegisteredBuffer parameters;
  const bool view;  // parameters are read in the servers' memory
  WaitPoint wait_point;

  // Set by the control loop before the key is handed to lanes or users, constant afterwards.
  std::uint32_t slices = 0;
  std::vector<std::uint32_t> lanes;          // that hold slices of it
  std::unique_ptr<GradientEncoder> encoder;  // of a key with a codec

  // [lane]: each filled by its lane before that lane counts a slice of round 0 down.
  struct Piece {
    std::uint64_t first_element = 0;
    std::span<const std::byte> bytes;
    std::shared_ptr<RemoteMapping> mapping;
  };
  std::vector<std::vector<Piece>> pieces;

 private:
  std::atomic<Round> started_{0};
  std::atomic<Round> finished_{0};
  std::atomic<Round> failed_{0};  // the last failed round and one; ordered by remaining_, finished_
  bool not_finite_ = false;
  std::atomic<std::uint32_t> remaining_{0};
};

}  // namespace penstock
