// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/verbs_harness.h"
#include "transport/verbs/completion_error.h"
#include "transport/verbs/greeting.h"

namespace penstock::verbs {
namespace {

TEST(CompletionError, HasARowForEveryStatus) {
  for (int status = IBV_WC_LOC_LEN_ERR; status <= IBV_WC_TM_RNDV_INCOMPLETE; ++status)
    EXPECT_TRUE(knows_completion_error(static_cast<ibv_wc_status>(status))) << status;
}

}  // namespace
}  // namespace penstock::verbs
