// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One opened UCX: which transports, which devices. Any thread may make workers of it.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "transport/ucx/api.h"

namespace penstock::ucx {

// What the connections of a device moved since it was opened; relaxed, for people.
struct Counts {
  std::atomic<std::uint64_t> frames_sent{0}, bytes_sent{0};
  std::atomic<std::uint64_t> frames_received{0}, bytes_received{0};
};

inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t more) {
  counter.fetch_add(more, std::memory_order_relaxed);
}

class Context {
 public:
  // `transports` as in UcxOptions. kUnsupported when UCX has none of them here.
  static Result<std::unique_ptr<Context>> open(const UcpApi& api, const std::string& transports);
  ~Context() { api_.ucp_cleanup(handle_); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const UcpApi& api() const { return api_; }
  ucp_context_h handle() const { return handle_; }
  Counts& counts() const { return counts_; }

 private:
  Context(const UcpApi& api, ucp_context_h handle) : api_(api), handle_(handle) {}

  const UcpApi& api_;
  const ucp_context_h handle_;
  mutable Counts counts_;
};

// "ucx: <what>: <UCX's words>".
Status ucx_error(const UcpApi& api, Code code, const char* what, ucs_status_t status);

}  // namespace penstock::ucx
