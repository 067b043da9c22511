// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/tcp/device.h"

namespace penstock::test {
namespace {

// Over this host's loopback interface, on the system's clock, with threads.
class TcpHarness final : public DeviceHarness {
 public:
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    return open_tcp_device({.advertise_host = {}, .incarnation = incarnation}, clock_);
  }
  void step() override { std::this_thread::yield(); }

 private:
  SystemClock clock_;
};

INSTANTIATE_TEST_SUITE_P(Tcp, DeviceConformance,
                         testing::Values(Provider{"tcp",
                                                  [] { return std::make_unique<TcpHarness>(); }}));

}  // namespace
}  // namespace penstock::test
