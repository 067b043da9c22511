// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

namespace penstock::test {

// A verbs device of the test bed and the IPv4 address that rdma_cm finds it by.
struct RdmaRail {
  std::string device;
  std::string address;
};

// The devices that scripts/softroce gives a guest test, in the guest as on real hardware. Empty
// where nobody runs the program through it.
inline std::vector<RdmaRail> rdma_rails() {
  const auto split = [](const char* variable) {
    const char* value = std::getenv(variable);
    std::istringstream text(value == nullptr ? "" : value);
    std::vector<std::string> words;
    for (std::string word; std::getline(text, word, ',');) words.push_back(word);
    return words;
  };
  const std::vector<std::string> addresses = split("PENSTOCK_RDMA_ADDRESSES");
  std::vector<std::string> devices = split("PENSTOCK_RDMA_DEVICES");
  devices.resize(addresses.size());
  std::vector<RdmaRail> rails;
  for (std::size_t i = 0; i < addresses.size(); ++i) rails.push_back({devices[i], addresses[i]});
  return rails;
}

// True on soft-RoCE, which the test may also spoil; false on real hardware.
inline bool rdma_is_soft() {
  const char* bed = std::getenv("PENSTOCK_VERBS_TESTS");
  return bed != nullptr && std::string(bed) != "host";
}

}  // namespace penstock::test
