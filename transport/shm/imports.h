// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the peer of one connection granted us: where its regions lie, mapped if they are shared.
// A key is asked for once, when it is first used. Thread: the endpoint's.

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "transport/api/device.h"
#include "transport/hardware/cuda_import.h"
#include "transport/shm/message.h"
#include "transport/shm/shared_memory.h"

namespace penstock::shm {

class Imports {
 public:
  struct Region {
    std::uint64_t key = 0;
    bool asked = false, answered = false;
    Code code = Code::kOk;  // why the peer gives us nothing
    Access access{};
    std::uint64_t length = 0;
    std::byte* base = nullptr;  // null: not shared, its owner copies
    std::shared_ptr<Mapping> mapping;
    std::optional<CudaShare> cuda;  // GPU memory: opened by map()
  };

  // `cuda`: the driver, or null for the host's.
  explicit Imports(const CudaDriver* cuda) : cuda_(cuda) {}

  // The region of `key`; null when the peer must be asked, which is noted as done.
  const Region* find(std::uint64_t key);

  // As Endpoint::map(), null while the peer has not answered. `ask` is set when it must be asked.
  Result<std::shared_ptr<RemoteMapping>> map(std::uint64_t key, Access access, bool& ask);

  // A kGrant. kProtocol when it answers nothing, or what it says does not fit together.
  Status learn(const Parcel& parcel);

 private:
  struct Wish {  // of map()
    Access access{};
    Region region;
  };
  struct Known {  // a block that may still be mapped
    std::uint64_t block = 0;
    bool writable = false;
    std::weak_ptr<Mapping> mapping;
  };

  Status fill(Region& region, const Parcel& parcel, bool writable);
  Result<std::shared_ptr<RemoteMapping>> open(const Region& region) const;
  Result<std::shared_ptr<Mapping>> map_block(const Parcel& parcel, bool writable);

  const CudaDriver* const cuda_;
  std::unordered_map<std::uint32_t, Region> regions_;  // by slot: a new key there replaces the old
  std::vector<Wish> wishes_;
  std::vector<Known> known_;
};

}  // namespace penstock::shm
