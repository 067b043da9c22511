// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What is special to verbs and needs no device, or any device.
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/transport/verbs_pair.h"
#include "transport/verbs/cm.h"
#include "transport/verbs/completion_error.h"
#include "transport/verbs/greeting.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;
using verbs::Greeting;
using verbs::VerbsApi;

TEST(CompletionError, HasARowForEveryStatus) {
  for (int status = IBV_WC_LOC_LEN_ERR; status <= IBV_WC_TM_RNDV_INCOMPLETE; ++status)
    EXPECT_TRUE(verbs::knows_completion_error(static_cast<ibv_wc_status>(status))) << status;
}

TEST(VerbsGreeting, ComesBackAsItWasSent) {
  Greeting sent;
  sent.domain = 1;
  sent.first = true;
  sent.scoped = true;
  sent.rail = 3;
  sent.token = random_token();
  sent.incarnation = 0x123456789abcdef0;
  sent.ring_address = 0xfedcba9876543210;
  sent.ring_key = 0xdeadbeef;
  sent.message_bytes = 1'024;
  sent.window = 64;
  const Greeting got = verbs::decode_greeting(verbs::encode(sent)).value();
  EXPECT_EQ(verbs::encode(got), verbs::encode(sent));
  EXPECT_EQ(got.token, sent.token);
  EXPECT_EQ(got.ring_address, sent.ring_address);
}

TEST(VerbsGreeting, RefusesStrangersAndOtherVersions) {
  Greeting greeting;
  greeting.window = 1;
  const auto good = verbs::encode(greeting);
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
    EXPECT_FALSE(verbs::decode_greeting(std::span(good).first(bytes)).ok()) << bytes;
  auto other = good;
  other[0] ^= std::byte{1};
  EXPECT_EQ(verbs::decode_greeting(other).status().code(), Code::kProtocol);
  other = good;
  other[4] = std::byte{99};
  EXPECT_EQ(verbs::decode_greeting(other).status().code(), Code::kMismatch);
  greeting.window = 0;
  EXPECT_FALSE(verbs::decode_greeting(verbs::encode(greeting)).ok());
}

TEST(VerbsGreeting, ARefusalCarriesItsReason) {
  const Status reason(Code::kUnauthenticated, "because");
  const Status got = verbs::decode_refusal(verbs::encode_refusal(reason));
  EXPECT_EQ(got.code(), Code::kUnauthenticated);
  EXPECT_THAT(got.what(), HasSubstr("because"));
  EXPECT_FALSE(verbs::decode_refusal({}).ok());
  auto garbage = verbs::encode_refusal(reason);
  garbage[5] = std::byte{0};  // "ok" is no reason
  EXPECT_FALSE(verbs::decode_refusal(garbage).ok());
}

TEST(VerbsAddress, ReadsWhatItWrites) {
  for (const char* text : {"verbs:10.0.0.1:7", "verbs:10.0.0.1:7,[fd00::1]:65535"}) {
    EXPECT_EQ(verbs::device_address(verbs::parse_device_address(text).value()), text);
  }
  for (const char* text : {"", "verbs:", "verbs:10.0.0.1", "verbs:10.0.0.1:0", "verbs:host:1",
                           "verbs:10.0.0.1:1,", "verbs:10.0.0.1:65536", "tcp:10.0.0.1:1",
                           "verbs:1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1"})
    EXPECT_FALSE(verbs::parse_device_address(text).ok()) << text;
}

// Tests on a device. Where a case needs a device that behaves differently, one function of the
// table is replaced.
class VerbsDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = no_rdma_device(); !why.empty()) GTEST_SKIP() << why;
    api_ = *verbs::system_verbs().value();
  }
  VerbsApi api_;
  SystemClock clock_;
};

TEST_F(VerbsDeviceTest, NamesWhatIsMissing) {
  const auto why = [this](const VerbsOptions& options) {
    return open_verbs_device(api_, options, clock_).status().to_string();
  };
  EXPECT_THAT(why({.rails = {"nosuch0"}}), HasSubstr("no RDMA device is called 'nosuch0'"));
  EXPECT_THAT(why({.rails = {"rxe0:x"}}), HasSubstr("is no RDMA port"));
  EXPECT_THAT(why({.rails = {}, .gid_index = 100'000}), HasSubstr("GID index 100000"));
}

TEST_F(VerbsDeviceTest, AHostWithoutDevicesSaysSo) {
  api_.ibv_get_device_list = [](int* count) {
    static ibv_device* none = nullptr;
    *count = 0;
    return &none;
  };
  api_.ibv_free_device_list = [](ibv_device**) {};
  const Status status = open_verbs_device(api_, {}, clock_).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("this host has no RDMA device"));
  EXPECT_THAT(status.hint(), HasSubstr("soft-RoCE"));
}

std::atomic<int> queue_pairs;
TEST_F(VerbsDeviceTest, AWrongTokenIsRefusedBeforeAQueuePairExists) {
  VerbsApi counting = api_;
  counting.rdma_create_qp = [](rdma_cm_id* id, ibv_pd* pd, ibv_qp_init_attr* attributes) {
    ++queue_pairs;
    return verbs::system_verbs().value()->rdma_create_qp(id, pd, attributes);
  };
  VerbsPair pair(api_, counting);
  queue_pairs = 0;
  EndpointOptions options;
  options.token = random_token();
  auto stranger = pair.a.device->connect(*pair.a.queue, pair.b.device->address(), options).value();
  ASSERT_TRUE(pair.until([&] { return pair.a.events[Event::kDisconnected] == 1; }));
  EXPECT_EQ(stranger->status().code(), Code::kUnauthenticated);
  EXPECT_THAT(stranger->status().to_string(), HasSubstr("no endpoint waits for this token"));
  EXPECT_EQ(queue_pairs, 0);
  const auto ends = pair.connect();
  ASSERT_TRUE(pair.until([&] { return ends.connected(); }))
      << ends.a->status().to_string() << "; " << ends.b->status().to_string();
  EXPECT_EQ(queue_pairs, 1);
}

TEST_F(VerbsDeviceTest, APeerOfAnotherVersionIsToldSo) {
  VerbsApi newer = api_;
  newer.rdma_connect = [](rdma_cm_id* id, rdma_conn_param* parameters) {
    auto* bytes = static_cast<std::uint8_t*>(const_cast<void*>(parameters->private_data));
    bytes[4] = Greeting::kVersion + 1;
    return verbs::system_verbs().value()->rdma_connect(id, parameters);
  };
  VerbsPair pair(newer, api_);
  const auto ends = pair.connect();
  ASSERT_TRUE(pair.until([&] { return pair.a.events[Event::kDisconnected] == 1; }));
  EXPECT_EQ(ends.a->status().code(), Code::kMismatch);
  EXPECT_THAT(ends.a->status().to_string(), HasSubstr("version 2"));
  EXPECT_FALSE(ends.b->connected());
}

TEST_F(VerbsDeviceTest, AQueueThatCouldOverflowIsRefusedWithBothNumbers) {
  VerbsApi small = api_;
  small.ibv_query_device = [](ibv_context* context, ibv_device_attr* attributes) {
    const int error = verbs::system_verbs().value()->ibv_query_device(context, attributes);
    attributes->max_cqe = 300;  // one connection's worth and a half
    return error;
  };
  const std::string name =
      std::filesystem::directory_iterator("/sys/class/infiniband")->path().filename();
  VerbsPair pair(small, api_, {.rails = {name}});  // all connections in one queue
  const auto first = pair.connect();
  ASSERT_TRUE(pair.until([&] { return first.connected(); }));
  // Devices round up, so the second may still fit; the fourth never does.
  std::vector<VerbsPair::Ends> more;
  while (more.size() < 4 && (more.empty() || more.back().status.ok()))
    more.push_back(pair.connect());
  EXPECT_EQ(more.back().status.code(), Code::kExhausted);
  EXPECT_THAT(more.back().status.to_string(), HasSubstr("holds 300"));
  EXPECT_TRUE(first.connected());
}

// Gives up the right to ignore the limit, for the calling thread only.
void drop_ipc_lock() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  ASSERT_EQ(::syscall(SYS_capget, &header, data.data()), 0);
  data[0].effective &= ~(1U << CAP_IPC_LOCK);
  ASSERT_EQ(::syscall(SYS_capset, &header, data.data()), 0);
}

TEST_F(VerbsDeviceTest, TooLittleLockableMemoryIsNamed) {
  auto device = open_verbs_device(api_, {}, clock_).value();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit tight{65'536, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &tight), 0);
  std::vector<std::byte> bytes(1 << 20);
  Status status;
  std::thread([&] {
    drop_ipc_lock();
    status = device->register_memory(bytes, MemoryKind::kHost, Access::kLocal).status();
  }).join();
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
  EXPECT_EQ(status.code(), Code::kExhausted);
  EXPECT_THAT(status.to_string(), HasSubstr("limited to 65536 bytes"));
  EXPECT_THAT(status.to_string(), HasSubstr("ulimit -l"));
  EXPECT_TRUE(device->register_memory(bytes, MemoryKind::kHost, Access::kLocal).ok());
}

TEST_F(VerbsDeviceTest, AChainIsOneDoorbellAndOneCompletion) {
  VerbsPair pair(api_);
  const auto ends = pair.connect();
  ASSERT_TRUE(pair.until([&] { return ends.connected(); }));
  std::vector<std::byte> from(64), to(64);
  const auto source =
      pair.a.device->register_memory(from, MemoryKind::kHost, Access::kLocal).value();
  const auto target =
      pair.b.device->register_memory(to, MemoryKind::kHost, Access::kRemoteWrite).value();
  const RemoteRegion remote = target->describe();
  WorkRequest write;
  write.local = source.get();
  write.length = from.size();
  write.remote = &remote;
  const std::vector<WorkRequest> chain(32, write);
  const std::uint64_t doorbells = pair.a.counter("doorbells");
  ASSERT_EQ(ends.a->post(chain).to_string(), "ok");
  ASSERT_TRUE(pair.until([&] { return pair.a.events[Event::kWriteDone] == 32; }));
  EXPECT_EQ(pair.a.counter("doorbells") - doorbells, 1U);
  EXPECT_EQ(pair.a.counter("signalled"), pair.a.counter("doorbells"));
  EXPECT_EQ(pair.a.counter("stray_completions"), 0U);
}

}  // namespace
}  // namespace penstock::test
