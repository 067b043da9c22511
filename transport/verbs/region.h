// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Registered bytes. A region is registered in the domain of its scope, which gives the keys peers
// use; where an endpoint of another scope sends from it or reads into it, it is registered in that
// endpoint's domain too, without remote rights, when that first happens.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "transport/api/device.h"
#include "transport/verbs/gpu_memory.h"
#include "transport/verbs/rail.h"

namespace penstock::verbs {

// Beside the 32-bit key in RemoteRegion::key: the region belongs to one scope.
inline constexpr std::uint64_t kScopedKey = std::uint64_t{1} << 32;

// Registers `bytes` in the domain. What failed, with the memlock limit and advice.
Result<ibv_mr*> register_bytes(Domain& domain, std::span<std::byte> bytes, unsigned access);

class VerbsRegion final : public MemoryRegion {
 public:
  // `gpu`: what the bytes are, unless they are the host's.
  static Result<std::unique_ptr<VerbsRegion>> create(std::span<const std::unique_ptr<Rail>> rails,
                                                     std::span<std::byte> bytes, Access access,
                                                     PeerScope scope, Incarnation incarnation,
                                                     std::optional<GpuMemory> gpu = {});
  ~VerbsRegion() override;
  VerbsRegion(const VerbsRegion&) = delete;
  VerbsRegion& operator=(const VerbsRegion&) = delete;

  std::span<std::byte> bytes() const override { return bytes_; }
  MemoryKind kind() const override { return gpu_ ? MemoryKind::kCuda : MemoryKind::kHost; }
  const RemoteRegion& describe() const override { return descriptor_; }
  Status flush() const override { return gpu_ ? gpu_->buffer.flush() : Status(); }

  // The key a queue pair of `domain` sends from here with. Any thread.
  Result<std::uint32_t> local_key(Domain& domain) const {
    for (const Registration& home : homes_)
      if (home.domain == &domain) return home.mr->lkey;
    return local_key_elsewhere(domain);
  }

 private:
  struct Registration {
    Domain* domain;
    ibv_mr* mr;
  };
  VerbsRegion(std::span<std::byte> bytes, std::optional<GpuMemory> gpu)
      : bytes_(bytes), gpu_(std::move(gpu)) {}
  Result<ibv_mr*> register_in(Domain& domain, unsigned access) const {
    return gpu_ ? register_gpu_memory(domain, *gpu_, access)
                : register_bytes(domain, bytes_, access);
  }
  Result<std::uint32_t> local_key_elsewhere(Domain& domain) const;

  const std::span<std::byte> bytes_;
  const std::optional<GpuMemory> gpu_;
  RemoteRegion descriptor_;
  std::vector<Registration> homes_;  // one for each rail
  mutable Mutex mutex_;
  mutable std::vector<Registration> elsewhere_ GUARDED_BY(mutex_);
};

}  // namespace penstock::verbs
