// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// GPU memory over the verbs provider: a fake CUDA driver and fake NICs. Its device addresses fault
// when the host touches them, so every test here also shows that nobody did.

#include <gmock/gmock.h>
#include <sys/resource.h>

#include "tests/support/descriptors.h"
#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/pattern.h"
#include "tests/transport/verbs_fake_support.h"
#include "transport/base/unique_fd.h"

namespace penstock::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Machine {
  FakeGpu gpu{};
  bool dmabuf = true;    // the cards register dma-bufs
  bool peermem = false;  // nvidia_peermem is loaded
  std::vector<PciDistance> distances{PciDistance::kSwitch, PciDistance::kSwitch};
};

// A GPU, and two or four cards at those distances from it.
class Bed {
 public:
  explicit Bed(const Machine& machine = {})
      : cuda({machine.gpu}), devices(fabric_of(machine), host_of(machine, cuda)) {
    cuda.on_export = [this](int fd, std::span<std::byte> contents) {
      devices.fabric.add_dmabuf(fd, contents);
    };
  }

  Result<std::unique_ptr<MemoryRegion>> enlist(std::span<std::byte> buffer, int side = 1) {
    return devices.device[side]->register_memory(buffer, MemoryKind::kCuda,
                                                 Access::kRemoteReadWrite);
  }
  Status refusal(std::span<std::byte> buffer) { return enlist(buffer).status(); }

  // Writes all of `from` at side a over all of `to` with an immediate, and waits until b sees it.
  void write(FakeDevices::Link ends, const MemoryRegion& from, const MemoryRegion& to) {
    const std::size_t before = ends.b.immediates.size();
    ASSERT_EQ(ends.a.endpoint
                  ->post({.has_immediate = true,
                          .tag = ++tag_,
                          .local = &from,
                          .length = from.bytes().size(),
                          .remote = &to.describe()})
                  .to_string(),
              "ok");
    ends.a.posted.push_back(tag_);
    ASSERT_TRUE(devices.until([&] { return ends.b.immediates.size() > before; }));
    ASSERT_TRUE(devices.until([&] { return ends.a.done.size() == ends.a.posted.size(); }));
    EXPECT_EQ(ends.a.done.back().code, Code::kOk);
  }

  FakeCuda cuda;
  FakeDevices devices;

 private:
  static FabricOptions fabric_of(const Machine& machine) {
    FabricOptions options =
        machine.distances.size() == 2 ? FakeDevices::two_nics() : FakeDevices::four_nics();
    for (FakeNicSpec& nic : options.nics) nic.dmabuf = machine.dmabuf;
    return options;
  }
  static GpuHost host_of(const Machine& machine, const FakeCuda& cuda) {
    std::vector<std::string> cards;
    for (const FakeNicSpec& nic : fabric_of(machine).nics) cards.push_back(nic.name);
    return fake_gpu_host(cuda, cards, machine.distances, machine.peermem);
  }
  std::uint64_t tag_ = 0;
};

// From host memory of a into a buffer of b's GPU that begins and ends inside pages.
void expect_arrival(Bed& bed) {
  const std::span<std::byte> whole = bed.cuda.allocate(20'000);
  const std::span<std::byte> buffer = whole.subspan(5'001, 9'000);
  const auto target = bed.enlist(buffer).value();
  EXPECT_EQ(target->kind(), MemoryKind::kCuda);
  EXPECT_TRUE(bed.cuda.synchronous(buffer));
  std::vector<std::byte> bytes(buffer.size());
  fill_pattern(bytes, 1);
  const auto source =
      bed.devices.device[0]->register_memory(bytes, MemoryKind::kHost, Access::kLocal).value();
  bed.write(bed.devices.link(), *source, *target);
  EXPECT_TRUE(has_pattern(bed.cuda.contents(buffer), 1));
  EXPECT_TRUE(all_zero(bed.cuda.contents(whole.first(5'001))));
  EXPECT_TRUE(all_zero(bed.cuda.contents(whole.subspan(14'001))));
  // A kernel launched now may read what was there before; one launched after flush() does not.
  EXPECT_TRUE(all_zero(bed.cuda.kernel_reads(buffer)));
  EXPECT_EQ(target->flush().to_string(), "ok");
  EXPECT_TRUE(has_pattern(bed.cuda.kernel_reads(buffer), 1));
  EXPECT_EQ(bed.cuda.flushes(), 1);
}

TEST(VerbsGpu, ADmabufCarriesAWriteIntoGpuMemoryAndAFlushShowsItToKernels) {
  Bed bed;
  expect_arrival(bed);
  EXPECT_EQ(bed.cuda.retained(), 0);
}

TEST(VerbsGpu, PeermemDoesWhereTheCardRegistersNoDmabuf) {
  Bed bed({.dmabuf = false, .peermem = true});
  bed.cuda.on_export = [](int, std::span<std::byte>) { FAIL() << "nobody can use it"; };
  const std::span<std::byte> first = bed.cuda.allocate(20'000);
  bed.devices.fabric.add_peer_memory(first, bed.cuda.contents(first));
  const auto region = bed.enlist(first).value();
  const std::span<std::byte> second = bed.cuda.allocate(20'000);
  bed.devices.fabric.add_peer_memory(second, bed.cuda.contents(second));
  std::vector<std::byte> bytes(first.size());
  fill_pattern(bytes, 2);
  const auto source =
      bed.devices.device[0]->register_memory(bytes, MemoryKind::kHost, Access::kLocal).value();
  bed.write(bed.devices.link(), *source, *region);
  EXPECT_TRUE(has_pattern(bed.cuda.contents(first), 2));
  EXPECT_TRUE(all_zero(bed.cuda.contents(second)));
}

// Short ones too, which would go inline from the host's memory.
TEST(VerbsGpu, SendsFromGpuMemoryWhateverTheLength) {
  Bed bed;
  const auto ends = bed.devices.link();
  for (const std::size_t length : {8U, 200U, 70'000U}) {
    const std::span<std::byte> buffer = bed.cuda.allocate(length);
    fill_pattern(bed.cuda.contents(buffer), length);
    const auto source = bed.enlist(buffer, 0).value();
    std::vector<std::byte> bytes(length);
    const auto target = bed.devices.device[1]
                            ->register_memory(bytes, MemoryKind::kHost, Access::kRemoteWrite)
                            .value();
    bed.write(ends, *source, *target);
    EXPECT_TRUE(has_pattern(bytes, length));
    WorkRequest message{.opcode = Opcode::kSend, .tag = 77, .local = source.get(), .length = 8};
    const std::size_t before = ends.b.messages;
    ASSERT_EQ(ends.a.endpoint->post(message).to_string(), "ok");
    ends.a.posted.push_back(77);
    ASSERT_TRUE(bed.devices.until([&] { return ends.b.messages > before; }));
  }
}

TEST(VerbsGpu, AGpuThatOrdersArrivalsIsNotFlushed) {
  Bed bed({.gpu = {.ordering = 100}});
  const auto region = bed.enlist(bed.cuda.allocate(100)).value();
  EXPECT_EQ(region->flush().to_string(), "ok");
  EXPECT_EQ(bed.cuda.flushes(), 0);
}

TEST(VerbsGpu, AGpuThatCannotBeFlushedIsNamed) {
  Bed bed({.gpu = {.flush_options = 2}});  // by a stream's memory operations alone
  const auto region = bed.enlist(bed.cuda.allocate(100)).value();
  EXPECT_EQ(region->flush().code(), Code::kUnsupported);
  EXPECT_THAT(region->flush().to_string(),
              AllOf(HasSubstr("Fake GPU (0000:17:00.0)"), HasSubstr("pinned host memory")));
}

TEST(VerbsGpu, HostRegionsHaveNothingToFlush) {
  Bed bed;
  EXPECT_EQ(bed.devices.region[0]->flush().to_string(), "ok");
  EXPECT_EQ(bed.devices.region[0]->kind(), MemoryKind::kHost);
  EXPECT_EQ(bed.cuda.flushes(), 0);
}

TEST(VerbsGpu, WhereStagingAloneIsLeftTheRefusalNamesGpuCardAndReason) {
  const auto expect = [](const Machine& machine, const char* reason) {
    Bed bed(machine);
    const Status status = bed.refusal(bed.cuda.allocate(100));
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_THAT(status.to_string(),
                AllOf(HasSubstr("Fake GPU (0000:17:00.0)"), HasSubstr("fake1:1"), HasSubstr(reason),
                      HasSubstr("pinned host memory")));
    EXPECT_EQ(bed.cuda.retained(), 0);
  };
  expect({.dmabuf = false}, "the card registers no dma-buf and nvidia_peermem is not loaded");
  expect({.gpu = {.dmabuf = false}}, "the driver exports no dma-buf and nvidia_peermem");
  expect({.gpu = {.dmabuf = false, .direct = false}, .peermem = true}, "the driver exports no");
  expect({.distances = {PciDistance::kSwitch, PciDistance::kMachine}}, "different NUMA nodes");
}

TEST(VerbsGpu, ACardThatIsFarIsNamedWithTheRailsThatAreNear) {
  using enum PciDistance;
  Bed bed({.distances = {kSwitch, kSwitch, kMachine, kHostBridge}});
  const Status status = bed.refusal(bed.cuda.allocate(100));
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.what(), AllOf(HasSubstr("b0:1: "), testing::Not(HasSubstr("b1"))));
  EXPECT_THAT(status.hint(), HasSubstr("these rails alone: b1:1"));
  EXPECT_TRUE(bed.enlist(bed.cuda.allocate(100), 0).ok());
}

TEST(VerbsGpu, ACardWithoutAPlaceOnThePciTreeIsOutOfReach) {
  FakeCuda cuda;
  FakeDevices devices(FakeDevices::two_nics(), GpuHost{&cuda.driver(), {}, true});
  const Status status = devices.device[0]
                            ->register_memory(cuda.allocate(100), MemoryKind::kCuda, Access::kLocal)
                            .status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.what(), HasSubstr("fake0:1: they have no place on one PCI tree"));
}

TEST(VerbsGpu, WhatIsNoGpuBufferIsRefused) {
  Bed bed;
  std::vector<std::byte> host(64);
  EXPECT_EQ(bed.refusal(host).code(), Code::kInvalidArgument);
  EXPECT_THAT(bed.refusal(host).to_string(), HasSubstr("kHost"));
  EXPECT_EQ(bed.refusal({}).code(), Code::kInvalidArgument);
  const std::span<std::byte> buffer = bed.cuda.allocate(4'096);
  const Status beyond = bed.refusal({buffer.data() + 96, 4'001});
  EXPECT_EQ(beyond.code(), Code::kInvalidArgument);
  EXPECT_THAT(beyond.what(), HasSubstr("4001 bytes at offset 96 of an allocation of 4096 bytes"));
  bed.cuda.make_managed(buffer);
  EXPECT_EQ(bed.refusal(buffer).code(), Code::kUnsupported);
  EXPECT_THAT(bed.refusal(buffer).what(), HasSubstr("managed"));
}

TEST(VerbsGpu, WhatTheDriverRefusesIsNamedAndNothingIsLeft) {
  Bed bed;
  const std::span<std::byte> buffer = bed.cuda.allocate(100);
  for (const char* call : {"cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain",
                           "cuMemGetAddressRange", "cuMemGetHandleForAddressRange"}) {
    bed.cuda.fail(call, 999);
    const Status status = bed.refusal(buffer);
    EXPECT_EQ(status.code(), Code::kSystem) << call;
    EXPECT_THAT(status.what(), HasSubstr(std::string(call) + " answers 999"));
    EXPECT_EQ(bed.cuda.retained(), 0) << call;
    bed.cuda.fail(call, 0);
  }
  bed.cuda.fail("cuInit", 100);  // CUDA_ERROR_NO_DEVICE
  EXPECT_EQ(bed.refusal(buffer).code(), Code::kUnsupported);
  bed.cuda.fail("cuInit", 0);
  EXPECT_TRUE(bed.enlist(buffer).ok());
}

TEST(VerbsGpu, ACardThatRefusesTheDmabufIsNamed) {
  Bed bed;
  // The probe takes the first failure: it asks the card in the same way.
  bed.devices.fabric.fail_registrations(ENOSPC);
  const std::span<std::byte> buffer = bed.cuda.allocate(100);
  const Status status = bed.refusal(buffer);
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_EQ(status.system_error(), ENOSPC);
  EXPECT_THAT(status.what(), AllOf(HasSubstr("fake1:1"), HasSubstr("Fake GPU")));
  EXPECT_TRUE(bed.enlist(buffer).ok());
}

// UBSan opens pipes to look at objects, and takes their lack for a broken object.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kChecksNeedDescriptors = true;
#else
constexpr bool kChecksNeedDescriptors = false;
#endif

TEST(VerbsGpu, DescriptorsAreClosedOnceTheCardHasTheMemoryAndTheirLackIsNamed) {
  if (kChecksNeedDescriptors) GTEST_SKIP() << "the sanitizer needs descriptors of its own";
  Bed bed;
  const std::span<std::byte> buffer = bed.cuda.allocate(100);
  const std::size_t before = open_descriptors();
  const auto region = bed.enlist(buffer).value();
  EXPECT_EQ(open_descriptors(), before);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const UniqueFd highest(::dup(0));
  const rlimit none{static_cast<rlim_t>(highest.get()) + 1, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const Status status = bed.refusal(buffer);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_THAT(status.to_string(), HasSubstr("ulimit -n"));
  EXPECT_TRUE(bed.enlist(buffer).ok());
}

TEST(VerbsGpu, MemoryFreedUnderItsRegionIsNamed) {
  Bed bed;
  const std::span<std::byte> gone = bed.cuda.allocate(100);
  const std::span<std::byte> replaced = bed.cuda.allocate(100);
  const auto first = bed.enlist(gone, 0).value();
  const auto second = bed.enlist(replaced, 0).value();
  EXPECT_TRUE(first->flush().ok());
  const auto ends = bed.devices.link({.scope = 7});
  bed.cuda.free(gone);
  bed.cuda.replace(replaced);
  EXPECT_EQ(first->flush().code(), Code::kStale);
  EXPECT_EQ(second->flush().code(), Code::kStale);
  EXPECT_THAT(second->flush().to_string(), HasSubstr("was freed while it was registered"));
  // An endpoint of another scope needs it registered once more: there is nothing to register.
  std::vector<std::byte> bytes(64);
  const auto target = bed.devices.device[1]
                          ->register_memory(bytes, MemoryKind::kHost, Access::kRemoteWrite, 7)
                          .value();
  const WorkRequest write{.local = second.get(), .length = 64, .remote = &target->describe()};
  EXPECT_EQ(ends.a.endpoint->post(write).code(), Code::kStale);
  EXPECT_TRUE(ends.a.endpoint->connected());
}

}  // namespace
}  // namespace penstock::test
