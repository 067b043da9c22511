// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What a test makes happen on a fabric: stepping, failures, cuts, events.

#include <algorithm>

#include "tests/support/fake_nic/fabric.h"
#include "tests/support/fake_nic/state.h"
#include "transport/base/check.h"

namespace penstock::test {
namespace {

// The mutex, and the work that what was done under it made possible.
class Scripted {
 public:
  explicit Scripted(FabricState& fabric) : fabric_(fabric), lock_(fabric.mutex) {}
  ~Scripted() { fabric_.work(); }
  Scripted(const Scripted&) = delete;
  Scripted& operator=(const Scripted&) = delete;
  FabricState* operator->() const { return &fabric_; }
  FakeQp& qp(std::uint32_t qp_num) const {
    FakeQp* found = fabric_.find_qp(qp_num);
    CHECK(found != nullptr, "no live queue pair {:#x}", qp_num);
    return *found;
  }

 private:
  FabricState& fabric_;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace

bool FakeFabric::step() {
  const std::scoped_lock lock(state_->mutex);
  state_->collect_pieces();
  if (state_->pieces.empty()) return false;
  const std::size_t choice = state_->random.below(state_->pieces.size());
  return state_->perform(state_->pieces[choice]);
}

TimeNs FakeFabric::next_timer_ns() const {
  const std::scoped_lock lock(state_->mutex);
  TimeNs next = kNever;
  for (const FakeQp* qp : state_->queue_pairs) next = std::min(next, qp->deadline_ns);
  return next;
}

void FakeFabric::expire_timers() {
  const Scripted fabric(*state_);
  for (FakeQp* qp : fabric->queue_pairs) {
    if (qp->deadline_ns != kNever) qp->deadline_ns = 0;
  }
}

std::vector<std::uint32_t> FakeFabric::live_queue_pairs() const {
  const std::scoped_lock lock(state_->mutex);
  std::vector<std::uint32_t> numbers;
  for (const FakeQp* qp : state_->queue_pairs) numbers.push_back(qp->qp_num);
  return numbers;
}

std::uint32_t FakeFabric::peer_of(std::uint32_t qp_num) const {
  const std::scoped_lock lock(state_->mutex);
  const FakeQp* qp = state_->find_qp(qp_num);
  return qp == nullptr ? 0 : qp->attr.dest_qp_num;
}

void FakeFabric::fail_next(std::uint32_t qp_num, FakeFailure failure, unsigned skip) {
  const Scripted fabric(*state_);
  FakeQp& qp = fabric.qp(qp_num);
  qp.failure = failure;
  qp.failure_skip = skip;
}

void FakeFabric::hold_completions(std::uint32_t qp_num) {
  const Scripted fabric(*state_);
  fabric.qp(qp_num).held = true;
}

void FakeFabric::release_completions(std::uint32_t qp_num) {
  const Scripted fabric(*state_);
  fabric.qp(qp_num).held = false;
}

void FakeFabric::duplicate_next_send(std::uint32_t qp_num) {
  const Scripted fabric(*state_);
  fabric.qp(qp_num).duplicate_sent = true;
}

void FakeFabric::duplicate_next_receive(std::uint32_t qp_num) {
  const Scripted fabric(*state_);
  fabric.qp(qp_num).duplicate_received = true;
}

void FakeFabric::silence(std::uint32_t qp_num) {
  const Scripted fabric(*state_);
  fabric.qp(qp_num).silent = true;
}

void FakeFabric::silence_nic(std::string_view nic) {
  const Scripted fabric(*state_);
  const FakeDevice* device = fabric->device_named(nic);
  for (FakeQp* qp : fabric->queue_pairs) qp->silent = qp->silent || qp->nic == device;
  for (const std::unique_ptr<Object>& object : fabric->objects) {
    auto* id = dynamic_cast<FakeCmId*>(object.get());
    if (id != nullptr && id->nic == device) id->silent = true;
  }
}

void FakeFabric::set_port(std::string_view nic, std::uint8_t port, bool active) {
  const Scripted fabric(*state_);
  FakeDevice* device = fabric->device_named(nic);
  bool& now = device->spec.ports.at(port - 1U).active;
  if (now == active) return;
  now = active;
  fabric->raise_port(*device, port, active ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR);
}

void FakeFabric::raise_port_event(std::string_view nic, std::uint8_t port, ibv_event_type type) {
  const Scripted fabric(*state_);
  fabric->raise_port(*fabric->device_named(nic), port, type);
}

void FakeFabric::raise_qp_event(std::uint32_t qp_num, ibv_event_type type) {
  const Scripted fabric(*state_);
  FakeQp& qp = fabric.qp(qp_num);
  if (type == IBV_EVENT_QP_FATAL) fabric->to_error(qp);
  fabric->raise_qp(qp, type);
}

void FakeFabric::remove_nic(std::string_view nic) {
  const Scripted fabric(*state_);
  FakeDevice* device = fabric->device_named(nic);
  device->removed = true;
  fabric->raise_port(*device, 0, IBV_EVENT_DEVICE_FATAL);
  for (FakeQp* qp : fabric->queue_pairs) {
    if (qp->nic == device) fabric->to_error(*qp);
  }
  for (const std::unique_ptr<Object>& object : fabric->objects) {
    auto* id = dynamic_cast<FakeCmId*>(object.get());
    if (id == nullptr || !id->alive || id->nic != device) continue;
    CmMessage removal;
    removal.to = id;
    removal.type = RDMA_CM_EVENT_DEVICE_REMOVAL;
    fabric->send_message(std::move(removal));
  }
}

void FakeFabric::add_dmabuf(int fd, std::span<std::byte> bytes) {
  const Scripted fabric(*state_);
  fabric->dmabufs[fd] = bytes;
}

void FakeFabric::add_peer_memory(std::span<std::byte> addresses, std::span<std::byte> bytes) {
  const Scripted fabric(*state_);
  fabric->peer_memory.emplace_back(addresses, bytes);
}

void FakeFabric::fail_registrations(int error, unsigned count) {
  const Scripted fabric(*state_);
  fabric->registration_error = error;
  fabric->registrations_to_fail = count;
}

}  // namespace penstock::test
