// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/huge_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <fstream>

namespace penstock::shm {
namespace {

constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, which older headers lack

// The first word of a limit's file; "max" where there is no limit or no such file.
std::string limit(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  return file >> word ? word : "max";
}

}  // namespace

bool pool_keeps_its_word(const std::string& root) {
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::")) continue;  // version 2
    const std::string pages = root + "/sys/fs/cgroup" + line.substr(3) + "/hugetlb.2MB";
    // With a limit on promises, too, what goes beyond it is refused when it is asked for.
    if (limit(pages + ".max") != "max" && limit(pages + ".rsvd.max") == "max") return false;
  }
  return true;
}

bool take_first_page(std::span<std::byte> memory) {
  return ::madvise(memory.data(), kHugePage, kPopulateWrite) == 0 || errno == EINVAL;
}

}  // namespace penstock::shm
