// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A process of its own at the other end of a connection: this program again, started with
// --ucx-peer. It connects, writes one region over and over with immediates and never stops by
// itself.

#include <sys/types.h>

#include <string>

#include "transport/api/types.h"

namespace penstock::test {

struct PeerOrders {
  std::string transports;
  std::string address;  // the device to connect to
  Token token{};
  RemoteRegion region;
};

class PeerProcess {
 public:
  explicit PeerProcess(const PeerOrders& orders);
  ~PeerProcess();  // kills it
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  void stop() const;  // SIGSTOP: it lives and does nothing
  void kill();

 private:
  pid_t pid_ = -1;
};

}  // namespace penstock::test
