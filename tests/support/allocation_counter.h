// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Counts heap allocations of the whole program: linking allocation_counter.cc replaces operator
// new.
//   const std::uint64_t before = heap_allocations();
//   …
//   EXPECT_EQ(heap_allocations() - before, 0);

#include <cstdint>

namespace penstock::test {

// Calls of operator new since the program started, by all threads. Any thread.
std::uint64_t heap_allocations();

}  // namespace penstock::test
