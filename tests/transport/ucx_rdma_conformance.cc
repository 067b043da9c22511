// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The device contract over UCX's rc, on an RDMA device.
#include <cstdlib>
#include <filesystem>

#include "tests/transport/ucx_harness.h"

namespace penstock::test {
namespace {

// Connections of UCX over rc are arranged over another transport. UCX 1.13 cannot use ud for it on
// a software device: its own ucx_perftest says nothing there.
constexpr const char* kTransports = "rc_verbs,tcp:aux,self";
// In the guest UCX takes most of a second to fill its queues before it says hello.
constexpr TimeNs kPatientNs = 5 * kSecond;

// What UCX needs on soft-RoCE, see docs/softroce.md; and queues that are quick to fill.
void suit_soft_roce() {
  ::setenv("UCX_IB_GID_INDEX", "0", 0);
  ::setenv("UCX_RC_VERBS_RETRY_COUNT", "6", 0);
  ::setenv("UCX_RC_VERBS_RX_QUEUE_LEN", "256", 0);
  ::setenv("UCX_RC_VERBS_TX_BUFS_GROW", "64", 0);
}

// Why the tests cannot run here; empty if they can.
std::string find_device() {
  std::error_code error;
  const std::filesystem::directory_iterator devices("/sys/class/infiniband", error);
  if (error || begin(devices) == end(devices))
    return "this host has no RDMA device; scripts/softroce makes one";
  if (devices->path().filename().string().starts_with("rxe")) suit_soft_roce();
  const Status status = opens(kTransports);
  return status.ok() ? "" : status.to_string();
}

const std::string& no_rdma_device() {
  static const std::string reason = find_device();
  return reason;
}

class UcxRdmaHarness final : public UcxHarness {
 public:
  UcxRdmaHarness() : UcxHarness(kTransports, kPatientNs) {}
  TimeNs connects_within_ns() const override { return kPatientNs; }
};

INSTANTIATE_TEST_SUITE_P(UcxRdma, DeviceConformance,
                         testing::Values(Provider{"rc",
                                                  [] { return std::make_unique<UcxRdmaHarness>(); },
                                                  no_rdma_device}),
                         name_of);

}  // namespace
}  // namespace penstock::test
