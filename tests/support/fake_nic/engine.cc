// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What can move, and moving it: one request, one completion or one message at a time.

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

// The standard's table of receiver-not-ready timers, in units of 10 microseconds.
constexpr std::array kRnrTimers{65536, 1,    2,    3,     4,     6,     8,     12,
                                16,    24,   32,   48,    64,    96,    128,   192,
                                256,   384,  512,  768,   1024,  1536,  2048,  3072,
                                4096,  6144, 8192, 12288, 16384, 24576, 32768, 49152};

TimeNs retry_ns(const ibv_qp_attr& attr) {
  if (attr.timeout == 0) return kNever;
  return (TimeNs{4096} << attr.timeout) * (attr.retry_cnt + 1);
}

TimeNs rnr_ns(const ibv_qp_attr& requester, const ibv_qp_attr& responder) {
  if (requester.rnr_retry == 7) return kNever;  // for ever, by the standard
  return TimeNs{kRnrTimers[responder.min_rnr_timer & 31U]} * 10 * kMicrosecond *
         (requester.rnr_retry + 1);
}

}  // namespace

void FabricState::work() {
  if (options.mode == FakeMode::kStepped) return;
  for (;;) {
    collect_pieces();
    bool moved = false;
    for (std::size_t i = 0; i < pieces.size(); ++i) moved |= perform(pieces[i]);
    if (!moved) return;
  }
}

void FabricState::collect_pieces() {
  pieces.clear();
  if (!messages.empty()) pieces.push_back({nullptr, Piece::kMessage});
  for (FakeQp* qp : queue_pairs) {
    if (can_execute(*qp)) pieces.push_back({qp, Piece::kExecute});
    if (qp->held) continue;
    if (!qp->sent.empty()) pieces.push_back({qp, Piece::kSendDone});
    if (!qp->received.empty()) pieces.push_back({qp, Piece::kReceiveDone});
  }
}

bool FabricState::perform(const Piece& piece) {
  switch (piece.action) {
    case Piece::kMessage:
      if (messages.empty()) return false;
      deliver_message();
      return true;
    case Piece::kExecute:
      if (!can_execute(*piece.qp)) return false;
      execute(*piece.qp);
      return true;
    case Piece::kSendDone:
    case Piece::kReceiveDone:
      break;
  }
  const bool send = piece.action == Piece::kSendDone;
  if ((send ? piece.qp->sent : piece.qp->received).empty()) return false;
  deliver(*piece.qp, send);
  return true;
}

bool FabricState::can_execute(FakeQp& qp) {
  if (qp.requests.empty()) return false;
  if (qp.now == IBV_QPS_ERR) return true;
  if (qp.now != IBV_QPS_RTS) return false;
  const Waits waits = waits_for(qp, qp.requests.front());
  if (waits != qp.waits) start_timer(qp, waits);
  return waits == Waits::kNot || clock.now_ns() >= qp.deadline_ns;
}

void FabricState::start_timer(FakeQp& qp, Waits what) {
  qp.waits = what;
  qp.deadline_ns = kNever;
  TimeNs time_ns = kNever;
  if (what == Waits::kForPeer) time_ns = retry_ns(qp.attr);
  if (what == Waits::kForReceive) {
    time_ns = rnr_ns(qp.attr, reach(qp)->attr);
    ++ledger.rnr_waits;
  }
  if (time_ns != kNever) qp.deadline_ns = clock.now_ns() + time_ns;
}

FakeQp* FabricState::reach(const FakeQp& qp) const {
  if (qp.silent || !port_active(*qp.nic, qp.attr.port_num)) return nullptr;
  FakeQp* peer = find_qp(qp.attr.dest_qp_num);
  if (peer == nullptr || peer->silent || !port_active(*peer->nic, peer->attr.port_num))
    return nullptr;
  if (peer->now != IBV_QPS_RTR && peer->now != IBV_QPS_RTS) return nullptr;
  // Packets of anybody else, and of another life of the connection, are dropped without an answer.
  const bool ours = peer->attr.dest_qp_num == qp.qp_num && peer->psn_receive == qp.psn_send;
  return ours ? peer : nullptr;
}

void FabricState::complete(FakeQp& qp, const Request& request, ibv_wc_status status,
                           std::uint32_t vendor_err) {
  if (!request.signalled && status == IBV_WC_SUCCESS) return;
  Completed done;
  done.qp = &qp;
  done.frees_up_to = request.sequence;
  done.wc.wr_id = request.wr.wr_id;
  done.wc.status = status;
  done.wc.qp_num = qp.qp_num;
  done.wc.vendor_err = vendor_err;
  // Of a failed one nothing else is valid: whoever looks sees nonsense, as on a real NIC.
  done.wc.opcode = static_cast<ibv_wc_opcode>(0x5a);
  done.wc.byte_len = 0x5a5a5a5a;
  if (status == IBV_WC_SUCCESS) {
    switch (request.wr.opcode) {
      case IBV_WR_RDMA_READ:
        done.wc.opcode = IBV_WC_RDMA_READ;
        break;
      case IBV_WR_BIND_MW:
        done.wc.opcode = IBV_WC_BIND_MW;
        break;
      case IBV_WR_LOCAL_INV:
        done.wc.opcode = IBV_WC_LOCAL_INV;
        break;
      case IBV_WR_RDMA_WRITE:
      case IBV_WR_RDMA_WRITE_WITH_IMM:
        done.wc.opcode = IBV_WC_RDMA_WRITE;
        break;
      default:
        done.wc.opcode = IBV_WC_SEND;
    }
  }
  qp.sent.push(done);
}

void FabricState::complete_receive(FakeQp& qp, const Receive& receive, ibv_wc_status status) {
  Completed done;
  done.qp = &qp;
  done.wc.wr_id = receive.wr_id;
  done.wc.status = status;
  done.wc.qp_num = qp.qp_num;
  done.wc.vendor_err = status == IBV_WC_WR_FLUSH_ERR ? 0xf9 : 0;
  done.wc.opcode = static_cast<ibv_wc_opcode>(0x5a);
  done.wc.byte_len = 0x5a5a5a5a;
  qp.received.push(done);
}

}  // namespace penstock::test
