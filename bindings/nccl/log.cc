// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/log.h"

#include <atomic>

namespace penstock::nccl {
namespace {

// Relaxed: the function guards no other memory.
std::atomic<Logger> current{nullptr};

void say(int level, const std::string& line) {
  const Logger logger = current.load(std::memory_order_relaxed);
  if (logger != nullptr) logger(level, kLogNet, "penstock", 0, "NET/Penstock : %s", line.c_str());
}

NcclResult result_of(Code code) {
  switch (code) {
    case Code::kOk:
      return NcclResult::kSuccess;
    case Code::kInvalidArgument:
    case Code::kMismatch:
      return NcclResult::kInvalidUsage;
    case Code::kTimeout:
    case Code::kPeerLost:
    case Code::kConnectionLost:
    case Code::kProtocol:
    case Code::kAccess:
    case Code::kStale:
    case Code::kUnauthenticated:
    case Code::kCancelled:
      return NcclResult::kRemoteError;
    case Code::kNotFound:
    case Code::kExhausted:
    case Code::kUnsupported:
    case Code::kSystem:
      return NcclResult::kSystemError;
    case Code::kAlreadyExists:
    case Code::kNotFinite:
      break;
  }
  return NcclResult::kInternalError;
}

}  // namespace

void log_to(Logger logger) { current.store(logger, std::memory_order_relaxed); }

void log_info(const std::string& line) { say(kLogInfo, line); }

NcclResult answer(const char* asked, const Status& status) {
  if (!status.ok()) say(kLogWarn, std::string(asked) + ": " + status.to_string());
  return result_of(status.code());
}

}  // namespace penstock::nccl
