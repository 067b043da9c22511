// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// VerbsApi: every function of libibverbs and librdmacm this provider calls, as a table. The real
// table is filled at run time, so that a program built with it starts on hosts without the
// libraries; tests fill one with a strict fake NIC (tests/support/fake_nic).
//
// Functions that verbs.h defines inline (post_send, post_recv, post_srq_recv, poll_cq,
// req_notify_cq, alloc_mw, bind_mw, dealloc_mw) go through the context's own operations and are
// called as they are: a fake puts its own into ibv_context::ops. Signatures are those of
// rdma-core's ibv_*(3) and rdma_*(3).

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "transport/base/status.h"

// verbs.h hides some functions behind macros of the same name.
#undef ibv_reg_mr
#undef ibv_reg_mr_iova
#undef ibv_query_port

// X(return type, name, arguments)
#define PENSTOCK_VERBS_FUNCTIONS(X)                                                              \
  X(ibv_device**, ibv_get_device_list, (int*))                                                   \
  X(void, ibv_free_device_list, (ibv_device**))                                                  \
  X(const char*, ibv_get_device_name, (ibv_device*))                                             \
  X(ibv_context*, ibv_open_device, (ibv_device*))                                                \
  X(int, ibv_close_device, (ibv_context*))                                                       \
  X(int, ibv_query_device, (ibv_context*, ibv_device_attr*))                                     \
  X(int, ibv_query_port, (ibv_context*, std::uint8_t, ibv_port_attr*))                           \
  X(int, ibv_query_gid, (ibv_context*, std::uint8_t, int, ibv_gid*))                             \
  X(int, ibv_get_async_event, (ibv_context*, ibv_async_event*))                                  \
  X(void, ibv_ack_async_event, (ibv_async_event*))                                               \
  X(int, ibv_fork_init, ())                                                                      \
  X(int, ibv_is_fork_initialized, ())                                                            \
  X(ibv_pd*, ibv_alloc_pd, (ibv_context*))                                                       \
  X(int, ibv_dealloc_pd, (ibv_pd*))                                                              \
  X(ibv_mr*, ibv_reg_mr_iova2,                                                                   \
    (ibv_pd*, void* address, std::size_t length, std::uint64_t iova, unsigned access))           \
  X(ibv_mr*, ibv_reg_dmabuf_mr,                                                                  \
    (ibv_pd*, std::uint64_t offset, std::size_t length, std::uint64_t iova, int fd, int access)) \
  X(int, ibv_dereg_mr, (ibv_mr*))                                                                \
  X(ibv_comp_channel*, ibv_create_comp_channel, (ibv_context*))                                  \
  X(int, ibv_destroy_comp_channel, (ibv_comp_channel*))                                          \
  X(ibv_cq*, ibv_create_cq, (ibv_context*, int cqe, void*, ibv_comp_channel*, int vector))       \
  X(int, ibv_resize_cq, (ibv_cq*, int cqe))                                                      \
  X(int, ibv_destroy_cq, (ibv_cq*))                                                              \
  X(int, ibv_get_cq_event, (ibv_comp_channel*, ibv_cq**, void**))                                \
  X(void, ibv_ack_cq_events, (ibv_cq*, unsigned))                                                \
  X(ibv_srq*, ibv_create_srq, (ibv_pd*, ibv_srq_init_attr*))                                     \
  X(int, ibv_destroy_srq, (ibv_srq*))                                                            \
  X(int, ibv_query_qp, (ibv_qp*, ibv_qp_attr*, int mask, ibv_qp_init_attr*))                     \
  X(int, ibv_modify_qp, (ibv_qp*, ibv_qp_attr*, int mask))                                       \
  X(const char*, ibv_wc_status_str, (ibv_wc_status))                                             \
  X(const char*, ibv_event_type_str, (ibv_event_type))

#define PENSTOCK_RDMACM_FUNCTIONS(X)                                                          \
  X(rdma_event_channel*, rdma_create_event_channel, ())                                       \
  X(void, rdma_destroy_event_channel, (rdma_event_channel*))                                  \
  X(int, rdma_create_id, (rdma_event_channel*, rdma_cm_id**, void* context, rdma_port_space)) \
  X(int, rdma_destroy_id, (rdma_cm_id*))                                                      \
  X(int, rdma_bind_addr, (rdma_cm_id*, sockaddr*))                                            \
  X(int, rdma_resolve_addr, (rdma_cm_id*, sockaddr * from, sockaddr * to, int timeout_ms))    \
  X(int, rdma_resolve_route, (rdma_cm_id*, int timeout_ms))                                   \
  X(int, rdma_create_qp, (rdma_cm_id*, ibv_pd*, ibv_qp_init_attr*))                           \
  X(void, rdma_destroy_qp, (rdma_cm_id*))                                                     \
  X(int, rdma_connect, (rdma_cm_id*, rdma_conn_param*))                                       \
  X(int, rdma_listen, (rdma_cm_id*, int backlog))                                             \
  X(int, rdma_accept, (rdma_cm_id*, rdma_conn_param*))                                        \
  X(int, rdma_reject, (rdma_cm_id*, const void* private_data, std::uint8_t bytes))            \
  X(int, rdma_disconnect, (rdma_cm_id*))                                                      \
  X(int, rdma_migrate_id, (rdma_cm_id*, rdma_event_channel*))                                 \
  X(int, rdma_set_option, (rdma_cm_id*, int level, int name, void* value, std::size_t bytes)) \
  X(std::uint16_t, rdma_get_src_port, (rdma_cm_id*))                                          \
  X(int, rdma_get_cm_event, (rdma_event_channel*, rdma_cm_event**))                           \
  X(int, rdma_ack_cm_event, (rdma_cm_event*))                                                 \
  X(const char*, rdma_event_str, (rdma_cm_event_type))

namespace penstock::verbs {

struct VerbsApi {
#define PENSTOCK_MEMBER(result, name, arguments) result(*name) arguments = nullptr;
  PENSTOCK_VERBS_FUNCTIONS(PENSTOCK_MEMBER)
  PENSTOCK_RDMACM_FUNCTIONS(PENSTOCK_MEMBER)
#undef PENSTOCK_MEMBER
};

// The host's libraries, loaded once and kept. kUnsupported saying which library or function is
// missing and the package that has it. ibv_reg_dmabuf_mr and ibv_is_fork_initialized may be null
// (rdma-core of before 2021). Any thread.
Result<const VerbsApi*> system_verbs();

}  // namespace penstock::verbs
