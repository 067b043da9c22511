// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Posting: what a NIC's user-space driver refuses, with the numbers libmlx5 gives.

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

bool known(ibv_wr_opcode opcode) {
  switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
    case IBV_WR_SEND_WITH_INV:
    case IBV_WR_RDMA_READ:
    case IBV_WR_LOCAL_INV:
    case IBV_WR_BIND_MW:
      return true;
    default:
      return false;
  }
}

int refuse_send(FabricState& fabric, const FakeQp& qp, const ibv_send_wr& wr) {
  if (qp.now != IBV_QPS_RTS && qp.now != IBV_QPS_ERR) {
    fabric.violation("post_send on {}, which is not connected", fabric.describe(qp));
    return EINVAL;
  }
  // A slot is free again only when the completion of this request, or of a later one, was polled.
  if (qp.posted - qp.freed >= qp.cap.max_send_wr) {
    fabric.violation("post_send on {} with its send queue of {} full", fabric.describe(qp),
                     qp.cap.max_send_wr);
    return ENOMEM;
  }
  if (!known(wr.opcode)) return EINVAL;
  if (wr.num_sge < 0 || wr.num_sge > static_cast<int>(qp.cap.max_send_sge)) {
    fabric.violation("post_send on {} with {} pieces, {} allowed", fabric.describe(qp), wr.num_sge,
                     qp.cap.max_send_sge);
    return ENOMEM;
  }
  if ((wr.send_flags & IBV_SEND_INLINE) == 0) return 0;
  std::uint64_t bytes = 0;
  for (int i = 0; i < wr.num_sge; ++i) bytes += wr.sg_list[i].length;
  if (wr.opcode == IBV_WR_RDMA_READ) return EINVAL;
  if (bytes <= qp.cap.max_inline_data) return 0;
  fabric.violation("post_send on {} with {} bytes inline, {} allowed", fabric.describe(qp), bytes,
                   qp.cap.max_inline_data);
  return ENOMEM;
}

void accept_send(FabricState& fabric, FakeQp& qp, const ibv_send_wr& wr) {
  Request request;
  request.wr = wr;
  request.wr.next = nullptr;
  request.wr.sg_list = nullptr;
  std::copy_n(wr.sg_list, wr.num_sge, request.sges.begin());
  request.sequence = ++qp.posted;
  request.signalled = qp.signal_all || (wr.send_flags & IBV_SEND_SIGNALED) != 0;
  if ((wr.send_flags & IBV_SEND_INLINE) != 0) {
    std::byte* to = qp.inlined(request);
    for (int i = 0; i < wr.num_sge; ++i) {
      if (wr.sg_list[i].length == 0) continue;
      std::memcpy(to, reinterpret_cast<const void*>(wr.sg_list[i].addr), wr.sg_list[i].length);
      to += wr.sg_list[i].length;
    }
    ++fabric.ledger.inlined;
  }
  if (request.signalled) ++fabric.ledger.signalled;
  ++fabric.ledger.sends;
  qp.requests.push(request);
}

int post_send(ibv_qp* raw, ibv_send_wr* wr, ibv_send_wr** bad) {
  auto& qp = static_cast<FakeQp&>(*raw);
  const Call call(qp, "ibv_post_send");
  ++call->ledger.doorbells;
  for (; wr != nullptr; wr = wr->next) {
    const int error = call.refused() ? EINVAL : refuse_send(*call, qp, *wr);
    if (error == 0) {
      accept_send(*call, qp, *wr);
      continue;
    }
    *bad = wr;  // those before it are on their way
    return error;
  }
  return 0;
}

int accept_receive(FabricState& fabric, ReceiveQueue& queue, const ibv_recv_wr& wr) {
  if (wr.num_sge < 0 || wr.num_sge > queue.max_sge) return EINVAL;
  if (queue.posted.size() >= queue.capacity) {
    fabric.violation("a receive was posted with its queue of {} full", queue.capacity);
    return ENOMEM;
  }
  Receive receive;
  receive.wr_id = wr.wr_id;
  receive.num_sge = wr.num_sge;
  std::copy_n(wr.sg_list, wr.num_sge, receive.sges.begin());
  queue.posted.push(receive);
  ++fabric.ledger.receives;
  return 0;
}

int post_recv(ibv_qp* raw, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  auto& qp = static_cast<FakeQp&>(*raw);
  const Call call(qp, "ibv_post_recv");
  ++call->ledger.receive_posts;
  for (; wr != nullptr; wr = wr->next) {
    int error = call.refused() || qp.now == IBV_QPS_RESET || qp.srq != nullptr ? EINVAL : 0;
    if (error == 0) error = accept_receive(*call, qp.receives, *wr);
    if (error != 0) {
      *bad = wr;
      return error;
    }
    // mlx5 flushes a receive posted after the error; soft-RoCE keeps it for ever.
    if (qp.now == IBV_QPS_ERR)
      call->complete_receive(qp, qp.receives.posted.pop(), IBV_WC_WR_FLUSH_ERR);
  }
  return 0;
}

int post_srq_recv(ibv_srq* raw, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  auto& srq = static_cast<FakeSrq&>(*raw);
  const Call call(srq, "ibv_post_srq_recv");
  ++call->ledger.receive_posts;
  for (; wr != nullptr; wr = wr->next) {
    const int error = call.refused() ? EINVAL : accept_receive(*call, srq.queue, *wr);
    if (error == 0) continue;
    *bad = wr;
    return error;
  }
  return 0;
}

}  // namespace

void fill_queue_pairs(ibv_context_ops& ops) {
  ops.post_send = post_send;
  ops.post_recv = post_recv;
  ops.post_srq_recv = post_srq_recv;
}

}  // namespace penstock::test
