// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/api.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace penstock::verbs {
namespace {

struct Library {
  const char* file;
  const char* package;
  void* handle = nullptr;

  Status open() {
    handle = ::dlopen(file, RTLD_NOW | RTLD_LOCAL);  // never closed: providers keep threads in it
    if (handle != nullptr) return {};
    return Status(Code::kUnsupported, fmt::format("loading {}: {}", file, ::dlerror()))
        .with_hint(fmt::format("install {} for RDMA", package));
  }

  template <class Function>
  Status load(const char* name, Function& into, bool optional) {
    into = reinterpret_cast<Function>(::dlsym(handle, name));
    if (into != nullptr || optional) return {};
    return Status(Code::kUnsupported, fmt::format("{} has no {}", file, name))
        .with_hint(fmt::format("a newer {} has it", package));
  }
};

Result<VerbsApi> load() {
  VerbsApi api;
  Library verbs{"libibverbs.so.1", "libibverbs1"};
  Library rdmacm{"librdmacm.so.1", "librdmacm1"};
  PENSTOCK_RETURN_IF_ERROR(verbs.open());
  PENSTOCK_RETURN_IF_ERROR(rdmacm.open());
  const auto optional = [](std::string_view name) {
    return name == "ibv_reg_dmabuf_mr" || name == "ibv_is_fork_initialized";
  };
#define PENSTOCK_LOAD(result, name, arguments) \
  PENSTOCK_RETURN_IF_ERROR(verbs.load(#name, api.name, optional(#name)));
  PENSTOCK_VERBS_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
#define PENSTOCK_LOAD(result, name, arguments) \
  PENSTOCK_RETURN_IF_ERROR(rdmacm.load(#name, api.name, optional(#name)));
  PENSTOCK_RDMACM_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
  return api;
}

}  // namespace

Result<const VerbsApi*> system_verbs() {
  static const Result<VerbsApi> api = load();
  if (!api.ok()) return api.status();
  return &api.value();
}

}  // namespace penstock::verbs
