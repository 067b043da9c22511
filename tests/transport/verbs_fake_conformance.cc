// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The verbs provider on the strict fake NIC: the device contract, at once and step by step.

#include "tests/transport/verbs_fake_harness.h"

namespace penstock::test {
namespace {

FabricOptions two_rails() {
  FabricOptions options;
  options.nics = {{"fake0", {{"10.77.0.1"}}}, {"fake1", {{"10.78.0.1"}}}};
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    VerbsFake, DeviceConformance,
    testing::Values(
        Provider{"immediate", [] { return std::make_unique<FakeVerbsHarness>(); }},
        Provider{"two_rails", [] { return std::make_unique<FakeVerbsHarness>(two_rails()); }},
        Provider{"two_rails_stepped",
                 [] { return std::make_unique<SteppedVerbsHarness>(1, two_rails().nics); }},
        Provider{"two_rails_other_order",
                 [] { return std::make_unique<SteppedVerbsHarness>(0x5eed, two_rails().nics); }},
        Provider{"stepped", [] { return std::make_unique<SteppedVerbsHarness>(1); }},
        Provider{"other_order", [] { return std::make_unique<SteppedVerbsHarness>(0x5eed); }}),
    name_of);

}  // namespace
}  // namespace penstock::test
