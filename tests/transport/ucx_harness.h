// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <thread>

#include "tests/transport/conformance.h"
#include "transport/ucx/device.h"

namespace penstock::test {

// Can ucx be opened over these transports here? If not, why.
inline Status opens(const char* transports) {
  const SystemClock clock;
  UcxOptions options;
  options.transports = transports;
  return open_ucx_device(options, clock).status();
}

// On this host, over the given transports of UCX, on the system's clock, with threads.
class UcxHarness : public DeviceHarness {
 public:
  // A wrong token is refused when the acceptor's time to come is over: shorter than a user's.
  explicit UcxHarness(const char* transports, TimeNs hello_timeout_ns = 500 * kMillisecond)
      : transports_(transports), hello_timeout_ns_(hello_timeout_ns) {}

  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    return open_ucx_device({.advertise_host = {},
                            .transports = transports_,
                            .incarnation = incarnation,
                            .hello_timeout_ns = hello_timeout_ns_},
                           clock_);
  }
  void step() override { std::this_thread::yield(); }

 private:
  const char* const transports_;
  const TimeNs hello_timeout_ns_;
  SystemClock clock_;
};

}  // namespace penstock::test
