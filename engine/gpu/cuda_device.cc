// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/gpu/cuda_device.h"

#include <fmt/format.h>

#include <array>

namespace penstock {
namespace {

// cudaError_t
constexpr int kOutOfMemory = 2;
constexpr int kOldDriver = 35;  // also: none at all
constexpr int kNoDevice = 100;

Status cuda_error(const PenstockCudaTable& cuda, int error, const std::string& call) {
  if (error == 0) return {};
  return Status(error == kOutOfMemory ? Code::kExhausted : Code::kSystem,
                fmt::format("{}: CUDA answers {} ({})", call, error, cuda.error_text(error)))
      .with_hint(error == kOutOfMemory ? "more servers, or servers with host memory, hold more"
                                       : "nvidia-smi shows what is wrong with the driver");
}

class CudaMemory final : public ComputeMemory {
 public:
  using Release = int (*)(int device, void* memory);
  CudaMemory(Release release, int device, std::span<std::byte> bytes)
      : release_(release), device_(device), bytes_(bytes) {}
  ~CudaMemory() override { release_(device_, bytes_.data()); }
  std::span<std::byte> bytes() const override { return bytes_; }

 private:
  const Release release_;
  const int device_;
  const std::span<std::byte> bytes_;
};

class CudaStream final : public ComputeStream {
 public:
  CudaStream(const PenstockCudaTable& cuda, PenstockCudaStream* stream)
      : cuda_(cuda), stream_(stream) {}
  ~CudaStream() override { cuda_.destroy_stream(stream_); }

  Status copy_in(void* device, const void* host, std::size_t bytes) override {
    return checked(cuda_.copy_in(stream_, device, host, bytes), "copy to the GPU");
  }
  Status copy_out(void* host, const void* device, std::size_t bytes) override {
    return checked(cuda_.copy_out(stream_, host, device, bytes), "copy from the GPU");
  }
  Status copy(void* device, const void* from_device, std::size_t bytes) override {
    return checked(cuda_.copy(stream_, device, from_device, bytes), "copy within the GPU");
  }
  Status fill(float* device, float value, std::uint64_t count) override {
    return checked(cuda_.fill(stream_, device, value, count), "fill GPU memory");
  }
  Status step(UpdateRule rule, cuda::GradientType gradients, const cuda::SliceStep* slices,
              std::uint32_t count, std::uint32_t blocks) override {
    return checked(cuda_.step(stream_, static_cast<std::uint8_t>(rule),
                              static_cast<std::uint8_t>(gradients), slices, count, blocks),
                   "launch the update");
  }
  Status pass(cuda::Pass pass, cuda::GradientType gradients, const cuda::SlicePass* slices,
              std::uint32_t count, std::uint32_t blocks) override {
    return checked(cuda_.pass(stream_, static_cast<std::uint8_t>(pass),
                              static_cast<std::uint8_t>(gradients), slices, count, blocks),
                   "launch a pass of the update");
  }
  Status mark(std::uint32_t which) override {
    return checked(cuda_.mark(stream_, which), "record an event");
  }
  Result<bool> reached(std::uint32_t which) override {
    int yes = 0;
    PENSTOCK_RETURN_IF_ERROR(checked(cuda_.reached(stream_, which, &yes), "the GPU's work"));
    return yes != 0;
  }

 private:
  Status checked(int error, const char* call) const {
    return error == 0 ? Status() : cuda_error(cuda_, error, call);
  }

  const PenstockCudaTable& cuda_;
  PenstockCudaStream* const stream_;
};

class CudaDevice final : public ComputeDevice {
 public:
  CudaDevice(const PenstockCudaTable& cuda, int device, std::string name)
      : cuda_(cuda), device_(device), name_(std::move(name)) {}

  const std::string& name() const override { return name_; }

  Result<std::unique_ptr<ComputeMemory>> allocate(std::size_t bytes) override {
    void* memory = nullptr;
    PENSTOCK_RETURN_IF_ERROR(cuda_error(cuda_, cuda_.allocate(device_, bytes, &memory),
                                        fmt::format("allocate {} bytes on {}", bytes, name_)));
    return memory_of(cuda_.release, {static_cast<std::byte*>(memory), bytes});
  }
  Result<std::unique_ptr<ComputeMemory>> pin(std::span<std::byte> bytes) override {
    PENSTOCK_RETURN_IF_ERROR(cuda_error(cuda_, cuda_.pin(device_, bytes.data(), bytes.size()),
                                        fmt::format("pin {} bytes of host memory", bytes.size())));
    return memory_of(cuda_.unpin, bytes);
  }
  Result<std::unique_ptr<ComputeStream>> create_stream(std::uint32_t marks) override {
    PenstockCudaStream* stream = nullptr;
    PENSTOCK_RETURN_IF_ERROR(cuda_error(cuda_, cuda_.create_stream(device_, marks, &stream),
                                        "create a stream on " + name_));
    return std::unique_ptr<ComputeStream>(std::make_unique<CudaStream>(cuda_, stream));
  }

 private:
  Result<std::unique_ptr<ComputeMemory>> memory_of(CudaMemory::Release release,
                                                   std::span<std::byte> bytes) const {
    return std::unique_ptr<ComputeMemory>(std::make_unique<CudaMemory>(release, device_, bytes));
  }

  const PenstockCudaTable& cuda_;
  const int device_;
  const std::string name_;
};

}  // namespace

Result<std::unique_ptr<ComputeDevice>> open_cuda_device(const PenstockCudaTable& plugin,
                                                        int ordinal) {
  int count = 0;
  const int error = plugin.device_count(&count);
  if (error == kOldDriver || error == kNoDevice || (error == 0 && count == 0))
    return Status(Code::kUnsupported,
                  fmt::format("this host has no GPU that CUDA can use: {}",
                              error == 0 ? "its driver has none" : plugin.error_text(error)))
        .with_hint(
            "a GPU server needs an NVIDIA GPU and a driver as new as the library; "
            "--server-memory host needs neither");
  PENSTOCK_RETURN_IF_ERROR(cuda_error(plugin, error, "count the GPUs"));
  if (ordinal < 0 || ordinal >= count)
    return Status(Code::kNotFound, fmt::format("there is no GPU {}: CUDA has {}", ordinal, count))
        .with_hint("they count from 0; CUDA_VISIBLE_DEVICES may hide some");
  std::array<char, 256> name{};
  std::array<char, 32> pci{};
  PENSTOCK_RETURN_IF_ERROR(cuda_error(
      plugin, plugin.device_name(ordinal, name.data(), name.size(), pci.data(), pci.size()),
      fmt::format("ask for GPU {}", ordinal)));
  return std::unique_ptr<ComputeDevice>(std::make_unique<CudaDevice>(
      plugin, ordinal, fmt::format("{} ({})", name.data(), pci.data())));
}

Result<std::unique_ptr<ComputeDevice>> open_cuda_device(int ordinal) {
  PENSTOCK_ASSIGN_OR_RETURN(const PenstockCudaTable* plugin, system_cuda_plugin());
  return open_cuda_device(*plugin, ordinal);
}

}  // namespace penstock
