// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/fabric.h"

#include <sys/eventfd.h>

#include "transport/loopback/device.h"
#include "transport/loopback/hub.h"
#include "transport/loopback/switchboard.h"
#include "transport/loopback/timeline.h"

namespace penstock {

using loopback::ControlExchange;
using loopback::LoopbackDevice;
using loopback::LoopbackHub;
using loopback::Switchboard;
using loopback::Timeline;

LoopbackFabric::LoopbackFabric(const Clock& clock, const FaultPlan& plan)
    : clock_(clock),
      timeline_(plan.seed == 0 ? nullptr : std::make_unique<Timeline>(clock, plan)),
      switchboard_(std::make_unique<Switchboard>(clock, timeline_.get())),
      exchange_(std::make_unique<ControlExchange>(timeline_.get())) {}

LoopbackFabric::~LoopbackFabric() = default;

std::unique_ptr<Device> LoopbackFabric::create_device(Incarnation incarnation) {
  return std::make_unique<LoopbackDevice>(*switchboard_, incarnation);
}

std::unique_ptr<ControlHub> LoopbackFabric::create_hub() {
  UniqueFd event;
  if (timeline_ == nullptr) {  // with a fault plan nobody sleeps
    event.reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    CHECK(event.valid(), "no descriptor left for a hub");
  }
  return std::make_unique<LoopbackHub>(*exchange_, clock_, std::move(event));
}

std::size_t LoopbackFabric::step() { return timeline_ == nullptr ? 0 : timeline_->run_due(); }

TimeNs LoopbackFabric::next_event_ns() const {
  return timeline_ == nullptr ? kNever : timeline_->next_ns();
}

void LoopbackFabric::cut_endpoints(const std::string& address_a, const std::string& address_b) {
  switchboard_->cut(address_a, address_b);
}

void LoopbackFabric::cut_control(const ControlHub& a, const ControlHub& b) {
  exchange_->cut(dynamic_cast<const LoopbackHub&>(a), dynamic_cast<const LoopbackHub&>(b));
}

void LoopbackFabric::kill(const Device& device, Death death) {
  switchboard_->kill(dynamic_cast<const LoopbackDevice&>(device), death == Death::kSilent);
}

void LoopbackFabric::kill(const ControlHub& hub, Death death) {
  exchange_->kill(dynamic_cast<const LoopbackHub&>(hub), death == Death::kSilent);
}

LoopbackFabric::Death LoopbackFabric::draw_death() {
  const bool silent =
      timeline_ != nullptr && timeline_->draw(timeline_->plan().silent_death_per_million);
  return silent ? Death::kSilent : Death::kLoud;
}

std::size_t LoopbackFabric::live_regions() const { return switchboard_->live_regions(); }
std::size_t LoopbackFabric::live_endpoints() const { return switchboard_->live_endpoints(); }
std::size_t LoopbackFabric::pending_ops() const { return switchboard_->pending_ops(); }

}  // namespace penstock
