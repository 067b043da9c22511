// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What goes over the socket of a connection: who is there, which memory, and why it ended. One
// datagram each, of fixed size, in this host's byte order; the bytes themselves go through memory.
//
//   connector ── kHello (token, probe, scope; segment, regions, bell) ──▶ acceptor
//             ◀─ kWelcome (probe, scope; segment, regions, bell) or kRefusal (code) ──
//   either    ── kAsk (key) ──▶  ◀── kGrant (key, code, where it lies; its memory if shared) ──
//   either    ── kFault (code) ──▶ before it hangs up because of what the peer did

#include <array>
#include <cstddef>
#include <cstdint>

#include "transport/api/types.h"
#include "transport/base/unique_fd.h"
#include "transport/hardware/cuda_driver.h"

namespace penstock::shm {

inline constexpr std::uint32_t kMagic = 0x4d'53'53'50;  // "PSSM"
inline constexpr std::uint16_t kVersion = 3;

enum class MessageKind : std::uint8_t { kHello, kWelcome, kRefusal, kAsk, kGrant, kFault };

struct Message {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  MessageKind kind{};
  Code code = Code::kOk;        // kRefusal, kGrant, kFault
  Incarnation incarnation = 0;  // kHello, kWelcome: the sender's
  Token token{};                // kHello
  // kHello, kWelcome: a word of the sender's memory and what it reads, which proves that its memory
  // can be reached (process_memory.h); 0: it shall not be.
  std::uint64_t probe_address = 0;
  std::uint64_t probe = 0;
  // kAsk, kGrant
  std::uint64_t key = 0;
  std::uint64_t length = 0;        // of the region
  std::uint64_t block = 0;         // identity of the memory it lies in; 0: it is not shared
  std::uint64_t block_bytes = 0;   // mapped as a whole
  std::uint64_t block_offset = 0;  // of the region in it
  Access access{};                 // what the region allows
  std::uint8_t to_map = 0;         // kAsk: for map(), comes back in kGrant
  MemoryKind memory{};             // of the region
  std::uint8_t unused = 0;
  PeerScope scope =
      kAnyScope;  // kHello, kWelcome: whose regions of the sender the receiver may use
  // kGrant of GPU memory, which has no block and no descriptor: what opens its allocation.
  CudaIpcHandle cuda{};
  std::array<char, 16> gpu{};  // PCI address
};
static_assert(sizeof(Message) == 176);

// The descriptors of a hello and a welcome, in this order; a grant has one or none.
enum : std::size_t { kSegmentFd, kRegionsFd, kBellFd, kMaxFds };

struct Parcel {
  Message message;
  std::array<UniqueFd, kMaxFds> fds;
  std::size_t fd_count = 0;
};

}  // namespace penstock::shm
