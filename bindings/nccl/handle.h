// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What listen() puts into NCCL's 128 bytes and connect() finds there. NCCL carries them to the
// peer over its own bootstrap connection; they come from another machine, so everything in them is
// checked. Little endian:
//
//   0 magic 4   4 version 1   5 address bytes 1   6 zero 2   8 token 16   24 cookie 8   32 address
//
// The token is the secret of one listen(). The cookie is the connecting side's own note: NCCL hands
// the same bytes to each further call of one connect(), and this says which connection it is.

#include <cstdint>
#include <span>
#include <string>

#include "bindings/nccl/abi.h"
#include "transport/api/types.h"

namespace penstock::nccl {

struct ListenHandle {
  static constexpr std::uint8_t kVersion = 1;  // of the handle and of what connections carry
  static constexpr std::size_t kMostAddressBytes = kHandleBytes - 32;

  Token token{};
  std::uint64_t cookie = 0;  // as listen() leaves it
  std::string address;       // Device::address()
};

// kUnsupported when the address does not fit.
Status encode_handle(const ListenHandle& handle, std::span<std::byte, kHandleBytes> bytes);
// kProtocol for what no listen() made, kMismatch for that of another version.
Result<ListenHandle> decode_handle(std::span<const std::byte, kHandleBytes> bytes);
void set_cookie(std::span<std::byte, kHandleBytes> bytes, std::uint64_t cookie);

}  // namespace penstock::nccl
