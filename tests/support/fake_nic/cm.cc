// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The connection manager, first half: channels, ids, addresses, events.

#include <arpa/inet.h>

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

std::string ip_of(const sockaddr_in& address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
  return text.data();
}

sockaddr_in address_of(const std::string& ip, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, ip.empty() ? "0.0.0.0" : ip.c_str(), &address.sin_addr);
  return address;
}

rdma_event_channel* create_event_channel() {
  FabricState& fabric = current_fabric();
  const std::scoped_lock lock(fabric.mutex);
  auto* channel = fabric.make<FakeCmChannel>(Kind::kCmChannel, nullptr);
  channel->fd = channel->event_fd.get();
  return channel;
}

void destroy_event_channel(rdma_event_channel* raw) {
  auto& channel = static_cast<FakeCmChannel&>(*raw);
  const Call call(channel, "rdma_destroy_event_channel");
  if (call.refused() || call->retire(channel) != 0) return;
  channel.event_fd.close();
}

// Without a channel librdmacm makes every call wait for its answer; no event loop wants that.
int create_id(rdma_event_channel* raw, rdma_cm_id** made, void* user, rdma_port_space space) {
  if (raw == nullptr || space != RDMA_PS_TCP) return failed(EINVAL);
  auto& channel = static_cast<FakeCmChannel&>(*raw);
  const Call call(channel, "rdma_create_id");
  if (call.refused()) return failed(EINVAL);
  auto* id = call->make<FakeCmId>(Kind::kCmId, nullptr, {&channel});
  id->channel = raw;
  id->rdma_cm_id::context = user;
  id->ps = space;
  id->qp_type = IBV_QPT_RC;
  *made = id;
  return 0;
}

void retire_id(FabricState& fabric, FakeCmId& id) {
  if (id.qp != nullptr) fabric.violation("a cm id was destroyed before its qp");
  if (id.unacked > 0)
    fabric.violation(
        "a cm id was destroyed with {} events unacknowledged: the real call never returns",
        id.unacked);
  fabric.detach(id);
  std::erase_if(fabric.messages, [&](const CmMessage& message) { return message.to == &id; });
  (void)fabric.retire(id);
}

int destroy_id(rdma_cm_id* raw) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_destroy_id");
  if (call.refused()) return failed(EINVAL);
  auto& events = static_cast<FakeCmChannel&>(*id.channel).events;
  // Requests that nobody has seen go with their listener, which rejects them.
  for (const std::unique_ptr<FakeCmEvent>& event : events) {
    if (event->listen_id == &id && event->event == RDMA_CM_EVENT_CONNECT_REQUEST)
      retire_id(*call, static_cast<FakeCmId&>(*event->id));
  }
  std::erase_if(events, [&](const std::unique_ptr<FakeCmEvent>& event) {
    return event->id == &id || event->listen_id == &id;
  });
  retire_id(*call, id);
  return 0;
}

// Events that nobody has fetched move along. The real call waits until those fetched are
// acknowledged.
int migrate_id(rdma_cm_id* raw, rdma_event_channel* raw_to) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_migrate_id");
  if (call.refused() || raw_to == nullptr) return failed(EINVAL);
  if (id.unacked > 0)
    call->violation("a cm id migrates with {} events unacknowledged: the real call never returns",
                    id.unacked);
  auto& from = static_cast<FakeCmChannel&>(*id.channel);
  auto& to = static_cast<FakeCmChannel&>(*raw_to);
  for (std::unique_ptr<FakeCmEvent>& event : from.events) {
    const bool own = (event->listen_id != nullptr ? event->listen_id : event->id) == &id;
    if (!own) continue;
    to.events.push_back(std::move(event));
    to.event_fd.signal();
  }
  std::erase(from.events, nullptr);
  --from.children;
  ++to.children;
  std::replace(id.parents.begin(), id.parents.end(), static_cast<Object*>(&from),
               static_cast<Object*>(&to));
  id.channel = raw_to;
  return 0;
}

bool taken(const FabricState& fabric, const FakeCmId& who) {
  return std::any_of(fabric.cm_ids.begin(), fabric.cm_ids.end(), [&](const FakeCmId* id) {
    return id != &who && id->port == who.port &&
           (id->state == CmState::kBound || id->state == CmState::kListening) &&
           (id->ip == who.ip || id->ip.empty() || who.ip.empty());
  });
}

void place(FabricState& fabric, FakeCmId& id, FakeDevice& nic, std::uint8_t port) {
  if (nic.cm_context == nullptr) nic.cm_context = fabric.open_context(nic, true);
  id.nic = &nic;
  id.verbs = nic.cm_context;
  id.port_num = port;
}

int bind_to(FabricState& fabric, FakeCmId& id, const sockaddr_in& address) {
  if (id.state != CmState::kIdle || address.sin_family != AF_INET) return EINVAL;
  const std::string ip = ip_of(address);
  std::uint8_t port = 0;
  FakeDevice* nic = nullptr;
  if (ip != "0.0.0.0") {
    nic = fabric.device_at(ip, &port);
    if (nic == nullptr) return ENODEV;
    id.ip = ip;
  }
  id.port = ntohs(address.sin_port);
  if (id.port == 0) id.port = fabric.next_port++;
  if (taken(fabric, id)) return EADDRINUSE;
  if (nic != nullptr) place(fabric, id, *nic, port);
  id.route.addr.src_sin = address_of(id.ip, id.port);
  id.state = CmState::kBound;
  return 0;
}

int bind_addr(rdma_cm_id* raw, sockaddr* address) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_bind_addr");
  const int error =
      call.refused() ? EINVAL : bind_to(*call, id, reinterpret_cast<const sockaddr_in&>(*address));
  return error == 0 ? 0 : failed(error);
}

// The kernel's routing, roughly: the port that has the /24 of the destination, else any that is up.
std::string route_to(const FabricState& fabric, const std::string& ip) {
  std::string any;
  for (const FakeDevice* nic : fabric.devices) {
    for (const FakePort& port : nic->spec.ports) {
      if (nic->removed || !port.active) continue;
      if (port.ip.substr(0, port.ip.rfind('.')) == ip.substr(0, ip.rfind('.'))) return port.ip;
      if (any.empty()) any = port.ip;
    }
  }
  return any;
}

int resolve_addr(rdma_cm_id* raw, sockaddr* from, sockaddr* to, int) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_resolve_addr");
  if (call.refused() || to == nullptr || to->sa_family != AF_INET) return failed(EINVAL);
  if (from != nullptr && id.state == CmState::kIdle) {
    const int error = bind_to(*call, id, reinterpret_cast<const sockaddr_in&>(*from));
    if (error != 0) return failed(error);
  }
  if (id.state != CmState::kIdle && id.state != CmState::kBound) return failed(EINVAL);
  id.route.addr.dst_sin = reinterpret_cast<const sockaddr_in&>(*to);
  const std::string there = ip_of(id.route.addr.dst_sin);
  if (id.ip.empty()) id.ip = route_to(*call, there);
  if (id.port == 0) id.port = call->next_port++;
  std::uint8_t port = 0, peer_port = 0;
  FakeDevice* nic = call->device_at(id.ip, &port);
  const FakeDevice* peer = call->device_at(there, &peer_port);
  CmMessage answer;
  answer.to = &id;
  answer.type = RDMA_CM_EVENT_ADDR_RESOLVED;
  if (nic == nullptr) {
    answer.status = -ENODEV;
  } else {
    place(*call, id, *nic, port);
    id.verbs = nullptr;  // known to its user once the event is taken
    // Nobody answers the question who has the address.
    const bool answered = peer != nullptr && call->port_active(*peer, peer_port) &&
                          call->port_active(*nic, port) && !id.silent;
    if (!answered) answer.status = -ETIMEDOUT;
  }
  if (answer.status != 0) answer.type = RDMA_CM_EVENT_ADDR_ERROR;
  call->send_message(std::move(answer));
  return 0;
}

int resolve_route(rdma_cm_id* raw, int) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_resolve_route");
  if (call.refused() || id.state != CmState::kAddress) return failed(EINVAL);
  CmMessage answer;
  answer.to = &id;
  const bool up = call->port_active(*id.nic, id.port_num);
  answer.type = up ? RDMA_CM_EVENT_ROUTE_RESOLVED : RDMA_CM_EVENT_ROUTE_ERROR;
  answer.status = up ? 0 : -ENETUNREACH;
  call->send_message(std::move(answer));
  return 0;
}

int listen_on(rdma_cm_id* raw, int backlog) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_listen");
  if (call.refused() || id.state != CmState::kBound) return failed(EINVAL);
  id.backlog = backlog > 0 ? backlog : 128;
  id.state = CmState::kListening;
  return 0;
}

int set_option(rdma_cm_id* raw, int level, int name, void* value, std::size_t bytes) {
  auto& id = static_cast<FakeCmId&>(*raw);
  const Call call(id, "rdma_set_option");
  if (call.refused() || level != RDMA_OPTION_ID) return failed(ENOSYS);
  switch (name) {
    case RDMA_OPTION_ID_TOS:
    case RDMA_OPTION_ID_ACK_TIMEOUT:
      if (bytes != 1) return failed(EINVAL);
      if (name == RDMA_OPTION_ID_ACK_TIMEOUT) {
        const auto wanted = *static_cast<const std::uint8_t*>(value);
        if (wanted > 31) return failed(EINVAL);
        id.ack_timeout = wanted;
      }
      return 0;
    case RDMA_OPTION_ID_REUSEADDR:
    case RDMA_OPTION_ID_AFONLY:
      return bytes == sizeof(int) ? 0 : failed(EINVAL);
    default:
      return failed(ENOSYS);
  }
}

std::uint16_t get_src_port(rdma_cm_id* raw) { return htons(static_cast<FakeCmId&>(*raw).port); }

// What librdmacm does when its user takes the event, not before.
void on_taken(FabricState& fabric, FakeCmEvent& event) {
  auto& id = static_cast<FakeCmId&>(*event.id);
  switch (event.event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      id.verbs = id.nic->cm_context;
      id.route.addr.src_sin = address_of(id.ip, id.port);
      id.state = CmState::kAddress;
      return;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      id.state = CmState::kRoute;
      return;
    case RDMA_CM_EVENT_REJECTED:
      if (id.qp != nullptr) fabric.to_error(static_cast<FakeQp&>(*id.qp));
      return;
    case RDMA_CM_EVENT_CONNECT_RESPONSE: {
      if (id.qp == nullptr) return;
      if (const int error = fabric.connect_qp(id); error != 0) {
        event.event = RDMA_CM_EVENT_CONNECT_ERROR;
        event.status = -error;
        return;
      }
      event.event = RDMA_CM_EVENT_ESTABLISHED;
      id.state = CmState::kConnected;
      CmMessage ready;
      ready.to = id.peer;
      ready.from = &id;
      ready.type = RDMA_CM_EVENT_ESTABLISHED;
      fabric.send_message(std::move(ready));
      return;
    }
    default:
      return;
  }
}

int get_cm_event(rdma_event_channel* raw, rdma_cm_event** taken_event) {
  auto& channel = static_cast<FakeCmChannel&>(*raw);
  for (;;) {
    if (!EventFd::wait(channel.fd)) return -1;
    const Call call(channel, "rdma_get_cm_event");
    if (channel.events.empty()) continue;  // its id went in the meantime
    FakeCmEvent* event = channel.events.front().release();
    channel.events.pop_front();
    on_taken(*call, *event);
    rdma_cm_id* counted = event->listen_id != nullptr ? event->listen_id : event->id;
    ++static_cast<FakeCmId*>(counted)->unacked;
    *taken_event = event;
    return 0;
  }
}

int ack_cm_event(rdma_cm_event* raw) {
  const std::unique_ptr<FakeCmEvent> event(static_cast<FakeCmEvent*>(raw));
  rdma_cm_id* counted = event->listen_id != nullptr ? event->listen_id : event->id;
  auto& id = static_cast<FakeCmId&>(*counted);
  const Call call(id, "rdma_ack_cm_event");
  --id.unacked;
  return 0;
}

const char* event_str(rdma_cm_event_type type) {
  constexpr std::array kNames{"RDMA_CM_EVENT_ADDR_RESOLVED",   "RDMA_CM_EVENT_ADDR_ERROR",
                              "RDMA_CM_EVENT_ROUTE_RESOLVED",  "RDMA_CM_EVENT_ROUTE_ERROR",
                              "RDMA_CM_EVENT_CONNECT_REQUEST", "RDMA_CM_EVENT_CONNECT_RESPONSE",
                              "RDMA_CM_EVENT_CONNECT_ERROR",   "RDMA_CM_EVENT_UNREACHABLE",
                              "RDMA_CM_EVENT_REJECTED",        "RDMA_CM_EVENT_ESTABLISHED",
                              "RDMA_CM_EVENT_DISCONNECTED",    "RDMA_CM_EVENT_DEVICE_REMOVAL"};
  const auto index = static_cast<std::size_t>(type);
  return index < kNames.size() ? kNames[index] : "UNKNOWN EVENT";
}

}  // namespace

void FabricState::post_event(FakeCmId& to, const CmMessage& message) {
  auto event = std::make_unique<FakeCmEvent>();
  event->id = &to;
  event->listen_id = message.listener;
  event->event = message.type;
  event->status = message.status;
  event->param.conn = message.parameters;
  std::copy(message.bytes.begin(), message.bytes.end(), event->bytes.begin());
  event->param.conn.private_data = message.bytes.empty() ? nullptr : event->bytes.data();
  event->param.conn.private_data_len = static_cast<std::uint8_t>(message.bytes.size());
  auto& channel = static_cast<FakeCmChannel&>(*to.channel);
  channel.events.push_back(std::move(event));
  channel.event_fd.signal();
}

void fill_cm(verbs::VerbsApi& api) {
  api.rdma_create_event_channel = create_event_channel;
  api.rdma_destroy_event_channel = destroy_event_channel;
  api.rdma_create_id = create_id;
  api.rdma_destroy_id = destroy_id;
  api.rdma_bind_addr = bind_addr;
  api.rdma_resolve_addr = resolve_addr;
  api.rdma_resolve_route = resolve_route;
  api.rdma_listen = listen_on;
  api.rdma_migrate_id = migrate_id;
  api.rdma_set_option = set_option;
  api.rdma_get_src_port = get_src_port;
  api.rdma_get_cm_event = get_cm_event;
  api.rdma_ack_cm_event = ack_cm_event;
  api.rdma_event_str = event_str;
}

}  // namespace penstock::test
