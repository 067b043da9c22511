// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// UcpApi: every function of libucp and libucs this provider calls, as a table filled at run time,
// so that a program built with it starts on hosts without UCX. Signatures are those of ucp.h.

#include <ucp/api/ucp.h>

#include "transport/base/status.h"

// X(return type, name, arguments)
#define PENSTOCK_UCP_FUNCTIONS(X)                                                                \
  X(void, ucp_get_version, (unsigned* major, unsigned* minor, unsigned* release))                \
  X(ucs_status_t, ucp_config_read, (const char* prefix, const char* file, ucp_config_t**))       \
  X(ucs_status_t, ucp_config_modify, (ucp_config_t*, const char* name, const char* value))       \
  X(void, ucp_config_release, (ucp_config_t*))                                                   \
  X(ucs_status_t, ucp_init_version,                                                              \
    (unsigned major, unsigned minor, const ucp_params_t*, const ucp_config_t*, ucp_context_h*))  \
  X(void, ucp_cleanup, (ucp_context_h))                                                          \
  X(ucs_status_t, ucp_worker_create, (ucp_context_h, const ucp_worker_params_t*, ucp_worker_h*)) \
  X(void, ucp_worker_destroy, (ucp_worker_h))                                                    \
  X(ucs_status_t, ucp_worker_get_efd, (ucp_worker_h, int*))                                      \
  X(ucs_status_t, ucp_worker_arm, (ucp_worker_h))                                                \
  X(unsigned, ucp_worker_progress, (ucp_worker_h))                                               \
  X(ucs_status_t, ucp_worker_get_address, (ucp_worker_h, ucp_address_t**, size_t*))              \
  X(void, ucp_worker_release_address, (ucp_worker_h, ucp_address_t*))                            \
  X(ucs_status_t, ucp_worker_set_am_recv_handler, (ucp_worker_h, const ucp_am_handler_param_t*)) \
  X(ucs_status_t, ucp_ep_create, (ucp_worker_h, const ucp_ep_params_t*, ucp_ep_h*))              \
  X(ucs_status_ptr_t, ucp_ep_close_nbx, (ucp_ep_h, const ucp_request_param_t*))                  \
  X(ucs_status_ptr_t, ucp_am_send_nbx,                                                           \
    (ucp_ep_h, unsigned id, const void* header, size_t header_length, const void* buffer,        \
     size_t count, const ucp_request_param_t*))                                                  \
  X(ucs_status_ptr_t, ucp_am_recv_data_nbx,                                                      \
    (ucp_worker_h, void* descriptor, void* buffer, size_t count, const ucp_request_param_t*))    \
  X(void, ucp_am_data_release, (ucp_worker_h, void* data))                                       \
  X(ucs_status_t, ucp_request_check_status, (void* request))                                     \
  X(void, ucp_request_free, (void* request))

#define PENSTOCK_UCS_FUNCTIONS(X) X(const char*, ucs_status_string, (ucs_status_t))

namespace penstock::ucx {

struct UcpApi {
#define PENSTOCK_MEMBER(result, name, arguments) result(*name) arguments = nullptr;
  PENSTOCK_UCP_FUNCTIONS(PENSTOCK_MEMBER)
  PENSTOCK_UCS_FUNCTIONS(PENSTOCK_MEMBER)
#undef PENSTOCK_MEMBER
};

// The host's libraries, loaded once and kept. kUnsupported saying which library or function is
// missing and the package that has it. Any thread.
//
// UCX takes over signals when it is loaded (SIGSEGV and others for its own report of a crash,
// SIGHUP for debugging). They belong to the program, so loading puts every handler back; UCX asks
// for none later.
Result<const UcpApi*> system_ucp();

// The table from the libraries of these file names, for tests of their absence.
Result<UcpApi> load_ucp(const char* ucp_file, const char* ucs_file);

}  // namespace penstock::ucx
