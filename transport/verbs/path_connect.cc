// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// How a path comes up and ends.
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "transport/base/check.h"
#include "transport/verbs/endpoint.h"
#include "transport/verbs/path.h"

namespace penstock::verbs {
namespace {

constexpr int kResolveMs = 2'000;  // for each step; the endpoint's deadline ends it earlier
// A device that does not answer is given up after kRetries + 1 times 4.096 µs · 2^kAckTimeout:
// half a second. Seven retries would mean "for ever" to some devices.
constexpr std::uint8_t kAckTimeout = 14;
constexpr std::uint8_t kRetries = 6;
// Credits leave no room for it; if it happens all the same it must end.
constexpr std::uint8_t kReceiverNotReadyRetries = 6;
// What IB's connection manager says when the peer's program refused.
constexpr int kRefusedByConsumer = 28;
// Asked for in turn until the device agrees; soft-RoCE takes up to 512 and hardware some hundred.
constexpr std::array<std::uint32_t, 4> kInlineBytes{256, 128, 64, 0};

}  // namespace

Result<std::unique_ptr<Path>> Path::create(VerbsEndpoint& owner, RailQueue& queue, PeerScope scope,
                                           std::uint8_t index, std::uint32_t window) {
  if (queue.rail().limits().send_slots < kAllSlots)
    return Status(Code::kUnsupported,
                  fmt::format("a queue pair of {} takes {} sends, {} are needed",
                              queue.rail().name(), queue.rail().limits().send_slots, kAllSlots));
  PENSTOCK_ASSIGN_OR_RETURN(Domain * domain, queue.rail().acquire(scope));
  if (Status status = queue.reserve(kAllSlots, window + kCreditSlots); !status.ok()) {
    queue.rail().release(domain);
    return status;
  }
  return std::unique_ptr<Path>(new Path(owner, queue, domain, index, window));
}

Path::Path(VerbsEndpoint& owner, RailQueue& queue, Domain* domain, std::uint8_t index,
           std::uint32_t window)
    : owner_(&owner), queue_(queue), domain_(domain), index_(index), window_(window) {}

Path::~Path() {
  if (qp_ != 0) {
    queue_.detach(qp_);
    api().rdma_destroy_qp(id_);
  }
  if (id_ != nullptr) api().rdma_destroy_id(id_);
  queue_.drop_outstanding(outstanding_bytes_);
  queue_.release(kAllSlots, window_ + kCreditSlots);
  rail().release(domain_);
}

Status Path::dial(CmChannel& channel, const IpAddress& to, const Greeting& ours) {
  state_ = State::kDialing;
  peer_ = to.to_string();
  greeting_ = encode(ours);
  if (api().rdma_create_id(channel.get(), &id_, this, RDMA_PS_TCP) != 0) {
    id_ = nullptr;
    return Status::system("open rdma_cm", errno);
  }
  IpAddress from = rail().address();
  from.set_port(0);
  IpAddress target = to;
  if (api().rdma_resolve_addr(id_, from.get(), target.get(), kResolveMs) != 0)
    return Status(Code::kConnectionLost,
                  fmt::format("resolve {} from {}", to.to_string(), from.host()))
        .with_system(errno);
  return {};
}

Status Path::answer(rdma_cm_id* id, const Greeting& ours, const Greeting& theirs) {
  state_ = State::kAnswered;
  id_ = id;
  IpAddress from;
  const sockaddr* address = &id->route.addr.dst_addr;
  std::memcpy(&from.storage, address,
              address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
  peer_ = from.to_string();
  id_->context = this;
  PENSTOCK_RETURN_IF_ERROR(create_queue_pair());
  learn(theirs);
  greeting_ = encode(ours);
  rdma_conn_param parameters = this->parameters(greeting_);
  live_ = true;
  if (api().rdma_accept(id_, &parameters) != 0)
    return Status(Code::kConnectionLost, "accept with rdma_cm").with_system(errno);
  return {};
}

rdma_conn_param Path::parameters(std::span<const std::byte> data) const {
  rdma_conn_param parameters{};
  parameters.private_data = data.data();
  parameters.private_data_len = static_cast<std::uint8_t>(data.size());
  parameters.responder_resources = rail().limits().reads;
  parameters.initiator_depth = rail().limits().reads;
  parameters.flow_control = 1;
  parameters.retry_count = kRetries;
  parameters.rnr_retry_count = kReceiverNotReadyRetries;
  parameters.srq = 1;
  return parameters;
}

Status Path::create_queue_pair() {
  // Kernels before 5.1 do not know the option; their default is longer.
  std::uint8_t timeout = kAckTimeout;
  (void)api().rdma_set_option(id_, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                              sizeof timeout);
  int error = 0;
  for (const std::uint32_t inline_bytes : kInlineBytes) {
    ibv_qp_init_attr attributes{};
    attributes.send_cq = queue_.cq();
    attributes.recv_cq = queue_.cq();
    attributes.srq = queue_.receives().get();
    attributes.qp_type = IBV_QPT_RC;
    attributes.cap.max_send_wr = kAllSlots;
    attributes.cap.max_send_sge = 1;
    attributes.cap.max_inline_data = inline_bytes;
    if (api().rdma_create_qp(id_, domain_->pd, &attributes) == 0) {
      inline_bytes_ = attributes.cap.max_inline_data;
      qp_ = id_->qp->qp_num;
      queue_.attach(qp_, *this);
      return {};
    }
    error = errno;
    if (error != EINVAL) break;
  }
  return Status(Code::kExhausted, fmt::format("create a queue pair on {}", rail().name()))
      .with_system(error);
}

void Path::learn(const Greeting& theirs) {
  peer_window_ = theirs.window;
  limit_ = theirs.window;
}

Status Path::request() {
  PENSTOCK_RETURN_IF_ERROR(create_queue_pair());
  rdma_conn_param parameters = this->parameters(greeting_);
  if (api().rdma_connect(id_, &parameters) != 0)
    return Status(Code::kConnectionLost, "connect with rdma_cm").with_system(errno);
  return {};
}

void Path::on_cm_event(const CmEvent& event) {
  if (state_ == State::kShut || owner_ == nullptr) return;
  switch (event.type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      if (id_->verbs != rail().verbs())
        return lost(Status(Code::kUnsupported, fmt::format("the way to the peer leaves by another "
                                                           "device than {}",
                                                           rail().name()))
                        .with_hint("name the device that reaches it as the rail"));
      if (api().rdma_resolve_route(id_, kResolveMs) != 0)
        lost(Status(Code::kConnectionLost, "find the route to the peer").with_system(errno));
      return;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      if (Status status = request(); !status.ok()) lost(status);
      return;
    case RDMA_CM_EVENT_ESTABLISHED:
      return came_up(event);
    case RDMA_CM_EVENT_REJECTED:
      if (event.status == kRefusedByConsumer) return lost(decode_refusal(event.private_data()));
      return lost(
          Status(Code::kConnectionLost,
                 fmt::format("the peer's host refused the connection (reason {})", event.status))
              .with_hint("is the peer's device still open at this address?"));
    case RDMA_CM_EVENT_DISCONNECTED:
      return lost(Status(Code::kConnectionLost, "the peer ended the connection"));
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      owner_->on_rail_failed(*this);
      return lost(Status(
          Code::kConnectionLost,
          fmt::format("rdma_cm says {} ({})", api().rdma_event_str(event.type), event.status)));
    default:
      return;
  }
}

void Path::came_up(const CmEvent& event) {
  if (state_ == State::kUp) return;
  if (state_ == State::kDialing) {
    live_ = true;
    const Result<Greeting> theirs = decode_greeting(event.private_data());
    if (!theirs.ok()) return lost(theirs.status());
    learn(*theirs);
    state_ = State::kUp;
    owner_->on_answer(*this, *theirs);
  } else {
    state_ = State::kUp;
  }
  owner_->on_path_up(*this);
}

void Path::lost(const Status& status) {
  if (owner_ != nullptr) owner_->on_path_lost(*this, status);
}

void Path::shut() {
  if (state_ == State::kShut) return;
  state_ = State::kShut;
  if (live_) return drain();
  // Still connecting: nothing can be under way, and rdma_cm says no more about it.
  if (qp_ != 0) {
    queue_.detach(qp_);
    api().rdma_destroy_qp(id_);
    qp_ = 0;
  }
  if (id_ != nullptr) api().rdma_destroy_id(id_);
  id_ = nullptr;
}

void Path::drain() {
  // Tells the peer; refused when the peer told us.
  if (!rail().ask_down()) (void)api().rdma_disconnect(id_);
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  const int error = api().ibv_modify_qp(id_->qp, &attributes, IBV_QP_STATE);
  // Its completion is the last: everything that arrived or was posted lies before it.
  claim({.kind = Slot::kDrain}).opcode = IBV_WR_SEND;
  if (!ring().ok() || error != 0) drained_ = true;  // a device that is gone
}

}  // namespace penstock::verbs
