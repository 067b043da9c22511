// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One opened UCX: which transports, which devices. Any thread may make workers of it.

#include <memory>
#include <string>

#include "transport/ucx/api.h"

namespace penstock::ucx {

class Context {
 public:
  // `transports` as in UcxOptions. kUnsupported when UCX has none of them here.
  static Result<std::unique_ptr<Context>> open(const UcpApi& api, const std::string& transports);
  ~Context() { api_.ucp_cleanup(handle_); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const UcpApi& api() const { return api_; }
  ucp_context_h handle() const { return handle_; }

 private:
  Context(const UcpApi& api, ucp_context_h handle) : api_(api), handle_(handle) {}

  const UcpApi& api_;
  const ucp_context_h handle_;
};

// "ucx: <what>: <UCX's words>".
Status ucx_error(const UcpApi& api, Code code, const char* what, ucs_status_t status);

}  // namespace penstock::ucx
