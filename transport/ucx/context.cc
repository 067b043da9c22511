// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/context.h"

#include <fmt/format.h>

namespace penstock::ucx {

Status ucx_error(const UcpApi& api, Code code, const char* what, ucs_status_t status) {
  return {code, fmt::format("ucx: {}: {}", what, api.ucs_status_string(status))};
}

namespace {

Status configure(const UcpApi& api, ucp_config_t* config, const std::string& transports) {
  // Endpoints that survive the death of a peer need transports that promise to notice it; shared
  // memory does so only when told to.
  struct Setting {
    const char* name;
    const char* value;
  };
  const Setting settings[] = {{"TLS", transports.c_str()}, {"MM_ERROR_HANDLING", "y"}};
  for (const Setting& setting : settings) {
    if (*setting.value == '\0') continue;
    const ucs_status_t status = api.ucp_config_modify(config, setting.name, setting.value);
    if (status != UCS_OK)
      return ucx_error(api, Code::kInvalidArgument, "setting its transports", status);
  }
  return {};
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
