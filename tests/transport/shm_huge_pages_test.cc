// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Shared memory on pages of the system's pool. With `sysctl vm.nr_hugepages=8` nothing is skipped.
#include "transport/shm/huge_pages.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "transport/shm/shared_memory.h"

namespace penstock::test {
namespace {

using shm::kHugePage;
using shm::Others;
using shm::SharedMemory;

std::size_t free_pool_pages() {
  std::ifstream facts("/proc/meminfo");
  std::size_t pages = 0;
  for (std::string line; std::getline(facts, line);)
    if (line.starts_with("HugePages_Free:")) pages = std::stoul(line.substr(15));
  return pages;
}

std::size_t page_bytes(const SharedMemory& memory) {
  struct stat facts {};
  EXPECT_EQ(::fstat(memory.fd.get(), &facts), 0);
  return static_cast<std::size_t>(facts.st_blksize);
}

TEST(ShmHugePages, PeersShareThemAndReadersCannotWrite) {
  if (free_pool_pages() < 2) GTEST_SKIP() << "the pool of 2 MiB pages has less than two";
  for (const Others others : {Others::kRead, Others::kReadAndWrite}) {
    const SharedMemory memory = shm::create_shared_on_huge_pages(2 * kHugePage, others).value();
    EXPECT_EQ(page_bytes(memory), kHugePage);
    const std::span<std::byte> ours = memory.mapping.bytes();
    ASSERT_EQ(ours.size(), 2 * kHugePage);
    ours[kHugePage + 5] = std::byte{7};
    const UniqueFd reader = shm::read_only(memory.fd.get()).value();
    const shm::Mapping theirs = shm::map_shared(reader.get(), ours.size(), false).value();
    EXPECT_EQ(theirs.bytes()[kHugePage + 5], std::byte{7});
    EXPECT_FALSE(shm::map_shared(reader.get(), ours.size(), true).ok());
    EXPECT_EQ(shm::map_shared(memory.fd.get(), ours.size(), true).ok(),
              others == Others::kReadAndWrite);
  }
}

TEST(ShmHugePages, WhereThePoolHasTooFewOthersServe) {
  const std::size_t bytes = (free_pool_pages() + 1) * kHugePage;
  const SharedMemory memory = shm::create_shared_on_huge_pages(bytes, Others::kRead).value();
  EXPECT_LT(page_bytes(memory), kHugePage);
  memory.mapping.bytes().back() = std::byte{1};
}

TEST(ShmHugePages, WhatIsNotWholePagesDoesNotAsk) {
  const SharedMemory memory =
      shm::create_shared_on_huge_pages(kHugePage + 4096, Others::kRead).value();
  EXPECT_LT(page_bytes(memory), kHugePage);
  EXPECT_EQ(memory.mapping.bytes().size(), kHugePage + 4096);
}

// A made-up root with the control group's two limits; nullptr: no such file.
bool keeps_its_word(const char* pages, const char* promises) {
  const auto root = std::filesystem::path(testing::TempDir()) / fmt::format("pool{}", ::getpid());
  const auto group = root / "sys/fs/cgroup/job/7";
  std::filesystem::create_directories(group);
  std::filesystem::create_directories(root / "proc/self");
  std::ofstream(root / "proc/self/cgroup") << "3:cpuset:/elsewhere\n0::/job/7\n";
  if (pages != nullptr) std::ofstream(group / "hugetlb.2MB.max") << pages << '\n';
  if (promises != nullptr) std::ofstream(group / "hugetlb.2MB.rsvd.max") << promises << '\n';
  const bool kept = shm::pool_keeps_its_word(root);
  std::filesystem::remove_all(root);
  return kept;
}

TEST(ShmHugePages, AreLeftAloneWhereAControlGroupWouldEndTheProcess) {
  EXPECT_TRUE(keeps_its_word(nullptr, nullptr));
  EXPECT_TRUE(keeps_its_word("max", "max"));
  EXPECT_TRUE(keeps_its_word("16777216", "16777216"));
  EXPECT_FALSE(keeps_its_word("16777216", "max"));
  EXPECT_FALSE(keeps_its_word("0", nullptr));
}

}  // namespace
}  // namespace penstock::test
