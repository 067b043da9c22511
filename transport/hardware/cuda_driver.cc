// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/hardware/cuda_driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace penstock {
namespace {

constexpr int kNoDevice = 100;         // CUDA_ERROR_NO_DEVICE
constexpr int kDirectAttribute = 116;  // CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED
constexpr int kDmabufAttribute = 124;  // CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED
constexpr int kMostGpus = 64;          // of one host

Result<CudaDriver> load() {
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // never closed: it has threads
  if (library == nullptr)
    return Status(Code::kUnsupported, fmt::format("no NVIDIA driver: {}", ::dlerror()));
  CudaDriver driver;
#define PENSTOCK_LOAD(name, arguments, optional)                                  \
  driver.name = reinterpret_cast<decltype(driver.name)>(::dlsym(library, #name)); \
  if (driver.name == nullptr && !(optional))                                      \
    return Status(Code::kUnsupported, "libcuda.so.1 has no " #name)               \
        .with_hint("install a newer NVIDIA driver");
  PENSTOCK_CUDA_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
  return driver;
}

Status check(int result, const char* call) {
  if (result == 0) return {};
  return Status(Code::kSystem, fmt::format("{} answers {}", call, result))
      .with_hint("nvidia-smi shows what is wrong with the driver");
}

bool has(const CudaDriver& driver, int device, int attribute) {
  int value = 0;  // an older driver does not know the attribute: no
  return driver.cuDeviceGetAttribute(&value, attribute, device) == 0 && value != 0;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

Result<const CudaDriver*> system_cuda() {
  static const Result<CudaDriver> driver = load();
  if (!driver.ok()) return driver.status();
  return &driver.value();
}

Result<std::vector<Gpu>> list_gpus(const CudaDriver& driver) {
  const int started = driver.cuInit(0);
  if (started == kNoDevice) return std::vector<Gpu>{};
  PENSTOCK_RETURN_IF_ERROR(check(started, "cuInit"));
  int count = 0;
  PENSTOCK_RETURN_IF_ERROR(check(driver.cuDeviceGetCount(&count), "cuDeviceGetCount"));
  std::vector<Gpu> gpus;
  for (int ordinal = 0; ordinal < std::min(count, kMostGpus); ++ordinal) {
    int device = 0;
    std::array<char, 128> name{};
    std::array<char, 32> pci{};
    PENSTOCK_RETURN_IF_ERROR(check(driver.cuDeviceGet(&device, ordinal), "cuDeviceGet"));
    PENSTOCK_RETURN_IF_ERROR(check(
        driver.cuDeviceGetName(name.data(), int{name.size() - 1}, device), "cuDeviceGetName"));
    PENSTOCK_RETURN_IF_ERROR(
        check(driver.cuDeviceGetPCIBusId(pci.data(), int{pci.size() - 1}, device),
              "cuDeviceGetPCIBusId"));
    gpus.push_back({.ordinal = ordinal,
                    .name = name.data(),
                    .pci = lower(pci.data()),
                    .dmabuf = driver.cuMemGetHandleForAddressRange != nullptr &&
                              has(driver, device, kDmabufAttribute),
                    .direct = has(driver, device, kDirectAttribute)});
  }
  return gpus;
}

}  // namespace penstock
