// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/interfaces.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <memory>

namespace penstock::nccl {
namespace {

constexpr int kUnknownSpeedMbps = 10'000;  // virtual interfaces have none; NCCL takes this, too
constexpr std::array<std::string_view, 4> kInner{"docker", "veth", "virbr", "br-"};

// Empty for what is no address of other hosts' use.
std::string numeric(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address == nullptr) return {};
  if (address->sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(*address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
  } else if (address->sa_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(*address);
    if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr)) return {};
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

int speed_of(const std::string& name) {
  std::ifstream file("/sys/class/net/" + name + "/speed");
  int mbps = 0;
  return file >> mbps && mbps > 0 ? mbps : kUnknownSpeedMbps;
}

bool leads_out(const ifaddrs& entry) {
  if ((entry.ifa_flags & IFF_LOOPBACK) != 0) return false;
  const std::string_view name = entry.ifa_name;
  return std::none_of(kInner.begin(), kInner.end(),
                      [&](std::string_view inner) { return name.starts_with(inner); });
}

// By name, each once: its first address, IPv4 before IPv6.
std::vector<Interface> collect(const ifaddrs* entries, bool (*take)(const ifaddrs&)) {
  std::vector<Interface> all;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* entry = entries; entry != nullptr; entry = entry->ifa_next) {
      if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != family) continue;
      if ((entry->ifa_flags & IFF_UP) == 0 || !take(*entry)) continue;
      const std::string address = numeric(entry->ifa_addr);
      const bool known = std::any_of(all.begin(), all.end(), [&](const Interface& each) {
        return each.name == entry->ifa_name;
      });
      if (!known && !address.empty())
        all.push_back({entry->ifa_name, address, speed_of(entry->ifa_name)});
    }
  }
  return all;
}

}  // namespace

std::vector<std::string> split_names(std::string_view names) {
  std::vector<std::string> all;
  while (!names.empty()) {
    const std::size_t comma = std::min(names.find(','), names.size());
    if (comma > 0) all.emplace_back(names.substr(0, comma));
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  return all;
}

Result<std::vector<Interface>> list_interfaces(const std::vector<std::string>& wanted) {
  ifaddrs* head = nullptr;
  if (::getifaddrs(&head) != 0) return Status::system("list the network interfaces", errno);
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> entries(head, &::freeifaddrs);
  const std::vector<Interface> any = collect(entries.get(), [](const ifaddrs&) { return true; });
  if (wanted.empty()) {
    std::vector<Interface> out = collect(entries.get(), leads_out);
    return out.empty() ? any : out;
  }
  std::vector<Interface> chosen;
  for (const std::string& name : wanted) {
    const auto found = std::find_if(any.begin(), any.end(),
                                    [&](const Interface& each) { return each.name == name; });
    if (found == any.end())
      return Status(Code::kNotFound,
                    fmt::format("no interface {} that is up with an address", name))
          .with_hint("ip address lists them");
    chosen.push_back(*found);
  }
  return chosen;
}

}  // namespace penstock::nccl
