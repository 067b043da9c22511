// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The sending end in a process of its own: reads version and listen handle from its standard input,
// sends numbered buffers until it is told to stop or killed. Started by process_test.cc; ends by
// itself after half a minute.

#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "tests/bindings/nccl/process.h"

namespace penstock::test {
namespace {

bool ok(NcclResult result) { return result == NcclResult::kSuccess; }

int run() {
  ::alarm(30);
  PeerOrder order;
  if (std::fread(&order, sizeof order, 1, stdin) != 1) return 2;
  const std::unique_ptr<Plugin> net = Plugin::load(order.version);
  if (net == nullptr || !ok(net->init())) return 3;
  void* comm = nullptr;
  for (; comm == nullptr; ::sched_yield())
    if (!ok(net->connect(order.device, order.handle, &comm))) return 4;
  std::vector<std::byte> bytes(kPeerBytes);
  void* memory = nullptr;
  if (!ok(net->register_memory(comm, bytes.data(), bytes.size(), nccl::kPointerHost, &memory)))
    return 5;
  for (int i = 0; i < order.sends; ++i) {
    std::memset(bytes.data(), i & 0xff, bytes.size());
    void* request = nullptr;
    for (; request == nullptr; ::sched_yield())
      if (!ok(net->send(comm, bytes.data(), bytes.size(), 0, memory, &request))) return 6;
    int done = 0;
    for (; done == 0; ::sched_yield())
      if (!ok(net->test(request, &done, nullptr))) return 7;
  }
  if (!ok(net->deregister(comm, memory)) || !ok(net->close_send(comm))) return 8;
  return ok(net->finalize()) ? 0 : 9;
}

}  // namespace
}  // namespace penstock::test

int main() { return penstock::test::run(); }
