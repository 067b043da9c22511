// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/barrier_book.h"

#include <algorithm>

namespace penstock::pslite {

std::vector<BarrierBook::Arrival> BarrierBook::arrive(int group, int lane,
                                                      const std::vector<int>& ids,
                                                      const std::vector<int>& members,
                                                      Arrival arrival) {
  lines_[{group, lane}].members = members;
  auto& lines = lines_[{group, lane}].by_id;
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

std::vector<BarrierBook::Vain> BarrierBook::take_vain() {
  std::vector<Vain> vain;
  for (auto& [where, lines] : lines_) {
    const auto missing = std::find_if(lines.members.begin(), lines.members.end(), [&](int id) {
      return left_.contains(id) && lines.by_id[id].empty();
    });
    if (missing == lines.members.end()) continue;
    std::set<std::shared_ptr<Arrival>> waiting;
    for (auto& [id, line] : lines.by_id) {
      waiting.insert(line.begin(), line.end());
      line.clear();
    }
    for (const auto& each : waiting) vain.push_back({*each, where.first, *missing});
  }
  return vain;
}

}  // namespace penstock::pslite
