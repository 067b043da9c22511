// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/barrier_book.h"

#include <algorithm>

namespace penstock::pslite {

std::vector<BarrierBook::Arrival> BarrierBook::arrive(int group, int lane,
                                                      const std::vector<int>& ids,
                                                      const std::vector<int>& members,
                                                      Arrival arrival) {
  auto& lines = lines_[{group, lane}];
  arrival.missing = ids.size();
  const auto entry = std::make_shared<Arrival>(arrival);
  for (const int id : ids) lines[id].push_back(entry);
  const auto waits = [&](int id) { return !lines[id].empty(); };
  std::vector<Arrival> released;
  if (!std::all_of(members.begin(), members.end(), waits)) return released;
  for (const int id : members) {
    const std::shared_ptr<Arrival> first = std::move(lines[id].front());
    lines[id].pop_front();
    if (--first->missing == 0) released.push_back(*first);
  }
  return released;
}

}  // namespace penstock::pslite
