// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a fake fabric is made of. The limits are small on purpose: a test reaches them in a few
// lines. Plain values.

#include <infiniband/verbs.h>

#include <cstdint>
#include <string>
#include <vector>

namespace penstock::test {

struct FakePort {
  std::string ip;  // IPv4, dotted: how rdma_cm finds the port, and its RoCE v2 GID (index 1)
  bool active = true;
  bool has_gid = true;  // false: the whole table is empty, as on a port without an address
  ibv_mtu mtu = IBV_MTU_4096;
  std::uint8_t link_layer = IBV_LINK_LAYER_ETHERNET;
  std::uint8_t active_width = 2;   // 4x
  std::uint8_t active_speed = 32;  // EDR: 25 Gb/s a lane
};

struct FakeLimits {
  int max_qp = 4096;
  int max_qp_wr = 8192;
  int max_cq = 4096;
  int max_cqe = 1 << 16;
  int max_mr = 4096;
  int max_mw = 4096;
  int max_pd = 4096;
  int max_srq = 1024;
  int max_srq_wr = 1 << 14;
  int max_sge = 16;
  int max_srq_sge = 4;
  int max_rd_atomic = 16;
  std::uint32_t max_inline = 220;
  std::uint64_t max_mr_bytes = 1ULL << 40;
  std::uint32_t max_message_bytes = 1U << 30;
  std::uint64_t memlock_bytes = ~0ULL;  // whole pages of all regions together
};

struct FakeNicSpec {
  std::string name;
  std::vector<FakePort> ports;
  FakeLimits limits{};
  bool dmabuf = false;  // false: ibv_reg_dmabuf_mr answers EOPNOTSUPP whatever the descriptor
  bool windows = true;  // type-2B memory windows
};

enum class FakeMode : std::uint8_t {
  kImmediate,  // every call does all work there is; a thread of the fabric looks after timers
  kStepped,    // only FakeFabric::step() moves anything, one piece at a time, in seeded order
};

struct FabricOptions {
  FakeMode mode = FakeMode::kImmediate;
  std::uint64_t seed = 1;  // of the order in kStepped, and of keys and packet numbers
  std::vector<FakeNicSpec> nics{{"fake0", {{"10.77.0.1"}}}};
};

}  // namespace penstock::test
