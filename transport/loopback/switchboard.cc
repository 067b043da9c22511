// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/switchboard.h"

#include <fmt/format.h>

namespace penstock::loopback {

Switchboard::~Switchboard() {
  MutexLock lock(mutex_);
  CHECK(devices_.empty(), "the fabric is destroyed before {} of its devices", devices_.size());
}

std::string Switchboard::add_device(LoopbackDevice& device) {
  MutexLock lock(mutex_);
  std::string address = fmt::format("loopback:{}", ++devices_made_);
  devices_.emplace(address, &device);
  return address;
}

void Switchboard::remove_device(LoopbackDevice& device) {
  MutexLock lock(mutex_);
  devices_.erase(device.address());
  dead_.erase(&device);
}

Status Switchboard::await(LoopbackEndpoint& endpoint) {
  MutexLock lock(mutex_);
  if (waiting_.try_emplace({&endpoint.device(), endpoint.token()}, &endpoint).second) return {};
  return {Code::kAlreadyExists, "another endpoint waits for this token"};
}

void Switchboard::knock(LoopbackEndpoint& endpoint, const std::string& address) {
  MutexLock lock(mutex_);
  if (silent_.contains(address) || dead_.contains(&endpoint.device())) return;
  const Code refused = meet(endpoint, address);
  if (refused != Code::kOk) lose(endpoint, refused);
}

Code Switchboard::meet(LoopbackEndpoint& endpoint, const std::string& address) {
  const auto device = devices_.find(address);
  if (device == devices_.end() || dead_.contains(device->second)) return Code::kConnectionLost;
  const auto seat = waiting_.find({device->second, endpoint.token()});
  if (seat == waiting_.end()) return Code::kUnauthenticated;
  LoopbackEndpoint& accepting = *seat->second;
  waiting_.erase(seat);  // a token serves once
  auto connection = std::make_unique<Connection>();
  connection->serial = ++connections_made_;
  connection->sides[0].endpoint = &endpoint;
  connection->sides[1].endpoint = &accepting;
  accepting.establish(*connection, 1);
  endpoint.establish(*connection, 0);
  connections_.emplace(connection->serial, std::move(connection));
  return Code::kOk;
}

void Switchboard::withdraw(LoopbackEndpoint& endpoint) {
  MutexLock lock(mutex_);
  const auto seat = waiting_.find({&endpoint.device(), endpoint.token()});
  if (seat != waiting_.end() && seat->second == &endpoint) waiting_.erase(seat);
}

void Switchboard::detach(LoopbackEndpoint& endpoint) {
  MutexLock lock(mutex_);
  Connection* connection = endpoint.connection();
  if (connection == nullptr) return;
  for (Connection::Side& side : connection->sides) {
    if (side.endpoint == &endpoint) side.endpoint = nullptr;
  }
  if (--connection->attached == 0) connections_.erase(connection->serial);
}

void Switchboard::cut(const std::string& address_a, const std::string& address_b) {
  MutexLock lock(mutex_);
  for (auto& [serial, connection] : connections_) {
    if (connection->attached != 2) continue;
    auto& [one, other] = connection->sides;
    const std::string& from = one.endpoint->device().address();
    const std::string& to = other.endpoint->device().address();
    if (!((from == address_a && to == address_b) || (from == address_b && to == address_a)))
      continue;
    sever(*connection);
    for (Connection::Side& side : connection->sides) lose(*side.endpoint, Code::kConnectionLost);
  }
}

void Switchboard::cut(Connection& connection) {
  MutexLock lock(mutex_);
  if (connection.attached != 2) return;
  sever(connection);
  for (Connection::Side& side : connection.sides) lose(*side.endpoint, Code::kConnectionLost);
}

void Switchboard::kill(const LoopbackDevice& device, bool silent) {
  MutexLock lock(mutex_);
  dead_.insert(&device);
  if (silent) silent_.insert(device.address());
  for (auto& [serial, connection] : connections_) {
    if (connection->attached != 2) continue;
    auto& [one, other] = connection->sides;
    const bool kills_one = &one.endpoint->device() == &device;
    const bool kills_other = &other.endpoint->device() == &device;
    if (!kills_one && !kills_other) continue;
    sever(*connection);
    for (Connection::Side& side : connection->sides) {
      if (&side.endpoint->device() == &device) {
        side.endpoint->signal_lost(Code::kConnectionLost);
      } else if (!silent) {
        lose(*side.endpoint, Code::kConnectionLost);
      } else if (timeline_ != nullptr) {
        side.endpoint->time_out_if_posting();
      }
    }
  }
}

// Nothing passes any more, either way.
void Switchboard::sever(Connection& connection) {
  if (timeline_ != nullptr) {
    for (Connection::Side& side : connection.sides) side.endpoint->land_some();
  }
  for (Connection::Side& side : connection.sides) side.gate.close();
}

void Switchboard::lose(LoopbackEndpoint& endpoint, Code code) {
  if (timeline_ != nullptr) {
    endpoint.lose_later(code);
  } else {
    endpoint.signal_lost(code);
  }
}

std::size_t Switchboard::live_regions() {
  MutexLock lock(mutex_);
  std::size_t sum = 0;
  for (const auto& [address, device] : devices_) sum += device->regions().live();
  return sum;
}

std::size_t Switchboard::live_endpoints() {
  MutexLock lock(mutex_);
  std::size_t sum = 0;
  for (const auto& [address, device] : devices_) sum += device->live_endpoints();
  return sum;
}

std::size_t Switchboard::pending_ops() {
  MutexLock lock(mutex_);
  std::size_t sum = 0;
  for (const auto& [address, device] : devices_) sum += device->pending_ops();
  return sum;
}

}  // namespace penstock::loopback
