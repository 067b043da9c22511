// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Registered memory and fork(). A child shares its parent's pages until one of them writes. Kernels
// before 5.12 then gave the writer the copy: a parent that wrote after a fork worked on a new page
// while the device still used the old one. libibverbs' way out, ibv_fork_init(), hides registered
// pages from children (MADV_DONTFORK), who crash when they touch them; a data loader forked from a
// trainer does. Newer kernels copy pinned pages for the child at fork, and nothing is needed.
//
// So it is called only where it is needed. libibverbs looks itself only since 2024; before, it
// hides pages on new kernels too.

#include <optional>
#include <string_view>

#include "transport/verbs/api.h"

namespace penstock::verbs {

// IBV_FORK_UNNEEDED of newer headers: the kernel copies pinned pages at fork.
inline constexpr int kForkUnneeded = 2;

// `library`: what ibv_is_fork_initialized() says; nothing where libibverbs is too old to have it.
// Then, and where it says no, the kernel's version ("6.1.0-18-amd64") decides.
bool fork_init_needed(std::optional<int> library, std::string_view kernel_release);

// Makes fork() harmless to what is registered from now on. Any thread, any number of times.
// kSystem where help is needed and it is too late: something in this process has registered memory.
Status make_fork_safe(const VerbsApi& api);
Status make_fork_safe(const VerbsApi& api, std::string_view kernel_release);

}  // namespace penstock::verbs
