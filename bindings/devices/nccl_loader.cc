// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <fmt/format.h>

#include "bindings/devices/nccl_library.h"

namespace penstock {

Result<NcclLibrary> load_nccl(const char* file) {
  void* library = ::dlopen(file, RTLD_NOW | RTLD_LOCAL);  // never closed: it has threads
  if (library == nullptr)
    return Status(Code::kUnsupported, fmt::format("no NCCL: {}", ::dlerror()))
        .with_hint(kInstallNccl);
  NcclLibrary nccl;
#define PENSTOCK_LOAD(result, name, arguments)                                \
  nccl.name = reinterpret_cast<decltype(nccl.name)>(::dlsym(library, #name)); \
  if (nccl.name == nullptr)                                                   \
    return Status(Code::kUnsupported, fmt::format("{} has no " #name, file))  \
        .with_hint(kInstallNccl);
  PENSTOCK_NCCL_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
  PENSTOCK_RETURN_IF_ERROR(nccl_version(nccl).status());
  return nccl;
}

Result<const NcclLibrary*> system_nccl() {
  static const Result<NcclLibrary> library = load_nccl(kNcclFile);
  if (!library.ok()) return library.status();
  return &library.value();
}

}  // namespace penstock
