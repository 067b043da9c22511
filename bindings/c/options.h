// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bindings/c/penstock.h"
#include "bindings/cpp/node.h"

// What the opaque handle of the C ABI holds.
struct penstock_options {
  penstock::NodeOptions node;
  penstock::SchedulerOptions job;
  penstock_handler handler = nullptr;  // of a server's requests
  void* context = nullptr;
};

namespace penstock::c {

// kNotFound naming an unknown option and listing the known ones; kInvalidArgument naming the
// option, the value and what it must be.
Status set_option(penstock_options& options, std::string_view name, std::string_view value);

// A whole number, not below `low`; kInvalidArgument naming `name`.
Result<std::int64_t> parse_whole(std::string_view name, std::string_view value, std::int64_t low,
                                 std::int64_t high);

// The instant on SystemClock at which a wait of `timeout_ms` ends; negative: `otherwise`.
TimeNs deadline_ns(std::int64_t timeout_ms, TimeNs otherwise);

}  // namespace penstock::c
