// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Verbs on the fake NIC, which sees what reaches the NIC.

#include "tests/engine/steady_state.h"
#include "tests/support/fake_nic/fabric.h"
#include "transport/auto/device.h"
#include "transport/tcp/device.h"
#include "transport/verbs/open.h"

namespace penstock::test {
namespace {

struct Net {
  SystemClock clock;
  FakeFabric fabric{clock, {}};
  Result<std::unique_ptr<Device>> open(Incarnation incarnation) {
    VerbsOptions options;
    options.incarnation = incarnation;
    return open_verbs_device(fabric.api(), options, clock);
  }
  ~Net() {
    EXPECT_EQ(fabric.violations(), "");
    EXPECT_EQ(fabric.leaks(), "");
  }
};

SteadyNetwork network_of(const std::shared_ptr<Net>& net, OpenDevice open) {
  return {std::move(open), [net] {
            const FakeLedger ledger = net->fabric.ledger();
            return ledger.registrations + ledger.binds;
          }};
}

SteadyNetwork verbs() {
  auto net = std::make_shared<Net>();
  return network_of(net, [net](Incarnation incarnation) { return net->open(incarnation); });
}

SteadyNetwork verbs_by_auto() {
  auto net = std::make_shared<Net>();
  return network_of(net, [net](Incarnation incarnation) {
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(net->open(incarnation).value());
    devices.push_back(
        open_tcp_device({.advertise_host = {}, .incarnation = incarnation}, net->clock).value());
    return create_auto_device(std::move(devices), {});
  });
}

INSTANTIATE_TEST_SUITE_P(Verbs, SteadyState,
                         ::testing::Values(SteadyTransport{"verbs", false, verbs},
                                           SteadyTransport{"verbs_by_auto", false, verbs_by_auto}),
                         name_of_transport);

}  // namespace
}  // namespace penstock::test
