// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The scheduler's book of barriers. A barrier ends when every node it is of has arrived once more;
// whoever arrived early for the next one waits in line. Thread: one at a time.

#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace penstock::pslite {

class BarrierBook {
 public:
  struct Arrival {
    int from = 0;  // id of the node to tell
    int ticket = 0;
    std::size_t missing = 0;  // ids of it that are still in line
  };
  // `ids` arrive together at the barrier of `group`; `lane` tells customers that share a node
  // apart. Returns those who may go.
  std::vector<Arrival> arrive(int group, int lane, const std::vector<int>& ids,
                              const std::vector<int>& members, Arrival arrival);

 private:
  using Line = std::deque<std::shared_ptr<Arrival>>;
  std::map<std::pair<int, int>, std::map<int, Line>> lines_;  // by (group, lane), by id
};

}  // namespace penstock::pslite
