// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/ipoib.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if_arp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

namespace penstock::verbs {
namespace {

namespace fs = std::filesystem;

int read_number(const fs::path& file) {
  std::ifstream in(file);
  int number = -1;
  in >> number;
  return in ? number : -1;
}

bool usable(const sockaddr* address, int family) {
  if (address == nullptr || address->sa_family != family) return false;
  if (family != AF_INET6) return true;
  sockaddr_in6 v6{};
  std::memcpy(&v6, address, sizeof v6);
  return !IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr);
}

}  // namespace

std::vector<std::string> ipoib_interfaces(const std::string& root, const std::string& device,
                                          int port) {
  std::vector<std::string> names;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(root + "/sys/class/net", failed)) {
    const fs::path path = entry.path();
    if (read_number(path / "type") == ARPHRD_INFINIBAND &&
        read_number(path / "dev_port") == port - 1 &&
        fs::exists(path / "device/infiniband" / device, failed))
      names.push_back(path.filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<IpAddress> ipoib_address(const std::string& device, int port) {
  const std::vector<std::string> names = ipoib_interfaces("", device, port);
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return Status::system("list the network interfaces", errno);
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> all(list, ::freeifaddrs);
  for (const int family : {AF_INET, AF_INET6})
    for (const ifaddrs* each = all.get(); each != nullptr; each = each->ifa_next) {
      if (!usable(each->ifa_addr, family) ||
          std::find(names.begin(), names.end(), each->ifa_name) == names.end())
        continue;
      IpAddress address;
      std::memcpy(&address.storage, each->ifa_addr,
                  family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
      return address;
    }
  return Status(Code::kNotFound,
                fmt::format("{}:{}: no IPoIB interface with an IP address", device, port))
      .with_hint("modprobe ib_ipoib; ip address add <address>/<prefix> dev ib0");
}

}  // namespace penstock::verbs
