// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/nccl_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace penstock::test {
namespace {

using testing::HasSubstr;

TEST(NcclLibrary, AbsenceIsSaidInWordsWithTheWayToInstallIt) {
  const Status absent = load_nccl("libnccl-of-nowhere.so.2").status();
  EXPECT_EQ(absent.code(), Code::kUnsupported);
  EXPECT_THAT(absent.what(), HasSubstr("no NCCL: libnccl-of-nowhere.so.2"));
  EXPECT_THAT(absent.hint(), HasSubstr("libnccl2"));
  EXPECT_THAT(absent.hint(), HasSubstr("LD_LIBRARY_PATH"));
}

TEST(NcclLibrary, AnotherLibraryIsNotTakenForIt) {
  const Status wrong = load_nccl("libm.so.6").status();
  EXPECT_EQ(wrong.code(), Code::kUnsupported);
  EXPECT_THAT(wrong.what(), HasSubstr("libm.so.6 has no ncclGetVersion"));
}

// The real library answers these without a GPU. No communicator of it is made here.
TEST(NcclLibrary, TheHostsOwnIsFoundWhereItIs) {
  const auto library = system_nccl();
  if (!library.ok()) GTEST_SKIP() << library.status().to_string();
  EXPECT_THAT(nccl_version(**library).value(), HasSubstr("2."));
  NcclUniqueId one{}, two{};
  ASSERT_EQ((*library)->ncclGetUniqueId(&one), 0);
  ASSERT_EQ((*library)->ncclGetUniqueId(&two), 0);
  EXPECT_NE(std::memcmp(&one, &two, sizeof one), 0);
  EXPECT_THAT(nccl_status(**library, 2, "a call").what(), HasSubstr("a call answers 2: unhandled"));
}

}  // namespace
}  // namespace penstock::test
