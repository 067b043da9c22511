// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/fabric.h"

#include <sys/eventfd.h>

#include "transport/loopback/device.h"
#include "transport/loopback/hub.h"
#include "transport/loopback/switchboard.h"

namespace penstock {

using loopback::LoopbackHub;

LoopbackFabric::LoopbackFabric(const Clock& clock, const FaultPlan& plan)
    : clock_(clock),
      plan_(plan),
      switchboard_(std::make_unique<loopback::Switchboard>(clock)),
      exchange_(std::make_unique<loopback::ControlExchange>()) {}

LoopbackFabric::~LoopbackFabric() = default;

std::unique_ptr<Device> LoopbackFabric::create_device(Incarnation incarnation) {
  return std::make_unique<loopback::LoopbackDevice>(*switchboard_, incarnation);
}

std::unique_ptr<ControlHub> LoopbackFabric::create_hub() {
  UniqueFd event(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  CHECK(event.valid(), "no descriptor left for a hub");
  return std::make_unique<LoopbackHub>(*exchange_, clock_, std::move(event));
}

std::size_t LoopbackFabric::step() { return 0; }
TimeNs LoopbackFabric::next_event_ns() const { return kNever; }

void LoopbackFabric::cut_endpoints(const std::string& address_a, const std::string& address_b) {
  switchboard_->cut(address_a, address_b);
}

void LoopbackFabric::cut_control(const ControlHub& a, const ControlHub& b) {
  exchange_->cut(dynamic_cast<const LoopbackHub&>(a), dynamic_cast<const LoopbackHub&>(b));
}

std::size_t LoopbackFabric::live_regions() const { return switchboard_->live_regions(); }
std::size_t LoopbackFabric::live_endpoints() const { return switchboard_->live_endpoints(); }
std::size_t LoopbackFabric::pending_ops() const { return switchboard_->pending_ops(); }

}  // namespace penstock
