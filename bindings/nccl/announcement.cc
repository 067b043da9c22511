// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/announcement.h"

#include <bit>
#include <cstddef>
#include <cstring>

#include "bindings/nccl/handle.h"

namespace penstock::nccl {
namespace {

struct Wire {
  std::uint8_t version = ListenHandle::kVersion;
  std::uint8_t slot, index, count;
  std::int32_t tag;
  std::uint64_t size, offset;
  std::uint8_t providers, maps, region_version, rails;
  std::uint32_t zero = 0;
  std::uint64_t incarnation, base, length;
  std::uint64_t key[kRegionKeys];
};
static_assert(std::endian::native == std::endian::little, "announcements travel as they lie");
static_assert(sizeof(Wire) == Announcement::kBytes);
static_assert(offsetof(Wire, providers) == 24);
static_assert(offsetof(Wire, incarnation) == 32);

}  // namespace

void encode_announcement(const Announcement& a, std::span<std::byte, Announcement::kBytes> bytes) {
  Wire wire{.slot = a.slot,
            .index = a.index,
            .count = a.count,
            .tag = a.tag,
            .size = a.size,
            .offset = a.offset,
            .providers = a.region.providers,
            .maps = a.region.maps,
            .region_version = a.region.version,
            .rails = a.region.rails,
            .incarnation = a.region.incarnation,
            .base = a.region.base,
            .length = a.region.length,
            .key = {}};
  std::memcpy(wire.key, a.region.key.data(), sizeof wire.key);
  std::memcpy(bytes.data(), &wire, sizeof wire);
}

Result<Announcement> decode_announcement(std::span<const std::byte> message) {
  const auto bad = [](const char* what) { return Status(Code::kProtocol, what); };
  Wire wire;
  if (message.size() != sizeof wire) return bad("a message that announces no receive");
  std::memcpy(&wire, message.data(), sizeof wire);
  if (wire.version != ListenHandle::kVersion || wire.zero != 0)
    return bad("an announcement of another version");
  if (wire.slot >= kMaxRequests || wire.count == 0 || wire.count > kMaxReceives ||
      wire.index >= wire.count)
    return bad("an announcement that counts wrong");
  if (wire.size > 0 && (wire.region_version != RemoteRegion::kVersion ||
                        wire.offset > wire.length || wire.size > wire.length - wire.offset))
    return bad("an announced buffer outside its region");
  Announcement a{.slot = wire.slot,
                 .index = wire.index,
                 .count = wire.count,
                 .tag = wire.tag,
                 .size = wire.size,
                 .offset = wire.offset,
                 .region = {}};
  a.region = {.providers = wire.providers,
              .maps = wire.maps,
              .version = wire.region_version,
              .rails = wire.rails,
              .incarnation = wire.incarnation,
              .base = wire.base,
              .length = wire.length,
              .key = {}};
  std::memcpy(a.region.key.data(), wire.key, sizeof wire.key);
  return a;
}

}  // namespace penstock::nccl
