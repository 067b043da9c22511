// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// MSG_ZEROCOPY on one connection: when to use it, and which lent bytes the kernel still reads.
// The kernel numbers the calls that used it and says later, on the socket's error queue, which of
// them it is done with and whether it copied after all. Bytes sent by a call stay lent until then.
// Thread: the endpoint's. No allocation.

#include <bitset>
#include <cstddef>
#include <cstdint>

#include "transport/tcp/counters.h"
#include "transport/tcp/device.h"

namespace penstock::tcp {

class ZerocopyLog {
 public:
  explicit ZerocopyLog(Zerocopy mode) : mode_(mode) {}

  // Whether a batch of `bytes` in `parts` should be sent so.
  bool wants(std::size_t bytes, std::size_t parts) const;
  void sent() { ++sent_; }                 // one call took bytes
  void stop() { mode_ = Zerocopy::kOff; }  // for the rest of the connection
  // Takes in what the kernel says on the error queue of `fd`.
  void collect(int fd, TcpCounters& counters);
  // The calls [first, last], in the kernel's numbers, are over. Numbers never given out are
  // ignored.
  void over(std::uint32_t first, std::uint32_t last, bool copied);

  std::uint64_t calls() const { return sent_; }
  std::uint64_t released() const { return released_; }  // these calls and all before are over
  bool outstanding() const { return released_ < sent_; }

 private:
  static constexpr std::size_t kMostCalls = 1024;  // outstanding; then bytes are copied

  Zerocopy mode_;
  bool proven_ = false;  // the kernel did not copy
  std::uint64_t sent_ = 0, released_ = 0;
  std::bitset<kMostCalls>
      over_;  // of the calls after `released_`, by number: they may end out of order
};

}  // namespace penstock::tcp
