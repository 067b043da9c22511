// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// rdma_cm's event channel and addresses.

#include <netinet/in.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "transport/verbs/api.h"

namespace penstock::verbs {

// A copy: the library's own event is acknowledged before anyone acts on it, so that nobody can
// wait for the acknowledgement.
struct CmEvent {
  rdma_cm_event_type type{};
  int status = 0;            // negative errno, or the reason of a refusal
  rdma_cm_id* id = nullptr;  // of kConnectRequest: a new one, which we own from now on
  void* context = nullptr;   // what its creator gave the id
  std::array<std::byte, 256> data{};
  std::size_t data_bytes = 0;
  std::span<const std::byte> private_data() const { return {data.data(), data_bytes}; }
};

// Thread: one, except that ids may be migrated here from any.
class CmChannel {
 public:
  static Result<std::unique_ptr<CmChannel>> create(const VerbsApi& api);
  ~CmChannel() { api_.rdma_destroy_event_channel(channel_); }
  CmChannel(const CmChannel&) = delete;
  CmChannel& operator=(const CmChannel&) = delete;

  // False when there is none. Never blocks.
  bool take(CmEvent& event);
  rdma_event_channel* get() const { return channel_; }
  int fd() const { return channel_->fd; }

 private:
  CmChannel(const VerbsApi& api, rdma_event_channel* channel) : api_(api), channel_(channel) {}
  const VerbsApi& api_;
  rdma_event_channel* const channel_;
};

// An IPv4 or IPv6 address with a port.
struct IpAddress {
  sockaddr_storage storage{};
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const;
  void set_port(std::uint16_t port);
  std::string host() const;
  std::string to_string() const;  // "10.0.0.1:7", "[fd00::1]:7"
};

// The address a RoCE GID stands for; nothing for link-local and InfiniBand's own.
std::optional<IpAddress> address_of_gid(const ibv_gid& gid);

// "verbs:10.0.0.1:7,10.0.1.1:8", one for each rail, and back. kInvalidArgument.
std::string device_address(const std::vector<IpAddress>& rails);
Result<std::vector<IpAddress>> parse_device_address(const std::string& text);

}  // namespace penstock::verbs
