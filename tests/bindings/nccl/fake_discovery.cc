// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// In place of the plugin's own discovery.cc: two devices of the verbs provider on the strict fake
// network of this process.

#include "bindings/nccl/discovery.h"
#include "tests/support/fake_nic/fabric.h"
#include "transport/verbs/open.h"

namespace penstock::nccl {
namespace {

// Never destroyed: the plugin's devices go when the library does, in an order of their own.
test::FakeFabric& fabric() {
  static const SystemClock clock;
  static test::FakeFabric& made = *new test::FakeFabric(
      clock, {.nics = {{"fake0", {{"10.77.0.1"}}}, {"fake1", {{"10.77.0.2"}}}}});
  return made;
}

}  // namespace

Result<std::vector<std::unique_ptr<NetDevice>>> open_net_devices(const Clock& clock) {
  std::vector<std::unique_ptr<NetDevice>> devices;
  for (const char* name : {"fake0:1", "fake1:1"}) {
    VerbsOptions options;
    options.rails = {name};
    PENSTOCK_ASSIGN_OR_RETURN(auto device, open_verbs_device(fabric().api(), options, clock));
    devices.push_back(std::make_unique<NetDevice>(
        PortFacts{.name = name, .pci_path = {}, .guid = devices.size() + 1, .speed_mbps = 100'000},
        std::move(device), clock));
  }
  return devices;
}

}  // namespace penstock::nccl

// What the program did that no correct one does, a line each; and what lives.
extern "C" __attribute__((visibility("default"))) const char* penstock_fake_violations() {
  static std::string& text = *new std::string;
  text = penstock::nccl::fabric().violations();
  return text.c_str();
}
extern "C" __attribute__((visibility("default"))) const char* penstock_fake_leaks() {
  static std::string& text = *new std::string;
  text = penstock::nccl::fabric().leaks();
  return text.c_str();
}
