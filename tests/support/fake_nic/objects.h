// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The objects behind the pointers of verbs.h and rdma_cma.h: each derives from the library's struct
// and knows its fabric. Private to this folder; everything under FabricState::mutex.

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/fake_nic/fabric.h"
#include "tests/support/fake_nic/fifo.h"
#include "transport/base/unique_fd.h"

namespace penstock::test {

enum class Kind : std::uint8_t {
  kContext,
  kPd,
  kMr,
  kMw,
  kChannel,
  kCq,
  kSrq,
  kQp,
  kCmChannel,
  kCmId,
};
inline constexpr std::array kKindNames{
    "context", "pd", "mr", "mw", "completion channel", "cq", "srq", "qp", "event channel", "cm id"};

struct FakeDevice;

struct Object {
  FabricState* fabric = nullptr;
  FakeDevice* nic = nullptr;  // nullptr: of none (yet)
  Kind kind{};
  bool alive = true;
  bool hidden = false;  // the connection manager's own: no leak
  int children = 0;     // objects that must go first
  int unacked_async = 0;
  std::vector<Object*> parents;
  virtual ~Object() = default;
};

// A descriptor that is readable once for each event: what a completion, event or async channel
// gives to poll(). Waiting honours O_NONBLOCK, which its user sets with fcntl.
class EventFd {
 public:
  EventFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)) {}
  int get() const { return fd_.get(); }
  void signal() {
    const std::uint64_t one = 1;
    (void)!::write(fd_.get(), &one, sizeof one);
  }
  void close() { fd_.reset(); }
  // False with errno. Not under the mutex: may block.
  static bool wait(int fd) {
    std::uint64_t one = 0;
    return ::read(fd, &one, sizeof one) == sizeof one;
  }

 private:
  UniqueFd fd_;
};

struct FakeDevice : Object, ibv_device {
  FakeNicSpec spec;
  bool removed = false;
  struct FakeContext* cm_context = nullptr;  // librdmacm opens each device once for itself
  std::uint64_t pinned_bytes = 0;
  std::array<int, kKindNames.size()> count{};
};

struct FakeContext : Object, ibv_context {
  EventFd async;
  GrowingFifo<ibv_async_event> events;
};

struct FakePd : Object, ibv_pd {};

struct FakeMr : Object, ibv_mr {
  std::byte* base = nullptr;
  std::uint64_t iova = 0;
  unsigned access = 0;
  std::uint64_t pinned_bytes = 0;
};

struct FakeQp;

struct FakeMw : Object, ibv_mw {
  bool bound = false;
  std::uint32_t current_rkey = 0;
  FakeMr* mr = nullptr;
  std::uint32_t qp_num = 0;  // type 2B: reachable through this queue pair alone
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  unsigned access = 0;
};

struct FakeCq;

struct FakeChannel : Object, ibv_comp_channel {
  EventFd event_fd;
  GrowingFifo<FakeCq*> events;
};

struct Completed {
  ibv_wc wc{};
  FakeQp* qp = nullptr;
  std::uint64_t frees_up_to = 0;  // send queue slots, by sequence number; 0 for receives
  bool solicited = false;
};

enum class Armed : std::uint8_t { kNo, kSolicited, kAny };

struct FakeCq : Object, ibv_cq {
  GrowingFifo<Completed> entries;
  Armed armed = Armed::kNo;
  unsigned unacked = 0;
};

inline constexpr int kMaxSge = 16;

struct Receive {
  std::uint64_t wr_id = 0;
  int num_sge = 0;
  std::array<ibv_sge, kMaxSge> sges{};
};

struct ReceiveQueue {
  GrowingFifo<Receive> posted;
  std::size_t capacity = 0;
  int max_sge = 0;
};

struct FakeSrq : Object, ibv_srq {
  ReceiveQueue queue;
};

struct Request {
  ibv_send_wr wr{};
  std::uint64_t sequence = 0;  // counts from 1
  bool signalled = false;
  std::array<ibv_sge, kMaxSge> sges{};
};

enum class Waits : std::uint8_t { kNot, kForPeer, kForReceive };

struct FakeQp : Object, ibv_qp {
  ibv_qp_cap cap{};
  bool signal_all = false;
  ibv_qp_state now = IBV_QPS_RESET;  // ibv_qp::state is what the user last asked for
  ibv_qp_attr attr{};

  GrowingFifo<Request> requests;        // not yet executed
  std::uint64_t posted = 0;             // sequence number of the last
  std::uint64_t freed = 0;              // slots up to this one are free again
  std::vector<std::byte> inline_bytes;  // cap.max_inline_data for each slot
  ReceiveQueue receives;
  GrowingFifo<Completed> sent, received;        // on the way to their completion queues
  std::uint32_t psn_send = 0, psn_receive = 0;  // one for each request

  Waits waits = Waits::kNot;  // the first request
  TimeNs deadline_ns = kNever;

  bool held = false;
  bool silent = false;
  bool duplicate_sent = false, duplicate_received = false;
  std::optional<FakeFailure> failure;
  unsigned failure_skip = 0;

  FakeSrq* shared() const { return static_cast<FakeSrq*>(srq); }
  ReceiveQueue& receive_queue() { return srq != nullptr ? shared()->queue : receives; }
  FakeCq& cq(bool send) const { return *static_cast<FakeCq*>(send ? send_cq : recv_cq); }
  std::byte* inlined(const Request& request) {
    return inline_bytes.data() + request.sequence % cap.max_send_wr * cap.max_inline_data;
  }
};

struct FakeCmEvent : rdma_cm_event {
  std::array<std::byte, 256> bytes{};
};

struct FakeCmChannel : Object, rdma_event_channel {
  EventFd event_fd;
  std::deque<std::unique_ptr<FakeCmEvent>> events;
};

enum class CmState : std::uint8_t {
  kIdle,
  kBound,
  kAddress,  // resolved
  kRoute,    // resolved
  kListening,
  kRequested,  // active: REQ sent
  kAsked,      // passive: REQ received
  kAnswered,   // active: REP received, event not yet taken
  kAccepted,   // passive: REP sent
  kConnected,
  kClosing,  // DREQ sent or received
  kEnded,
};

struct FakeCmId : Object, rdma_cm_id {
  CmState state = CmState::kIdle;
  std::string ip;  // local; empty: any
  std::uint16_t port = 0;
  FakeCmId* peer = nullptr;
  FakeCmId* listener = nullptr;
  int backlog = 0, waiting = 0;  // listening
  int unacked = 0;               // events
  bool silent = false;
  std::uint8_t ack_timeout = 18;  // 1 s, about what the kernel derives from the path
  rdma_conn_param parameters{};   // ours, with depths adjusted to the peer's
  std::uint8_t peer_rnr_retry = 0;
  std::uint32_t first_psn = 0;
};

}  // namespace penstock::test
