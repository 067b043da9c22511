// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <csignal>
#include <thread>

#include "tests/transport/conformance.h"
#include "transport/tcp/device.h"

namespace penstock::test {
namespace {

// Over this host's loopback interface, on the system's clock, with threads.
class TcpHarness final : public DeviceHarness {
 public:
  explicit TcpHarness(const TcpOptions& options) : options_(options) {
    if (options.tls_offload) std::signal(SIGPIPE, SIG_IGN);  // the option asks for it
  }
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    TcpOptions options = options_;
    options.incarnation = incarnation;
    return open_tcp_device(options, clock_);
  }
  void step() override { std::this_thread::yield(); }

 private:
  const TcpOptions options_;
  SystemClock clock_;
};

constexpr std::array<unsigned char, 32> kSecret = {4, 5, 6};

Provider provider(const char* name, const TcpOptions& options) {
  return {name, [options] { return std::make_unique<TcpHarness>(options); }};
}

INSTANTIATE_TEST_SUITE_P(
    Tcp, DeviceConformance,
    testing::Values(
        provider("tcp", {}),
        provider("tcp_zerocopy", {.advertise_host = {}, .zerocopy = Zerocopy::kOn}),
        provider("tcp_tls",
                 {.advertise_host = {}, .encrypt = true, .secret = kSecret, .tls_offload = true})),
    name_of);

}  // namespace
}  // namespace penstock::test
