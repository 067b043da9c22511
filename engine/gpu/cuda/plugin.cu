// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// libpenstock_cuda.so: the functions of engine/gpu/cuda_plugin.h on the CUDA runtime, which is
// linked statically. Never waits but where it says so.

#include <cstdio>
#include <new>
#include <vector>

#include "engine/gpu/cuda_plugin.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pass_launch.h"

struct PenstockCudaStream {
  int device = 0;
  cudaStream_t stream = nullptr;
  std::vector<cudaEvent_t> marks;

  // The calling thread's device is this one's. The runtime does nothing when it was before.
  int here() const { return cudaSetDevice(device); }
};

namespace {

using penstock::UpdateRule;
using penstock::cuda::GradientType;

__global__ void fill_kernel(float* to, float value, std::uint64_t count) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += stride)
    to[i] = value;
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int device_count(int* count) { return cudaGetDeviceCount(count); }

int device_name(int device, char* name, size_t name_bytes, char* pci, size_t pci_bytes) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  std::snprintf(name, name_bytes, "%s", properties.name);
  return cudaDeviceGetPCIBusId(pci, static_cast<int>(pci_bytes), device);
}

int allocate(int device, size_t bytes, void** memory) {
  if (const cudaError_t error = cudaSetDevice(device)) return error;
  return cudaMalloc(memory, bytes);
}

int release(int device, void* memory) {
  if (const cudaError_t error = cudaSetDevice(device)) return error;
  return cudaFree(memory);
}

int pin(int device, void* host, size_t bytes) {
  if (const cudaError_t error = cudaSetDevice(device)) return error;
  return cudaHostRegister(host, bytes, cudaHostRegisterPortable);
}

int unpin(int device, void* host) {
  if (const cudaError_t error = cudaSetDevice(device)) return error;
  return cudaHostUnregister(host);
}

void destroy_stream(PenstockCudaStream* stream) {
  stream->here();
  if (stream->stream != nullptr) {
    cudaStreamSynchronize(stream->stream);
    cudaStreamDestroy(stream->stream);
  }
  for (const cudaEvent_t mark : stream->marks) cudaEventDestroy(mark);
  delete stream;
}

int create_stream(int device, uint32_t marks, PenstockCudaStream** stream) {
  if (const cudaError_t error = cudaSetDevice(device)) return error;
  auto* made = new (std::nothrow) PenstockCudaStream;
  if (made == nullptr) return cudaErrorMemoryAllocation;
  made->device = device;
  cudaError_t error = cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking);
  for (uint32_t i = 0; error == cudaSuccess && i < marks; ++i) {
    cudaEvent_t mark;
    error = cudaEventCreateWithFlags(&mark, cudaEventDisableTiming);
    if (error == cudaSuccess) made->marks.push_back(mark);
  }
  if (error != cudaSuccess) {
    destroy_stream(made);
    return error;
  }
  *stream = made;
  return cudaSuccess;
}

int copy_in(PenstockCudaStream* stream, void* device, const void* host, size_t bytes) {
  if (const int error = stream->here()) return error;
  return cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream->stream);
}

int copy_out(PenstockCudaStream* stream, void* host, const void* device, size_t bytes) {
  if (const int error = stream->here()) return error;
  return cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream->stream);
}

int copy(PenstockCudaStream* stream, void* device, const void* from, size_t bytes) {
  if (const int error = stream->here()) return error;
  return cudaMemcpyAsync(device, from, bytes, cudaMemcpyDeviceToDevice, stream->stream);
}

int fill(PenstockCudaStream* stream, float* device, float value, uint64_t count) {
  if (count == 0) return cudaSuccess;
  if (const int error = stream->here()) return error;
  constexpr uint64_t kMostBlocks = 1024;
  const uint64_t blocks = (count + penstock::cuda::kThreads - 1) / penstock::cuda::kThreads;
  const auto launched = static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
  fill_kernel<<<launched, penstock::cuda::kThreads, 0, stream->stream>>>(device, value, count);
  return cudaGetLastError();
}

int step(PenstockCudaStream* stream, uint8_t rule, uint8_t gradients, const void* slices,
         uint32_t count, uint32_t blocks) {
  if (const int error = stream->here()) return error;
  return penstock::cuda::launch_update(
      static_cast<UpdateRule>(rule), static_cast<GradientType>(gradients),
      static_cast<const penstock::cuda::SliceStep*>(slices), count, blocks, stream->stream);
}

int pass(PenstockCudaStream* stream, uint8_t pass, uint8_t gradients, const void* slices,
         uint32_t count, uint32_t blocks) {
  if (const int error = stream->here()) return error;
  return penstock::cuda::launch_pass(
      static_cast<penstock::cuda::Pass>(pass), static_cast<GradientType>(gradients),
      static_cast<const penstock::cuda::SlicePass*>(slices), count, blocks, stream->stream);
}

int mark(PenstockCudaStream* stream, uint32_t which) {
  if (const int error = stream->here()) return error;
  return cudaEventRecord(stream->marks[which], stream->stream);
}

int reached(PenstockCudaStream* stream, uint32_t which, int* yes) {
  if (const int error = stream->here()) return error;
  const cudaError_t answer = cudaEventQuery(stream->marks[which]);
  *yes = answer == cudaSuccess ? 1 : 0;
  return answer == cudaErrorNotReady ? cudaSuccess : answer;
}

constexpr PenstockCudaTable kTable = {
    kPenstockCudaVersion,
    sizeof(penstock::cuda::SliceStep),
    sizeof(penstock::cuda::SlicePass),
    penstock::kUpdateRules,
    penstock::cuda::kPasses,
    sizeof(PenstockCudaTable),
    error_text,
    device_count,
    device_name,
    allocate,
    release,
    pin,
    unpin,
    create_stream,
    destroy_stream,
    copy_in,
    copy_out,
    copy,
    fill,
    step,
    pass,
    mark,
    reached,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const PenstockCudaTable* penstock_cuda_table() {
  return &kTable;
}
