// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/nccl_library.h"

#include <fmt/format.h>

namespace penstock {
namespace {

// NCCL_VERSION(): three digits and two for the rest until 2.8, four after it.
std::string version_text(int code) {
  const int major = code < 10'000 ? 1000 : 10'000;
  return fmt::format("{}.{}.{}", code / major, code % major / 100, code % 100);
}

Code code_of(int result) {
  if (result == kNcclInvalidArgument || result == kNcclInvalidUsage) return Code::kInvalidArgument;
  return result == kNcclRemoteError ? Code::kPeerLost : Code::kSystem;
}

}  // namespace

Result<std::string> nccl_version(const NcclLibrary& library) {
  int code = 0;
  PENSTOCK_RETURN_IF_ERROR(nccl_status(library, library.ncclGetVersion(&code), "ncclGetVersion"));
  if (code >= kOldestNccl) return version_text(code);
  return Status(Code::kUnsupported, fmt::format("{} is NCCL {}, older than {}", kNcclFile,
                                                version_text(code), version_text(kOldestNccl)))
      .with_hint(kInstallNccl);
}

Status nccl_status(const NcclLibrary& library, int result, const char* call, NcclComm comm) {
  if (result == kNcclSuccess || result == kNcclInProgress) return {};
  const char* const words = library.ncclGetErrorString(result);
  const char* const last = library.ncclGetLastError(comm);
  std::string what =
      fmt::format("{} answers {}: {}", call, result, words != nullptr ? words : "no words");
  if (last != nullptr && *last != '\0') what += fmt::format(" ({})", last);
  return Status(code_of(result), std::move(what))
      .with_hint("NCCL_DEBUG=WARN in the environment makes NCCL say more");
}

Result<NcclHost> system_nccl_host() {
  NcclHost host;
  PENSTOCK_ASSIGN_OR_RETURN(host.nccl, system_nccl());
  PENSTOCK_ASSIGN_OR_RETURN(host.cuda, system_cuda());
  PENSTOCK_RETURN_IF_ERROR(start_cuda(*host.cuda));
  return host;
}

}  // namespace penstock
