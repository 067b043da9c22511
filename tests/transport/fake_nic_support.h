// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Raw verbs programs against the fake NIC: two connected queue pairs, and the few lines that every
// post and poll takes.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/support/fake_nic/fabric.h"

namespace penstock::test {

inline sockaddr_in address(const char* ip, std::uint16_t port = 0) {
  sockaddr_in made{};
  made.sin_family = AF_INET;
  made.sin_port = htons(port);
  ::inet_pton(AF_INET, ip, &made.sin_addr);
  return made;
}

struct CmEvent {
  rdma_cm_event_type type{};
  int status = 0;
  rdma_cm_id* id = nullptr;
  std::vector<std::uint8_t> bytes;
};

struct PairOptions {
  FabricOptions fabric{};
  ibv_qp_cap cap{16, 16, 4, 4, 64};
  int cqe = 64;
  std::uint32_t srq_wr = 0;  // 0: receives of the queue pair's own
  rdma_conn_param connection{nullptr, 0, 4, 4, 0, 3, 3, 0, 0};
};

struct Side {
  rdma_cm_id* id = nullptr;
  ibv_pd* pd = nullptr;
  ibv_comp_channel* channel = nullptr;
  ibv_cq* sends = nullptr;
  ibv_cq* receives = nullptr;
  ibv_srq* srq = nullptr;
  std::vector<std::byte> bytes = std::vector<std::byte>(4096);
  ibv_mr* mr = nullptr;

  ibv_qp* qp() const { return id->qp; }
  std::uint32_t number() const { return id->qp->qp_num; }
  std::uint64_t at(std::size_t offset = 0) const {
    return reinterpret_cast<std::uint64_t>(bytes.data()) + offset;
  }
  ibv_sge sge(std::uint32_t length, std::size_t offset = 0) const {
    return {at(offset), length, mr->lkey};
  }
};

// `a` has connected to `b`. The destructor takes everything down and expects no violation that a
// test has not taken, and no leak.
class Pair {
 public:
  explicit Pair(PairOptions options = {});
  ~Pair();
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  CmEvent event();        // the next of the connection manager; fails the test if none can come
  void connect();         // a and b, which are prepared
  std::uint32_t drain();  // steps until nothing moves
  int post(Side& side, ibv_send_wr& wr);
  int write(Side& from, Side& to, std::uint64_t wr_id, unsigned flags = IBV_SEND_SIGNALED,
            std::uint32_t length = 8);
  int write_immediate(Side& from, std::uint64_t wr_id, std::uint32_t immediate);
  int receive(Side& side, std::uint64_t wr_id);  // zero pieces
  std::vector<ibv_wc> poll(ibv_cq* cq);
  std::vector<ibv_wc_status> statuses(ibv_cq* cq);

  SystemClock clock;
  PairOptions options;
  FakeFabric fabric;
  const verbs::VerbsApi& api;
  rdma_event_channel* events = nullptr;
  rdma_cm_id* listener = nullptr;
  Side a, b;

 private:
  void prepare(Side& side);
  void release(Side& side);
};

}  // namespace penstock::test
