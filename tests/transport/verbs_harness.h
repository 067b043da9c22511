// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/verbs/open.h"

namespace penstock::test {

// Why the tests on a real device cannot run here; empty if they can.
inline std::string no_rdma_device() {
  const Result<const verbs::VerbsApi*> api = verbs::system_verbs();
  if (!api.ok()) return api.status().to_string();
  std::error_code error;
  const std::filesystem::directory_iterator devices("/sys/class/infiniband", error);
  if (error || begin(devices) == end(devices))
    return "this host has no RDMA device; scripts/softroce makes one";
  return {};
}

// Devices over the table it is given: the host's libraries, or a fake NIC's.
class VerbsHarness : public DeviceHarness {
 public:
  explicit VerbsHarness(const verbs::VerbsApi& api) : api_(api) {}
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    VerbsOptions options;
    options.incarnation = incarnation;
    return open_verbs_device(api_, options, clock_);
  }
  void step() override { std::this_thread::yield(); }
  bool tells_stale_from_access() const override { return false; }  // REM_ACCESS_ERR is both

 private:
  const verbs::VerbsApi& api_;
  SystemClock clock_;
};

}  // namespace penstock::test
