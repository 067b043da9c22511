// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/transport/control_conformance.h"
#include "transport/control/tls_hub.h"

namespace penstock::test {
namespace {

// Hubs over TCP on this host, with one secret or with none.
class TcpHarness final : public ControlHarness {
 public:
  explicit TcpHarness(bool secure) {
    options_.insecure = !secure;
    if (secure) options_.secret = Secret::random();
  }
  const Clock& clock() const override { return clock_; }
  std::unique_ptr<ControlHub> create_hub() override {
    return create_tls_hub(options_, clock_).value();
  }
  void step() override { std::this_thread::yield(); }

 private:
  SystemClock clock_;
  TlsHubOptions options_;
};

INSTANTIATE_TEST_SUITE_P(
    Control, ControlConformance,
    testing::Values(ControlProvider{"tls", [] { return std::make_unique<TcpHarness>(true); }},
                    ControlProvider{"plain", [] { return std::make_unique<TcpHarness>(false); }}));

}  // namespace
}  // namespace penstock::test
