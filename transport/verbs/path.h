// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One queue pair of a connection and its accounts. Nothing here waits for the device to refuse:
//
//   send slots   kSendSlots for data, 2 for credits, 1 to drain; a slot is free again when a
//                completion at or behind it was polled
//   credits      the peer keeps `window` receives for us. Each immediate and each message takes
//                one; the peer returns them in a message of its own that carries its cumulative
//                count, after every half window. Those messages take receives too: before we have
//                polled one the peer can have consumed at most a window more than we know, so at
//                most two are under way. Hence window + 2 receives.
//
// Credits travel as messages and not as writes into a word here because a sender that sleeps until
// there is room must be woken. Thread: the queue's owner.

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "transport/verbs/cm.h"
#include "transport/verbs/greeting.h"
#include "transport/verbs/rail_queue.h"

namespace penstock::verbs {

class VerbsEndpoint;

struct Arrival {
  std::uint8_t path = 0;
  bool message = false;
  std::uint32_t immediate = 0;  // or the message's place in the ring
  std::uint32_t length = 0;
};

class Path {
 public:
  static constexpr std::uint32_t kSendSlots = 128;
  static constexpr std::uint32_t kCreditSlots = 2;
  static constexpr std::uint32_t kAllSlots = kSendSlots + kCreditSlots + 1;
  static constexpr std::uint32_t kMaxWindow = 64;
  static constexpr std::uint32_t kChain = 32;  // the last of a chain is signalled
  // And within a chain whatever completes so many bytes, so that a rail's load is known in time.
  static constexpr std::uint64_t kSignalBytes = std::uint64_t{1} << 20;

  // `index`: the owner's. `window`: 1 … kMaxWindow. Reserves its room in `queue`.
  static Result<std::unique_ptr<Path>> create(VerbsEndpoint& owner, RailQueue& queue,
                                              PeerScope scope, std::uint8_t index,
                                              std::uint32_t window);
  ~Path();
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;

  std::uint8_t index() const { return index_; }
  std::uint32_t window() const { return window_; }
  Domain& domain() const { return *domain_; }
  Rail& rail() const { return queue_.rail(); }
  RailQueue& queue() const { return queue_; }
  bool up() const { return state_ == State::kUp; }
  const std::string& peer() const { return peer_; }  // its address

  // Connecting (path_connect.cc). Both go on by on_cm_event(), to VerbsEndpoint::on_path_up() or
  // on_path_lost().
  Status dial(CmChannel& channel, const IpAddress& to, const Greeting& ours);
  Status answer(rdma_cm_id* id, const Greeting& ours, const Greeting& theirs);
  void on_cm_event(const CmEvent& event);
  // Ends it: nothing moves any more once drained() is true. The owner hears nothing further, except
  // about what had been posted.
  void shut();
  bool drained() const { return !live_ || drained_; }
  // It may be destroyed: drained, and saying so to the peer does no harm.
  bool gone() const { return drained() && !(live_ && rail().health().down()); }
  // The owner goes away; the queue keeps the path until it is drained.
  void orphan() { owner_ = nullptr; }

  // Posting. A chain is built by next() and sent by ring(); whoever calls next() saw room before.
  bool room(std::uint32_t slots) const { return head_ - tail_ + slots <= kSendSlots; }
  bool chain_full(std::uint32_t more) const { return chained_ + more > kChain; }
  bool has_credit() const { return sent_ != limit_; }
  void use_credit() { ++sent_; }
  // The next work request, zeroed but for wr_id and links, with a scatter entry of its own, which
  // sends `bytes`. `last` of its post: the owner is told of `post` when it completes.
  ibv_send_wr& next(std::uint64_t post, bool last, std::uint32_t bytes) {
    return claim({last ? Slot::kLast : Slot::kPart, bytes, post});
  }
  Status ring();
  std::uint64_t outstanding_bytes() const { return outstanding_bytes_; }
  std::uint32_t inline_bytes() const { return inline_bytes_; }
  std::uint32_t next_message_slot() {
    return std::exchange(message_slot_out_, (message_slot_out_ + 1) % peer_window_);
  }

  // The owner is done with so many more arrivals: their receives go back to the peer by and by.
  void consume(std::uint32_t count) { consumed_ += count; }
  // Returns credits when half a window has gathered.
  Status return_credits();

  // From the queue.
  void lost(const Status& status);
  void on_sent(const ibv_wc& completion);
  void on_received(const ibv_wc& completion);

 private:
  enum class State : std::uint8_t { kIdle, kDialing, kAnswered, kUp, kShut };
  struct Slot {
    enum Kind : std::uint8_t { kPart, kLast, kCredit, kDrain };
    Kind kind = kPart;
    std::uint32_t bytes = 0;  // that it sends
    std::uint64_t post = 0;   // of the owner
  };

  Path(VerbsEndpoint& owner, RailQueue& queue, Domain* domain, std::uint8_t index,
       std::uint32_t window);
  const VerbsApi& api() const { return queue_.rail().api(); }
  Status create_queue_pair();
  Status request();
  rdma_conn_param parameters(std::span<const std::byte> data) const;
  void came_up(const CmEvent& event);
  void learn(const Greeting& theirs);
  ibv_send_wr& claim(const Slot& slot);
  void signal(ibv_send_wr& work);
  void settle(const Slot& slot);
  void retire(const Slot& slot);
  void fail(const Slot& slot, const ibv_wc& completion);
  void on_credit(std::uint32_t count);
  void on_arrival(const Arrival& arrival);
  void drain();

  VerbsEndpoint* owner_;
  RailQueue& queue_;
  Domain* const domain_;
  const std::uint8_t index_;
  const std::uint32_t window_;

  State state_ = State::kIdle;
  std::string peer_;
  rdma_cm_id* id_ = nullptr;
  std::uint32_t qp_ = 0;  // its number; 0 while there is none
  std::uint32_t inline_bytes_ = 0;
  bool live_ = false;  // the queue pair could receive: it must be drained
  bool drained_ = false;
  std::array<std::byte, Greeting::kBytes> greeting_{};

  std::uint64_t head_ = 0;  // send slots taken, ever
  std::uint64_t tail_ = 0;  // and free again
  std::array<Slot, kAllSlots> slots_{};
  std::array<ibv_send_wr, kChain> chain_{};
  std::array<ibv_sge, kChain> sges_{};
  std::uint32_t chained_ = 0;
  std::uint64_t unsignalled_bytes_ = 0;  // of the chain, since the last that is signalled
  std::uint64_t outstanding_bytes_ = 0;  // handed over and not completed

  std::uint64_t sent_ = 0;   // immediates and messages, ever
  std::uint64_t limit_ = 0;  // up to which the peer has receives
  std::uint32_t peer_window_ = 1;
  std::uint32_t message_slot_out_ = 0;  // of the peer's ring

  std::uint64_t arrivals_ = 0;
  std::uint64_t consumed_ = 0;  // arrivals the owner is done with
  std::uint64_t returned_ = 0;  // and the peer was told
  std::uint32_t credits_flying_ = 0;
  std::uint32_t message_slot_in_ = 0;  // of ours
};

}  // namespace penstock::verbs
