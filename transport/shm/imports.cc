// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/imports.h"

#include <algorithm>
#include <cstring>

#include "transport/shm/region_table.h"

namespace penstock::shm {
namespace {

class ShmMapping final : public RemoteMapping {
 public:
  ShmMapping(std::shared_ptr<Mapping> mapping, std::span<std::byte> bytes)
      : mapping_(std::move(mapping)), bytes_(bytes) {}
  std::span<std::byte> bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<Mapping> mapping_;
  const std::span<std::byte> bytes_;
};

class CudaMapping final : public RemoteMapping {
 public:
  explicit CudaMapping(CudaImport import) : import_(std::move(import)) {}
  std::span<std::byte> bytes() const override { return import_.bytes(); }
  MemoryKind kind() const override { return MemoryKind::kCuda; }

 private:
  const CudaImport import_;
};

}  // namespace

const Imports::Region* Imports::find(std::uint64_t key) {
  Region& region = regions_[slot_of(key)];
  if (region.asked && region.key == key) return &region;
  region = {};
  region.key = key;
  region.asked = true;
  return nullptr;
}

Result<std::shared_ptr<RemoteMapping>> Imports::map(std::uint64_t key, Access access, bool& ask) {
  const auto found = std::find_if(wishes_.begin(), wishes_.end(), [&](const Wish& wish) {
    return wish.region.key == key && wish.access == access;
  });
  ask = found == wishes_.end();
  if (ask) {
    wishes_.push_back({access, {}});
    wishes_.back().region.key = key;
    return std::shared_ptr<RemoteMapping>();
  }
  if (!found->region.answered) return std::shared_ptr<RemoteMapping>();
  const Region region = std::move(found->region);
  wishes_.erase(found);
  if (region.code != Code::kOk) return Status(region.code, "map: no such region of the peer");
  if (!covers(region.access, access))
    return Status(Code::kAccess, "map: the peer does not allow it for this region");
  if (region.cuda) return open(region);
  if (region.base == nullptr)
    return Status(Code::kUnsupported, "map: the peer's region does not lie in memory it shares")
        .with_hint("its owner has to take it from allocate_memory()");
  return std::shared_ptr<RemoteMapping>(
      std::make_shared<ShmMapping>(region.mapping, std::span(region.base, region.length)));
}

// A peer's GPU that is not ours to open ends nothing: the caller has other ways.
Result<std::shared_ptr<RemoteMapping>> Imports::open(const Region& region) const {
  const CudaDriver* driver = cuda_;
  if (driver == nullptr) {
    PENSTOCK_ASSIGN_OR_RETURN(driver, system_cuda());
  }
  PENSTOCK_ASSIGN_OR_RETURN(CudaImport import,
                            CudaImport::open(*driver, *region.cuda, region.length));
  return std::shared_ptr<RemoteMapping>(std::make_shared<CudaMapping>(std::move(import)));
}

Status Imports::learn(const Parcel& parcel) {
  const Message& grant = parcel.message;
  if (grant.to_map != 0) {
    for (Wish& wish : wishes_)
      if (wish.region.key == grant.key && !wish.region.answered)
        return fill(wish.region, parcel, allows_write(wish.access));
  } else if (const auto found = regions_.find(slot_of(grant.key));
             found != regions_.end() && found->second.key == grant.key && !found->second.answered) {
    return fill(found->second, parcel, allows_write(grant.access));
  }
  return {Code::kProtocol, "the peer answered what was not asked"};
}

Status Imports::fill(Region& region, const Parcel& parcel, bool writable) {
  const Message& grant = parcel.message;
  const bool cuda = grant.memory == MemoryKind::kCuda;
  if (grant.code == Code::kOk && (grant.block != 0 || cuda)) {
    if (parcel.fd_count != (cuda ? 0U : 1U) || grant.block_offset > grant.block_bytes ||
        grant.length > grant.block_bytes - grant.block_offset)
      return {Code::kProtocol, "the peer granted a region outside its memory"};
  }
  if (grant.code == Code::kOk && cuda) {
    const std::string gpu(grant.gpu.data(), ::strnlen(grant.gpu.data(), grant.gpu.size()));
    region.cuda = CudaShare{grant.cuda, gpu, grant.block_bytes, grant.block_offset};
  } else if (grant.code == Code::kOk && grant.block != 0) {
    // What may not be written is refused by map() or at the post.
    PENSTOCK_ASSIGN_OR_RETURN(region.mapping,
                              map_block(parcel, writable && allows_write(grant.access)));
    region.base = region.mapping->bytes().data() + grant.block_offset;
  }
  region.code = grant.code;
  region.access = grant.access;
  region.length = grant.length;
  region.answered = true;
  return {};
}

Result<std::shared_ptr<Mapping>> Imports::map_block(const Parcel& parcel, bool writable) {
  const Message& grant = parcel.message;
  std::erase_if(known_, [](const Known& known) { return known.mapping.expired(); });
  for (const Known& known : known_) {
    std::shared_ptr<Mapping> mapping = known.mapping.lock();
    if (known.block != grant.block || known.writable != writable || mapping == nullptr) continue;
    if (mapping->bytes().size() != grant.block_bytes)
      return Status(Code::kProtocol, "the peer's memory changed its size");
    return mapping;
  }
  PENSTOCK_ASSIGN_OR_RETURN(Mapping made,
                            map_shared(parcel.fds[0].get(), grant.block_bytes, writable));
  auto mapping = std::make_shared<Mapping>(std::move(made));
  known_.push_back({grant.block, writable, mapping});
  return mapping;
}

}  // namespace penstock::shm
