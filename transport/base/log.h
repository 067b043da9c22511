// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Logging goes through spdlog's default logger: the one process-wide thing here, because a program
// that links us expects our lines where its own go. Never on the normal path of a run_once().
//   PENSTOCK_LOG_INFO("server {} listens on {}", rank, address);
// spdlog stays behind log.cc: its templates would bring all of fmt's formatting into every file
// that logs, at seconds of compiling each.

#include <fmt/core.h>

#include <string>
#include <utility>

namespace penstock::internal {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

bool log_enabled(LogLevel level);
void write_log(LogLevel level, const std::string& line);

template <class... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) write_log(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace penstock::internal

#define PENSTOCK_LOG_AT(level, ...) \
  ::penstock::internal::log(::penstock::internal::LogLevel::level, __VA_ARGS__)
#define PENSTOCK_LOG_DEBUG(...) PENSTOCK_LOG_AT(kDebug, __VA_ARGS__)
#define PENSTOCK_LOG_INFO(...) PENSTOCK_LOG_AT(kInfo, __VA_ARGS__)
#define PENSTOCK_LOG_WARN(...) PENSTOCK_LOG_AT(kWarn, __VA_ARGS__)
#define PENSTOCK_LOG_ERROR(...) PENSTOCK_LOG_AT(kError, __VA_ARGS__)
