// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/region.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <cerrno>

#include "transport/base/check.h"

namespace penstock::verbs {
namespace {

void undo(Domain& domain, ibv_mr* mr) {
  CHECK(domain.rail.api().ibv_dereg_mr(mr) == 0, "a region does not deregister");
  domain.rail.release(&domain);
}

std::string memlock() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : fmt::format("{} bytes", limit.rlim_cur);
}

}  // namespace

Result<ibv_mr*> register_bytes(Domain& domain, std::span<std::byte> bytes, unsigned access) {
  const auto address = reinterpret_cast<std::uint64_t>(bytes.data());
  ibv_mr* mr =
      domain.rail.api().ibv_reg_mr_iova2(domain.pd, bytes.data(), bytes.size(), address, access);
  if (mr != nullptr) {
    add(domain.rail.counts().registrations);
    return mr;
  }
  const int error = errno;
  Status status = Status(Code::kSystem,
                         fmt::format("register {} bytes with {}", bytes.size(), domain.rail.name()))
                      .with_system(error);
  if (error != ENOMEM) return status;
  return Status(Code::kExhausted, fmt::format("register {} bytes with {}; locked memory is "
                                              "limited to {}",
                                              bytes.size(), domain.rail.name(), memlock()))
      .with_system(error)
      .with_hint(
          "raise it: ulimit -l unlimited, LimitMEMLOCK=infinity, or docker --ulimit "
          "memlock=-1");
}

Result<std::unique_ptr<VerbsRegion>> VerbsRegion::create(
    std::span<const std::unique_ptr<Rail>> rails, std::span<std::byte> bytes, Access access,
    PeerScope scope, Incarnation incarnation, std::optional<GpuMemory> gpu) {
  if (bytes.empty()) return Status(Code::kInvalidArgument, "register: no bytes");
  // Whatever order the bytes of a write land in, the completion behind them is ordered.
  unsigned flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_RELAXED_ORDERING;
  if (allows_write(access)) flags |= IBV_ACCESS_REMOTE_WRITE;
  if (allows_read(access)) flags |= IBV_ACCESS_REMOTE_READ;
  std::unique_ptr<VerbsRegion> self(new VerbsRegion(bytes, std::move(gpu)));
  RemoteRegion& descriptor = self->descriptor_;
  descriptor.providers = provider_bit(ProviderKind::kVerbs);
  descriptor.rails = static_cast<std::uint8_t>(rails.size());
  descriptor.incarnation = incarnation;
  descriptor.base = reinterpret_cast<std::uint64_t>(bytes.data());
  descriptor.length = bytes.size();
  for (std::size_t i = 0; i < rails.size(); ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(Domain * domain, rails[i]->acquire(scope));
    Result<ibv_mr*> mr = self->register_in(*domain, flags);
    if (!mr.ok()) {
      rails[i]->release(domain);
      return mr.status();
    }
    self->homes_.push_back({domain, *mr});
    descriptor.key[key_slot(ProviderKind::kVerbs, i)] =
        (*mr)->rkey | (scope == kAnyScope ? 0 : kScopedKey);
  }
  return self;
}

VerbsRegion::~VerbsRegion() {
  for (const Registration& each : homes_) undo(*each.domain, each.mr);
  for (const Registration& each : elsewhere_) undo(*each.domain, each.mr);
}

Result<std::uint32_t> VerbsRegion::local_key_elsewhere(Domain& domain) const {
  MutexLock lock(mutex_);
  for (const Registration& each : elsewhere_)
    if (each.domain == &domain) return each.mr->lkey;
  PENSTOCK_ASSIGN_OR_RETURN(Domain * held, domain.rail.acquire(domain.scope));
  Result<ibv_mr*> mr = register_in(*held, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_RELAXED_ORDERING);
  if (!mr.ok()) {
    domain.rail.release(held);
    return mr.status();
  }
  elsewhere_.push_back({held, *mr});
  return (*mr)->lkey;
}

}  // namespace penstock::verbs
