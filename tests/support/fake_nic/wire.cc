// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// One request crosses the wire: checks, copying, and what both ends see of it.

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

using Pieces = std::vector<std::span<std::byte>>;

// What mlx5 puts into vendor_err, as far as it is known.
std::uint32_t syndrome(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return 0;
    case IBV_WC_LOC_PROT_ERR:
      return 0x51;
    case IBV_WC_RETRY_EXC_ERR:
      return 0x81;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return 0x87;
    case IBV_WC_REM_ACCESS_ERR:
      return 0x88;
    case IBV_WC_REM_INV_REQ_ERR:
      return 0x8a;
    case IBV_WC_WR_FLUSH_ERR:
      return 0xf9;
    default:
      return 0x7f;
  }
}

bool is_local(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_BIND_MW || opcode == IBV_WR_LOCAL_INV;
}

bool is_send(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_SEND_WITH_INV;
}

bool has_immediate(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_RDMA_WRITE_WITH_IMM || opcode == IBV_WR_SEND_WITH_IMM;
}

bool takes_receive(ibv_wr_opcode opcode) {
  return is_send(opcode) || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

std::uint64_t length_of(const Request& request) {
  std::uint64_t bytes = 0;
  for (int i = 0; i < request.wr.num_sge; ++i)
    bytes += request.sges[static_cast<std::size_t>(i)].length;
  return bytes;
}

void copy(const Pieces& source, const Pieces& target) {
  std::size_t to = 0, at = 0;
  for (std::span<std::byte> from : source) {
    while (!from.empty()) {
      const std::span<std::byte> room = target[to].subspan(at);
      const std::size_t bytes = std::min(room.size(), from.size());
      std::memmove(room.data(), from.data(), bytes);
      from = from.subspan(bytes);
      at += bytes;
      if (at != target[to].size()) continue;
      ++to;
      at = 0;
    }
  }
}

// The bytes a scatter list names, or false when a key does not allow them.
template <class Sges>
bool gather(const FabricState& fabric, const FakeQp& qp, const Sges& sges, int count,
            unsigned access, Pieces& out) {
  out.clear();
  for (int i = 0; i < count; ++i) {
    const ibv_sge& sge = sges[static_cast<std::size_t>(i)];
    if (sge.length == 0) continue;
    std::byte* bytes = fabric.local_bytes(qp, sge, access);
    if (bytes == nullptr) return false;
    out.emplace_back(bytes, sge.length);
  }
  return true;
}

// The requester's own memory. Inline bytes were copied when they were posted.
bool gather_own(FabricState& fabric, FakeQp& qp, const Request& request) {
  if ((request.wr.send_flags & IBV_SEND_INLINE) == 0) {
    const bool reads = request.wr.opcode == IBV_WR_RDMA_READ;
    return gather(fabric, qp, request.sges, request.wr.num_sge,
                  static_cast<unsigned>(reads ? IBV_ACCESS_LOCAL_WRITE : 0), fabric.source);
  }
  fabric.source.clear();
  fabric.source.emplace_back(qp.inlined(request), length_of(request));
  return true;
}

// IBV_WC_SUCCESS, or why the responder refuses what needs its memory.
ibv_wc_status refused_by(const FabricState& fabric, const FakeQp& requester, const FakeQp& peer,
                         const Request& request) {
  const ibv_send_wr& wr = request.wr;
  const std::uint64_t bytes = length_of(request);
  // Ends that disagree about the MTU take each other's full packets for malformed ones.
  if (requester.attr.path_mtu != peer.attr.path_mtu &&
      bytes > 128U << std::min(requester.attr.path_mtu, peer.attr.path_mtu))
    return IBV_WC_REM_INV_REQ_ERR;
  if (is_send(wr.opcode)) return IBV_WC_SUCCESS;
  const bool reads = wr.opcode == IBV_WR_RDMA_READ;
  if (reads && peer.attr.max_dest_rd_atomic == 0) return IBV_WC_REM_INV_REQ_ERR;
  if (bytes == 0) return IBV_WC_SUCCESS;  // no memory, hence no key
  const unsigned access = reads ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
  return fabric.remote_bytes(peer, wr.wr.rdma.rkey, wr.wr.rdma.remote_addr, bytes, access) !=
                 nullptr
             ? IBV_WC_SUCCESS
             : IBV_WC_REM_ACCESS_ERR;
}

// IBV_WC_SUCCESS, or why the requester's own side refuses.
ibv_wc_status refused_here(FabricState& fabric, FakeQp& qp, const Request& request) {
  if (length_of(request) > qp.nic->spec.limits.max_message_bytes) return IBV_WC_LOC_LEN_ERR;
  if (request.wr.opcode == IBV_WR_RDMA_READ && qp.attr.max_rd_atomic == 0)
    return IBV_WC_LOC_QP_OP_ERR;
  // mlx5; soft-RoCE says IBV_WC_LOC_QP_OP_ERR.
  return gather_own(fabric, qp, request) ? IBV_WC_SUCCESS : IBV_WC_LOC_PROT_ERR;
}

// The receive at the other end. A message that does not fit: mlx5's pair of statuses.
ibv_wc_status receive(FabricState& fabric, FakeQp& peer, const Request& request) {
  const Receive taken = peer.receive_queue().posted.pop();
  const auto refuse = [&](ibv_wc_status there, ibv_wc_status here) {
    fabric.complete_receive(peer, taken, there);
    fabric.to_error(peer);
    return here;
  };
  const std::uint64_t bytes = length_of(request);
  if (is_send(request.wr.opcode)) {
    if (!gather(fabric, peer, taken.sges, taken.num_sge, IBV_ACCESS_LOCAL_WRITE, fabric.target))
      return refuse(IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR);
    std::uint64_t room = 0;
    for (const std::span<std::byte> piece : fabric.target) room += piece.size();
    if (room < bytes) return refuse(IBV_WC_LOC_LEN_ERR, IBV_WC_REM_INV_REQ_ERR);
    copy(fabric.source, fabric.target);
  }
  Completed done;
  done.qp = &peer;
  done.solicited = (request.wr.send_flags & IBV_SEND_SOLICITED) != 0;
  done.wc.wr_id = taken.wr_id;
  done.wc.status = IBV_WC_SUCCESS;
  done.wc.opcode = is_send(request.wr.opcode) ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM;
  done.wc.byte_len = static_cast<std::uint32_t>(bytes);
  done.wc.qp_num = peer.qp_num;
  done.wc.src_qp = peer.attr.dest_qp_num;
  if (has_immediate(request.wr.opcode)) {
    done.wc.wc_flags = IBV_WC_WITH_IMM;
    done.wc.imm_data = request.wr.imm_data;  // big-endian: the bytes cross as they are
  } else if (request.wr.opcode == IBV_WR_SEND_WITH_INV) {
    if (fabric.invalidate(peer, request.wr.invalidate_rkey) != IBV_WC_SUCCESS)
      return refuse(IBV_WC_MW_BIND_ERR, IBV_WC_REM_OP_ERR);
    done.wc.wc_flags = IBV_WC_WITH_INV;
    done.wc.invalidated_rkey = request.wr.invalidate_rkey;
  }
  peer.received.push(done);
  return IBV_WC_SUCCESS;
}

// Everything that happens at the other end, which has a receive if one is needed.
ibv_wc_status transfer(FabricState& fabric, FakeQp& qp, FakeQp& peer, const Request& request) {
  const ibv_send_wr& wr = request.wr;
  if (const auto status = refused_by(fabric, qp, peer, request); status != IBV_WC_SUCCESS) {
    fabric.to_error(peer);
    fabric.raise_qp(
        peer, status == IBV_WC_REM_ACCESS_ERR ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR);
    return status;
  }
  const std::uint64_t bytes = length_of(request);
  if (!is_send(wr.opcode) && bytes != 0) {
    const bool reads = wr.opcode == IBV_WR_RDMA_READ;
    std::byte* there =
        fabric.remote_bytes(peer, wr.wr.rdma.rkey, wr.wr.rdma.remote_addr, bytes,
                            reads ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE);
    fabric.target.clear();
    fabric.target.emplace_back(there, bytes);
    if (reads)
      copy(fabric.target, fabric.source);
    else
      copy(fabric.source, fabric.target);
  }
  fabric.ledger.bytes += bytes;
  qp.psn_send = (qp.psn_send + 1) & 0xffffffU;
  peer.psn_receive = qp.psn_send;
  return takes_receive(wr.opcode) ? receive(fabric, peer, request) : IBV_WC_SUCCESS;
}

// The other end of a scripted failure, if its status says that the other end knows.
void fail_peer(FabricState& fabric, FakeQp* peer, ibv_wc_status status) {
  const bool knows = status == IBV_WC_REM_ACCESS_ERR || status == IBV_WC_REM_INV_REQ_ERR ||
                     status == IBV_WC_REM_OP_ERR;
  if (peer != nullptr && knows) fabric.to_error(*peer);
}

}  // namespace

Waits FabricState::waits_for(FakeQp& qp, const Request& request) {
  if (is_local(request.wr.opcode)) return Waits::kNot;
  if (qp.failure && qp.failure_skip == 0 && !qp.failure->applied) return Waits::kNot;
  if (refused_here(*this, qp, request) != IBV_WC_SUCCESS) return Waits::kNot;
  FakeQp* peer = reach(qp);
  if (peer == nullptr) return Waits::kForPeer;
  const bool refused = refused_by(*this, qp, *peer, request) != IBV_WC_SUCCESS;
  if (refused || !takes_receive(request.wr.opcode)) return Waits::kNot;
  return peer->receive_queue().posted.empty() ? Waits::kForReceive : Waits::kNot;
}

void FabricState::execute(FakeQp& qp) {
  const Request request = qp.requests.pop();
  const Waits waited = std::exchange(qp.waits, Waits::kNot);
  qp.deadline_ns = kNever;
  if (qp.now == IBV_QPS_ERR) {
    complete(qp, request, IBV_WC_WR_FLUSH_ERR, syndrome(IBV_WC_WR_FLUSH_ERR));
    return;
  }
  std::optional<FakeFailure> failure;
  if (qp.failure && qp.failure_skip-- == 0) failure = std::exchange(qp.failure, std::nullopt);
  ibv_wc_status status = IBV_WC_SUCCESS;
  if (waited == Waits::kForPeer) {
    status = IBV_WC_RETRY_EXC_ERR;
  } else if (waited == Waits::kForReceive) {
    status = IBV_WC_RNR_RETRY_EXC_ERR;
  } else if (request.wr.opcode == IBV_WR_BIND_MW) {
    status = bind(qp, request.wr);
  } else if (request.wr.opcode == IBV_WR_LOCAL_INV) {
    status = invalidate(qp, request.wr.invalidate_rkey);
  } else if (!failure || failure->applied) {
    status = refused_here(*this, qp, request);
    if (status == IBV_WC_SUCCESS) status = transfer(*this, qp, *reach(qp), request);
  }
  std::uint32_t vendor_err = syndrome(status);
  if (failure && status == IBV_WC_SUCCESS) {
    status = failure->status;
    vendor_err = failure->vendor_err != 0 ? failure->vendor_err : syndrome(status);
    fail_peer(*this, reach(qp), status);
  }
  complete(qp, request, status, vendor_err);
  if (status != IBV_WC_SUCCESS) to_error(qp);
}

}  // namespace penstock::test
