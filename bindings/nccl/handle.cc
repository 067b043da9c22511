// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/handle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace penstock::nccl {
namespace {

constexpr std::uint32_t kMagic = 0x434e5350;  // "PSNC" in memory
struct Wire {
  std::uint32_t magic = kMagic;
  std::uint8_t version = ListenHandle::kVersion;
  std::uint8_t address_bytes = 0;
  std::uint16_t zero = 0;
  Token token{};
  std::uint64_t cookie = 0;
  char address[ListenHandle::kMostAddressBytes] = {};
};
static_assert(std::endian::native == std::endian::little, "handles travel as they lie");
static_assert(sizeof(Wire) == kHandleBytes);
static_assert(offsetof(Wire, token) == 8);
static_assert(offsetof(Wire, cookie) == 24);
static_assert(offsetof(Wire, address) == 32);

}  // namespace

Status encode_handle(const ListenHandle& handle, std::span<std::byte, kHandleBytes> bytes) {
  Wire wire;
  if (handle.address.size() > sizeof wire.address)
    return Status(Code::kUnsupported,
                  fmt::format("the address {} has {} bytes, a handle of NCCL's holds {}",
                              handle.address, handle.address.size(), sizeof wire.address));
  wire.address_bytes = static_cast<std::uint8_t>(handle.address.size());
  wire.token = handle.token;
  wire.cookie = handle.cookie;
  std::copy(handle.address.begin(), handle.address.end(), wire.address);
  std::memcpy(bytes.data(), &wire, sizeof wire);
  return {};
}

Result<ListenHandle> decode_handle(std::span<const std::byte, kHandleBytes> bytes) {
  Wire wire;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  if (wire.magic != kMagic || wire.zero != 0 || wire.address_bytes > sizeof wire.address)
    return Status(Code::kProtocol, "the handle was not made by this plugin")
        .with_hint("every rank needs NCCL_NET_PLUGIN=penstock, or none");
  if (wire.version != ListenHandle::kVersion)
    return Status(Code::kMismatch, fmt::format("the peer's plugin speaks version {}, this one {}",
                                               wire.version, ListenHandle::kVersion))
        .with_hint("install the same version of Penstock on every node");
  return ListenHandle{wire.token, wire.cookie, std::string(wire.address, wire.address_bytes)};
}

void set_cookie(std::span<std::byte, kHandleBytes> bytes, std::uint64_t cookie) {
  std::memcpy(bytes.data() + offsetof(Wire, cookie), &cookie, sizeof cookie);
}

}  // namespace penstock::nccl
