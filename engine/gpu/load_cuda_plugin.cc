// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "engine/gpu/cuda_device.h"

namespace penstock {
namespace {

constexpr const char* kFile = "libpenstock_cuda.so";

std::string own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&system_cuda_plugin), &info) == 0 ||
      info.dli_fname == nullptr)
    return {};
  const std::string file = info.dli_fname;
  const std::size_t slash = file.rfind('/');
  return slash == std::string::npos ? std::string() : file.substr(0, slash + 1);
}

std::vector<std::string> places() {
  if (const char* named = std::getenv("PENSTOCK_CUDA_LIBRARY")) return {named};
  const std::string folder = own_folder();
  if (folder.empty()) return {kFile};
  return {folder + kFile, folder + "../" PENSTOCK_LIBRARY_FOLDER "/" + kFile, kFile};
}

Result<const PenstockCudaTable*> load() {
  Status missing;
  for (const std::string& file : places()) {
    auto loaded = load_cuda_plugin(file);
    if (loaded.ok() || loaded.status().code() != Code::kNotFound) return loaded;
    missing = loaded.status();
  }
  return Status(Code::kUnsupported,
                "GPU servers are in libpenstock_cuda.so, which is not here: " + missing.what())
      .with_hint(
          "build with the CUDA toolkit (PENSTOCK_WITH_CUDA=ON), or name the file in "
          "PENSTOCK_CUDA_LIBRARY; --server-memory host does not need it");
}

}  // namespace

Status check_cuda_plugin(const PenstockCudaTable& table, const std::string& file) {
  if (table.version == kPenstockCudaVersion && table.step_bytes == sizeof(cuda::SliceStep) &&
      table.pass_bytes == sizeof(cuda::SlicePass) && table.rules == kUpdateRules &&
      table.passes == cuda::kPasses && table.table_bytes == sizeof(PenstockCudaTable))
    return {};
  return Status(
             Code::kUnsupported,
             fmt::format("{} is of another version: {}/{}/{}/{}/{} where {}/{}/{}/{}/{} is needed",
                         file, table.version, table.step_bytes, table.pass_bytes, table.rules,
                         table.passes, +kPenstockCudaVersion, sizeof(cuda::SliceStep),
                         sizeof(cuda::SlicePass), kUpdateRules, cuda::kPasses))
      .with_hint("build and install it together with Penstock");
}

Result<const PenstockCudaTable*> load_cuda_plugin(const std::string& file) {
  void* const library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);  // its threads need it
  if (library == nullptr) return Status(Code::kNotFound, ::dlerror());
  const auto entry = reinterpret_cast<PenstockCudaEntry>(::dlsym(library, PENSTOCK_CUDA_ENTRY));
  if (entry == nullptr)
    return Status(Code::kUnsupported, fmt::format("{} has no {}", file, PENSTOCK_CUDA_ENTRY));
  PENSTOCK_RETURN_IF_ERROR(check_cuda_plugin(*entry(), file));
  return entry();
}

Result<const PenstockCudaTable*> system_cuda_plugin() {
  static const Result<const PenstockCudaTable*> loaded = load();
  return loaded;
}

}  // namespace penstock
