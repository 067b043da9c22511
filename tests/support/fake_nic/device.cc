// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Devices, ports, and asynchronous events.

#include <arpa/inet.h>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

constexpr int kGids = 4;  // link-local, RoCE v2, and two empty entries

ibv_device** get_device_list(int* count) {
  FabricState& fabric = current_fabric();
  const std::scoped_lock lock(fabric.mutex);
  auto** list = new ibv_device* [fabric.devices.size() + 1] {};
  int found = 0;
  for (FakeDevice* device : fabric.devices) {
    if (!device->removed) list[found++] = device;
  }
  if (count != nullptr) *count = found;
  return list;
}

void free_device_list(ibv_device** list) { delete[] list; }

const char* get_device_name(ibv_device* raw) { return raw->name; }

ibv_context* open_device(ibv_device* raw) {
  auto& device = static_cast<FakeDevice&>(*raw);
  const Call call(device, "ibv_open_device");
  if (device.removed) return none(ENODEV);
  return call->open_context(device, false);
}

int close_device(ibv_context* raw) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_close_device");
  if (call.refused()) return -1;
  if (call->retire(context) != 0) return -1;
  context.async.close();
  return 0;
}

int query_device(ibv_context* raw, ibv_device_attr* attr) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_query_device");
  const FakeDevice& device = *context.nic;
  if (device.removed) return EIO;
  const FakeLimits& limits = device.spec.limits;
  *attr = {};
  std::strncpy(attr->fw_ver, "fake.1", sizeof attr->fw_ver - 1);
  attr->max_mr_size = limits.max_mr_bytes;
  attr->page_size_cap = 4096;
  attr->vendor_id = 0xfa4e;
  attr->max_qp = limits.max_qp;
  attr->max_qp_wr = limits.max_qp_wr;
  attr->max_sge = limits.max_sge;
  attr->max_sge_rd = limits.max_sge;
  attr->max_cq = limits.max_cq;
  attr->max_cqe = limits.max_cqe;
  attr->max_mr = limits.max_mr;
  attr->max_mw = device.spec.windows ? limits.max_mw : 0;
  attr->max_pd = limits.max_pd;
  attr->max_qp_rd_atom = limits.max_rd_atomic;
  attr->max_qp_init_rd_atom = limits.max_rd_atomic;
  attr->max_srq = limits.max_srq;
  attr->max_srq_wr = limits.max_srq_wr;
  attr->max_srq_sge = limits.max_srq_sge;
  attr->max_pkeys = 1;
  attr->phys_port_cnt = static_cast<std::uint8_t>(device.spec.ports.size());
  if (device.spec.windows)
    attr->device_cap_flags = IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B;
  return 0;
}

int query_port(ibv_context* raw, std::uint8_t port, ibv_port_attr* attr) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_query_port");
  const FakeDevice& device = *context.nic;
  if (device.removed) return EIO;
  if (port < 1 || port > device.spec.ports.size()) return EINVAL;
  const FakePort& spec = device.spec.ports[port - 1U];
  *attr = {};
  attr->state = spec.active ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
  attr->max_mtu = IBV_MTU_4096;
  attr->active_mtu = spec.mtu;
  attr->gid_tbl_len = kGids;
  attr->max_msg_sz = device.spec.limits.max_message_bytes;
  attr->pkey_tbl_len = 1;
  attr->active_width = spec.active_width;
  attr->active_speed = spec.active_speed;
  attr->phys_state = spec.active ? 5 : 3;  // link up, disabled
  attr->link_layer = spec.link_layer;
  return 0;
}

// Index 0 is link-local, 1 the IPv4 address: the order soft-RoCE and mlx5 have. An empty entry
// reads as zeros, as rdma-core keeps it for old programs.
int query_gid(ibv_context* raw, std::uint8_t port, int index, ibv_gid* gid) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_query_gid");
  const FakeDevice& device = *context.nic;
  if (port < 1 || port > device.spec.ports.size() || index < 0 || index >= kGids)
    return failed(EINVAL);
  const FakePort& spec = device.spec.ports[port - 1U];
  *gid = {};
  if (!spec.has_gid || index > 1) return 0;
  if (index == 0) {
    gid->raw[0] = 0xfe;
    gid->raw[1] = 0x80;
  } else {
    gid->raw[10] = gid->raw[11] = 0xff;
  }
  ::inet_pton(AF_INET, spec.ip.c_str(), &gid->raw[12]);
  return 0;
}

int get_async_event(ibv_context* raw, ibv_async_event* event) {
  auto& context = static_cast<FakeContext&>(*raw);
  for (;;) {
    if (!EventFd::wait(context.async_fd)) return -1;
    const Call call(context, "ibv_get_async_event");
    if (context.events.empty()) continue;  // its object went in the meantime
    *event = context.events.pop();
    return 0;
  }
}

Object* subject(const ibv_async_event& event) {
  switch (event.event_type) {
    case IBV_EVENT_CQ_ERR:
      return static_cast<FakeCq*>(event.element.cq);
    case IBV_EVENT_SRQ_ERR:
      return static_cast<FakeSrq*>(event.element.srq);
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
      return static_cast<FakeQp*>(event.element.qp);
    default:
      return nullptr;
  }
}

void ack_async_event(ibv_async_event* event) {
  Object* object = subject(*event);
  if (object == nullptr) return;
  const Call call(*object, "ibv_ack_async_event");
  --object->unacked_async;
}

int fork_init() { return 0; }

const char* wc_status_str(ibv_wc_status status) {
  constexpr std::array kNames{"success",
                              "local length error",
                              "local QP operation error",
                              "local EE context operation error",
                              "local protection error",
                              "Work Request Flushed Error",
                              "memory management operation error",
                              "bad response error",
                              "local access error",
                              "remote invalid request error",
                              "remote access error",
                              "remote operation error",
                              "transport retry counter exceeded",
                              "RNR retry counter exceeded"};
  const auto index = static_cast<std::size_t>(status);
  return index < kNames.size() ? kNames[index] : "general error";
}

const char* event_type_str(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_CQ_ERR:
      return "CQ error";
    case IBV_EVENT_QP_FATAL:
      return "local work queue catastrophic error";
    case IBV_EVENT_QP_ACCESS_ERR:
      return "local access violation work queue error";
    case IBV_EVENT_DEVICE_FATAL:
      return "local catastrophic error";
    case IBV_EVENT_PORT_ACTIVE:
      return "port active";
    case IBV_EVENT_PORT_ERR:
      return "port error";
    default:
      return "other event";
  }
}

}  // namespace

FakeContext* FabricState::open_context(FakeDevice& on, bool hidden) {
  auto* context = make<FakeContext>(Kind::kContext, &on);
  context->hidden = hidden;
  context->ibv_context::device = &on;
  context->async_fd = context->async.get();
  context->num_comp_vectors = 2;
  context->cmd_fd = -1;
  // abi_compat stays null: no extended operations, so verbs.h takes the table's functions.
  fill_memory(context->ops);
  fill_queues(context->ops);
  fill_queue_pairs(context->ops);
  return context;
}

void FabricState::raise(FakeContext& context, const ibv_async_event& event) {
  if (!context.alive) return;
  if (Object* object = subject(event); object != nullptr) ++object->unacked_async;
  ++ledger.async_events;
  context.events.push(event);
  context.async.signal();
}

void FabricState::drop_events(ibv_context* of, const Object& about) {
  static_cast<FakeContext&>(*of).events.filter([&](const ibv_async_event& event) {
    Object* object = subject(event);
    if (object != &about) return true;
    --object->unacked_async;
    return false;
  });
}

void FabricState::raise_port(FakeDevice& device, std::uint8_t port, ibv_event_type type) {
  ibv_async_event event{};
  event.event_type = type;
  event.element.port_num = port;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    auto* context = dynamic_cast<FakeContext*>(objects[i].get());
    if (context != nullptr && context->Object::nic == &device) raise(*context, event);
  }
}

void FabricState::raise_qp(FakeQp& qp, ibv_event_type type) {
  ibv_async_event event{};
  event.event_type = type;
  if (type == IBV_EVENT_CQ_ERR)
    event.element.cq = qp.recv_cq;
  else if (type == IBV_EVENT_SRQ_ERR)
    event.element.srq = qp.srq;
  else
    event.element.qp = &qp;
  raise(static_cast<FakeContext&>(*qp.context), event);
}

void fill_device(verbs::VerbsApi& api) {
  api.ibv_get_device_list = get_device_list;
  api.ibv_free_device_list = free_device_list;
  api.ibv_get_device_name = get_device_name;
  api.ibv_open_device = open_device;
  api.ibv_close_device = close_device;
  api.ibv_query_device = query_device;
  api.ibv_query_port = query_port;
  api.ibv_query_gid = query_gid;
  api.ibv_get_async_event = get_async_event;
  api.ibv_ack_async_event = ack_async_event;
  api.ibv_fork_init = fork_init;
  api.ibv_wc_status_str = wc_status_str;
  api.ibv_event_type_str = event_type_str;
}

}  // namespace penstock::test
