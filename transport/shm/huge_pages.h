// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The pool of 2 MiB pages that an administrator set aside (vm.nr_hugepages). Worth asking, since
// most systems give shared memory no transparent huge pages.

#include <cstddef>
#include <span>
#include <string>

namespace penstock::shm {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Is a page that the pool promised surely ours? A control group may count pages only when they are
// touched, and then ends the process with SIGBUS. `root`: of the file system, for tests.
bool pool_keeps_its_word(const std::string& root = "");

// Takes the first page of memory from the pool. False where that would have been a SIGBUS; systems
// that cannot say so (before Linux 5.14) are believed.
bool take_first_page(std::span<std::byte> memory);

}  // namespace penstock::shm
