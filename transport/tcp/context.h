// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the endpoints of one device share. The device owns it; it outlives them.

#include <atomic>
#include <cstdint>
#include <memory>

#include "transport/parts/region_table.h"
#include "transport/socket/socket.h"
#include "transport/tcp/counters.h"
#include "transport/tcp/device.h"
#include "transport/tcp/tls_link.h"

namespace penstock::tcp {

using parts::RegionTable;

// How many endpoints there may be at a time. Any thread.
class Places {
 public:
  explicit Places(std::uint32_t most) : most_(most) {}
  // False when all are taken. Relaxed: the count guards no other memory.
  [[nodiscard]] bool take() {
    if (taken_.fetch_add(1, std::memory_order_relaxed) < most_) return true;
    give_back();
    return false;
  }
  void give_back() { taken_.fetch_sub(1, std::memory_order_relaxed); }
  std::uint32_t most() const { return most_; }

 private:
  const std::uint32_t most_;
  std::atomic<std::uint32_t> taken_{0};
};

struct DeviceContext {
  DeviceContext(Incarnation incarnation, std::uint32_t max_endpoints)
      : regions(incarnation), places(max_endpoints) {}

  RegionTable regions;
  Places places;
  CounterBook counters;
  socket::Options sockets;
  std::unique_ptr<TlsSetup> tls;  // none: plain
  Zerocopy zerocopy = Zerocopy::kOff;
};

}  // namespace penstock::tcp
