// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/ucx/device.h"

namespace penstock::test {
namespace {

// On this host, over the given transports of UCX, on the system's clock, with threads.
class UcxHarness final : public DeviceHarness {
 public:
  explicit UcxHarness(const char* transports) : transports_(transports) {}

  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    // A wrong token is refused when the acceptor's time to come is over: shorter than a user's.
    return open_ucx_device({.advertise_host = {},
                            .transports = transports_,
                            .incarnation = incarnation,
                            .hello_timeout_ns = 500 * kMillisecond},
                           clock_);
  }
  void step() override { std::this_thread::yield(); }

 private:
  const char* const transports_;
  SystemClock clock_;
};

struct Transports {
  const char* name;
  const char* list;  // as UcxOptions::transports
};
constexpr Transports kTcp{"tcp", "tcp,self"};
constexpr Transports kShm{"shm", "posix,sysv,cma,self"};
// Connections of UCX over rc are arranged over another transport. UCX 1.13 cannot use ud for it on
// a software device: its own ucx_perftest says nothing there.
constexpr Transports kRdma{"rdma", "rc_verbs,tcp:aux,self"};

Status opens(const Transports& transports) {
  const SystemClock clock;
  UcxOptions options;
  options.transports = transports.list;
  return open_ucx_device(options, clock).status();
}

bool has_rdma_device() {
  std::error_code none;
  return std::filesystem::directory_iterator("/sys/class/infiniband", none) !=
         std::filesystem::directory_iterator();
}

// What of `transports` this host has.
std::vector<Provider> providers_here(std::initializer_list<Transports> transports) {
  std::vector<Provider> found;
  for (const Transports& each : transports) {
    if (!opens(each).ok()) continue;
    found.push_back({each.name, [list = each.list] { return std::make_unique<UcxHarness>(list); }});
  }
  return found;
}

std::vector<Provider> rdma_here() {
  return has_rdma_device() ? providers_here({kRdma}) : std::vector<Provider>();
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceConformance);
INSTANTIATE_TEST_SUITE_P(Ucx, DeviceConformance, testing::ValuesIn(providers_here({kTcp, kShm})),
                         name_of);
INSTANTIATE_TEST_SUITE_P(UcxRdma, DeviceConformance, testing::ValuesIn(rdma_here()), name_of);

TEST(UcxConformance, RunsOverTcp) {
  const Status status = opens(kTcp);
  if (!status.ok()) GTEST_SKIP() << status.to_string();
}

TEST(UcxConformance, RunsOverSharedMemory) {
  const Status status = opens(kShm);
  if (!status.ok()) GTEST_SKIP() << status.to_string();
}

TEST(UcxConformance, RunsOverRdma) {
  if (!has_rdma_device()) GTEST_SKIP() << "no RDMA device here";
  const Status status = opens(kRdma);
  if (!status.ok()) GTEST_SKIP() << status.to_string();
}

}  // namespace
}  // namespace penstock::test
