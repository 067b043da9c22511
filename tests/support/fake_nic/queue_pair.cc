// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Queue pairs: making, the state machine, destroying. RC only.

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

struct Transition {
  ibv_qp_state from, to;
  int required, optional;
};

constexpr int kInitMask = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
constexpr int kLater = IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER |
                       IBV_QP_ALT_PATH | IBV_QP_PATH_MIG_STATE;

// InfiniBand Architecture Specification, volume 1, 11.2.5.2, the rows of RC.
constexpr std::array kTransitions{
    Transition{IBV_QPS_RESET, IBV_QPS_INIT, kInitMask, 0},
    Transition{IBV_QPS_INIT, IBV_QPS_INIT, 0, kInitMask},
    Transition{IBV_QPS_INIT, IBV_QPS_RTR,
               IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                   IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
               IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
    Transition{IBV_QPS_RTR, IBV_QPS_RTS,
               IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                   IBV_QP_MAX_QP_RD_ATOMIC,
               kLater},
    Transition{IBV_QPS_RTS, IBV_QPS_RTS, 0, kLater},
};

bool allowed(ibv_qp_state from, ibv_qp_state to, int mask) {
  if (to == IBV_QPS_RESET || to == IBV_QPS_ERR) return (mask & ~IBV_QP_STATE) == 0;
  for (const Transition& row : kTransitions) {
    if (row.from != from || row.to != to) continue;
    const int rest = mask & ~IBV_QP_STATE;
    return (rest & row.required) == row.required && (rest & ~(row.required | row.optional)) == 0;
  }
  return false;
}

bool values_fit(const FakeQp& qp, const ibv_qp_attr& attr, int mask) {
  const FakeNicSpec& spec = qp.nic->spec;
  const auto has = [mask](int bit) { return (mask & bit) != 0; };
  if (has(IBV_QP_PORT) && (attr.port_num < 1 || attr.port_num > spec.ports.size())) return false;
  if (has(IBV_QP_PKEY_INDEX) && attr.pkey_index != 0) return false;
  if (has(IBV_QP_PATH_MTU) && attr.path_mtu > spec.ports.at(qp.attr.port_num - 1U).mtu)
    return false;
  if (has(IBV_QP_TIMEOUT) && attr.timeout > 31) return false;
  if (has(IBV_QP_RETRY_CNT) && attr.retry_cnt > 7) return false;
  if (has(IBV_QP_RNR_RETRY) && attr.rnr_retry > 7) return false;
  if (has(IBV_QP_MIN_RNR_TIMER) && attr.min_rnr_timer > 31) return false;
  if (has(IBV_QP_MAX_QP_RD_ATOMIC) && attr.max_rd_atomic > spec.limits.max_rd_atomic) return false;
  if (has(IBV_QP_MAX_DEST_RD_ATOMIC) && attr.max_dest_rd_atomic > spec.limits.max_rd_atomic)
    return false;
  // RoCE has no LIDs: without a GRH nothing finds the peer.
  if (has(IBV_QP_AV) &&
      spec.ports.at(qp.attr.port_num - 1U).link_layer == IBV_LINK_LAYER_ETHERNET &&
      attr.ah_attr.is_global == 0)
    return false;
  return true;
}

void take_values(FakeQp& qp, const ibv_qp_attr& attr, int mask) {
  ibv_qp_attr& own = qp.attr;
  const auto has = [mask](int bit) { return (mask & bit) != 0; };
  if (has(IBV_QP_PORT)) own.port_num = attr.port_num;
  if (has(IBV_QP_PKEY_INDEX)) own.pkey_index = attr.pkey_index;
  if (has(IBV_QP_ACCESS_FLAGS)) own.qp_access_flags = attr.qp_access_flags;
  if (has(IBV_QP_AV)) own.ah_attr = attr.ah_attr;
  if (has(IBV_QP_PATH_MTU)) own.path_mtu = attr.path_mtu;
  if (has(IBV_QP_DEST_QPN)) own.dest_qp_num = attr.dest_qp_num;
  if (has(IBV_QP_RQ_PSN)) own.rq_psn = qp.psn_receive = attr.rq_psn & 0xffffffU;
  if (has(IBV_QP_SQ_PSN)) own.sq_psn = qp.psn_send = attr.sq_psn & 0xffffffU;
  if (has(IBV_QP_MAX_DEST_RD_ATOMIC)) own.max_dest_rd_atomic = attr.max_dest_rd_atomic;
  if (has(IBV_QP_MAX_QP_RD_ATOMIC)) own.max_rd_atomic = attr.max_rd_atomic;
  if (has(IBV_QP_MIN_RNR_TIMER)) own.min_rnr_timer = attr.min_rnr_timer;
  if (has(IBV_QP_TIMEOUT)) own.timeout = attr.timeout;
  if (has(IBV_QP_RETRY_CNT)) own.retry_cnt = attr.retry_cnt;
  if (has(IBV_QP_RNR_RETRY)) own.rnr_retry = attr.rnr_retry;
}

int query_qp(ibv_qp* raw, ibv_qp_attr* attr, int, ibv_qp_init_attr* init) {
  auto& qp = static_cast<FakeQp&>(*raw);
  const Call call(qp, "ibv_query_qp");
  if (call.refused()) return EINVAL;
  *attr = qp.attr;
  attr->qp_state = attr->cur_qp_state = qp.now;
  attr->cap = qp.cap;
  *init = {};
  init->qp_context = qp.qp_context;
  init->send_cq = qp.send_cq;
  init->recv_cq = qp.recv_cq;
  init->srq = qp.srq;
  init->cap = qp.cap;
  init->qp_type = qp.qp_type;
  init->sq_sig_all = qp.signal_all ? 1 : 0;
  return 0;
}

int modify_qp_call(ibv_qp* raw, ibv_qp_attr* attr, int mask) {
  auto& qp = static_cast<FakeQp&>(*raw);
  const Call call(qp, "ibv_modify_qp");
  return call.refused() ? EINVAL : modify_qp(qp, *attr, mask);
}

int refuse_qp(FabricState& fabric, const FakePd& pd, const ibv_qp_init_attr& wanted) {
  const FakeLimits& limits = pd.nic->spec.limits;
  const ibv_qp_cap& cap = wanted.cap;
  const auto above = [](std::uint32_t value, int limit) {
    return value > static_cast<std::uint32_t>(limit);
  };
  if (pd.nic->removed) return EIO;
  if (wanted.qp_type != IBV_QPT_RC) return EOPNOTSUPP;
  if (wanted.send_cq == nullptr || wanted.recv_cq == nullptr) return EINVAL;
  if (wanted.send_cq->context != pd.context || wanted.recv_cq->context != pd.context ||
      (wanted.srq != nullptr && wanted.srq->context != pd.context))
    return EINVAL;
  if (cap.max_send_wr < 1 || above(cap.max_send_wr, limits.max_qp_wr) ||
      above(cap.max_recv_wr, limits.max_qp_wr))
    return EINVAL;
  const int sges = std::min(limits.max_sge, kMaxSge);
  if (above(cap.max_send_sge, sges) || above(cap.max_recv_sge, sges) ||
      cap.max_inline_data > limits.max_inline)
    return EINVAL;
  return fabric.full(*pd.nic, Kind::kQp, limits.max_qp) ? ENOMEM : 0;
}

}  // namespace

FakeQp* make_qp(FakePd& pd, ibv_qp_init_attr& wanted) {
  FabricState& fabric = *pd.fabric;
  if (const int error = refuse_qp(fabric, pd, wanted); error != 0) return none(error);
  auto* srq = static_cast<FakeSrq*>(wanted.srq);
  auto* qp = fabric.make<FakeQp>(
      Kind::kQp, pd.nic,
      {&pd, static_cast<FakeCq*>(wanted.send_cq), static_cast<FakeCq*>(wanted.recv_cq), srq});
  qp->context = pd.context;
  qp->pd = &pd;
  qp->qp_context = wanted.qp_context;
  qp->send_cq = wanted.send_cq;
  qp->recv_cq = wanted.recv_cq;
  qp->srq = wanted.srq;
  qp->qp_type = wanted.qp_type;
  qp->state = IBV_QPS_RESET;
  qp->qp_num = fabric.next_qp_num++;
  if (srq != nullptr) wanted.cap.max_recv_wr = wanted.cap.max_recv_sge = 0;
  qp->cap = wanted.cap;
  qp->signal_all = wanted.sq_sig_all != 0;
  qp->inline_bytes.resize(std::size_t{wanted.cap.max_send_wr} * wanted.cap.max_inline_data);
  qp->receives.capacity = wanted.cap.max_recv_wr;
  qp->receives.max_sge = static_cast<int>(wanted.cap.max_recv_sge);
  fabric.queue_pairs.push_back(qp);
  return qp;
}

int destroy_qp(FakeQp& qp) {
  FabricState& fabric = *qp.fabric;
  fabric.drop_events(qp.context, qp);
  if (const int error = fabric.retire(qp); error != 0) return error;
  fabric.forget(qp);
  std::erase(fabric.queue_pairs, &qp);
  qp.now = IBV_QPS_RESET;
  qp.inline_bytes = {};
  qp.requests = {};
  qp.sent = qp.received = {};
  return 0;
}

int modify_qp(FakeQp& qp, const ibv_qp_attr& attr, int mask) {
  FabricState& fabric = *qp.fabric;
  if (qp.nic->removed) return EIO;
  const ibv_qp_state from = qp.now;
  const ibv_qp_state to = (mask & IBV_QP_STATE) != 0 ? attr.qp_state : from;
  if ((mask & IBV_QP_CUR_STATE) != 0 && attr.cur_qp_state != from) return EINVAL;
  if (!allowed(from, to, mask) || !values_fit(qp, attr, mask)) return EINVAL;
  take_values(qp, attr, mask);
  qp.state = to;
  if (to == IBV_QPS_ERR) {
    fabric.to_error(qp);
    return 0;
  }
  if (to == IBV_QPS_RESET) {
    fabric.forget(qp);
    qp.attr = {};
  }
  qp.now = to;
  return 0;
}

// mlx5 takes the completions of a queue pair out of its queues when it is reset or destroyed.
void FabricState::forget(FakeQp& qp) {
  for (const bool send : {true, false}) {
    qp.cq(send).entries.filter([&qp](const Completed& entry) { return entry.qp != &qp; });
  }
  qp.requests.clear();
  qp.receives.posted.clear();
  qp.sent.clear();
  qp.received.clear();
  qp.freed = qp.posted;
  qp.waits = Waits::kNot;
  qp.deadline_ns = kNever;
}

void FabricState::to_error(FakeQp& qp) {
  if (qp.now == IBV_QPS_ERR) return;
  qp.now = IBV_QPS_ERR;
  qp.waits = Waits::kNot;
  qp.deadline_ns = kNever;
  // Requests are flushed one by one as they come to execute; receives of its own at once. Those of
  // a shared queue stay; this event says that the queue pair takes no more of them.
  if (qp.srq != nullptr) raise_qp(qp, IBV_EVENT_QP_LAST_WQE_REACHED);
  while (!qp.receives.posted.empty())
    complete_receive(qp, qp.receives.posted.pop(), IBV_WC_WR_FLUSH_ERR);
}

void fill_queue_pairs(verbs::VerbsApi& api) {
  api.ibv_query_qp = query_qp;
  api.ibv_modify_qp = modify_qp_call;
}

}  // namespace penstock::test
