// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/verbs_harness.h"

namespace penstock::test {
namespace {

// librdmacm keeps every device open from its first use on: before descriptors are counted.
class WarmLibraries final : public testing::Environment {
 public:
  void SetUp() override {
    if (!no_rdma_device().empty()) return;
    const SystemClock clock;
    (void)open_verbs_device(VerbsOptions{}, clock);
  }
};
const auto* const kWarm = testing::AddGlobalTestEnvironment(new WarmLibraries);

INSTANTIATE_TEST_SUITE_P(
    Verbs, DeviceConformance,
    testing::Values(Provider{
        "device", [] { return std::make_unique<VerbsHarness>(*verbs::system_verbs().value()); },
        no_rdma_device}),
    name_of);

}  // namespace
}  // namespace penstock::test
