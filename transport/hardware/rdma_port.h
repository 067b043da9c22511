// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one port of one RDMA device is and can do. Values; needs no header of rdma-core.

#include <cstdint>
#include <string>
#include <vector>

namespace penstock {

enum class LinkLayer : std::uint8_t { kUnknown, kInfiniBand, kEthernet };

// Whether a device registers dma-buf memory.
enum class DmabufSupport : std::uint8_t { kUnknown, kYes, kNo };

struct RdmaGid {
  int index = 0;
  std::string text;     // "fe80::505:ff:fe00:1"
  std::string address;  // the IP address it stands for; empty for link-local and InfiniBand's own
};

struct RdmaPort {
  std::string device;   // "mlx5_0"
  int port = 0;         // from 1; 0 when the device could not be opened
  std::string trouble;  // why nothing below is known; empty when it is
  bool active = false;
  std::string state;  // "active", "down", …
  LinkLayer link = LinkLayer::kUnknown;
  double gigabits_per_second = 0;  // of the link; 0 when its code is unknown
  unsigned active_mtu_bytes = 0;
  unsigned max_mtu_bytes = 0;
  std::vector<RdmaGid> gids;
  std::string ipoib_address;  // InfiniBand: what connections use instead of a GID; empty if none
  int chosen_gid = -1;  // index of the one the verbs transport would use; −1 when none will do
  DmabufSupport dmabuf = DmabufSupport::kUnknown;
};

}  // namespace penstock
