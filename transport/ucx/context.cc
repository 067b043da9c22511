// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/context.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <string_view>

namespace penstock::ucx {

Status ucx_error(const UcpApi& api, Code code, const char* what, ucs_status_t status) {
  return {code, fmt::format("ucx: {}: {}", what, api.ucs_status_string(status))};
}

namespace {

// Whether a list as in UCX_TLS may choose one of `names`; "^" lists what not to choose.
bool may_choose(std::string_view transports, std::initializer_list<std::string_view> names) {
  if (transports.empty() || transports.starts_with('^')) return true;
  for (std::string_view rest = transports; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    const std::string_view name = item.substr(0, item.find(':'));  // "tcp:aux": for wire-up alone
    if (name == "all" || std::find(names.begin(), names.end(), name) != names.end()) return true;
  }
  return false;
}

// UCX warns of settings it has no use for: each only where its transport may be chosen.
ucs_status_t set_up(const UcpApi& api, ucp_config_t* config, std::string_view transports) {
  ucs_status_t status = UCS_OK;
  // Endpoints that outlive their peer need transports that promise to notice its death. Shared
  // memory does so only when told to.
  if (may_choose(transports, {"sm", "shm", "mm", "posix", "sysv", "xpmem"}))
    status = api.ucp_config_modify(config, "MM_ERROR_HANDLING", "y");
  // UCX 1.13 takes several sockets' events at once; one that ends another of the same batch, as
  // when both sides connect at the same time, leaves it a freed socket: it crashes.
  if (status == UCS_OK && std::getenv("UCX_TCP_MAX_POLL") == nullptr &&
      may_choose(transports, {"tcp"}))
    status = api.ucp_config_modify(config, "MAX_POLL", "1");
  return status;
}

Status configure(const UcpApi& api, ucp_config_t* config, const std::string& transports) {
  ucs_status_t status = UCS_OK;
  if (!transports.empty()) status = api.ucp_config_modify(config, "TLS", transports.c_str());
  const char* from_environment = std::getenv("UCX_TLS");
  const bool ours = !transports.empty() || from_environment == nullptr;
  if (status == UCS_OK) status = set_up(api, config, ours ? transports : from_environment);
  if (status == UCS_OK) return {};
  return ucx_error(api, Code::kInvalidArgument, "setting its transports", status);
}

}  // namespace

Result<std::unique_ptr<Context>> Context::open(const UcpApi& api, const std::string& transports) {
  ucp_config_t* config = nullptr;
  ucs_status_t status = api.ucp_config_read(nullptr, nullptr, &config);
  if (status != UCS_OK)
    return ucx_error(api, Code::kInvalidArgument, "reading its environment", status)
        .with_hint("check the UCX_… environment variables");
  if (Status bad = configure(api, config, transports); !bad.ok()) {
    api.ucp_config_release(config);
    return bad;
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 1;  // a worker for each queue, each with its own thread
  ucp_context_h handle = nullptr;
  status = api.ucp_init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &handle);
  api.ucp_config_release(config);
  if (status != UCS_OK)
    return ucx_error(api, Code::kUnsupported, "not available, because opening it failed", status)
        .with_hint(fmt::format("transports '{}': ucx_info -d lists what this host has",
                               transports.empty() ? "all" : transports));
  return std::unique_ptr<Context>(new Context(api, handle));
}

}  // namespace penstock::ucx
