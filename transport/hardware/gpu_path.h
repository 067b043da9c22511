// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How the memory of a GPU reaches a network card. Pure functions of facts; whoever has the hardware
// collects them (cuda_driver.h, pci_map.h, rdma_port.h).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "transport/hardware/pci_map.h"
#include "transport/hardware/rdma_port.h"

namespace penstock {

enum class GpuPath : std::uint8_t {
  kDmabuf,   // the card reads and writes GPU memory; the kernel's own mechanism
  kPeermem,  // likewise through the module nvidia_peermem
  kStaging,  // copied through pinned host memory
};
std::string_view gpu_path_name(GpuPath path);  // "dma-buf", "peermem", "pinned staging"

struct GpuPathFacts {
  bool driver_dmabuf = false;  // CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED
  DmabufSupport nic_dmabuf = DmabufSupport::kUnknown;
  bool peermem = false;  // the module nvidia_peermem is loaded
  PciDistance distance = PciDistance::kMachine;
};

struct GpuPathChoice {
  GpuPath path = GpuPath::kStaging;
  std::string why;  // a sentence for people
};

GpuPathChoice choose_gpu_path(const GpuPathFacts& facts);

// What a card's answer to registering a dma-buf with the descriptor −1 says: it looked at the
// descriptor (EBADF) or does not know the call. `error` is the errno of the failed call.
DmabufSupport dmabuf_support(int error);

// Index of the card that serves GPU number `gpu`, given its distances to each: the nearest. GPUs
// with several cards equally near take turns. −1 when there is no card.
int choose_nic(std::size_t gpu, std::span<const PciDistance> distances);

}  // namespace penstock
