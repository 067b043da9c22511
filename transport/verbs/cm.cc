// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/cm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "transport/api/types.h"

namespace penstock::verbs {
namespace {

constexpr std::string_view kPrefix = "verbs:";

sockaddr_in& v4(IpAddress& address) { return reinterpret_cast<sockaddr_in&>(address.storage); }
sockaddr_in6& v6(IpAddress& address) { return reinterpret_cast<sockaddr_in6&>(address.storage); }

std::optional<IpAddress> parse_one(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return {};
  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0) return {};
  std::string host(text.substr(0, colon));
  IpAddress address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    address.storage.ss_family = AF_INET6;
    if (::inet_pton(AF_INET6, host.c_str(), &v6(address).sin6_addr) != 1) return {};
  } else {
    address.storage.ss_family = AF_INET;
    if (::inet_pton(AF_INET, host.c_str(), &v4(address).sin_addr) != 1) return {};
  }
  address.set_port(port);
  return address;
}

}  // namespace

Result<std::unique_ptr<CmChannel>> CmChannel::create(const VerbsApi& api) {
  rdma_event_channel* channel = api.rdma_create_event_channel();
  if (channel == nullptr)
    return Status::system("open rdma_cm's event channel", errno)
        .with_hint("is the kernel module rdma_ucm loaded, and /dev/infiniband/rdma_cm readable?");
  std::unique_ptr<CmChannel> self(new CmChannel(api, channel));
  const int flags = ::fcntl(channel->fd, F_GETFL);
  if (flags < 0 || ::fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return Status::system("make rdma_cm's event channel non-blocking", errno);
  return self;
}

bool CmChannel::take(CmEvent& event) {
  rdma_cm_event* taken = nullptr;
  if (api_.rdma_get_cm_event(channel_, &taken) != 0) return false;
  event.type = taken->event;
  event.status = taken->status;
  event.id = taken->id;
  event.context = taken->id == nullptr ? nullptr : taken->id->context;
  const void* data = taken->param.conn.private_data;
  event.data_bytes =
      data == nullptr ? 0 : std::min<std::size_t>(taken->param.conn.private_data_len, 256);
  if (event.data_bytes > 0) std::memcpy(event.data.data(), data, event.data_bytes);
  api_.rdma_ack_cm_event(taken);
  return true;
}

std::uint16_t IpAddress::port() const {
  // The port lies at the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

void IpAddress::set_port(std::uint16_t port) { v4(*this).sin_port = htons(port); }

std::string IpAddress::host() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* from =
      storage.ss_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr)
          : &reinterpret_cast<const sockaddr_in&>(storage).sin_addr;
  ::inet_ntop(storage.ss_family, from, text.data(), text.size());
  return text.data();
}

std::string IpAddress::to_string() const {
  const char* format = storage.ss_family == AF_INET6 ? "[{}]:{}" : "{}:{}";
  return fmt::format(fmt::runtime(format), host(), port());
}

std::optional<IpAddress> address_of_gid(const ibv_gid& gid) {
  IpAddress address;
  in6_addr in6{};
  std::memcpy(&in6, gid.raw, sizeof in6);
  if (IN6_IS_ADDR_UNSPECIFIED(&in6) || IN6_IS_ADDR_LINKLOCAL(&in6)) return {};
  if (IN6_IS_ADDR_V4MAPPED(&in6)) {
    address.storage.ss_family = AF_INET;
    std::memcpy(&v4(address).sin_addr, gid.raw + 12, 4);
  } else {
    address.storage.ss_family = AF_INET6;
    v6(address).sin6_addr = in6;
  }
  return address;
}

std::string device_address(const std::vector<IpAddress>& rails) {
  std::vector<std::string> texts;
  for (const IpAddress& rail : rails) texts.push_back(rail.to_string());
  return fmt::format("{}{}", kPrefix, fmt::join(texts, ","));
}

Result<std::vector<IpAddress>> parse_device_address(const std::string& text) {
  const Status bad = Status(Code::kInvalidArgument, fmt::format("connect: '{}' is no address of a "
                                                                "verbs device",
                                                                text))
                         .with_hint("one looks like verbs:10.0.0.1:4711");
  if (text.compare(0, kPrefix.size(), kPrefix) != 0) return bad;
  std::vector<IpAddress> rails;
  std::string_view rest = std::string_view(text).substr(kPrefix.size());
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::optional<IpAddress> rail = parse_one(rest.substr(0, comma));
    if (!rail || rails.size() == kMaxRails) return bad;
    rails.push_back(*rail);
    if (comma == std::string_view::npos) return rails;
    rest = rest.substr(comma + 1);
  }
}

}  // namespace penstock::verbs
