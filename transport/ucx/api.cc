// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/api.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <csignal>
#include <cstdlib>

#ifdef __SANITIZE_THREAD__
#define PENSTOCK_THREAD_SANITIZER true
#else
#define PENSTOCK_THREAD_SANITIZER false
#endif

namespace penstock::ucx {
namespace {

// Notes every signal's handler and puts back those that changed.
class SignalKeeper {
 public:
  SignalKeeper() {
    for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, nullptr, &before_.at(signal));
  }
  ~SignalKeeper() {
    for (int signal = 1; signal < NSIG; ++signal) {
      struct sigaction now {};
      if (::sigaction(signal, nullptr, &now) != 0) continue;
      const struct sigaction& then = before_.at(signal);
      if (now.sa_handler != then.sa_handler) ::sigaction(signal, &then, nullptr);
    }
  }
  SignalKeeper(const SignalKeeper&) = delete;
  SignalKeeper& operator=(const SignalKeeper&) = delete;

 private:
  struct Handlers {
    std::array<struct sigaction, NSIG> all{};
    struct sigaction& at(int signal) {
      return all[static_cast<std::size_t>(signal)];
    }
  };
  Handlers before_;
};

struct Library {
  const char* file;
  void* handle = nullptr;

  Status open() {
    // UCX patches mmap() in memory when it is loaded; ThreadSanitizer has replaced it already, and
    // the two together crash.
    if (PENSTOCK_THREAD_SANITIZER) ::setenv("UCX_MEM_MMAP_HOOK_MODE", "none", 0);
    handle = ::dlopen(file, RTLD_NOW | RTLD_LOCAL);  // never closed: it keeps a thread and hooks
    if (handle != nullptr) return {};
    return Status(Code::kUnsupported, fmt::format("ucx: not available, because {}", ::dlerror()))
        .with_hint("install libucx0 (UCX 1.13 or newer)");
  }

  template <class Function>
  Status load(const char* name, Function& into) {
    into = reinterpret_cast<Function>(::dlsym(handle, name));
    if (into != nullptr) return {};
    return Status(Code::kUnsupported,
                  fmt::format("ucx: not available, because {} has no {}", file, name))
        .with_hint("install UCX 1.13 or newer");
  }
};

}  // namespace

Result<UcpApi> load_ucp(const char* ucp_file, const char* ucs_file) {
  const SignalKeeper keeper;
  UcpApi api;
  Library ucp{ucp_file};
  Library ucs{ucs_file};
  PENSTOCK_RETURN_IF_ERROR(ucp.open());
  PENSTOCK_RETURN_IF_ERROR(ucs.open());
#define PENSTOCK_LOAD(result, name, arguments) PENSTOCK_RETURN_IF_ERROR(ucp.load(#name, api.name));
  PENSTOCK_UCP_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
#define PENSTOCK_LOAD(result, name, arguments) PENSTOCK_RETURN_IF_ERROR(ucs.load(#name, api.name));
  PENSTOCK_UCS_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
  return api;
}

Result<const UcpApi*> system_ucp() {
  static const Result<UcpApi> api = load_ucp("libucp.so.0", "libucs.so.0");
  if (!api.ok()) return api.status();
  return &api.value();
}

}  // namespace penstock::ucx
