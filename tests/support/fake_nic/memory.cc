// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Protection domains, memory regions, type-2B memory windows, and who may reach what.

#include <fcntl.h>

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr unsigned kRemoteAccess =
    IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
constexpr unsigned kKnownAccess =
    IBV_ACCESS_LOCAL_WRITE | kRemoteAccess | IBV_ACCESS_MW_BIND | IBV_ACCESS_OPTIONAL_RANGE;

std::uint64_t pages_of(const void* address, std::uint64_t length) {
  const auto first = reinterpret_cast<std::uintptr_t>(address) / kPage;
  const auto last = (reinterpret_cast<std::uintptr_t>(address) + length - 1) / kPage;
  return (last - first + 1) * kPage;
}

bool inside(std::uint64_t address, std::uint64_t length, std::uint64_t base, std::uint64_t size) {
  return address >= base && length <= size && address - base <= size - length;
}

ibv_pd* alloc_pd(ibv_context* raw) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_alloc_pd");
  if (call.refused()) return none(EINVAL);
  if (call->full(*context.nic, Kind::kPd, context.nic->spec.limits.max_pd)) return none(ENOMEM);
  auto* pd = call->make<FakePd>(Kind::kPd, context.nic, {&context});
  pd->context = raw;
  return pd;
}

int dealloc_pd(ibv_pd* raw) {
  auto& pd = static_cast<FakePd&>(*raw);
  const Call call(pd, "ibv_dealloc_pd");
  return call.refused() ? EINVAL : call->retire(pd);
}

int refuse_registration(FabricState& fabric, const FakeDevice& nic, std::uint64_t length,
                        std::uint64_t pinned, unsigned access) {
  if (fabric.registrations_to_fail > 0) {
    --fabric.registrations_to_fail;
    return fabric.registration_error;
  }
  const FakeLimits& limits = nic.spec.limits;
  if (nic.removed) return EIO;
  if (length == 0 || length > limits.max_mr_bytes) return EINVAL;
  if ((access & ~kKnownAccess) != 0) return EOPNOTSUPP;  // on demand, huge pages: not here
  const bool writes = (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0;
  if (writes && (access & IBV_ACCESS_LOCAL_WRITE) == 0) return EINVAL;
  if (fabric.full(nic, Kind::kMr, limits.max_mr)) return ENOMEM;
  if (nic.pinned_bytes + pinned > limits.memlock_bytes) return ENOMEM;
  return 0;
}

FakeMr* register_bytes(FabricState& fabric, FakePd& pd, std::byte* base, std::uint64_t length,
                       std::uint64_t iova, std::uint64_t pinned, unsigned access) {
  FakeDevice& nic = *pd.nic;
  if (const int error = refuse_registration(fabric, nic, length, pinned, access); error != 0)
    return none(error);
  auto* mr = fabric.make<FakeMr>(Kind::kMr, &nic, {&pd});
  mr->context = pd.context;
  mr->pd = &pd;
  mr->addr = base;
  mr->length = length;
  // mlx5 gives one number for both; two different ones show who confuses them.
  mr->lkey = fabric.new_key(*mr);
  mr->rkey = fabric.new_key(*mr);
  mr->base = base;
  mr->iova = iova;
  mr->access = access;
  mr->pinned_bytes = pinned;
  nic.pinned_bytes += pinned;
  ++fabric.ledger.registrations;
  return mr;
}

ibv_mr* reg_mr_iova2(ibv_pd* raw, void* address, std::size_t length, std::uint64_t iova,
                     unsigned access) {
  auto& pd = static_cast<FakePd&>(*raw);
  const Call call(pd, "ibv_reg_mr_iova2");
  if (call.refused()) return none(EINVAL);
  if (address == nullptr) return none(EFAULT);
  auto* const at = static_cast<std::byte*>(address);
  for (const auto& [addresses, bytes] : call->peer_memory) {
    if (at < addresses.data() || at >= addresses.data() + addresses.size()) continue;
    const auto offset = static_cast<std::uint64_t>(at - addresses.data());
    if (!inside(offset, length, 0, bytes.size())) return none(EFAULT);
    return register_bytes(*call, pd, bytes.data() + offset, length, iova, 0, access);
  }
  return register_bytes(*call, pd, at, length, iova, pages_of(address, length), access);
}

// The order of the refusals is what a probe with descriptor −1 relies on: EOPNOTSUPP from a device
// that cannot at all, EBADF from one that can.
ibv_mr* reg_dmabuf_mr(ibv_pd* raw, std::uint64_t offset, std::size_t length, std::uint64_t iova,
                      int fd, int access) {
  auto& pd = static_cast<FakePd&>(*raw);
  const Call call(pd, "ibv_reg_dmabuf_mr");
  if (call.refused()) return none(EINVAL);
  if (!pd.nic->spec.dmabuf) return none(EOPNOTSUPP);
  const auto found = call->dmabufs.find(fd);
  if (found == call->dmabufs.end() || ::fcntl(fd, F_GETFD) < 0) return none(EBADF);
  const std::span<std::byte> bytes = found->second;
  if (!inside(offset, length, 0, bytes.size()) || offset % kPage != iova % kPage)
    return none(EINVAL);
  return register_bytes(*call, pd, bytes.data() + offset, length, iova, 0,
                        static_cast<unsigned>(access));
}

bool uses(FakeQp& qp, std::uint32_t lkey) {
  const auto among = [lkey](const auto& sges, int count) {
    return std::any_of(sges.begin(), sges.begin() + count,
                       [lkey](const ibv_sge& sge) { return sge.lkey == lkey && sge.length != 0; });
  };
  for (std::size_t i = 0; i < qp.requests.size(); ++i) {
    const Request& request = qp.requests[i];
    if ((request.wr.send_flags & IBV_SEND_INLINE) != 0) continue;
    if (among(request.sges, request.wr.num_sge)) return true;
  }
  ReceiveQueue& queue = qp.receive_queue();
  for (std::size_t i = 0; i < queue.posted.size(); ++i) {
    if (among(queue.posted[i].sges, queue.posted[i].num_sge)) return true;
  }
  return false;
}

int dereg_mr(ibv_mr* raw) {
  auto& mr = static_cast<FakeMr&>(*raw);
  const Call call(mr, "ibv_dereg_mr");
  if (call.refused()) return EINVAL;
  for (FakeQp* qp : call->queue_pairs) {
    if (qp->now == IBV_QPS_RTS && uses(*qp, mr.lkey))
      call->violation("a mr was deregistered while a request on {} uses it", call->describe(*qp));
  }
  if (const int error = call->retire(mr); error != 0) return error;
  call->keys.erase(mr.lkey);
  call->keys.erase(mr.rkey);
  mr.nic->pinned_bytes -= mr.pinned_bytes;
  ++call->ledger.deregistrations;
  return 0;
}

ibv_mw* alloc_mw(ibv_pd* raw, ibv_mw_type type) {
  auto& pd = static_cast<FakePd&>(*raw);
  const Call call(pd, "ibv_alloc_mw");
  if (call.refused()) return none(EINVAL);
  if (!pd.nic->spec.windows || type != IBV_MW_TYPE_2) return none(EOPNOTSUPP);
  if (call->full(*pd.nic, Kind::kMw, pd.nic->spec.limits.max_mw)) return none(ENOMEM);
  auto* mw = call->make<FakeMw>(Kind::kMw, pd.nic, {&pd});
  mw->context = pd.context;
  mw->pd = &pd;
  mw->type = type;
  mw->rkey = mw->current_rkey = call->new_key(*mw);
  return mw;
}

int bind_mw(ibv_qp*, ibv_mw*, ibv_mw_bind*) { return EOPNOTSUPP; }  // type 1 alone uses it

void unbind(FabricState& fabric, FakeMw& mw) {
  if (!mw.bound) return;
  mw.bound = false;
  --mw.mr->children;
  mw.mr = nullptr;
  fabric.keys.erase(mw.current_rkey);
}

int dealloc_mw(ibv_mw* raw) {
  auto& mw = static_cast<FakeMw&>(*raw);
  const Call call(mw, "ibv_dealloc_mw");
  if (call.refused()) return EINVAL;
  if (const int error = call->retire(mw); error != 0) return error;
  unbind(*call, mw);
  call->keys.erase(mw.current_rkey);
  return 0;
}

}  // namespace

std::uint32_t FabricState::new_key(Object& object) {
  const auto low = static_cast<std::uint32_t>(random.below(256));
  const std::uint32_t key = next_key_index++ << 8U | low;
  keys[key] = &object;
  return key;
}

std::byte* FabricState::local_bytes(const FakeQp& qp, const ibv_sge& sge, unsigned access) const {
  const auto found = keys.find(sge.lkey);
  if (found == keys.end()) return nullptr;
  const auto* mr = dynamic_cast<const FakeMr*>(found->second);
  if (mr == nullptr || mr->lkey != sge.lkey || mr->pd != qp.pd) return nullptr;
  if ((mr->access & access) != access) return nullptr;
  if (!inside(sge.addr, sge.length, mr->iova, mr->length)) return nullptr;
  return mr->base + (sge.addr - mr->iova);
}

std::byte* FabricState::remote_bytes(const FakeQp& responder, std::uint32_t rkey,
                                     std::uint64_t address, std::uint64_t length,
                                     unsigned access) const {
  if ((responder.attr.qp_access_flags & access) != access) return nullptr;
  const auto found = keys.find(rkey);
  if (found == keys.end()) return nullptr;
  if (const auto* mr = dynamic_cast<const FakeMr*>(found->second); mr != nullptr) {
    if (mr->rkey != rkey || mr->pd != responder.pd || (mr->access & access) != access)
      return nullptr;
    if (!inside(address, length, mr->iova, mr->length)) return nullptr;
    return mr->base + (address - mr->iova);
  }
  const auto& mw = dynamic_cast<const FakeMw&>(*found->second);
  if (!mw.bound || mw.qp_num != responder.qp_num || mw.pd != responder.pd) return nullptr;
  if ((mw.access & access) != access) return nullptr;
  if (!inside(address, length, mw.address, mw.length)) return nullptr;
  return mw.mr->base + (address - mw.mr->iova);
}

ibv_wc_status FabricState::bind(const FakeQp& qp, const ibv_send_wr& wr) {
  auto& mw = static_cast<FakeMw&>(*wr.bind_mw.mw);
  const ibv_mw_bind_info& wanted = wr.bind_mw.bind_info;
  auto* mr = static_cast<FakeMr*>(wanted.mr);
  if (!mw.alive || mw.bound || mr == nullptr || !mr->alive) return IBV_WC_MW_BIND_ERR;
  if (mw.pd != qp.pd || mr->pd != qp.pd || (mr->access & IBV_ACCESS_MW_BIND) == 0)
    return IBV_WC_MW_BIND_ERR;
  // The index is the window's; the low byte is the caller's to change, as ibv_inc_rkey() does.
  if (wr.bind_mw.rkey >> 8U != mw.rkey >> 8U) return IBV_WC_MW_BIND_ERR;
  const bool writes = (wanted.mw_access_flags & IBV_ACCESS_REMOTE_WRITE) != 0;
  if (writes && (mr->access & IBV_ACCESS_LOCAL_WRITE) == 0) return IBV_WC_MW_BIND_ERR;
  if (!inside(wanted.addr, wanted.length, mr->iova, mr->length)) return IBV_WC_MW_BIND_ERR;
  keys.erase(mw.current_rkey);
  mw.current_rkey = wr.bind_mw.rkey;
  keys[mw.current_rkey] = &mw;
  mw.bound = true;
  mw.mr = mr;
  ++mr->children;
  mw.qp_num = qp.qp_num;
  mw.address = wanted.addr;
  mw.length = wanted.length;
  mw.access = wanted.mw_access_flags;
  ++ledger.binds;
  return IBV_WC_SUCCESS;
}

ibv_wc_status FabricState::invalidate(const FakeQp& qp, std::uint32_t rkey) {
  const auto found = keys.find(rkey);
  auto* mw = found == keys.end() ? nullptr : dynamic_cast<FakeMw*>(found->second);
  if (mw == nullptr || !mw->bound || mw->qp_num != qp.qp_num || mw->pd != qp.pd)
    return IBV_WC_MW_BIND_ERR;
  unbind(*this, *mw);
  ++ledger.invalidations;
  return IBV_WC_SUCCESS;
}

void fill_memory(verbs::VerbsApi& api) {
  api.ibv_alloc_pd = alloc_pd;
  api.ibv_dealloc_pd = dealloc_pd;
  api.ibv_reg_mr_iova2 = reg_mr_iova2;
  api.ibv_reg_dmabuf_mr = reg_dmabuf_mr;
  api.ibv_dereg_mr = dereg_mr;
}

void fill_memory(ibv_context_ops& ops) {
  ops.alloc_mw = alloc_mw;
  ops.bind_mw = bind_mw;
  ops.dealloc_mw = dealloc_mw;
}

}  // namespace penstock::test
