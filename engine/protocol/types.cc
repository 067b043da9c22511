// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/types.h"

#include <fmt/format.h>

namespace penstock {

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kWorker:
      return "worker";
    case Role::kServer:
      return "server";
    case Role::kScheduler:
      return "scheduler";
  }
  return "unknown";
}

std::string describe(const Member& member) {
  if (member.role == Role::kScheduler) return fmt::format("scheduler ({})", member.name);
  return fmt::format("{} {} ({})", role_name(member.role), member.rank, member.name);
}

}  // namespace penstock
