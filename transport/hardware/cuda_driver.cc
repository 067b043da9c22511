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
constexpr int kOperatingSystem = 304;  // CUDA_ERROR_OPERATING_SYSTEM
// CU_DEVICE_ATTRIBUTE_…
constexpr int kDirectAttribute = 116;    // GPU_DIRECT_RDMA_SUPPORTED
constexpr int kFlushAttribute = 117;     // GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS
constexpr int kOrderingAttribute = 118;  // GPU_DIRECT_RDMA_WRITES_ORDERING
constexpr int kDmabufAttribute = 124;    // DMA_BUF_SUPPORTED
constexpr int kFlushByHost = 1;          // CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST
constexpr int kOrderedForOwner = 100;    // CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER
constexpr int kMostGpus = 64;            // of one host

Result<CudaDriver> load() {
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // never closed: it has threads
  if (library == nullptr)
    return Status(Code::kUnsupported, fmt::format("no NVIDIA driver: {}", ::dlerror()))
        .with_hint("a host with an NVIDIA GPU needs its driver; without one, use host memory");
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

int attribute_of(const CudaDriver& driver, int device, int attribute) {
  int value = 0;  // an older driver does not know the attribute: no
  return driver.cuDeviceGetAttribute(&value, attribute, device) == 0 ? value : 0;
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

Status cuda_status(int result, const char* call) {
  if (result == 0) return {};
  return Status(Code::kSystem, fmt::format("{} answers {}", call, result))
      .with_hint(result == kOperatingSystem
                     ? "the system refused the driver: are descriptors left (ulimit -n)?"
                     : "nvidia-smi shows what is wrong with the driver");
}

Status start_cuda(const CudaDriver& driver) {
  const int started = driver.cuInit(0);
  if (started == kNoDevice)
    return Status(Code::kUnsupported, "the NVIDIA driver has no GPU")
        .with_hint("nvidia-smi lists them; a container must be given its GPUs");
  return cuda_status(started, "cuInit");
}

Result<Gpu> describe_gpu(const CudaDriver& driver, int ordinal) {
  int device = 0;
  std::array<char, 128> name{};
  std::array<char, 32> pci{};
  PENSTOCK_RETURN_IF_ERROR(cuda_status(driver.cuDeviceGet(&device, ordinal), "cuDeviceGet"));
  PENSTOCK_RETURN_IF_ERROR(cuda_status(
      driver.cuDeviceGetName(name.data(), int{name.size() - 1}, device), "cuDeviceGetName"));
  PENSTOCK_RETURN_IF_ERROR(cuda_status(
      driver.cuDeviceGetPCIBusId(pci.data(), int{pci.size() - 1}, device), "cuDeviceGetPCIBusId"));
  const auto has = [&](int attribute) { return attribute_of(driver, device, attribute); };
  return Gpu{
      .ordinal = ordinal,
      .name = name.data(),
      .pci = lower(pci.data()),
      .dmabuf = driver.cuMemGetHandleForAddressRange != nullptr && has(kDmabufAttribute) != 0,
      .direct = has(kDirectAttribute) != 0,
      .ordered = has(kOrderingAttribute) >= kOrderedForOwner,
      .flushes = driver.cuFlushGPUDirectRDMAWrites != nullptr &&
                 (has(kFlushAttribute) & kFlushByHost) != 0};
}

Result<std::vector<Gpu>> list_gpus(const CudaDriver& driver) {
  const Status started = start_cuda(driver);
  if (started.code() == Code::kUnsupported) return std::vector<Gpu>{};
  PENSTOCK_RETURN_IF_ERROR(started);
  int count = 0;
  PENSTOCK_RETURN_IF_ERROR(cuda_status(driver.cuDeviceGetCount(&count), "cuDeviceGetCount"));
  std::vector<Gpu> gpus;
  for (int ordinal = 0; ordinal < std::min(count, kMostGpus); ++ordinal) {
    PENSTOCK_ASSIGN_OR_RETURN(Gpu gpu, describe_gpu(driver, ordinal));
    gpus.push_back(std::move(gpu));
  }
  return gpus;
}

}  // namespace penstock
