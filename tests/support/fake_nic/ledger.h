// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace penstock::test {

// What a fabric has been asked to do since it was made. A plain copy; counts only ever rise.
struct FakeLedger {
  std::uint64_t doorbells = 0;      // ibv_post_send calls
  std::uint64_t sends = 0;          // requests accepted by them
  std::uint64_t signalled = 0;      // of those
  std::uint64_t inlined = 0;        // of those
  std::uint64_t receive_posts = 0;  // ibv_post_recv and ibv_post_srq_recv calls
  std::uint64_t receives = 0;       // requests accepted by them
  std::uint64_t polls = 0;          // ibv_poll_cq calls
  std::uint64_t completions = 0;    // put into completion queues
  std::uint64_t lost = 0;           // completions that found their queue full
  std::uint64_t errors = 0;         // completions with a status other than success
  std::uint64_t wakeups = 0;        // completion channel events
  std::uint64_t registrations = 0;  // ibv_reg_mr_iova2 and ibv_reg_dmabuf_mr that succeeded
  std::uint64_t deregistrations = 0;
  std::uint64_t binds = 0;          // memory windows bound
  std::uint64_t invalidations = 0;  // memory windows invalidated
  std::uint64_t rnr_waits = 0;      // requests that found no receive at least once
  std::uint64_t connections = 0;    // that both ends saw established
  std::uint64_t async_events = 0;
  std::uint64_t bytes = 0;  // moved between peers
};

}  // namespace penstock::test
