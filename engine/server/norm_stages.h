// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How far a lane is with keys that need norms, whoever runs the passes: opens rounds, hands the
// parts of a finished pass to the control loop (NormExchange) or, if the lane has the whole tensor,
// adds them up, and tells the table's owner what to run next. Thread: the lane's. Allocates
// nothing.

#include "engine/server/update.h"

namespace penstock {

class NormStages : public Updater {
 protected:
  // `rings` and `control`, which is woken for them, outlive this.
  NormStages(NormRings& rings, Waker& control) : rings_(rings), control_(control) {}

  // First in, first out, through NormTable::behind.
  struct Queue {
    NormTable* first = nullptr;
    NormTable* last = nullptr;
    void push(NormTable& table);
    void pop();
  };

  // The table of the slice's key where this update takes stages, else nullptr.
  static NormTable* table_of(const SliceUpdate& update);
  // Begins the round unless it is open. False when another one is: the slice gets no answer.
  static bool open(NormTable& table, Round round);
  // The slice's place in the table.
  static std::uint32_t place_of(const NormTable& table, const SliceUpdate& update);

  // A part of the pass is done; with the last one the parts go to be added up.
  void part_done(NormTable& table, std::uint32_t place, const NormSums& part, std::uint8_t stage);
  // A slice is through the last pass.
  static void applied(NormTable& table);
  // Hands on what waits, and takes what came back.
  void exchange();
  bool exchanges_nothing() const { return telling_.first == nullptr && rings_.combined.empty(); }

  // The table's phase, of all its slices, is to be run now.
  virtual void run(NormTable& table) = 0;

 private:
  void tell();
  void combined(NormTable& table, std::uint8_t stage, const NormSums& tensor, double group);

  NormRings& rings_;
  Waker& control_;
  Queue telling_;  // wait for room in the ring
};

}  // namespace penstock
