// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What is asked of the CUDA library, by a table of functions that writes it down.

#include "engine/gpu/cuda_device.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <utility>
#include <vector>

namespace penstock::test {
namespace {

// The functions of a table have no owner, so what they do lies here; a test begins with reset().
struct FakeRuntime {
  std::vector<std::string> calls;
  int gpus = 1;
  int error = 0;  // the next call's answer
  int reached = 0;
};
FakeRuntime runtime;

int answer(std::string call) {
  runtime.calls.push_back(std::move(call));
  return std::exchange(runtime.error, 0);
}

PenstockCudaStream* const kStream = reinterpret_cast<PenstockCudaStream*>(0x51);
std::byte* const kMemory = reinterpret_cast<std::byte*>(0x7000);

PenstockCudaTable make_table() {
  PenstockCudaTable table{};
  table.version = kPenstockCudaVersion;
  table.step_bytes = sizeof(cuda::SliceStep);
  table.pass_bytes = sizeof(cuda::SlicePass);
  table.rules = kUpdateRules;
  table.passes = cuda::kPasses;
  table.table_bytes = sizeof table;
  table.error_text = [](int) { return "some text"; };
  table.device_count = [](int* count) { return *count = runtime.gpus, answer("count"); };
  table.device_name = [](int device, char* name, std::size_t bytes, char* pci, std::size_t more) {
    std::snprintf(name, bytes, "Fake %d", device);
    std::snprintf(pci, more, "0000:17:00.0");
    return answer("name");
  };
  table.allocate = [](int device, std::size_t bytes, void** memory) {
    *memory = kMemory;
    return answer(fmt::format("allocate {} on {}", bytes, device));
  };
  table.release = [](int device, void* memory) {
    return answer(fmt::format("release {} on {}", memory, device));
  };
  table.pin = [](int, void*, std::size_t bytes) { return answer(fmt::format("pin {}", bytes)); };
  table.unpin = [](int, void*) { return answer("unpin"); };
  table.create_stream = [](int, std::uint32_t marks, PenstockCudaStream** stream) {
    *stream = kStream;
    return answer(fmt::format("stream with {}", marks));
  };
  table.destroy_stream = [](PenstockCudaStream*) { answer("destroy"); };
  table.copy_in = [](PenstockCudaStream*, void*, const void*, std::size_t bytes) {
    return answer(fmt::format("in {}", bytes));
  };
  table.copy_out = [](PenstockCudaStream*, void*, const void*, std::size_t bytes) {
    return answer(fmt::format("out {}", bytes));
  };
  table.copy = [](PenstockCudaStream*, void*, const void*, std::size_t bytes) {
    return answer(fmt::format("within {}", bytes));
  };
  table.fill = [](PenstockCudaStream*, float*, float value, std::uint64_t count) {
    return answer(fmt::format("fill {} with {}", count, value));
  };
  table.step = [](PenstockCudaStream*, std::uint8_t rule, std::uint8_t dtype, const void*,
                  std::uint32_t count, std::uint32_t blocks) {
    return answer(fmt::format("step {} {} {} {}", rule, dtype, count, blocks));
  };
  table.pass = [](PenstockCudaStream*, std::uint8_t pass, std::uint8_t type, const void*,
                  std::uint32_t count, std::uint32_t blocks) {
    return answer(fmt::format("pass {} {} {} {}", pass, type, count, blocks));
  };
  table.mark = [](PenstockCudaStream*, std::uint32_t which) {
    return answer(fmt::format("mark {}", which));
  };
  table.reached = [](PenstockCudaStream*, std::uint32_t which, int* yes) {
    *yes = runtime.reached;
    return answer(fmt::format("reached {}", which));
  };
  return table;
}

class CudaDeviceTest : public ::testing::Test {
 protected:
  CudaDeviceTest() { runtime = {}; }
  std::unique_ptr<ComputeDevice> open() {
    auto device = open_cuda_device(table_, 0).value();
    runtime.calls.clear();
    return device;
  }
  const PenstockCudaTable table_ = make_table();
};

using Calls = std::vector<std::string>;

TEST_F(CudaDeviceTest, AStreamPassesEachCallOn) {
  const auto device = open();
  EXPECT_EQ(device->name(), "Fake 0 (0000:17:00.0)");
  {
    const auto stream = device->create_stream(2).value();
    std::byte host[8];
    float* const there = reinterpret_cast<float*>(kMemory);
    EXPECT_TRUE(stream->copy_in(kMemory, host, 8).ok());
    EXPECT_TRUE(stream->fill(there, 0.5F, 7).ok());
    EXPECT_TRUE(stream->copy(kMemory, kMemory + 64, 12).ok());
    EXPECT_TRUE(stream
                    ->step(UpdateRule::kAdamW, cuda::GradientType::kBfloat16,
                           reinterpret_cast<cuda::SliceStep*>(kMemory), 3, 9)
                    .ok());
    EXPECT_TRUE(stream
                    ->pass(cuda::Pass::kSquares, cuda::GradientType::kEncoded,
                           reinterpret_cast<cuda::SlicePass*>(kMemory), 2, 5)
                    .ok());
    EXPECT_TRUE(stream->copy_out(host, kMemory, 4).ok());
    EXPECT_TRUE(stream->mark(1).ok());
    EXPECT_FALSE(stream->reached(1).value());
    runtime.reached = 1;
    EXPECT_TRUE(stream->reached(1).value());
  }
  EXPECT_EQ(runtime.calls,
            (Calls{"stream with 2", "in 8", "fill 7 with 0.5", "within 12",
                   fmt::format("step {} {} 3 9", static_cast<int>(UpdateRule::kAdamW),
                               static_cast<int>(DType::kBfloat16)),
                   fmt::format("pass {} 3 2 5", static_cast<int>(cuda::Pass::kSquares)), "out 4",
                   "mark 1", "reached 1", "reached 1", "destroy"}));
}

TEST_F(CudaDeviceTest, MemoryGoesWithItsOwner) {
  const auto device = open();
  {
    const auto memory = device->allocate(100).value();
    EXPECT_EQ(memory->bytes().data(), kMemory);
    std::byte host[16];
    const auto pinned = device->pin(host).value();
    EXPECT_EQ(pinned->bytes().size(), 16U);
  }
  EXPECT_EQ(runtime.calls, (Calls{"allocate 100 on 0", "pin 16", "unpin", "release 0x7000 on 0"}));
}

TEST_F(CudaDeviceTest, ErrorsSayWhatWasTried) {
  const auto device = open();
  runtime.error = 2;
  const Status full = device->allocate(100).status();
  EXPECT_EQ(full.code(), Code::kExhausted);
  EXPECT_NE(full.to_string().find("allocate 100 bytes on Fake 0"), std::string::npos);
  const auto stream = device->create_stream(1).value();
  runtime.error = 700;
  const Status lost = stream->reached(0).status();
  EXPECT_EQ(lost.code(), Code::kSystem);
  EXPECT_NE(lost.to_string().find("700 (some text)"), std::string::npos) << lost.to_string();
}

TEST_F(CudaDeviceTest, NoDriverOrNoGpuIsUnsupportedAndAMissingOneNotFound) {
  for (const int error : {35, 100}) {
    runtime.error = error;
    EXPECT_EQ(open_cuda_device(table_, 0).status().code(), Code::kUnsupported);
  }
  EXPECT_EQ(open_cuda_device(table_, 1).status().code(), Code::kNotFound);
  runtime.gpus = 0;
  EXPECT_EQ(open_cuda_device(table_, 0).status().code(), Code::kUnsupported);
}

TEST(CudaPlugin, OfAnotherVersionIsRefused) {
  EXPECT_TRUE(check_cuda_plugin(make_table(), "file").ok());
  for (std::uint32_t PenstockCudaTable::*field :
       {&PenstockCudaTable::version, &PenstockCudaTable::step_bytes, &PenstockCudaTable::pass_bytes,
        &PenstockCudaTable::rules, &PenstockCudaTable::passes, &PenstockCudaTable::table_bytes}) {
    PenstockCudaTable other = make_table();
    ++(other.*field);
    EXPECT_EQ(check_cuda_plugin(other, "file").code(), Code::kUnsupported);
  }
}

TEST(CudaPlugin, AMissingFileIsNotFoundAndNamed) {
  const Status missing = load_cuda_plugin("/nowhere/libpenstock_cuda.so").status();
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_NE(missing.to_string().find("/nowhere/"), std::string::npos) << missing.to_string();
}

}  // namespace
}  // namespace penstock::test
