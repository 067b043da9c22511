// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two connected RC queue pairs of this process, made with nothing but libibverbs and librdmacm: the
// yardstick that says whether the test bed works, independent of what is tested on it.

#include <arpa/inet.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <rdma/rdma_cma.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

namespace penstock::test {

inline void require(bool ok, const std::string& what) {
  if (!ok) throw std::runtime_error(what + ": " + std::strerror(errno));
}

// One side: its queue pair, its completion queue and 4 KiB of registered memory. Destroyed in
// reverse order of construction; `id` is the last that may go.
struct RcSide {
  static constexpr std::size_t kBytes = 4096;

  RcSide(rdma_event_channel* channel, rdma_cm_id* existing) : id(existing) {
    if (id == nullptr) {
      require(rdma_create_id(channel, &id, nullptr, RDMA_PS_TCP) == 0, "rdma_create_id");
    }
  }
  RcSide(const RcSide&) = delete;
  RcSide& operator=(const RcSide&) = delete;
  ~RcSide() {
    if (region != nullptr) ibv_dereg_mr(region);
    if (id->qp != nullptr) rdma_destroy_qp(id);
    if (completions != nullptr) ibv_destroy_cq(completions);
    rdma_destroy_id(id);
  }

  void create_queues() {
    completions = ibv_create_cq(id->verbs, 64, nullptr, nullptr, 0);
    require(completions != nullptr, "ibv_create_cq");
    ibv_qp_init_attr attributes{};
    attributes.send_cq = attributes.recv_cq = completions;
    attributes.cap = {.max_send_wr = 16,
                      .max_recv_wr = 16,
                      .max_send_sge = 1,
                      .max_recv_sge = 1,
                      .max_inline_data = 0};
    attributes.qp_type = IBV_QPT_RC;
    require(rdma_create_qp(id, nullptr, &attributes) == 0, "rdma_create_qp");
    region = ibv_reg_mr(id->qp->pd, bytes.data(), bytes.size(),
                        IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    require(region != nullptr, "ibv_reg_mr");
  }

  void post_empty_receive() {
    ibv_recv_wr request{};
    ibv_recv_wr* bad = nullptr;
    errno = ibv_post_recv(id->qp, &request, &bad);
    require(errno == 0, "ibv_post_recv");
  }

  // All of this side's bytes over the peer's, with `immediate`.
  void post_write(const RcSide& peer, std::uint32_t immediate) {
    ibv_sge from{reinterpret_cast<std::uint64_t>(bytes.data()), kBytes, region->lkey};
    ibv_send_wr request{};
    request.sg_list = &from;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
    request.send_flags = IBV_SEND_SIGNALED;
    request.imm_data = htonl(immediate);
    request.wr.rdma.remote_addr = reinterpret_cast<std::uint64_t>(peer.bytes.data());
    request.wr.rdma.rkey = peer.region->rkey;
    ibv_send_wr* bad = nullptr;
    errno = ibv_post_send(id->qp, &request, &bad);
    require(errno == 0, "ibv_post_send");
  }

  // The next completion, at most 10 s from now.
  ibv_wc next_completion() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    ibv_wc completion{};
    while (ibv_poll_cq(completions, 1, &completion) == 0) {
      errno = ETIMEDOUT;
      require(std::chrono::steady_clock::now() < deadline, "no completion");
    }
    return completion;
  }

  rdma_cm_id* id;
  ibv_cq* completions = nullptr;
  ibv_mr* region = nullptr;
  std::array<std::uint8_t, kBytes> bytes{};
};

class RcPair {
 public:
  // `to` listens on its address, `from` connects from its own.
  RcPair(const std::string& from, const std::string& to) {
    RcSide listener(channel_.get(), nullptr);
    sockaddr_in there = address(to);
    require(rdma_bind_addr(listener.id, as_sockaddr(there)) == 0, "rdma_bind_addr " + to);
    require(rdma_listen(listener.id, 1) == 0, "rdma_listen");
    there.sin_port = rdma_get_src_port(listener.id);

    sender = std::make_unique<RcSide>(channel_.get(), nullptr);
    sockaddr_in here = address(from);
    require(
        rdma_resolve_addr(sender->id, as_sockaddr(here), as_sockaddr(there), kResolveMillis) == 0,
        "rdma_resolve_addr");
    expect(RDMA_CM_EVENT_ADDR_RESOLVED);
    require(rdma_resolve_route(sender->id, kResolveMillis) == 0, "rdma_resolve_route");
    expect(RDMA_CM_EVENT_ROUTE_RESOLVED);

    // Retransmit after 4.096 us * 2^12 = 17 ms; librdmacm's own choice is seconds.
    std::uint8_t timeout = 12;
    require(rdma_set_option(sender->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                            sizeof timeout) == 0,
            "rdma_set_option");
    // No more than 6 retries: soft-RoCE takes 7 for "for ever".
    rdma_conn_param parameters{};
    parameters.retry_count = 6;
    parameters.rnr_retry_count = 6;
    sender->create_queues();
    require(rdma_connect(sender->id, &parameters) == 0, "rdma_connect");
    receiver = std::make_unique<RcSide>(nullptr, expect(RDMA_CM_EVENT_CONNECT_REQUEST));
    receiver->create_queues();
    require(rdma_accept(receiver->id, &parameters) == 0, "rdma_accept");
    expect(RDMA_CM_EVENT_ESTABLISHED);
    expect(RDMA_CM_EVENT_ESTABLISHED);
  }

  // Writes `rounds` patterns, each with its number; throws unless each arrives as it was sent.
  void write_and_check(std::uint32_t rounds) {
    for (std::uint32_t round = 0; round < rounds; ++round) {
      sender->bytes.fill(static_cast<std::uint8_t>(round * 7 + 1));
      receiver->post_empty_receive();
      sender->post_write(*receiver, round);
      const ibv_wc arrived = receiver->next_completion();
      const ibv_wc sent = sender->next_completion();
      errno = EBADMSG;
      require(arrived.status == IBV_WC_SUCCESS && sent.status == IBV_WC_SUCCESS,
              ibv_wc_status_str(sent.status));
      require(arrived.opcode == IBV_WC_RECV_RDMA_WITH_IMM && ntohl(arrived.imm_data) == round &&
                  arrived.byte_len == RcSide::kBytes && receiver->bytes == sender->bytes,
              "write " + std::to_string(round) + " arrived as something else");
    }
  }

 private:
  static constexpr int kResolveMillis = 5000;
  static constexpr int kEventMillis = 10000;

  static sockaddr_in address(const std::string& text) {
    sockaddr_in parsed{};
    parsed.sin_family = AF_INET;
    require(inet_pton(AF_INET, text.c_str(), &parsed.sin_addr) == 1, "address \"" + text + "\"");
    return parsed;
  }
  static sockaddr* as_sockaddr(sockaddr_in& address) {
    return reinterpret_cast<sockaddr*>(&address);
  }

  // The id that the next event, which must be `wanted`, is about.
  rdma_cm_id* expect(rdma_cm_event_type wanted) {
    pollfd ready{channel_->fd, POLLIN, 0};
    errno = ETIMEDOUT;
    require(poll(&ready, 1, kEventMillis) == 1, std::string("no ") + rdma_event_str(wanted));
    rdma_cm_event* event = nullptr;
    require(rdma_get_cm_event(channel_.get(), &event) == 0, "rdma_get_cm_event");
    const rdma_cm_event_type got = event->event;
    rdma_cm_id* id = event->id;
    errno = -event->status;
    rdma_ack_cm_event(event);
    require(got == wanted,
            std::string(rdma_event_str(got)) + " instead of " + rdma_event_str(wanted));
    return id;
  }

  struct CloseChannel {
    void operator()(rdma_event_channel* channel) const { rdma_destroy_event_channel(channel); }
  };
  std::unique_ptr<rdma_event_channel, CloseChannel> channel_{rdma_create_event_channel()};

 public:
  std::unique_ptr<RcSide> sender, receiver;  // gone before the channel they are on
};

// True when port 1 of the device of that name is active; throws when there is no such device.
inline bool port_is_active(const std::string& name) {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  require(list != nullptr, "ibv_get_device_list");
  ibv_context* device = nullptr;
  for (int i = 0; i < count && device == nullptr; ++i) {
    if (name == ibv_get_device_name(list[i])) device = ibv_open_device(list[i]);
  }
  ibv_free_device_list(list);
  errno = ENODEV;
  require(device != nullptr, name);
  ibv_port_attr port{};
  errno = ibv_query_port(device, 1, &port);
  const bool asked = errno == 0;
  ibv_close_device(device);
  require(asked, "ibv_query_port");
  return port.state == IBV_PORT_ACTIVE;
}

}  // namespace penstock::test
