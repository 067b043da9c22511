// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The event loop behind tls_hub.h. Internal to this folder.

#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "transport/control/channel.h"
#include "transport/control/refusal_log.h"
#include "transport/control/tls_hub.h"

namespace penstock::control {

// What epoll reports: the wake descriptor, the listeners from 1 on, the connections.
inline constexpr std::uint64_t kWakeSerial = 0;
inline constexpr std::uint64_t kFirstSerial = 1'000;

// Bounds on what peers may cost before they are known; tls_hub.h has the reasons.
struct HubLimits {
  std::size_t max_unauthenticated = 0;
  TimeNs handshake_ns = 0;
};

// A connection has a serial number (64 bits, never reused, also the strangers') and gets its
// ChannelId when the owner may know it. Invariants, between calls:
//   - by_id_ holds exactly the channels whose owner awaits on_closed, or called close();
//   - deadlines_ holds (deadline, serial) of every channel whose deadline is not kNever;
//   - unauthenticated_ holds the accepted channels that are not open;
//   - wake_ is readable while ready_ is not empty.
class TlsHub final : public ControlHub {
 public:
  TlsHub(ChannelContext context, HubLimits limits, UniqueFd epoll, UniqueFd wake,
         const Clock& clock);
  ~TlsHub() override;

  Result<std::string> listen(const std::string& address) override;
  Result<ChannelId> connect(const std::string& address, TimeNs deadline_ns) override;
  Status send(ChannelId channel, std::span<const std::byte> frame) override;
  void close(ChannelId channel) override;
  std::size_t poll(ControlHandler& handler) override;
  int fd() const override { return epoll_.get(); }
  TimeNs next_deadline_ns() const override;

 private:
  // hub.cc: what poll() does, in this order.
  void serve_ready(ControlHandler& handler);
  void serve_sockets(ControlHandler& handler);
  void expire(ControlHandler& handler);
  void flush_dirty();

  void serve(Channel& channel, std::uint32_t events, ControlHandler& handler);
  void establish(Channel& channel, bool writable, ControlHandler& handler);
  void announce(Channel& channel, ControlHandler& handler);
  void receive(Channel& channel, ControlHandler& handler);
  bool deliver(Channel& channel, std::span<const std::byte> input, ControlHandler& handler);
  void flush(Channel& channel);
  void fail(Channel& channel, Status why, ControlHandler& handler);

  // hub_connections.cc: coming and going, and the calls of the owner.
  void accept_waiting(int listener);
  void pause_listeners();
  void resume_listeners();
  Channel& add(Side side, std::string peer);
  void refuse(Channel& channel, const Status& why);
  void drop(Channel& channel);
  Channel* find(ChannelId id) const;
  void give_id(Channel& channel);
  void set_deadline(Channel& channel, TimeNs deadline_ns);
  void schedule(Channel& channel);

  const ChannelContext context_;
  const HubLimits limits_;
  const Clock& clock_;
  UniqueFd epoll_, wake_;
  std::vector<UniqueFd> listeners_;
  TimeNs listeners_resume_ns_ = kNever;  // kNever: they are not paused

  std::unordered_map<std::uint64_t, std::unique_ptr<Channel>> connections_;  // by serial
  std::unordered_map<ChannelId, Channel*> by_id_;
  std::uint64_t next_serial_;
  ChannelId next_id_ = 1;
  std::set<std::pair<TimeNs, std::uint64_t>> deadlines_;
  std::set<std::uint64_t> unauthenticated_;  // the oldest is first

  std::vector<std::uint64_t> ready_, serving_;     // to be looked at without an event from epoll
  std::vector<Channel*> dirty_;                    // to be flushed at the end of this poll()
  std::vector<std::unique_ptr<Channel>> dropped_;  // destroyed when no call can be inside them
  std::vector<std::byte> buffer_;                  // what one read fills
  bool polling_ = false;
  bool woken_ = false;      // wake_ is readable
  std::size_t events_ = 0;  // delivered by this poll()
  RefusalLog refusals_;
};

}  // namespace penstock::control
