// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The connection manager, second half: queue pairs of ids, connecting and ending.

#include <arpa/inet.h>

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

// Room for the user in the messages of InfiniBand's connection manager. An event always carries
// all of it, padded with zeros: what the sender's length was, nobody is told.
constexpr std::size_t kRequestBytes = 56;
constexpr std::size_t kReplyBytes = 196;
constexpr std::size_t kRejectBytes = 148;

constexpr int kNoSuchService = 8;            // IB_CM_REJ_INVALID_SERVICE_ID
constexpr int kRejectedByUser = 28;          // IB_CM_REJ_CONSUMER_DEFINED
constexpr std::uint8_t kAsDeviceCan = 0xff;  // RDMA_MAX_RESP_RES, RDMA_MAX_INIT_DEPTH

std::vector<std::byte> padded(const void* data, std::size_t bytes, std::size_t room) {
  std::vector<std::byte> all(room);
  if (bytes != 0) std::memcpy(all.data(), data, bytes);
  return all;
}

int create_qp(rdma_cm_id* raw, ibv_pd* raw_pd, ibv_qp_init_attr* wanted) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_create_qp");
  if (call.refused() || id.verbs == nullptr || raw_pd == nullptr || id.qp != nullptr)
    return failed(EINVAL);
  auto& pd = static_cast<FakePd&>(*raw_pd);
  // librdmacm has a context of its own for each device: a domain of the context that the program
  // opened itself is refused. Domains for its queue pairs come from id->verbs.
  if (pd.context != id.verbs) return failed(EINVAL);
  FakeQp* qp = make_qp(pd, *wanted);
  if (qp == nullptr) return -1;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = id.port_num;
  attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  (void)modify_qp(*qp, attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  id.qp = qp;
  id.pd = raw_pd;
  return 0;
}

void destroy_qp_of(rdma_cm_id* raw) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_destroy_qp");
  if (id.qp == nullptr) return;
  if (destroy_qp(static_cast<FakeQp&>(*id.qp)) == 0) id.qp = nullptr;
}

std::uint8_t depth(const FakeCmId& id, std::uint8_t wanted) {
  const auto limit = static_cast<std::uint8_t>(id.nic->spec.limits.max_rd_atomic);
  return wanted == kAsDeviceCan ? limit : wanted;
}

// Takes over what the user asked for. False when it is more than the device or the message holds.
bool take_parameters(FabricState& fabric, FakeCmId& id, const rdma_conn_param* wanted,
                     std::size_t room) {
  rdma_conn_param& own = id.parameters;
  own = wanted != nullptr ? *wanted : rdma_conn_param{};
  if (own.private_data_len > room) return false;
  own.responder_resources = depth(id, own.responder_resources);
  own.initiator_depth = depth(id, own.initiator_depth);
  const int limit = id.nic->spec.limits.max_rd_atomic;
  if (own.responder_resources > limit || own.initiator_depth > limit) return false;
  if (id.qp != nullptr) own.qp_num = id.qp->qp_num;
  own.retry_count &= 7U;
  own.rnr_retry_count &= 7U;
  id.first_psn = static_cast<std::uint32_t>(fabric.random.below(1U << 24U));
  return true;
}

int connect(rdma_cm_id* raw, rdma_conn_param* wanted) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_connect");
  if (call.refused() || id.state != CmState::kRoute) return failed(EINVAL);
  if (!take_parameters(*call, id, wanted, kRequestBytes)) return failed(EINVAL);
  id.state = CmState::kRequested;
  CmMessage request;
  request.from = &id;
  request.type = RDMA_CM_EVENT_CONNECT_REQUEST;
  request.parameters = id.parameters;
  std::swap(request.parameters.responder_resources, request.parameters.initiator_depth);
  request.bytes = padded(id.parameters.private_data, id.parameters.private_data_len, kRequestBytes);
  call->send_message(std::move(request));
  return 0;
}

int accept(rdma_cm_id* raw, rdma_conn_param* wanted) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_accept");
  if (call.refused() || id.state != CmState::kAsked) return failed(EINVAL);
  const rdma_conn_param asked = id.parameters;
  if (!take_parameters(*call, id, wanted, kReplyBytes)) return failed(EINVAL);
  if (wanted == nullptr || wanted->initiator_depth == kAsDeviceCan)
    id.parameters.initiator_depth = std::min(id.parameters.initiator_depth, asked.initiator_depth);
  if (wanted == nullptr || wanted->responder_resources == kAsDeviceCan)
    id.parameters.responder_resources =
        std::min(id.parameters.responder_resources, asked.responder_resources);
  if (const int error = id.qp != nullptr ? call->connect_qp(id) : 0; error != 0)
    return failed(error);
  id.state = CmState::kAccepted;
  --id.listener->waiting;
  CmMessage reply;
  reply.to = id.peer;
  reply.from = &id;
  reply.type = RDMA_CM_EVENT_CONNECT_RESPONSE;
  reply.parameters = id.parameters;
  std::swap(reply.parameters.responder_resources, reply.parameters.initiator_depth);
  reply.bytes = padded(id.parameters.private_data, id.parameters.private_data_len, kReplyBytes);
  call->send_message(std::move(reply));
  return 0;
}

void send_reject(FabricState& fabric, FakeCmId& to, FakeCmId* from, int status, const void* data,
                 std::size_t bytes) {
  CmMessage rejected;
  rejected.to = &to;
  rejected.from = from;
  rejected.type = RDMA_CM_EVENT_REJECTED;
  rejected.status = status;
  rejected.bytes = padded(data, bytes, kRejectBytes);
  fabric.send_message(std::move(rejected));
}

int reject(rdma_cm_id* raw, const void* data, std::uint8_t bytes) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_reject");
  if (call.refused() || id.state != CmState::kAsked || bytes > kRejectBytes) return failed(EINVAL);
  id.state = CmState::kEnded;
  --id.listener->waiting;
  send_reject(*call, *id.peer, &id, kRejectedByUser, data, bytes);
  return 0;
}

void send_disconnected(FabricState& fabric, FakeCmId& to, FakeCmId* from) {
  CmMessage ended;
  ended.to = &to;
  ended.from = from;
  ended.type = RDMA_CM_EVENT_DISCONNECTED;
  fabric.send_message(std::move(ended));
}

int disconnect(rdma_cm_id* raw) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_disconnect");
  const bool up = id.state == CmState::kConnected || id.state == CmState::kAccepted;
  if (call.refused() || (!up && id.state != CmState::kClosing)) return failed(EINVAL);
  if (id.qp != nullptr) call->to_error(static_cast<FakeQp&>(*id.qp));
  id.state = CmState::kEnded;
  if (!up) return 0;  // the peer was first, and the event is out already
  send_disconnected(*call, *id.peer, &id);
  send_disconnected(*call, id, nullptr);
  return 0;
}

FakeCmId* listener_at(const FabricState& fabric, const std::string& ip, std::uint16_t port) {
  for (FakeCmId* id : fabric.cm_ids) {
    if (id->state == CmState::kListening && id->port == port && (id->ip.empty() || id->ip == ip))
      return id;
  }
  return nullptr;
}

// A request arrives, or the reason why not goes back.
void deliver_request(FabricState& fabric, CmMessage& message) {
  FakeCmId& active = *message.from;
  if (!active.alive || active.state != CmState::kRequested) return;
  const sockaddr_in& wanted = active.route.addr.dst_sin;
  std::array<char, INET_ADDRSTRLEN> ip{};
  ::inet_ntop(AF_INET, &wanted.sin_addr, ip.data(), ip.size());
  std::uint8_t port = 0;
  FakeDevice* nic = fabric.device_at(ip.data(), &port);
  FakeCmId* listener = listener_at(fabric, ip.data(), ntohs(wanted.sin_port));
  const bool up = nic != nullptr && fabric.port_active(*nic, port) &&
                  fabric.port_active(*active.nic, active.port_num) && !active.silent;
  const bool answers =
      listener == nullptr || (!listener->silent && listener->waiting < listener->backlog);
  if (!up || !answers) {
    active.state = CmState::kEnded;
    CmMessage lost;
    lost.type = RDMA_CM_EVENT_UNREACHABLE;
    lost.status = -ETIMEDOUT;
    fabric.post_event(active, lost);
    return;
  }
  if (listener == nullptr) {
    active.state = CmState::kEnded;
    send_reject(fabric, active, nullptr, kNoSuchService, nullptr, 0);
    return;
  }
  auto* child =
      fabric.make<FakeCmId>(Kind::kCmId, nullptr, {static_cast<FakeCmChannel*>(listener->channel)});
  child->channel = listener->channel;
  child->rdma_cm_id::context = listener->rdma_cm_id::context;
  child->ps = listener->ps;
  child->qp_type = IBV_QPT_RC;
  child->nic = nic;
  if (nic->cm_context == nullptr) nic->cm_context = fabric.open_context(*nic, true);
  child->verbs = nic->cm_context;
  child->port_num = port;
  child->ip = ip.data();
  child->port = listener->port;
  child->route.addr.src_sin = wanted;
  child->route.addr.dst_sin = active.route.addr.src_sin;
  child->state = CmState::kAsked;
  child->peer = &active;
  child->listener = listener;
  child->parameters = message.parameters;
  child->peer_rnr_retry = message.parameters.rnr_retry_count;
  child->ack_timeout = active.ack_timeout;  // the request names it
  active.peer = child;
  ++listener->waiting;
  message.listener = listener;
  fabric.post_event(*child, message);
}

bool connected(const FabricState& fabric, const FakeCmId& from, const FakeCmId& to) {
  return !from.silent && !to.silent && fabric.port_active(*from.nic, from.port_num) &&
         fabric.port_active(*to.nic, to.port_num);
}

}  // namespace

void FabricState::send_message(CmMessage message) { messages.push_back(std::move(message)); }

void FabricState::deliver_message() {
  CmMessage message = std::move(messages.front());
  messages.pop_front();
  if (message.type == RDMA_CM_EVENT_CONNECT_REQUEST) {
    deliver_request(*this, message);
    return;
  }
  FakeCmId& to = *message.to;
  if (!to.alive) return;
  if (message.from != nullptr && !connected(*this, *message.from, to)) return;  // lost on the way
  switch (message.type) {
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
      if (to.state != CmState::kRequested) return;
      to.state = CmState::kAnswered;
      to.parameters.initiator_depth =
          std::min(to.parameters.initiator_depth, message.parameters.initiator_depth);
      to.parameters.responder_resources =
          std::min(to.parameters.responder_resources, message.parameters.responder_resources);
      to.peer_rnr_retry = message.parameters.rnr_retry_count;
      break;
    case RDMA_CM_EVENT_ESTABLISHED:
      if (to.state != CmState::kAccepted) return;
      to.state = CmState::kConnected;
      ++ledger.connections;
      break;
    case RDMA_CM_EVENT_DISCONNECTED: {
      const bool up = to.state == CmState::kConnected || to.state == CmState::kAccepted ||
                      to.state == CmState::kAnswered;
      if (message.from != nullptr && !up) return;  // it was already leaving
      if (message.from != nullptr) to.state = CmState::kClosing;
      break;
    }
    case RDMA_CM_EVENT_REJECTED:
      if (to.state == CmState::kAsked) --to.listener->waiting;
      to.state = CmState::kEnded;
      break;
    default:
      break;
  }
  post_event(to, message);
}

void FabricState::detach(FakeCmId& id) {
  FakeCmId* peer = id.peer;
  const CmState was = std::exchange(id.state, CmState::kEnded);
  if (was == CmState::kAsked) --id.listener->waiting;
  if (peer == nullptr || !peer->alive) return;
  switch (was) {
    case CmState::kRequested:
    case CmState::kAnswered:
    case CmState::kAsked:
      send_reject(*this, *peer, &id, kRejectedByUser, nullptr, 0);
      return;
    case CmState::kAccepted:
    case CmState::kConnected:
      send_disconnected(*this, *peer, &id);
      return;
    default:
      return;
  }
}

// INIT once more with the access that reads need, then RTR and RTS, as librdmacm does. The retry
// counts for receivers that are not ready are each the *other* end's wish; the rest of the timing
// is the active end's.
int FabricState::connect_qp(FakeCmId& id) {
  auto& qp = static_cast<FakeQp&>(*id.qp);
  const FakeCmId& peer = *id.peer;
  const bool active = id.listener == nullptr;
  const FakeCmId& asker = active ? id : peer;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = id.port_num;
  attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  if (id.parameters.responder_resources != 0)
    attr.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
  int error =
      modify_qp(qp, attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (error != 0) return error;
  attr.qp_state = IBV_QPS_RTR;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.port_num = id.port_num;
  attr.path_mtu = asker.nic->spec.ports.at(asker.port_num - 1U).mtu;
  attr.dest_qp_num = peer.parameters.qp_num;
  attr.rq_psn = peer.first_psn;
  attr.max_dest_rd_atomic = id.parameters.responder_resources;
  attr.min_rnr_timer = 0;  // 655 ms: what the kernel's connection manager leaves there
  error = modify_qp(qp, attr,
                    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (error != 0) return error;
  attr.qp_state = IBV_QPS_RTS;
  attr.timeout = asker.ack_timeout;
  attr.retry_cnt = asker.parameters.retry_count;
  attr.rnr_retry = id.peer_rnr_retry;
  attr.sq_psn = id.first_psn;
  attr.max_rd_atomic = id.parameters.initiator_depth;
  return modify_qp(qp, attr,
                   IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                       IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

void fill_cm_connect(verbs::VerbsApi& api) {
  api.rdma_create_qp = create_qp;
  api.rdma_destroy_qp = destroy_qp_of;
  api.rdma_connect = connect;
  api.rdma_accept = accept;
  api.rdma_reject = reject;
  api.rdma_disconnect = disconnect;
}

}  // namespace penstock::test
