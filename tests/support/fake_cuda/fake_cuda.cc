// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_cuda/fake_cuda.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "transport/base/check.h"
#include "transport/base/unique_fd.h"

namespace penstock::test {

struct FakeCuda::Allocation {
  Allocation(UniqueFd memory, std::size_t bytes, int on, std::uint64_t number)
      : fd(std::move(memory)), gpu(on), id(number), seen(bytes) {
    device = map(PROT_NONE);
    contents = map(PROT_READ | PROT_WRITE);
  }
  ~Allocation() {
    ::munmap(device.data(), device.size());
    ::munmap(contents.data(), contents.size());
  }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;

  std::span<std::byte> map(int protection) const {
    void* at = ::mmap(nullptr, seen.size(), protection, MAP_SHARED, fd.get(), 0);
    CHECK(at != MAP_FAILED, "no memory for the fake GPU");
    return {static_cast<std::byte*>(at), seen.size()};
  }

  UniqueFd fd;
  int gpu = 0;
  std::uint64_t id = 0;
  std::vector<std::byte> seen;  // by kernels, as of the last flush
  std::span<std::byte> device, contents;
  bool managed = false, synchronous = false;
  int opens = 0;       // of another process's memory
  CudaIpcHandle name;  // that it was opened by
};

namespace {

// Results and attributes as in cuda.h.
constexpr int kInvalidValue = 1, kInvalidDevice = 101, kInvalidContext = 201;
constexpr int kOperatingSystem = 304, kNotSupported = 801;
constexpr std::size_t kPage = 4096;

FakeCuda* now = nullptr;
thread_local std::vector<int> contexts;  // current on this thread: GPU numbers, the last one counts

struct IpcName {  // in a CudaIpcHandle
  pid_t process;
  int fd;
  std::size_t bytes;
};

}  // namespace

// What the driver's functions do, by name; all under the lock of the one that lives.
struct FakeCudaCalls {
  template <class Call>
  static int in(const char* name, Call&& call) {
    const std::lock_guard lock(now->mutex_);
    const auto failure = now->failures_.find(name);
    return failure != now->failures_.end() && failure->second != 0 ? failure->second : call(*now);
  }
  // Of a call that acts on the current context.
  template <class Call>
  static int current(const char* name, Call&& call) {
    return in(name,
              [&](FakeCuda& cuda) { return contexts.empty() ? kInvalidContext : call(cuda); });
  }
  static FakeCuda::Allocation* at(FakeCuda& cuda, CudaAddress address) {
    return cuda.find(reinterpret_cast<const std::byte*>(address));
  }

  static void fill_devices(CudaDriver& driver);
  static void fill_contexts(CudaDriver& driver);
  static void fill_memory(CudaDriver& driver);
  static void fill_sharing(CudaDriver& driver);
};

void FakeCudaCalls::fill_devices(CudaDriver& driver) {
  driver.cuInit = [](unsigned) { return in("cuInit", [](FakeCuda&) { return 0; }); };
  driver.cuDeviceGetCount = [](int* count) {
    return in("cuDeviceGetCount",
              [&](FakeCuda& cuda) { return *count = static_cast<int>(cuda.gpus_.size()), 0; });
  };
  driver.cuDeviceGet = [](int* device, int ordinal) {
    return in("cuDeviceGet", [&](FakeCuda& cuda) {
      if (ordinal < 0 || ordinal >= static_cast<int>(cuda.gpus_.size())) return kInvalidDevice;
      return *device = ordinal, 0;
    });
  };
  driver.cuDeviceGetName = [](char* name, int bytes, int device) {
    return in("cuDeviceGetName", [&](FakeCuda& cuda) {
      return std::snprintf(name, static_cast<std::size_t>(bytes), "%s",
                           cuda.gpus_.at(static_cast<std::size_t>(device)).name.c_str()),
             0;
    });
  };
  driver.cuDeviceGetPCIBusId = [](char* id, int bytes, int device) {
    return in("cuDeviceGetPCIBusId", [&](FakeCuda& cuda) {
      return std::snprintf(id, static_cast<std::size_t>(bytes), "%s",
                           cuda.gpus_.at(static_cast<std::size_t>(device)).pci.c_str()),
             0;
    });
  };
  driver.cuDeviceGetByPCIBusId = [](int* device, const char* id) {
    return in("cuDeviceGetByPCIBusId", [&](FakeCuda& cuda) {
      for (std::size_t i = 0; i < cuda.gpus_.size(); ++i)
        if (cuda.gpus_[i].pci == id) return *device = static_cast<int>(i), 0;
      return kInvalidDevice;
    });
  };
  driver.cuDeviceGetAttribute = [](int* value, int attribute, int device) {
    return in("cuDeviceGetAttribute", [&](FakeCuda& cuda) {
      const FakeGpu& gpu = cuda.gpus_.at(static_cast<std::size_t>(device));
      const std::map<int, int> values{
          {116, gpu.direct}, {117, gpu.flush_options}, {118, gpu.ordering}, {124, gpu.dmabuf}};
      const auto found = values.find(attribute);
      return found == values.end() ? kInvalidValue : (*value = found->second, 0);
    });
  };
}

void FakeCudaCalls::fill_contexts(CudaDriver& driver) {
  driver.cuDevicePrimaryCtxRetain = [](void** context, int device) {
    return in("cuDevicePrimaryCtxRetain", [&](FakeCuda& cuda) {
      ++cuda.retained_;
      *context = const_cast<FakeGpu*>(&cuda.gpus_.at(static_cast<std::size_t>(device)));
      return 0;
    });
  };
  driver.cuDevicePrimaryCtxRelease_v2 = [](int) {
    return in("cuDevicePrimaryCtxRelease_v2", [](FakeCuda& cuda) { return --cuda.retained_, 0; });
  };
  driver.cuCtxPushCurrent_v2 = [](void* context) {
    return in("cuCtxPushCurrent_v2", [&](FakeCuda& cuda) {
      contexts.push_back(
          static_cast<int>(static_cast<const FakeGpu*>(context) - cuda.gpus_.data()));
      return 0;
    });
  };
  driver.cuCtxPopCurrent_v2 = [](void**) {
    return current("cuCtxPopCurrent_v2", [](FakeCuda&) { return contexts.pop_back(), 0; });
  };
  driver.cuFlushGPUDirectRDMAWrites = [](int target, int scope) {
    return current("cuFlushGPUDirectRDMAWrites", [&](FakeCuda& cuda) {
      if (target != 0 || (scope != 100 && scope != 200)) return kInvalidValue;
      ++cuda.flushes_;
      for (const auto& [address, each] : cuda.allocations_)
        if (each->gpu == contexts.back())
          std::copy(each->contents.begin(), each->contents.end(), each->seen.begin());
      return 0;
    });
  };
}

void FakeCudaCalls::fill_memory(CudaDriver& driver) {
  driver.cuPointerGetAttribute = [](void* value, int attribute, CudaAddress address) {
    return in("cuPointerGetAttribute", [&](FakeCuda& cuda) {
      const FakeCuda::Allocation* found = at(cuda, address);
      if (found == nullptr) return kInvalidValue;
      if (attribute == 2) *static_cast<unsigned*>(value) = 2;  // device memory
      if (attribute == 7) *static_cast<unsigned long long*>(value) = found->id;
      if (attribute == 8) *static_cast<unsigned*>(value) = found->managed ? 1 : 0;
      if (attribute == 9) *static_cast<int*>(value) = found->gpu;
      return attribute == 2 || (attribute >= 7 && attribute <= 9) ? 0 : kInvalidValue;
    });
  };
  driver.cuPointerSetAttribute = [](const void* value, int attribute, CudaAddress address) {
    return current("cuPointerSetAttribute", [&](FakeCuda& cuda) {
      FakeCuda::Allocation* found = at(cuda, address);
      if (found == nullptr || attribute != 6) return kInvalidValue;
      return found->synchronous = *static_cast<const unsigned*>(value) != 0, 0;
    });
  };
  driver.cuMemGetAddressRange_v2 = [](CudaAddress* base, std::size_t* bytes, CudaAddress address) {
    return current("cuMemGetAddressRange", [&](FakeCuda& cuda) {
      const FakeCuda::Allocation* found = at(cuda, address);
      if (found == nullptr) return kInvalidValue;
      *base = reinterpret_cast<CudaAddress>(found->device.data());
      return *bytes = found->device.size(), 0;
    });
  };
  driver.cuMemGetHandleForAddressRange = [](void* handle, CudaAddress address, std::size_t bytes,
                                            int type, unsigned long long flags) {
    return current("cuMemGetHandleForAddressRange", [&](FakeCuda& cuda) {
      const FakeCuda::Allocation* found = at(cuda, address);
      if (found == nullptr || type != 1 || flags != 0) return kInvalidValue;
      if (!cuda.gpus_.at(static_cast<std::size_t>(found->gpu)).dmabuf) return kNotSupported;
      const std::size_t offset = address - reinterpret_cast<CudaAddress>(found->device.data());
      if (address % kPage != 0 || bytes % kPage != 0 || bytes > found->device.size() - offset)
        return kInvalidValue;
      const int fd = ::fcntl(found->fd.get(), F_DUPFD_CLOEXEC, 0);
      if (fd < 0) return kOperatingSystem;
      if (cuda.on_export) cuda.on_export(fd, found->contents.subspan(offset, bytes));
      return *static_cast<int*>(handle) = fd, 0;
    });
  };
}

void FakeCudaCalls::fill_sharing(CudaDriver& driver) {
  driver.cuIpcGetMemHandle = [](CudaIpcHandle* handle, CudaAddress address) {
    return current("cuIpcGetMemHandle", [&](FakeCuda& cuda) {
      const FakeCuda::Allocation* found = at(cuda, address);
      if (found == nullptr || found->opens > 0) return kInvalidValue;
      const IpcName name{::getpid(), found->fd.get(), found->device.size()};
      return std::memcpy(handle->bytes, &name, sizeof name), 0;
    });
  };
  driver.cuIpcOpenMemHandle_v2 = [](CudaAddress* address, CudaIpcHandle handle, unsigned) {
    return current("cuIpcOpenMemHandle", [&](FakeCuda& cuda) {
      IpcName name{};
      std::memcpy(&name, handle.bytes, sizeof name);
      if (name.process == ::getpid()) return kInvalidContext;  // as CUDA in its own process
      for (const auto& [at, each] : cuda.allocations_) {
        if (each->opens == 0 || std::memcmp(&each->name, &handle, sizeof handle) != 0) continue;
        ++each->opens;
        return *address = reinterpret_cast<CudaAddress>(at), 0;
      }
      const std::string path = fmt::format("/proc/{}/fd/{}", name.process, name.fd);
      UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      if (!fd.valid()) return kInvalidValue;
      auto opened = std::make_unique<FakeCuda::Allocation>(std::move(fd), name.bytes,
                                                           contexts.back(), cuda.next_id_++);
      opened->opens = 1;
      opened->name = handle;
      const std::byte* const at = opened->device.data();
      cuda.allocations_[at] = std::move(opened);
      return *address = reinterpret_cast<CudaAddress>(at), 0;
    });
  };
  driver.cuIpcCloseMemHandle = [](CudaAddress address) {
    return current("cuIpcCloseMemHandle", [&](FakeCuda& cuda) {
      FakeCuda::Allocation* found = at(cuda, address);
      if (found == nullptr || found->opens == 0) return kInvalidValue;
      if (--found->opens == 0) cuda.allocations_.erase(found->device.data());
      return 0;
    });
  };
}

FakeCuda::FakeCuda(std::vector<FakeGpu> gpus) : gpus_(std::move(gpus)) {
  CHECK(now == nullptr, "one fake CUDA driver at a time");
  now = this;
  FakeCudaCalls::fill_devices(driver_);
  FakeCudaCalls::fill_contexts(driver_);
  FakeCudaCalls::fill_memory(driver_);
  FakeCudaCalls::fill_sharing(driver_);
}

GpuHost fake_gpu_host(const FakeCuda& cuda, std::span<const std::string> cards,
                      const std::vector<PciDistance>& distances, bool peermem) {
  GpuHost host{&cuda.driver(), {}, peermem};
  host.pci.gpus.emplace_back().address = cuda.gpu().pci;
  for (const std::string& card : cards) host.pci.nics.emplace_back().rdma = card;
  host.pci.distances.push_back(distances);
  return host;
}

FakeCuda::~FakeCuda() { now = nullptr; }

FakeCuda::Allocation* FakeCuda::find(const std::byte* address) {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  Allocation& candidate = *std::prev(after)->second;
  return address < candidate.device.data() + candidate.device.size() ? &candidate : nullptr;
}

std::span<std::byte> FakeCuda::allocate(std::size_t bytes, int gpu) {
  const std::size_t whole = (bytes + kPage - 1) / kPage * kPage;
  UniqueFd fd(::memfd_create("fake gpu", MFD_CLOEXEC));
  CHECK(fd.valid() && ::ftruncate(fd.get(), static_cast<off_t>(whole)) == 0, "no memfd");
  const std::lock_guard lock(mutex_);
  auto made = std::make_unique<Allocation>(std::move(fd), whole, gpu, next_id_++);
  const std::span<std::byte> device = made->device;
  allocations_[device.data()] = std::move(made);
  return device.first(bytes);
}

void FakeCuda::free(std::span<std::byte> buffer) {
  const std::lock_guard lock(mutex_);
  CHECK(allocations_.erase(buffer.data()) == 1, "freed what was not allocated");
}

void FakeCuda::replace(std::span<std::byte> buffer) {
  const std::lock_guard lock(mutex_);
  find(buffer.data())->id = next_id_++;
}

void FakeCuda::make_managed(std::span<std::byte> buffer) {
  const std::lock_guard lock(mutex_);
  find(buffer.data())->managed = true;
}

std::span<std::byte> FakeCuda::contents(std::span<std::byte> buffer) {
  const std::lock_guard lock(mutex_);
  Allocation* const allocation = find(buffer.data());
  CHECK(allocation != nullptr, "{} is no address of a fake GPU",
        static_cast<const void*>(buffer.data()));
  const Allocation& found = *allocation;
  return found.contents.subspan(static_cast<std::size_t>(buffer.data() - found.device.data()),
                                buffer.size());
}

std::span<const std::byte> FakeCuda::kernel_view(std::span<std::byte> buffer) {
  const std::lock_guard lock(mutex_);
  const Allocation& found = *find(buffer.data());
  const bool ordered = gpus_.at(static_cast<std::size_t>(found.gpu)).ordering >= 100;
  const std::span<const std::byte> all = ordered ? found.contents : std::span(found.seen);
  return all.subspan(static_cast<std::size_t>(buffer.data() - found.device.data()), buffer.size());
}

std::vector<std::byte> FakeCuda::kernel_reads(std::span<std::byte> buffer) {
  const auto part = kernel_view(buffer);
  return {part.begin(), part.end()};
}

bool FakeCuda::synchronous(std::span<std::byte> buffer) {
  const std::lock_guard lock(mutex_);
  return find(buffer.data())->synchronous;
}

int FakeCuda::gpu_of(const void* address) {
  const std::lock_guard lock(mutex_);
  const Allocation* found = find(static_cast<const std::byte*>(address));
  return found == nullptr ? -1 : found->gpu;
}

int FakeCuda::current_gpu() { return contexts.empty() ? -1 : contexts.back(); }

void FakeCuda::fail(const std::string& call, int result) {
  const std::lock_guard lock(mutex_);
  failures_[call] = result;
}

int FakeCuda::flushes() const {
  const std::lock_guard lock(mutex_);
  return flushes_;
}

int FakeCuda::retained() const {
  const std::lock_guard lock(mutex_);
  return retained_;
}

int FakeCuda::opened() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(std::count_if(allocations_.begin(), allocations_.end(),
                                        [](const auto& each) { return each.second->opens > 0; }));
}

}  // namespace penstock::test
