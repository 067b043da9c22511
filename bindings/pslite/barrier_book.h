// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The scheduler's book of barriers. A barrier ends when every node it is of has arrived once more;
// whoever arrived early for the next one waits in line. A node that has left the job arrives no
// more, and nobody can wait for it. Thread: one at a time.

#include <deque>
#include <map>
#include <memory>
#include <set>
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

  struct Vain {
    Arrival arrival;
    int group = 0;
    int left = 0;  // id of the node that it waits for
  };
  void leave(int id) { left_.insert(id); }
  // Takes out those who wait for a node that has left.
  std::vector<Vain> take_vain();

 private:
  struct Lines {
    std::vector<int> members;
    std::map<int, std::deque<std::shared_ptr<Arrival>>> by_id;
  };
  std::map<std::pair<int, int>, Lines> lines_;  // by (group, lane)
  std::set<int> left_;
};

}  // namespace penstock::pslite
