// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Logging goes through spdlog's default logger: the one process-wide thing here, because a program
// that links us expects our lines where its own go. Never on the normal path of a run_once().
//   PENSTOCK_LOG_INFO("server {} listens on {}", rank, address);

#include <spdlog/spdlog.h>

#define PENSTOCK_LOG_DEBUG(...) ::spdlog::debug(__VA_ARGS__)
#define PENSTOCK_LOG_INFO(...) ::spdlog::info(__VA_ARGS__)
#define PENSTOCK_LOG_WARN(...) ::spdlog::warn(__VA_ARGS__)
#define PENSTOCK_LOG_ERROR(...) ::spdlog::error(__VA_ARGS__)
