// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_nic/fabric.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "tests/support/fake_nic/state.h"
#include "transport/base/check.h"

namespace penstock::test {
namespace {

std::atomic<FabricState*> current{nullptr};

constexpr std::chrono::milliseconds kTick{1};

}  // namespace

FabricState& current_fabric() {
  FabricState* fabric = current.load();
  CHECK(fabric != nullptr, "no FakeFabric lives");
  return *fabric;
}

FabricState::FabricState(const Clock& time, FabricOptions wanted)
    : clock(time), options(std::move(wanted)), random(options.seed) {
  FabricState* nobody = nullptr;
  CHECK(current.compare_exchange_strong(nobody, this), "one FakeFabric at a time");
  for (const FakeNicSpec& spec : options.nics) {
    auto device = std::make_unique<FakeDevice>();
    device->fabric = this;
    device->spec = spec;
    device->node_type = IBV_NODE_CA;
    device->transport_type = IBV_TRANSPORT_IB;
    std::strncpy(device->name, spec.name.c_str(), sizeof device->name - 1);
    devices.push_back(device.get());
    objects.push_back(std::move(device));
  }
  if (options.mode == FakeMode::kStepped) return;
  timers = std::jthread([this](const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      wake_timers.wait_for(lock, stop, kTick, [] { return false; });
      work();
    }
  });
}

FabricState::~FabricState() {
  if (timers.joinable()) {
    timers.request_stop();
    timers.join();
  }
  current.store(nullptr);
}

void FabricState::adopt(std::unique_ptr<Object> object, Kind kind, FakeDevice* device,
                        std::initializer_list<Object*> parents) {
  object->fabric = this;
  object->nic = device;
  object->kind = kind;
  for (Object* parent : parents) {
    if (parent == nullptr) continue;
    object->parents.push_back(parent);
    ++parent->children;
  }
  if (device != nullptr) ++device->count[static_cast<std::size_t>(kind)];
  if (kind == Kind::kCmId) cm_ids.push_back(static_cast<FakeCmId*>(object.get()));
  objects.push_back(std::move(object));
}

bool FabricState::full(const FakeDevice& device, Kind kind, int limit) const {
  return device.count[static_cast<std::size_t>(kind)] >= limit;
}

int FabricState::retire(Object& object) {
  const char* name = kKindNames[static_cast<std::size_t>(object.kind)];
  if (object.children > 0) {
    violation("a {} was destroyed before {} that need it", name, object.children);
    return EBUSY;
  }
  if (object.unacked_async > 0) {
    violation("a {} was destroyed with {} async events unacknowledged: the real call never returns",
              name, object.unacked_async);
  }
  object.alive = false;
  if (object.kind == Kind::kCmId) std::erase(cm_ids, static_cast<FakeCmId*>(&object));
  for (Object* parent : object.parents) --parent->children;
  if (object.nic != nullptr && object.kind != Kind::kCmId)
    --object.nic->count[static_cast<std::size_t>(object.kind)];
  return 0;
}

FakeDevice* FabricState::device_named(std::string_view name) const {
  for (FakeDevice* device : devices) {
    if (name == device->spec.name) return device;
  }
  CHECK(false, "no fake NIC of that name");
  return nullptr;
}

FakeDevice* FabricState::device_at(std::string_view ip, std::uint8_t* port) const {
  for (FakeDevice* device : devices) {
    for (std::size_t i = 0; i < device->spec.ports.size(); ++i) {
      if (device->spec.ports[i].ip != ip || device->removed) continue;
      *port = static_cast<std::uint8_t>(i + 1);
      return device;
    }
  }
  return nullptr;
}

bool FabricState::port_active(const FakeDevice& device, std::uint8_t port) const {
  return !device.removed && port >= 1 && port <= device.spec.ports.size() &&
         device.spec.ports[port - 1U].active;
}

std::string FabricState::describe(const FakeQp& qp) const {
  return fmt::format("qp {:#x} of {}", qp.qp_num, qp.nic->spec.name);
}

FakeQp* FabricState::find_qp(std::uint32_t qp_num) const {
  for (FakeQp* qp : queue_pairs) {
    if (qp->qp_num == qp_num) return qp;
  }
  return nullptr;
}

FakeFabric::FakeFabric(const Clock& clock, FabricOptions options)
    : state_(std::make_unique<FabricState>(clock, std::move(options))) {
  fill_device(api_);
  fill_memory(api_);
  fill_queues(api_);
  fill_queue_pairs(api_);
  fill_cm(api_);
  fill_cm_connect(api_);
}

FakeFabric::~FakeFabric() = default;

FakeLedger FakeFabric::ledger() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->ledger;
}

std::string FakeFabric::violations() const {
  const std::scoped_lock lock(state_->mutex);
  return fmt::format("{}", fmt::join(state_->violations, "\n"));
}

std::string FakeFabric::take_violations() {
  const std::scoped_lock lock(state_->mutex);
  std::string text = fmt::format("{}", fmt::join(state_->violations, "\n"));
  state_->violations.clear();
  return text;
}

std::string FakeFabric::leaks() const {
  const std::scoped_lock lock(state_->mutex);
  std::array<int, kKindNames.size()> live{};
  for (const std::unique_ptr<Object>& object : state_->objects) {
    if (dynamic_cast<const FakeDevice*>(object.get()) != nullptr) continue;
    if (object->alive && !object->hidden) ++live[static_cast<std::size_t>(object->kind)];
  }
  std::vector<std::string> words;
  for (std::size_t i = 0; i < live.size(); ++i) {
    if (live[i] != 0) words.push_back(fmt::format("{} {}", live[i], kKindNames[i]));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

ibv_qp_state FakeFabric::state_of(std::uint32_t qp_num) const {
  const std::scoped_lock lock(state_->mutex);
  const FakeQp* qp = state_->find_qp(qp_num);
  CHECK(qp != nullptr, "no live queue pair {:#x}", qp_num);
  return qp->now;
}

}  // namespace penstock::test
