// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/counters.h"

namespace penstock::tcp {
namespace {

struct Column {
  const char* name;
  Tally TcpCounters::*tally;
};
constexpr Column kColumns[] = {
    {"bytes_sent", &TcpCounters::bytes_sent},
    {"bytes_received", &TcpCounters::bytes_received},
    {"frames_sent", &TcpCounters::frames_sent},
    {"frames_received", &TcpCounters::frames_received},
    {"send_calls", &TcpCounters::send_calls},
    {"receive_calls", &TcpCounters::receive_calls},
    {"blocked_sends", &TcpCounters::blocked_sends},
    {"acks_sent", &TcpCounters::acks_sent},
    {"zerocopy_sends", &TcpCounters::zerocopy_sends},
    {"zerocopy_copied", &TcpCounters::zerocopy_copied},
    {"tls_offloaded", &TcpCounters::tls_offloaded},
    {"connections_refused", &TcpCounters::connections_refused},
};

}  // namespace

TcpCounters& CounterBook::lend() {
  MutexLock lock(mutex_);
  if (free_.empty()) {
    blocks_.push_back(std::make_unique<TcpCounters>());
    return *blocks_.back();
  }
  TcpCounters& block = *free_.back();
  free_.pop_back();
  return block;
}

void CounterBook::take_back(TcpCounters& block) {
  MutexLock lock(mutex_);
  free_.push_back(&block);
}

std::vector<Counter> CounterBook::sum() const {
  MutexLock lock(mutex_);
  std::vector<Counter> counters;
  for (const Column& column : kColumns) {
    std::uint64_t total = 0;
    for (const auto& block : blocks_) total += ((*block).*column.tally).value();
    counters.push_back({column.name, total});
  }
  return counters;
}

}  // namespace penstock::tcp
