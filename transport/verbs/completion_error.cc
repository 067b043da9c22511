// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/completion_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace penstock::verbs {
namespace {

struct Row {
  ibv_wc_status status;
  Code code;
  const char* name;
  const char* hint;
};

constexpr const char* kOurs = "this side posted what its own queue pair refuses: please report it";
constexpr const char* kUnused = "no queue pair of this kind is used here: please report it";

constexpr std::array kRows{
    Row{IBV_WC_LOC_LEN_ERR, Code::kInvalidArgument, "LOC_LEN_ERR",
        "a message is longer than the port takes or than the receive that met it"},
    Row{IBV_WC_LOC_QP_OP_ERR, Code::kConnectionLost, "LOC_QP_OP_ERR",
        "the local device could not carry it out: is its port, or the network device under it, "
        "up?"},
    Row{IBV_WC_LOC_EEC_OP_ERR, Code::kSystem, "LOC_EEC_OP_ERR", kUnused},
    Row{IBV_WC_LOC_PROT_ERR, Code::kInvalidArgument, "LOC_PROT_ERR",
        "the local region was deregistered, or its GPU memory freed, while a post still used it"},
    Row{IBV_WC_WR_FLUSH_ERR, Code::kConnectionLost, "WR_FLUSH_ERR",
        "the connection had ended before this was carried out"},
    Row{IBV_WC_MW_BIND_ERR, Code::kSystem, "MW_BIND_ERR", kUnused},
    Row{IBV_WC_BAD_RESP_ERR, Code::kProtocol, "BAD_RESP_ERR",
        "the peer's device answered nonsense: look for a failing link or firmware"},
    Row{IBV_WC_LOC_ACCESS_ERR, Code::kSystem, "LOC_ACCESS_ERR", kOurs},
    Row{IBV_WC_REM_INV_REQ_ERR, Code::kProtocol, "REM_INV_REQ_ERR",
        "the peer's device does not take this operation on this connection"},
    Row{IBV_WC_REM_ACCESS_ERR, Code::kAccess, "REM_ACCESS_ERR",
        "outside the region, without the right, or the region is gone: the peer's device does not "
        "say which"},
    Row{IBV_WC_REM_OP_ERR, Code::kConnectionLost, "REM_OP_ERR",
        "the peer's device could not carry it out; the peer's log may say why"},
    Row{IBV_WC_RETRY_EXC_ERR, Code::kConnectionLost, "RETRY_EXC_ERR",
        "the peer's device does not answer: is its process alive and every link up?"},
    Row{IBV_WC_RNR_RETRY_EXC_ERR, Code::kConnectionLost, "RNR_RETRY_EXC_ERR",
        "the peer posted no receive for what its credits allowed: please report it"},
    Row{IBV_WC_LOC_RDD_VIOL_ERR, Code::kSystem, "LOC_RDD_VIOL_ERR", kUnused},
    Row{IBV_WC_REM_INV_RD_REQ_ERR, Code::kSystem, "REM_INV_RD_REQ_ERR", kUnused},
    Row{IBV_WC_REM_ABORT_ERR, Code::kConnectionLost, "REM_ABORT_ERR",
        "the peer's device gave the operation up"},
    Row{IBV_WC_INV_EECN_ERR, Code::kSystem, "INV_EECN_ERR", kUnused},
    Row{IBV_WC_INV_EEC_STATE_ERR, Code::kSystem, "INV_EEC_STATE_ERR", kUnused},
    Row{IBV_WC_FATAL_ERR, Code::kConnectionLost, "FATAL_ERR",
        "the local device failed: look into the kernel's log"},
    Row{IBV_WC_RESP_TIMEOUT_ERR, Code::kConnectionLost, "RESP_TIMEOUT_ERR",
        "the peer's device answered too late"},
    Row{IBV_WC_GENERAL_ERR, Code::kSystem, "GENERAL_ERR",
        "the local device gives no reason: look into the kernel's log"},
    Row{IBV_WC_TM_ERR, Code::kSystem, "TM_ERR", kUnused},
    Row{IBV_WC_TM_RNDV_INCOMPLETE, Code::kSystem, "TM_RNDV_INCOMPLETE", kUnused},
};

const Row* find(ibv_wc_status status) {
  const auto* row = std::find_if(kRows.begin(), kRows.end(),
                                 [status](const Row& each) { return each.status == status; });
  return row == kRows.end() ? nullptr : row;
}

}  // namespace

bool knows_completion_error(ibv_wc_status status) { return find(status) != nullptr; }

Status completion_error(const VerbsApi& api, const ibv_wc& completion, const std::string& rail,
                        const std::string& peer) {
  const Row* row = find(completion.status);
  if (row == nullptr)
    return Status(Code::kSystem,
                  fmt::format("{} reported the unknown status {} (vendor code {:#x})", rail,
                              static_cast<int>(completion.status), completion.vendor_err))
        .with_peer(peer);
  return Status(row->code,
                fmt::format("{} reported {}, {} (vendor code {:#x})", rail, row->name,
                            api.ibv_wc_status_str(completion.status), completion.vendor_err))
      .with_peer(peer)
      .with_hint(row->hint);
}

}  // namespace penstock::verbs
