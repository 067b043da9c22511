// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A network inside one process. Without a fault plan it runs at memory speed and the owner threads
// of different queues and hubs may work at the same time. Devices and hubs are destroyed before
// the fabric, and everything a device made before the device (CHECKed).

#include <memory>
#include <string>

#include "transport/api/control.h"
#include "transport/api/device.h"
#include "transport/loopback/fault_plan.h"

namespace penstock {

namespace loopback {
class ControlExchange;
class Switchboard;
class Timeline;
}  // namespace loopback

class LoopbackFabric {
 public:
  // The clock outlives the fabric; deadlines are measured on it.
  explicit LoopbackFabric(const Clock& clock, const FaultPlan& plan = {});
  ~LoopbackFabric();

  // Devices have the addresses "loopback:1", "loopback:2", … in order of creation.
  std::unique_ptr<Device> create_device(Incarnation incarnation);
  std::unique_ptr<ControlHub> create_hub();

  // Delivers everything due at the clock's now; returns how many events that were.
  std::size_t step();
  // The earliest scheduled event, endpoints' deadlines included, hubs' not (next_deadline_ns());
  // kNever if none, or without a plan.
  TimeNs next_event_ns() const;

  // Breaks every connection between two devices, or two hubs: both ends see kConnectionLost.
  void cut_endpoints(const std::string& address_a, const std::string& address_b);
  void cut_control(const ControlHub& a, const ControlHub& b);

  // The process behind a device or a hub dies: nothing passes from or to it any more; its owner
  // destroys it, now or later. Its peers see kConnectionLost, or nothing if the death is silent (a
  // machine without power): posts to it end after the plan's retry time-out, idle endpoints and
  // control channels stay as they are until their owners give them up.
  enum class Death : std::uint8_t { kLoud, kSilent };
  void kill(const Device& device, Death death);
  void kill(const ControlHub& hub, Death death);
  Death draw_death();  // as the plan has it; loud without one

  // For fixtures, while the owner threads stand still.
  std::size_t live_regions() const;
  std::size_t live_endpoints() const;
  std::size_t pending_ops() const;  // posts whose completion was not yet polled

 private:
  const Clock& clock_;
  std::unique_ptr<loopback::Timeline> timeline_;  // null without a plan
  std::unique_ptr<loopback::Switchboard> switchboard_;
  std::unique_ptr<loopback::ControlExchange> exchange_;
};

}  // namespace penstock
