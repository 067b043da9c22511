// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/fake_nic_support.h"

namespace penstock::test {

Pair::Pair(PairOptions wanted)
    : options(std::move(wanted)), fabric(clock, options.fabric), api(fabric.api()) {
  events = api.rdma_create_event_channel();
  ::fcntl(events->fd, F_SETFL, O_NONBLOCK);
  const std::string& first = options.fabric.nics.front().ports.front().ip;
  const std::string& last = options.fabric.nics.back().ports.back().ip;
  sockaddr_in here = address(first.c_str());
  sockaddr_in there = address(last.c_str(), 7000);
  EXPECT_EQ(api.rdma_create_id(events, &listener, nullptr, RDMA_PS_TCP), 0);
  EXPECT_EQ(api.rdma_bind_addr(listener, reinterpret_cast<sockaddr*>(&there)), 0);
  EXPECT_EQ(api.rdma_listen(listener, 8), 0);
  EXPECT_EQ(api.rdma_create_id(events, &a.id, nullptr, RDMA_PS_TCP), 0);
  EXPECT_EQ(api.rdma_resolve_addr(a.id, reinterpret_cast<sockaddr*>(&here),
                                  reinterpret_cast<sockaddr*>(&there), 1000),
            0);
  EXPECT_EQ(event().type, RDMA_CM_EVENT_ADDR_RESOLVED);
  EXPECT_EQ(api.rdma_resolve_route(a.id, 1000), 0);
  EXPECT_EQ(event().type, RDMA_CM_EVENT_ROUTE_RESOLVED);
  connect();
}

void Pair::connect() {
  prepare(a);
  EXPECT_EQ(api.rdma_connect(a.id, &options.connection), 0);
  const CmEvent request = event();
  ASSERT_EQ(request.type, RDMA_CM_EVENT_CONNECT_REQUEST);
  b.id = request.id;
  prepare(b);
  EXPECT_EQ(api.rdma_accept(b.id, &options.connection), 0);
  EXPECT_EQ(event().type, RDMA_CM_EVENT_ESTABLISHED);
  EXPECT_EQ(event().type, RDMA_CM_EVENT_ESTABLISHED);
}

void Pair::prepare(Side& side) {
  side.pd = api.ibv_alloc_pd(side.id->verbs);
  side.channel = api.ibv_create_comp_channel(side.id->verbs);
  ::fcntl(side.channel->fd, F_SETFL, O_NONBLOCK);
  side.sends = api.ibv_create_cq(side.id->verbs, options.cqe, &side, side.channel, 0);
  side.receives = api.ibv_create_cq(side.id->verbs, options.cqe, &side, side.channel, 0);
  if (options.srq_wr != 0) {
    ibv_srq_init_attr attr{nullptr, {options.srq_wr, 1, 0}};
    side.srq = api.ibv_create_srq(side.pd, &attr);
  }
  side.mr = api.ibv_reg_mr_iova2(side.pd, side.bytes.data(), side.bytes.size(), side.at(),
                                 IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
  ibv_qp_init_attr attr{};
  attr.send_cq = side.sends;
  attr.recv_cq = side.receives;
  attr.srq = side.srq;
  attr.cap = options.cap;
  attr.qp_type = IBV_QPT_RC;
  EXPECT_EQ(api.rdma_create_qp(side.id, side.pd, &attr), 0);
}

void Pair::release(Side& side) {
  if (side.id == nullptr) return;
  if (side.id->qp != nullptr) api.rdma_destroy_qp(side.id);
  EXPECT_EQ(side.mr == nullptr ? 0 : api.ibv_dereg_mr(side.mr), 0);
  EXPECT_EQ(side.srq == nullptr ? 0 : api.ibv_destroy_srq(side.srq), 0);
  for (ibv_cq* cq : {side.sends, side.receives}) EXPECT_EQ(api.ibv_destroy_cq(cq), 0);
  EXPECT_EQ(api.ibv_destroy_comp_channel(side.channel), 0);
  EXPECT_EQ(api.ibv_dealloc_pd(side.pd), 0);
  EXPECT_EQ(api.rdma_destroy_id(side.id), 0);
}

Pair::~Pair() {
  release(a);
  release(b);
  EXPECT_EQ(api.rdma_destroy_id(listener), 0);
  api.rdma_destroy_event_channel(events);
  EXPECT_EQ(fabric.violations(), "");
  EXPECT_EQ(fabric.leaks(), "");
}

CmEvent Pair::event() {
  rdma_cm_event* taken = nullptr;
  while (api.rdma_get_cm_event(events, &taken) != 0) {
    if (!fabric.step()) {
      ADD_FAILURE() << "no event of the connection manager can come";
      return {};
    }
  }
  CmEvent copied{taken->event, taken->status, taken->id, {}};
  const auto* bytes = static_cast<const std::uint8_t*>(taken->param.conn.private_data);
  if (bytes != nullptr) copied.bytes.assign(bytes, bytes + taken->param.conn.private_data_len);
  EXPECT_EQ(api.rdma_ack_cm_event(taken), 0);
  return copied;
}

std::uint32_t Pair::drain() {
  std::uint32_t moved = 0;
  while (fabric.step()) ++moved;
  return moved;
}

int Pair::post(Side& side, ibv_send_wr& wr) {
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(side.qp(), &wr, &bad);
  EXPECT_EQ(bad != nullptr, error != 0);
  return error;
}

int Pair::write(Side& from, Side& to, std::uint64_t wr_id, unsigned flags, std::uint32_t length) {
  ibv_sge sge = from.sge(length);
  ibv_send_wr wr{};
  wr.wr_id = wr_id;
  wr.opcode = IBV_WR_RDMA_WRITE;
  wr.send_flags = flags;
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.wr.rdma.remote_addr = to.at();
  wr.wr.rdma.rkey = to.mr->rkey;
  return post(from, wr);
}

int Pair::write_immediate(Side& from, std::uint64_t wr_id, std::uint32_t immediate) {
  ibv_send_wr wr{};
  wr.wr_id = wr_id;
  wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.imm_data = htonl(immediate);
  return post(from, wr);
}

int Pair::receive(Side& side, std::uint64_t wr_id) {
  ibv_recv_wr wr{};
  wr.wr_id = wr_id;
  ibv_recv_wr* bad = nullptr;
  return side.srq != nullptr ? ibv_post_srq_recv(side.srq, &wr, &bad)
                             : ibv_post_recv(side.qp(), &wr, &bad);
}

std::vector<ibv_wc> Pair::poll(ibv_cq* cq) {
  std::array<ibv_wc, 128> taken;
  const int count = ibv_poll_cq(cq, static_cast<int>(taken.size()), taken.data());
  return {taken.begin(), taken.begin() + count};
}

std::vector<ibv_wc_status> Pair::statuses(ibv_cq* cq) {
  std::vector<ibv_wc_status> found;
  for (const ibv_wc& wc : poll(cq)) found.push_back(wc.status);
  return found;
}

}  // namespace penstock::test
