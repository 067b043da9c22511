// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A strict RDMA network inside the process, behind the function table of transport/verbs/api.h.
//
//   FakeFabric fabric(clock, {.nics = {{"fake0", {{"10.77.0.1"}}}, {"fake1", {{"10.77.0.2"}}}}});
//   … open_verbs_device(fabric.api(), …) …
//   EXPECT_EQ(fabric.violations(), "");
//   EXPECT_EQ(fabric.leaks(), "");
//
// Where soft-RoCE is lax it does as mlx5 does. It refuses what a NIC refuses and records as a
// *violation* what a correct program never does, with the words for it. Objects stay readable after
// their destruction, so that a use after it is a violation as well.
//
// Thread: everything from any thread (one mutex). One fabric at a time: the functions of the table
// that name no object find the one that lives. Outlives the objects made through its table.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/support/fake_nic/ledger.h"
#include "tests/support/fake_nic/spec.h"
#include "transport/base/clock.h"
#include "transport/verbs/api.h"

namespace penstock::test {

struct FabricState;

// A completion error to come. `applied`: the peer got it all the same and only the acknowledgement
// was lost; a real error completion never says which.
struct FakeFailure {
  ibv_wc_status status = IBV_WC_RETRY_EXC_ERR;
  std::uint32_t vendor_err = 0;
  bool applied = false;
};

class FakeFabric {
 public:
  FakeFabric(const Clock& clock, FabricOptions options);
  ~FakeFabric();

  const verbs::VerbsApi& api() const { return api_; }

  // kStepped: does one piece of work (a request reaches the peer, a completion its queue, a message
  // of the connection manager its channel), chosen by the seed. False when nothing can move before
  // next_timer_ns(), kNever if no timer runs.
  bool step();
  TimeNs next_timer_ns() const;
  // Retry and receiver-not-ready timers that run now have expired, whatever the clock says.
  void expire_timers();

  // --- The script. Queue pairs are named by number (ibv_qp::qp_num); live_queue_pairs() in order
  // of creation.
  std::vector<std::uint32_t> live_queue_pairs() const;
  std::uint32_t peer_of(std::uint32_t qp_num) const;  // 0 if not connected
  // The next request that executes on the queue pair, after `skip` others, fails.
  void fail_next(std::uint32_t qp_num, FakeFailure failure, unsigned skip = 0);
  // Completions of the queue pair are kept back until released; its requests still take effect.
  void hold_completions(std::uint32_t qp_num);
  void release_completions(std::uint32_t qp_num);
  // The next completion of its send or receive queue is delivered twice.
  void duplicate_next_send(std::uint32_t qp_num);
  void duplicate_next_receive(std::uint32_t qp_num);
  // Its end of the wire is cut without a word: requests to and from it time out.
  void silence(std::uint32_t qp_num);
  // As a host that lost its power: every queue pair and connection manager id of the device.
  void silence_nic(std::string_view nic);
  // Port state, with its event. Requests wait, and time out if it stays down.
  void set_port(std::string_view nic, std::uint8_t port, bool active);
  void raise_port_event(std::string_view nic, std::uint8_t port, ibv_event_type type);
  // QP_FATAL: it is in error too. CQ_ERR and SRQ_ERR: of the queues it receives by.
  void raise_qp_event(std::uint32_t qp_num, ibv_event_type type);
  // DEVICE_FATAL, every queue pair in error, and DEVICE_REMOVAL to every id on it.
  void remove_nic(std::string_view nic);
  // ibv_reg_dmabuf_mr of `fd` reaches these bytes while it is open. It stays the caller's.
  void add_dmabuf(int fd, std::span<std::byte> bytes);
  // As nvidia_peermem does for GPU memory: registering these addresses reaches those bytes.
  void add_peer_memory(std::span<std::byte> addresses, std::span<std::byte> bytes);
  // The next `count` registrations fail with `error`.
  void fail_registrations(int error, unsigned count = 1);

  // --- What happened.
  FakeLedger ledger() const;
  std::string violations() const;  // one line each; empty if none
  std::string take_violations();   // and forgets them
  std::string leaks() const;       // what lives, as "2 qp, 1 mr"; empty if nothing
  ibv_qp_state state_of(std::uint32_t qp_num) const;

 private:
  std::unique_ptr<FabricState> state_;
  verbs::VerbsApi api_;
};

}  // namespace penstock::test
